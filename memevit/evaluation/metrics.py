"""Classification metrics as subclasses of `evaluate.Metric`, computed in this process.

`evaluate.load("accuracy")` downloads code from the Hub, so nothing here uses it.
"""

from typing import Any

import datasets
import evaluate
import numpy as np
import sklearn.metrics

_FEATURES = datasets.Features({"predictions": datasets.Value("int32"), "references": datasets.Value("int32")})
_INPUTS = "predictions and references: [n] class ids"


class _ClassMetric(evaluate.Metric):
    """A metric of class ids; `labels` are all ids, so that a class that nobody predicts still counts."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__ or "", citation="", inputs_description=_INPUTS, features=_FEATURES
        )


class Accuracy(_ClassMetric):
    """Share of images whose most probable class is the true one."""

    def _compute(self, predictions: list[int], references: list[int], labels: list[int]) -> dict[str, float]:
        return {"accuracy": float(sklearn.metrics.accuracy_score(references, predictions))}


class BalancedAccuracy(_ClassMetric):
    """Mean recall of the classes that occur: each class counts the same, however many images it has."""

    def _compute(self, predictions: list[int], references: list[int], labels: list[int]) -> dict[str, float]:
        present = sorted(set(references))
        recalls = sklearn.metrics.recall_score(references, predictions, labels=present, average=None, zero_division=0.0)
        return {"balanced_accuracy": float(np.mean(recalls))}


class MacroF1(_ClassMetric):
    """Mean over all classes of the harmonic mean of precision and recall."""

    def _compute(self, predictions: list[int], references: list[int], labels: list[int]) -> dict[str, float]:
        score = sklearn.metrics.f1_score(references, predictions, labels=labels, average="macro", zero_division=0.0)
        return {"macro_f1": float(score)}


class PerClass(_ClassMetric):
    """Precision, recall, F1 and number of images of each class."""

    def _compute(self, predictions: list[int], references: list[int], labels: list[int]) -> dict[str, list]:
        precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
            references, predictions, labels=labels, zero_division=0.0
        )
        return {
            "precision": precision.tolist(),
            "recall": recall.tolist(),
            "f1": f1.tolist(),
            "support": support.tolist(),
        }


class ConfusionMatrix(_ClassMetric):
    """Counts with true classes in rows and predicted classes in columns."""

    def _compute(self, predictions: list[int], references: list[int], labels: list[int]) -> dict[str, list]:
        return {"confusion_matrix": sklearn.metrics.confusion_matrix(references, predictions, labels=labels).tolist()}


SUMMARY = (Accuracy, BalancedAccuracy, MacroF1)


def compute(
    predicted: np.ndarray, true: np.ndarray, *, n_classes: int, metrics: tuple[type[evaluate.Metric], ...] = SUMMARY
) -> dict[str, Any]:
    """The values of `metrics`, by name.

    Args:
        predicted: [n] class ids.
        true: [n] class ids.
        n_classes: number of classes, also those that do not occur.
        metrics: which ones.

    Example:
        >>> values = compute(np.array([0, 1, 1]), np.array([0, 1, 0]), n_classes=2)
        >>> {name: round(value, 3) for name, value in values.items()}
        {'accuracy': 0.667, 'balanced_accuracy': 0.75, 'macro_f1': 0.667}
    """
    values: dict[str, Any] = {}
    for metric in metrics:
        values |= metric(keep_in_memory=True).compute(
            predictions=predicted.tolist(), references=true.tolist(), labels=list(range(n_classes))
        )
    return values
