"""How far probabilities can be trusted: reliability, calibration error beside its null, risk against coverage."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from memevit.evaluation.calibration import N_BINS, ece, simulated_ece
from memevit.evaluation.observed import probabilities_of
from memevit.evaluation.significance import WILSON, wilson_interval
from memevit.results import MODEL

_SMALLEST = 1e-12  # Probability, so that a certain and wrong prediction has a finite loss.


def _bins(confidence: np.ndarray, n_bins: int) -> np.ndarray:
    return np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-probability of the true classes [n] under probabilities [n, C].

    Example:
        >>> round(log_loss(np.array([[0.5, 0.5]]), np.array([0])), 4)
        0.6931
    """
    own = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, _SMALLEST)).mean())


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance between probabilities [n, C] and the true classes [n]: 0 is best, 2 worst.

    Source:
        Brier, Verification of forecasts expressed in terms of probability, 1950.

    Example:
        >>> brier_score(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]))
        0.25
    """
    own = probabilities[np.arange(len(labels)), labels]
    return float((np.einsum("ij,ij->i", probabilities, probabilities) - 2 * own + 1).mean())


@dataclass(frozen=True)
class Bin:
    """Images of similar confidence: their number, mean confidence, accuracy and its 95 % Wilson interval."""

    n: int
    confidence: float
    accuracy: float
    ci_low: float
    ci_high: float


def reliability(confidence: np.ndarray, is_correct: np.ndarray, *, n_bins: int = 10) -> list[Bin]:
    """Bins of equal width that hold images, from low to high confidence.

    Args:
        confidence: [n] probability of the predicted class.
        is_correct: [n].
        n_bins: bins in [0, 1].
    """
    bins = _bins(confidence, n_bins)
    found = []
    for number in np.unique(bins):
        own = bins == number
        n, n_correct = int(own.sum()), int(is_correct[own].sum())
        found.append(Bin(n, float(confidence[own].mean()), n_correct / n, *wilson_interval(n_correct, n)))
    return found


def risk_coverage(confidence: np.ndarray, is_correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage [m] and error rate [m] of the images that are at least as confident as each threshold.

    Images of equal confidence are accepted together.

    Args:
        confidence: [n], higher is more confident.
        is_correct: [n].

    Source:
        Geifman and El-Yaniv, Selective classification for deep neural networks, 2017 (arXiv:1705.08500).

    Example:
        >>> coverage, risk = risk_coverage(np.array([0.9, 0.8, 0.8, 0.6]), np.array([True, True, False, False]))
        >>> coverage.tolist(), risk.round(3).tolist()
        ([0.25, 0.75, 1.0], [0.0, 0.333, 0.5])
    """
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True)) + 1
    n_wrong = np.cumsum(~is_correct[order])
    return ends / len(confidence), n_wrong[ends - 1] / ends


def at_coverage(coverage: np.ndarray, risk: np.ndarray, wanted: float) -> tuple[float, float]:
    """The largest coverage of at most `wanted` on the curve of `risk_coverage`, and the error rate there.

    The first point of the curve where even that covers more.
    """
    position = max(0, int(np.searchsorted(coverage, wanted + 1e-9, side="right")) - 1)
    return float(coverage[position]), float(risk[position])


def values_of(probabilities: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Calibration error with the 95 % quantile of its null, log-loss and Brier score of probabilities [n, C]."""
    confidence = probabilities.max(axis=1)
    is_correct = probabilities.argmax(axis=1) == labels
    null_mean, null_high = simulated_ece(probabilities, seed=seed)
    return {
        "ece": ece(confidence, is_correct),
        "ece_null_mean": null_mean,
        "ece_null_high": null_high,
        "log_loss": log_loss(probabilities, labels),
        "brier_score": brier_score(probabilities, labels),
        "mean_confidence": float(confidence.mean()),
        "accuracy": float(is_correct.mean()),
    }


def section(split: str, logits: np.ndarray, labels: np.ndarray, *, temperature: float | None = None) -> dict[str, Any]:
    """The section `confidence` of results.json.

    Args:
        split: where the images come from.
        logits: [n, C].
        labels: [n] class ids.
        temperature: that the model's classifier was divided by, if it was; then values before that are added.
    """
    n = len(labels)
    probabilities = probabilities_of(logits)
    confidence, is_correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    values = values_of(probabilities, labels)
    del probabilities  # Of 1,000 classes it is large, and another one may follow.
    base = {"split": split, "n": n, "subject": MODEL}
    measurements = [
        base | {"name": "ece", "value": values["ece"], "method": f"{N_BINS} bins of equal width",
                "null_mean": values["ece_null_mean"], "null_high": values["ece_null_high"]},
        base | {"name": "log_loss", "value": values["log_loss"]},
        base | {"name": "brier_score", "value": values["brier_score"]},
    ]  # fmt: skip
    before = None
    if temperature is not None and temperature != 1.0:
        before = values_of(probabilities_of(logits * np.float32(temperature)), labels)
        measurements += [
            base | {"name": name, "value": before[name], "subject": f"{MODEL}, before temperature scaling"}
            for name in ("ece", "log_loss", "brier_score")
        ]
    coverage, risk = risk_coverage(confidence, is_correct)
    covered, error = at_coverage(coverage, risk, 0.9)
    n_covered = round(covered * n)
    low, high = wilson_interval(n_covered - round(error * n_covered), n_covered)
    selective = base | {
        "name": "accuracy", "subject": f"{MODEL}, the most confident 90 %", "n": n_covered, "value": 1 - error,
        "coverage": covered, "ci_low": low, "ci_high": high, "ci_method": WILSON,
    }  # fmt: skip
    points = np.unique(np.linspace(0, len(coverage) - 1, 60).astype(int))
    return {
        "title": "Confidence",
        "summary": f"{_honesty(values)} {_selective(covered, error, values['accuracy'])}",
        "measurements": [*measurements, selective],
        "temperature": temperature,
        "reliability": [asdict(one) for one in reliability(confidence, is_correct)],
        "risk_coverage": {"coverage": coverage[points].tolist(), "risk": risk[points].tolist()},
        "split": split,
        "n": n,
    }


def _honesty(values: dict[str, float]) -> str:
    gap = values["mean_confidence"] - values["accuracy"]
    if values["ece"] <= values["ece_null_high"]:
        return (
            "Its probabilities are honest as far as these images can tell: the calibration error is "
            f"{values['ece']:.3f}, and a perfectly calibrated model would show up to {values['ece_null_high']:.3f}."
        )
    direction = "over-confident" if gap > 0 else "under-confident"
    return (
        f"It is {direction}: on average it claims {100 * values['mean_confidence']:.0f} % and is right in "
        f"{100 * values['accuracy']:.0f} % (calibration error {values['ece']:.3f}, by chance up to "
        f"{values['ece_null_high']:.3f})."
    )


def _selective(covered: float, error: float, accuracy: float) -> str:
    return (
        f"If it may pass on the {100 * (1 - covered):.0f} % of images it is least sure of, {100 * (1 - error):.1f} % "
        f"of the rest are right, instead of {100 * accuracy:.1f} %."
    )
