"""The training of a model repeated on shuffled labels, or on fewer images, in temporary folders."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from memevit import manifest, results
from memevit.commands.finetune import finetune
from memevit.data import dataset as prepared
from memevit.errors import UserError
from memevit.evaluation import predictions

logger = logging.getLogger(__name__)

N_SHUFFLES = 3
SHARES = (0.25, 0.5)  # Of the training images of each class.
# Of the arguments of a training, those that are about something else than what it learns.
_OTHERWISE = {
    "dataset", "model_name_or_path", "output_dir", "overwrite", "dry_run", "time_limit", "seeds", "folds", "others",
    "unknown_images", "unknown_class", "calibrate_only",
}  # fmt: skip


def on_shuffled_labels(model_dir: Path, dataset_dir: Path, backbone: Path, *, split: str) -> list[float]:
    """Accuracy on `split` of the same training after its labels were dealt out anew, once for each deal."""
    found = []
    for seed in range(N_SHUFFLES):
        rows = manifest.read(dataset_dir)
        train = manifest.kept(rows, "train")
        names = np.random.default_rng(seed).permutation([row.class_name for row in train])
        class_of = dict(zip((row.file for row in train), names.tolist(), strict=True))
        logger.info("Training on shuffled labels, %d of %d", seed + 1, N_SHUFFLES)
        rows = [replace(row, class_name=class_of.get(row.file, row.class_name)) for row in rows]
        found.append(_accuracy(rows, model_dir, dataset_dir, backbone, split=split))
    return found


def on_fewer_images(model_dir: Path, dataset_dir: Path, backbone: Path, *, split: str) -> list[dict[str, Any]]:
    """`n_train` and `value`, the accuracy on `split` of the same training with parts of the training images."""
    found = []
    for share in SHARES:
        random, rows = np.random.default_rng(0), manifest.read(dataset_dir)
        by_class: dict[str, list[manifest.Row]] = {}
        for row in manifest.kept(rows, "train"):
            by_class.setdefault(row.class_name, []).append(row)
        taken = {
            own[position].file
            for own in by_class.values()
            for position in random.permutation(len(own))[: max(1, round(share * len(own)))]
        }
        logger.info("Training on %d images", len(taken))
        rows = [row for row in rows if row.split != "train" or row.file in taken]
        value = _accuracy(rows, model_dir, dataset_dir, backbone, split=split)
        found.append({"n_train": len(taken), "value": value})
    return found


def require_record(model_dir: Path, backbone: Path | None) -> None:
    """See that the training of a model can be repeated.

    Raises:
        UserError: finetune_vit.py did not train it, or its backbone is not on this machine.
    """
    given = results.read_run(model_dir).get("arguments", {})
    if "learning_rate" not in given or given.get("calibrate_only"):
        raise UserError(f"--retrain repeats a training of finetune_vit.py, and {model_dir} has no record of one.")
    if backbone is None:
        raise UserError("--retrain needs the backbone that the model was made of. Name its folder with --backbone.")
    if seconds := results.read(model_dir).get("training", {}).get("seconds"):
        logger.info("--retrain repeats the training of the model, which took %.0f s, up to %d times", seconds,
                    N_SHUFFLES + len(SHARES))  # fmt: skip


def _accuracy(rows: Sequence[manifest.Row], model_dir: Path, dataset_dir: Path, backbone: Path, *, split: str) -> float:
    given = results.read_run(model_dir)["arguments"]
    given = {name: value for name, value in given.items() if name not in _OTHERWISE}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        prepared.write_variant(dataset_dir, data, rows)
        finetune(data, Path(folder) / "model", backbone, **given)
        found = predictions.read(Path(folder) / "model")
    own = np.array(found.splits) == split
    return float((found.predicted == found.labels)[own].mean())
