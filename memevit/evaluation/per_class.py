"""Class by class: recall, precision and F1 with intervals, confusion, and ROC and precision-recall curves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn.metrics

from memevit.evaluation.observed import Observed
from memevit.evaluation.significance import WILSON, wilson_interval

MAX_CURVES = 12  # Classes with curves.
_MAX_POINTS = 80
MAX_CELLS = 60  # Confused pairs that are listed.
N_EXAMPLES = 4


def section(test: Observed, class_names: Sequence[str]) -> dict[str, Any]:
    """The section `classes`: a row per class, the most frequent confusions, and areas under the curves.

    `cells` are pairs of different classes with the number of images and the positions of the first ones, the most
    frequent first; `diagonal` the positions of correct ones by class.
    """
    n_classes = len(class_names)
    labels, predicted = test.labels, test.predicted
    codes, counts = np.unique(labels * n_classes + predicted, return_counts=True)
    support = np.bincount(labels, minlength=n_classes)
    named = np.bincount(predicted, minlength=n_classes)
    correct = np.bincount(labels[test.is_correct], minlength=n_classes)
    rows = []
    for label, name in enumerate(class_names):
        if not support[label] and not named[label]:
            continue
        row: dict[str, Any] = {"class_name": name, "label": label, "split": test.split, "n": int(support[label]),
                               "n_predicted": int(named[label]), "n_correct": int(correct[label])}  # fmt: skip
        for measure, n in (("recall", support[label]), ("precision", named[label])):
            if n:
                low, high = wilson_interval(int(correct[label]), int(n))
                row |= {measure: correct[label] / n, f"{measure}_ci_low": low, f"{measure}_ci_high": high}
        row["f1"] = 2 * correct[label] / max(support[label] + named[label], 1)
        rows.append({key: float(value) if isinstance(value, np.floating) else value for key, value in row.items()})
    wrong = [(int(n), *divmod(int(code), n_classes)) for code, n in zip(codes, counts, strict=True)]
    cells = [
        {"true": true, "predicted": guess, "n": n,
         "examples": np.flatnonzero((labels == true) & (predicted == guess))[:N_EXAMPLES].tolist()}
        for n, true, guess in sorted(wrong, key=lambda one: (-one[0], one[1:])) if true != guess
    ][:MAX_CELLS]  # fmt: skip
    return {
        "title": "Classes",
        "summary": summary(rows),
        "rows": rows,
        "cells": cells,
        "ci_method": WILSON,
        "split": test.split,
        "n": len(test),
    }


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """The class that is found least often."""
    tested = [row for row in rows if row["n"]]
    if len(tested) < 2:
        return ""
    worst, best = (pick(tested, key=lambda row: row["recall"]) for pick in (min, max))
    return (
        f"{worst['class_name']} is found least often ({100 * worst['recall']:.0f} % of {worst['n']}), "
        f"{best['class_name']} most often ({100 * best['recall']:.0f} % of {best['n']})."
    )


def curves(test: Observed, label: int) -> dict[str, Any]:
    """ROC and precision-recall curve of one class against all others, with the areas under them.

    Args:
        test: the split.
        label: class id that occurs and is not the only one.
    """
    truth, score = test.labels == label, test.probabilities[:, label]
    false_rate, true_rate, _ = sklearn.metrics.roc_curve(truth, score)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(truth, score)
    few = np.unique(np.linspace(0, len(false_rate) - 1, _MAX_POINTS).astype(int))
    some = np.unique(np.linspace(0, len(recall) - 1, _MAX_POINTS).astype(int))
    return {
        "auroc": float(sklearn.metrics.roc_auc_score(truth, score)),
        "average_precision": float(sklearn.metrics.average_precision_score(truth, score)),
        "roc": list(zip(false_rate[few].tolist(), true_rate[few].tolist(), strict=True)),
        "precision_recall": list(zip(recall[some].tolist(), precision[some].tolist(), strict=True)),
    }
