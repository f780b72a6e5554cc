"""Linear heads on features of a frozen backbone: logistic regression, and discriminant analysis from statistics."""

from dataclasses import dataclass

import numpy as np

from memevit.model import linear_probe
from memevit.portable.open_set import balanced_weights


@dataclass(frozen=True)
class Head:
    """A linear head: `weight` [C, D] and `bias` [C] in float64, and the name of the method that fitted it.

    `fit` is what a logistic regression found.
    """

    weight: np.ndarray
    bias: np.ndarray
    method: str
    fit: linear_probe.Fit | None = None

    def logits(self, features: np.ndarray) -> np.ndarray:
        """[n, C] logits of [n, D] features."""
        return features @ self.weight.T + self.bias


@dataclass(frozen=True)
class Labelled:
    """`features` [n, D] of some images and their class ids `labels` [n]."""

    features: np.ndarray
    labels: np.ndarray


def logistic(train: Labelled, validation: Labelled, *, n_classes: int, like: Head | None = None) -> Head:
    """Multinomial logistic regression with balanced classes, its penalty chosen by the loss on validation.

    Choosing among this, ridge regression and discriminant analysis on validation is worse: see docs/choices.md.

    Args:
        train: images of every class.
        validation: images of every class.
        n_classes: number of classes.
        like: a logistic head of nearly the same images, see `linear_probe.fit`.
    """
    weights = np.array([balanced_weights(train.labels)[train.labels == label][0] for label in range(n_classes)])
    found = linear_probe.fit(
        train.features, train.labels, validation.features, validation.labels, n_classes=n_classes, weights=weights,
        like=like.fit if like else None,
    )  # fmt: skip
    return Head(found.weight.astype(np.float64), found.bias.astype(np.float64), "logistic regression", found)


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
