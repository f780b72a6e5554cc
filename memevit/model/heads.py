"""Linear heads on features of a frozen backbone: logistic and ridge regression, discriminant analysis, a choice."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.covariance import LedoitWolf

from memevit.model import linear_probe
from memevit.portable.open_set import balanced_weights

logger = logging.getLogger(__name__)

RIDGE_PENALTIES = tuple(10.0**power for power in range(-3, 5))


@dataclass(frozen=True)
class Head:
    """A linear head: `weight` [C, D] and `bias` [C] in float64, and the name of the method that fitted it."""

    weight: np.ndarray
    bias: np.ndarray
    method: str

    def logits(self, features: np.ndarray) -> np.ndarray:
        """[n, C] logits of [n, D] features."""
        return features @ self.weight.T + self.bias


@dataclass(frozen=True)
class Labelled:
    """`features` [n, D] of some images and their class ids `labels` [n]."""

    features: np.ndarray
    labels: np.ndarray


def class_means(features: np.ndarray, labels: np.ndarray, *, n_classes: int) -> np.ndarray:
    """[C, D] mean feature of each class."""
    return np.stack([features[labels == label].mean(axis=0) for label in range(n_classes)])


def within_class_covariance(features: np.ndarray, labels: np.ndarray, means: np.ndarray) -> np.ndarray:
    """[D, D] covariance of features around the mean of their class, shrunk so that it has an inverse.

    Source:
        Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004.
    """
    return LedoitWolf(assume_centered=True).fit(features - means[labels]).covariance_


def lda_from_statistics(means: np.ndarray, covariance: np.ndarray) -> Head:
    """The head of a linear discriminant analysis with equal priors.

    Args:
        means: [C, D] of each class.
        covariance: [D, D] within classes, invertible.

    Source:
        Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 4.3.
    """
    weight = np.linalg.solve(covariance, means.T).T
    return Head(weight, -0.5 * (weight * means).sum(axis=1), "linear discriminant analysis")


def _lda(train: Labelled, _: Labelled, n_classes: int) -> list[Head]:
    means = class_means(train.features, train.labels, n_classes=n_classes)
    return [lda_from_statistics(means, within_class_covariance(train.features, train.labels, means))]


def _ridge(train: Labelled, _: Labelled, n_classes: int) -> list[Head]:
    """One head per penalty: least squares to one-hot targets, every class with the same total weight."""
    weights = balanced_weights(train.labels)
    mean = np.average(train.features, axis=0, weights=weights)
    targets = np.eye(n_classes)[train.labels]
    target_mean = np.average(targets, axis=0, weights=weights)
    root = np.sqrt(weights)[:, None]
    left, singular, right = np.linalg.svd((train.features - mean) * root, full_matrices=False)
    projected = left.T @ ((targets - target_mean) * root)
    heads = []
    for penalty in RIDGE_PENALTIES:
        weight = (right.T @ ((singular / (singular**2 + penalty))[:, None] * projected)).T
        heads.append(Head(weight, target_mean - weight @ mean, "ridge regression"))
    return heads


def _logistic(train: Labelled, validation: Labelled, n_classes: int) -> list[Head]:
    """Multinomial logistic regression with balanced classes, its penalty chosen by the loss on validation."""
    weights = np.array([balanced_weights(train.labels)[train.labels == label][0] for label in range(n_classes)])
    weight, bias = linear_probe.fit(
        train.features, train.labels, validation.features, validation.labels, n_classes=n_classes, weights=weights
    )
    return [Head(weight.astype(np.float64), bias.astype(np.float64), "logistic regression")]


METHODS: Mapping[str, Callable[[Labelled, Labelled, int], list[Head]]] = {
    "logistic": _logistic, "ridge": _ridge, "lda": _lda,
}  # fmt: skip


def balanced_accuracy(head: Head, data: Labelled) -> float:
    """Mean over classes of the share of images that `head` puts into their own class."""
    right = head.logits(data.features).argmax(axis=1) == data.labels
    return float(np.mean([right[data.labels == label].mean() for label in np.unique(data.labels)]))


def candidates(train: Labelled, validation: Labelled, *, n_classes: int) -> list[Head]:
    """The heads of all `METHODS` in their order.

    Args:
        train: images of every class.
        validation: images of every class.
        n_classes: number of classes.
    """
    return [head for fit in METHODS.values() for head in fit(train, validation, n_classes)]


def best(found: Sequence[Head], validation: Labelled) -> tuple[Head, float]:
    """The head with the highest balanced accuracy on validation, and that accuracy.

    Of equal ones the first is taken: in the order of `METHODS` its probabilities are the best calibrated.
    """
    values = [balanced_accuracy(head, validation) for head in found]
    chosen = int(np.argmax(np.round(values, 9)))
    logger.debug("Head: %s, balanced accuracy %.3f on validation", found[chosen].method, values[chosen])
    return found[chosen], values[chosen]
