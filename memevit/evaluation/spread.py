"""Several trainings of one recipe: what is the same each time, and what is chance."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from memevit.evaluation import metrics


def summary(predicted: Mapping[str, np.ndarray], true: Mapping[str, np.ndarray], *, n_classes: int) -> dict[str, Any]:
    """Each metric's value by run, its mean, and its standard deviation between runs.

    Args:
        predicted: [n] class ids by name of the run.
        true: [n] class ids by name of the run.
        n_classes: number of classes.

    Example:
        >>> right = np.array([0, 1])
        >>> found = summary({"0": right, "1": np.array([0, 0])}, {"0": right, "1": right}, n_classes=2)
        >>> accuracy = found["metrics"]["accuracy"]
        >>> accuracy["values"], accuracy["mean"], round(accuracy["standard_deviation"], 3)
        ({'0': 1.0, '1': 0.5}, 0.75, 0.354)
    """
    by_run = {name: metrics.compute(predicted[name], true[name], n_classes=n_classes) for name in predicted}
    found = {}
    for metric in next(iter(by_run.values())):
        values = {name: own[metric] for name, own in by_run.items()}
        found[metric] = {
            "values": values,
            "mean": float(np.mean(list(values.values()))),
            # With n - 1: the runs are a sample of those that could have been.
            "standard_deviation": float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else 0.0,
        }
    return {"split": "test", "n": {name: len(labels) for name, labels in true.items()}, "metrics": found}


def lines(title: str, section: Mapping[str, Any]) -> list[str]:
    """A section as text, a line per metric.

    Example:
        >>> accuracy = {"values": {"0": 1, "1": 0.5}, "mean": 0.75, "standard_deviation": 0.35}
        >>> section = {"metrics": {"accuracy": accuracy}}
        >>> lines("2 seeds", section)
        ['2 seeds: accuracy 0.750 +- 0.350 (0.500 to 1.000)']
    """
    return [
        f"{title}: {name} {one['mean']:.3f} +- {one['standard_deviation']:.3f} "
        f"({min(one['values'].values()):.3f} to {max(one['values'].values()):.3f})"
        for name, one in section["metrics"].items()
    ]
