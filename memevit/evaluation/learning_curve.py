"""Accuracy against the number of training images: would more of them help?"""

from typing import Any

import numpy as np
from tqdm import tqdm

from memevit.evaluation import file_cues
from memevit.evaluation.observed import Observed, count

SHARES = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
N_DRAWS = 10
_MAX_TRAIN = 20_000
_PATIENCE_S = 2.0
_MIN_GAIN = 0.01


def section(
    train: Observed, test: Observed, features: tuple[np.ndarray, np.ndarray], *, of: str, seed: int = 0
) -> dict[str, Any]:
    """The section `learning_curve` of results.json: a linear classifier of fixed features, fitted to growing parts.

    Args:
        train: training split; parts of it are drawn, of every class in proportion.
        test: held-out images.
        features: [n_train, D] and [n_test, D].
        of: whose features these are.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(train.labels == label) for label in np.unique(train.labels)]
    rows = []
    draws = [(share, draw) for share in SHARES for draw in range(1 if share == 1.0 else N_DRAWS)]
    values: dict[float, list[float]] = {share: [] for share in SHARES}
    sizes: dict[float, int] = {}
    for share, _ in tqdm(draws, desc="Learning curve", delay=_PATIENCE_S, leave=False):
        share_of_each = min(share, _MAX_TRAIN / len(train))
        taken = np.concatenate(
            [random.choice(own, max(1, round(share_of_each * len(own))), replace=False) for own in members]
        )
        found = file_cues.predict_by_values(features[0][taken], train.labels[taken], features[1], seed=seed)
        values[share].append(float((found == test.labels).mean()))
        sizes[share] = len(taken)
    for share in SHARES:
        mean = float(np.mean(values[share]))
        # The spread between draws and that of a share measured on n images.
        spread = 1.96 * np.sqrt(np.var(values[share]) + mean * (1 - mean) / len(test))
        rows.append(
            {"name": "accuracy", "subject": f"linear classifier, {sizes[share]} training images", "value": mean,
             "n_train": sizes[share], "split": test.split, "n": len(test), "ci_low": max(0.0, mean - float(spread)),
             "ci_high": min(1.0, mean + float(spread)), "n_draws": len(values[share]),
             "ci_method": "normal, draws and test images"}
        )  # fmt: skip
    gain = rows[-1]["value"] - rows[3]["value"]
    helps = gain >= _MIN_GAIN
    return {
        "title": "Would more images help?",
        "summary": summary(rows, gain),
        "advice": f"Collect more images: twice as many brought {100 * gain:.0f} points." if helps else "",
        "method": f"Linear classifier of {of}, {test.split} n = {len(test):,}; band: 95 %, over draws of training "
        "images and over test images.",
        "measurements": rows,
    }


def retrained(rows: list[dict[str, Any]], train: Observed, test: Observed) -> dict[str, Any]:
    """Accuracy of the whole network by number of training images, as rows and as a sentence.

    Args:
        rows: `n_train` and `value` of trainings on parts of the images.
        train: all training images, with which `test` was predicted.
        test: held-out images.
    """
    whole = {"n_train": len(train), "value": float(test.is_correct.mean())}
    measurements = [
        {"name": "accuracy", "subject": f"whole network, {row['n_train']} training images", "split": test.split,
         "n": len(test), **row}
        for row in [*rows, whole]
    ]  # fmt: skip
    steps = ", ".join(f"{100 * row['value']:.1f} % with {row['n_train']:,}" for row in measurements)
    return {"measurements": measurements, "summary": f"The whole network, one training each: {steps} images."}


def summary(rows: list[dict[str, Any]], gain: float) -> str:
    """What doubling the training images brought, and what to expect of the next doubling."""
    half, whole = rows[3], rows[-1]
    start = (
        f"From {half['n_train']:,} to {count(whole['n_train'], 'training image')} accuracy went from "
        f"{100 * half['value']:.1f} % to {100 * whole['value']:.1f} %"
    )
    if gain >= _MIN_GAIN:
        return f"{start}. It is still rising: another doubling should bring somewhat less than {100 * gain:.1f} points."
    return f"{start}. It has levelled off: more images of the same kind would hardly help."
