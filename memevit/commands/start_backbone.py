"""The backbone that a model was fine-tuned from: where it is, and what its linear probe says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from memevit import results
from memevit.errors import UserError
from memevit.evaluation import baselines, file_cues
from memevit.evaluation.observed import Observed
from memevit.model import balance, linear_probe


def recorded(model_dir: Path) -> Path | None:
    """Where the backbone that run.json names lies, as a local folder or among those that ship with the project."""
    arguments = _arguments(model_dir)
    given = arguments.get("model_name_or_path")
    if not given or arguments.get("from_scratch"):
        return None
    places = (Path(given), Path(__file__).parents[2] / "backbones" / Path(given).name)
    return next((place for place in places if (place / "config.json").is_file()), None)


def probe_predictions(
    model_dir: Path,
    features: Mapping[str, np.ndarray],
    parts: Mapping[str, Observed],
    split: str,
    *,
    n_classes: int,
    seed: int = 0,
) -> np.ndarray:
    """[n] class ids that the linear probe of finetune_vit.py predicts for a split.

    Of many images or classes, or without a validation split, by the quicker classifier of the other baselines.

    Args:
        model_dir: its run.json says how classes were weighted.
        features: [n, D] of the backbone by split.
        parts: the splits, with their labels.
        split: which one is predicted.
        n_classes: number of classes.
        seed: of the choice of images, and of the solver.
    """
    train, validation = parts["train"], parts.get("validation")
    seen = baselines.some_of(train.labels, baselines.MAX_TRAIN, seed=seed)
    if validation is None or len(seen) < len(train) or n_classes > file_cues.MAX_CLASSES:
        return file_cues.predict_by_values(features["train"][seen], train.labels[seen], features[split], seed=seed)
    is_weighted = balance.is_weighted(
        _arguments(model_dir).get("class_balance", "auto"), train.labels, n_classes=n_classes
    )
    weight, bias = linear_probe.fitted(
        (features["train"], features["validation"]), (train.labels, validation.labels), n_classes, weighted=is_weighted
    )
    return (features[split] @ weight.T + bias).argmax(axis=1)


def _arguments(model_dir: Path) -> dict[str, Any]:
    """Those of the training; none of a checkpoint that finetune_vit.py did not write."""
    try:
        return results.read_run(model_dir).get("arguments", {})
    except UserError:
        return {}
