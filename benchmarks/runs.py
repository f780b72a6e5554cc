"""Many trainings side by side, each in a process of its own; what is done stays done when the command is repeated."""

import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from memevit import manifest, results
from memevit.data import dataset as prepared
from memevit.errors import UserError
from memevit.evaluation import calibration, metrics, predictions
from memevit.evaluation.predictions import Predictions

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
SPLITS = ("validation", "test")
_SHOWN_LINES = 5  # Of the log of a training that failed.


def one_thread() -> None:
    """Let the processes that start from now on share the cores: one thread each."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")


def finetune(dataset: Path, backbone: Path, flags: tuple[str, ...], seed: int) -> dict[str, Any]:
    """Run finetune_vit.py and return what `scores` says of its predictions, with its seconds.

    Args:
        dataset: folder that data_prep.py wrote.
        backbone: checkpoint folder.
        flags: of finetune_vit.py, besides those for data, backbone and seed.
        seed: of the training.

    Raises:
        UserError: the command failed.
    """
    one_thread()
    with tempfile.TemporaryDirectory() as parent:
        model_dir = Path(parent) / "model"
        command = [
            *(sys.executable, str(ROOT / "finetune_vit.py"), "--dataset", str(dataset), "--output_dir", str(model_dir)),
            *("--model_name_or_path", str(backbone), "--seed", str(seed), "--use_cpu", "--disable_tqdm", "True"),
            *flags,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = "\n".join(done.stderr.strip().splitlines()[-_SHOWN_LINES:])
            raise UserError(f"{' '.join(command)} ended with code {done.returncode}:\n{last}")
        found = results.read(model_dir)
        return scores(predictions.read(model_dir)) | {"seconds": found["training"]["seconds"]}


def scores(found: Predictions) -> dict[str, dict[str, float]]:
    """The scores of each split, see `scores_of`."""
    splits = np.array(found.splits)
    return {split: scores_of(found.probabilities[splits == split], found.labels[splits == split]) for split in SPLITS}


def scores_of(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracies, macro F1, mean negative log-probability of the true class, and calibration error.

    Args:
        probabilities: [n, C].
        labels: [n] class ids.
    """
    own = metrics.compute(probabilities.argmax(1), labels, n_classes=probabilities.shape[1])
    true = probabilities[np.arange(len(labels)), labels]
    ece = calibration.ece(probabilities.max(1), probabilities.argmax(1) == labels)
    return own | {"nll": float(-np.log(np.maximum(true, 1e-7)).mean()), "ece": ece, "n": len(labels)}


def few_per_class(dataset: Path, per_class: int, seed: int) -> Path:
    """A dataset beside `dataset` with so many training images of each class, and validation images in proportion.

    The test split stays whole. Another seed draws other images.

    Args:
        dataset: folder that data_prep.py wrote.
        per_class: training images of each class, as far as there are so many.
        seed: of the draw.
    """
    rows = manifest.kept(manifest.read(dataset))
    n_of = {split: sum(row.split == split for row in rows) for split in manifest.SPLITS}
    random, chosen = np.random.default_rng(seed), [row for row in rows if row.split == "test"]
    for split, n in (("train", per_class), ("validation", round(per_class * n_of["validation"] / n_of["train"]))):
        for name in manifest.class_names(rows):
            own = [row for row in rows if (row.split, row.class_name) == (split, name)]
            chosen += [own[position] for position in sorted(random.permutation(len(own))[:n])]
    small = dataset.with_name(f"{dataset.name}-{per_class}-per-class-{seed}")
    names = "\n".join(row.file for row in chosen)
    prepared.write_variant(dataset, small, chosen, fingerprint=hashlib.sha256(names.encode()).hexdigest())
    return small


def collect(
    tasks: Mapping[str, Callable[[], dict[str, Any]]],
    output: Path,
    header: dict[str, Any],
    *,
    jobs: int,
    minutes: float,
) -> dict[str, dict[str, Any]]:
    """Results by the name of the task, each written to `output` as soon as it is there.

    Args:
        tasks: what is to be computed; what `output` holds already is not computed again if its header is the same.
        output: JSON file.
        header: what the results depend on besides the tasks.
        jobs: processes at a time.
        minutes: after so many no more tasks are begun.
    """
    report: dict[str, Any] = {**header, "hardware": results.processor_name(), "runs": {}}
    if output.exists():
        before = json.loads(output.read_text(encoding="utf-8"))
        if all(before.get(key) == value for key, value in header.items()):
            report["runs"] = before["runs"]
    remaining = [name for name in tasks if name not in report["runs"]]
    end = time.monotonic() + 60 * minutes
    output.parent.mkdir(parents=True, exist_ok=True)
    one_thread()  # Before they start: torch looks at it once, when it is imported.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: dict[Any, str] = {}
        while remaining or running:
            while remaining and len(running) < jobs and time.monotonic() < end:
                name = remaining.pop(0)
                running[pool.submit(tasks[name])] = name
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                report["runs"][name] = future.result()
                output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
                logger.info("%s: %.3f on validation, %.3f on test", name,
                            *(report["runs"][name][split]["balanced_accuracy"] for split in SPLITS))  # fmt: skip
    if remaining:
        logger.warning("%d of %d trainings are still to do: repeat the command", len(remaining), len(tasks))
    return {name: report["runs"][name] for name in tasks if name in report["runs"]}
