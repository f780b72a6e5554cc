"""Two models on the same images: a paired test, and the images on which they differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from memevit.evaluation.observed import Observed, count
from memevit.evaluation.significance import MCNEMAR, Paired, paired_interval

MAX_SHOWN = 48


def section(test: Observed, other_predicted: np.ndarray, other: str, class_names: Sequence[str]) -> dict[str, Any]:
    """The section `comparison` of results.json.

    Args:
        test: the split as this model sees it.
        other_predicted: [n] class ids, in this model's order, that the other model predicts.
        other: name of the other model.
        class_names: by id.
    """
    correct = other_predicted == test.labels
    found = Paired.of(test.is_correct, correct)
    low, high = paired_interval(found)
    differing = np.flatnonzero(test.predicted != other_predicted)
    # Where only one of the two is right comes first.
    differing = differing[np.argsort(test.is_correct[differing] == correct[differing], kind="stable")]
    return {
        "title": "Comparison",
        "summary": summary(found, low, high, other),
        "other": other,
        "split": test.split,
        "measurements": [
            {"name": "difference in accuracy", "subject": f"against {other}", "value": found.difference,
             "split": test.split, "n": found.n, "ci_low": low, "ci_high": high, "p": found.p, "p_method": MCNEMAR,
             "ci_method": "Agresti and Min, 95 %", "n_only_this": found.n_only_first,
             "n_only_other": found.n_only_second}
        ],
        "n_differing": len(differing),
        "images": [
            {"position": int(position), "true": class_names[test.labels[position]],
             "own": class_names[test.predicted[position]], "other": class_names[other_predicted[position]]}
            for position in differing[:MAX_SHOWN]
        ],
    }  # fmt: skip


def summary(found: Paired, low: float, high: float, other: str) -> str:
    """Which model is better on the same images, and whether that can be told from chance."""
    difference = f"{100 * found.difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}, p = {found.p:.3f})"
    if found.p < 0.05:
        verdict = "This model is better" if found.difference > 0 else f"{other} is better"
    else:
        verdict = "No difference can be told from chance"
    return (
        f"{verdict}: {difference} on the same {count(found.n, 'image')}; only this model is right on "
        f"{found.n_only_first}, only the other on {found.n_only_second}."
    )
