"""Intervals and paired tests for what was measured on few images."""

import numpy as np
from scipy.stats import binomtest

WILSON = "Wilson score, 95 %"
MCNEMAR = "exact McNemar test, two-sided"
ALPHA = 0.05  # A smaller p-value counts as evidence.


def wilson_interval(n_correct: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share that was `n_correct` of `n`.

    Unlike plus-minus two standard errors it stays within [0, 1] and has a width at 0 and at `n`.

    Raises:
        ValueError: `n` is below 1 or `n_correct` outside of 0..n.

    Source:
        Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).

    Example:
        >>> [round(end, 3) for end in wilson_interval(155, 160)]
        [0.929, 0.987]
        >>> [round(end, 3) for end in wilson_interval(160, 160)]
        [0.977, 1.0]
    """
    if n < 1 or not 0 <= n_correct <= n:
        raise ValueError(f"need 0 <= n_correct <= n and n >= 1, got {n_correct} of {n}")
    interval = binomtest(n_correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(is_right: np.ndarray, is_other_right: np.ndarray) -> float:
    """The p-value of the hypothesis that two classifiers are right equally often on the same images.

    Args:
        is_right: [n] whether the first one is right.
        is_other_right: [n] whether the other one is.

    Source:
        McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
        Psychometrika 12 (1947), with the exact binomial distribution of the images on which exactly one is right.

    Example:
        >>> round(mcnemar(np.array([1, 1, 1, 1, 1, 1, 0]), np.array([0, 0, 0, 0, 0, 1, 1])), 4)
        0.2188
        >>> mcnemar(np.array([1, 0]), np.array([1, 0]))
        1.0
    """
    is_right, is_other_right = np.asarray(is_right, dtype=bool), np.asarray(is_other_right, dtype=bool)
    n_only_first = int((is_right & ~is_other_right).sum())
    n_different = int((is_right != is_other_right).sum())
    return float(binomtest(n_only_first, n_different).pvalue) if n_different else 1.0
