"""Whether probabilities mean what they say: the temperature that makes them so, and how far off they are."""

from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from memevit.evaluation.predictions import softmax
from memevit.results import Measurement

N_BINS = 15  # Guo et al. 2017.
N_SIMULATED = 200
_LOG_RANGE = (-3.0, 5.0)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the loss on validation images, with smoothed targets and balanced classes.

    A plain fit goes to 0 when no validation image is misclassified, which is infinite overconfidence. Here each target
    is 1 - e for the true class, with e = 1 / (n + 2): what Laplace's rule expects of n images without a mistake.

    Args:
        logits: [n, C] of validation images.
        labels: [n] their class ids.

    Returns:
        T; the calibrated logits are `logits / T`. 1 if there are no images or only one class.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv:1706.04599); smoothed targets as in
        Platt, Probabilities for SV Machines, 2000.

    Example:
        >>> separable = np.array([[9.0, 0.0], [0.0, 9.0]] * 20)
        >>> 1 < fit_temperature(separable, np.array([0, 1] * 20)) < 4
        True
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    n, n_classes = logits.shape
    if not n or n_classes < 2:
        return 1.0
    smoothing = 1 / (n + 2)
    counts = np.bincount(labels, minlength=n_classes)
    # A class without images may have logits that are never the largest; nothing is to be expected of it.
    is_expected = counts > 0 if (counts > 0).sum() > 1 else np.ones(n_classes, dtype=bool)
    targets = np.zeros((n, n_classes))
    targets[:, is_expected] = smoothing / (is_expected.sum() - 1)
    targets[np.arange(n), labels] = 1 - smoothing
    weights = 1 / counts[labels]
    weights /= weights.sum()
    shifted = logits - logits.max(axis=1, keepdims=True)

    def loss(log_temperature: float) -> float:
        scaled = shifted / np.exp(log_temperature)
        log_sum = np.log(np.exp(scaled).sum(axis=1))
        return float(weights @ (log_sum - (targets * scaled).sum(axis=1)))

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded").x))


def calibrated_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[n] negative log-probability of the true class, after the temperature that fits the same images best.

    Unlike the plain loss it says nothing about a model that is too sure of itself, which the calibration at the end of
    a training repairs.

    Args:
        logits: [n, C] of validation images.
        labels: [n] their class ids.

    Example:
        >>> calibrated_losses(np.array([[2.0, 0.0], [2.0, 0.0]]), np.array([0, 1])).round(2).tolist()
        [0.69, 0.7]
    """
    scaled = np.asarray(logits, dtype=np.float64) / fit_temperature(logits, labels)
    return logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]


def ece(confidence: np.ndarray, is_correct: np.ndarray, *, n_bins: int = N_BINS, equal_mass: bool = False) -> float:
    """Expected calibration error: mean distance between confidence and accuracy over bins, weighted by their images.

    Args:
        confidence: [n] highest softmax probability.
        is_correct: [n] whether the most probable class is the true one.
        n_bins: number of bins.
        equal_mass: bins with the same number of images, instead of bins of the same width.

    Example:
        >>> ece(np.array([0.9, 0.9]), np.array([True, False]))
        0.4
    """
    confidence, is_correct = np.asarray(confidence, dtype=np.float64), np.asarray(is_correct, dtype=np.float64)
    n = len(confidence)
    if equal_mass:
        bins = np.empty(n, dtype=np.int64)
        bins[np.argsort(confidence, kind="stable")] = np.arange(n) * n_bins // max(n, 1)
    else:
        bins = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    gaps = np.bincount(bins, confidence - is_correct, minlength=n_bins)
    return float(np.abs(gaps).sum() / n)


def simulated_ece(
    probabilities: np.ndarray, *, equal_mass: bool = False, n_simulated: int = N_SIMULATED, seed: int = 0
) -> tuple[float, float]:
    """Mean and 95 % quantile of the ECE that a perfectly calibrated model with these probabilities would show.

    With few images the ECE is well above 0 even then, so the measured value says little without this one beside it.

    Args:
        probabilities: [n, C].
        equal_mass: as in `ece`.
        n_simulated: number of draws of labels.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    confidence = probabilities.max(axis=1)
    values = [
        ece(confidence, random.random(len(confidence)) < confidence, equal_mass=equal_mass) for _ in range(n_simulated)
    ]
    return float(np.mean(values)), float(np.quantile(values, 0.95))


def measures(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Loss, Brier score and ECE with its simulated null, of logits on one split.

    Args:
        logits: [n, C].
        labels: [n] class ids.
    """
    probabilities = softmax(logits)
    labels = np.asarray(labels, dtype=np.int64)
    rows = np.arange(len(labels))
    one_hot = np.zeros_like(probabilities)
    one_hot[rows, labels] = 1
    confidence, is_correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    found: dict[str, Any] = {
        "n": len(labels),
        "nll": float(-np.log(np.maximum(probabilities[rows, labels], 1e-300)).mean()),
        "brier": float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
    }
    for name, equal_mass in (("ece_15_bins", False), ("ece_15_equal_mass", True)):
        mean, high = simulated_ece(probabilities, equal_mass=equal_mass)
        found[name] = ece(confidence, is_correct, equal_mass=equal_mass)
        found[f"{name}_if_calibrated"] = {"mean": mean, "quantile_95": high}
    return found


def section(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, *, temperature: float, n_validation: int, split: str
) -> dict[str, Any]:
    """The section `calibration` of results.json.

    Args:
        before: [n, C] logits of the model as trained.
        after: [n, C] logits once the temperature is part of the head.
        labels: [n] class ids.
        temperature: that was fitted.
        n_validation: images that it was fitted on.
        split: that the logits belong to.
    """
    found = {"before": measures(before, labels), "after": measures(after, labels)}
    return {
        "title": "Calibration",
        "summary": f"The probabilities were calibrated with a temperature, fitted on {n_validation} validation images "
        "and part of the weights.",
        "measurements": [
            asdict(Measurement(name, found["after"][name], split, len(labels)))
            for name in ("ece_15_equal_mass", "nll", "brier")
        ],
        "temperature": temperature,
        "fitted_on": {"split": "validation", "n": n_validation},
        "split": split,
        **found,
    }
