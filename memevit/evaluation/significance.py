"""Intervals and tests for what was measured on few images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

WILSON = "Wilson score, 95 %"
MCNEMAR = "exact McNemar test, two-sided"
ALPHA = 0.05  # A smaller p-value counts as evidence.
BOOTSTRAP = "group bootstrap, 95 %, percentile"
N_RESAMPLES = 2000
Z_95 = 1.959963984540054


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


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same `n` images: on how many only one of them is right, and McNemar's exact p-value."""

    n: int
    n_only_first: int
    n_only_second: int
    p: float

    @classmethod
    def of(cls, is_right: np.ndarray, is_other_right: np.ndarray) -> "Paired":
        """Compare two classifiers, see `mcnemar`.

        Example:
            >>> first = np.array([True] * 10 + [False] * 2)
            >>> found = Paired.of(first, ~first)
            >>> found.n_only_first, found.n_only_second, round(found.p, 4)
            (10, 2, 0.0386)
        """
        n_only_first, n_only_second = int((is_right & ~is_other_right).sum()), int((is_other_right & ~is_right).sum())
        return cls(len(is_right), n_only_first, n_only_second, mcnemar(is_right, is_other_right))

    @property
    def difference(self) -> float:
        """Accuracy of the first minus that of the second."""
        return (self.n_only_first - self.n_only_second) / self.n


def paired_interval(found: Paired, *, z: float = Z_95) -> tuple[float, float]:
    """The 95 % interval of the difference of two accuracies on the same images.

    Source:
        Agresti and Min, Simple improved confidence intervals for comparing matched proportions, Statistics in Medicine
        24 (2005): Wald's interval after half an image is added to each of the four cells.

    Example:
        >>> low, high = paired_interval(Paired(100, 12, 2, 0.0129))
        >>> round(low, 3), round(high, 3)
        (0.026, 0.17)
    """
    n, b, c = found.n + 2, found.n_only_first + 0.5, found.n_only_second + 0.5
    half = z * math.sqrt((b + c) - (b - c) ** 2 / n) / n
    return max(-1.0, (b - c) / n - half), min(1.0, (b - c) / n + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values after Holm's correction for testing several hypotheses, in the given order.

    Source:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted


def permutation_p(value: float, permuted: np.ndarray) -> float:
    """Share of `permuted` statistics [n] that reach `value`, the observed one counted among them.

    Source:
        Phipson and Smyth, Permutation p-values should never be zero, 2010 (arXiv:1603.05766).

    Example:
        >>> permutation_p(0.9, np.array([0.5, 0.4, 0.6, 0.9]))
        0.4
    """
    return float((1 + (permuted >= value - 1e-12).sum()) / (1 + len(permuted)))


def permuted_accuracies(
    predicted: np.ndarray, true: np.ndarray, *, n_permutations: int = 1000, seed: int = 0
) -> np.ndarray:
    """[n_permutations] accuracies of the same predictions when the true classes are dealt out at random.

    Args:
        predicted: [n] class ids.
        true: [n] class ids.
        n_permutations: number of deals.
        seed: of the deals.
    """
    random = np.random.default_rng(seed)
    return np.array([(predicted == random.permutation(true)).mean() for _ in range(n_permutations)])


def group_bootstrap_interval(
    is_correct: np.ndarray, groups: Sequence[object], *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile interval of a share when whole groups are drawn again, with replacement.

    Images of one group (near-duplicates, one post, one source) are not independent; with many per group this interval
    is wider than Wilson's. Where all or none are correct it has no width, so show both.

    Args:
        is_correct: [n] whether each image is classified correctly.
        groups: n names.
        n_resamples: number of draws.
        seed: of the draws.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13, on clusters.

    Example:
        >>> group_bootstrap_interval(np.array([True, True, False, False]), ["a", "a", "b", "b"])
        (0.0, 1.0)
    """
    _, of_group = np.unique([str(group) for group in groups], return_inverse=True)
    sizes = np.bincount(of_group).astype(np.float64)
    n_correct = np.bincount(of_group, weights=is_correct)
    random = np.random.default_rng(seed)
    shares = np.empty(n_resamples)
    at_once = max(1, 10_000_000 // len(sizes))  # Bounds the memory at 100 MB.
    for start in range(0, n_resamples, at_once):
        n_draws = min(at_once, n_resamples - start)
        drawn = random.integers(0, len(sizes), (n_draws, len(sizes)))
        shares[start : start + n_draws] = n_correct[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def binomial_p(n_correct: int, n: int, chance: float) -> float:
    """One-sided exact p of at least `n_correct` of `n` if each were correct with probability `chance`.

    Example:
        >>> binomial_p(4, 4, 0.5)
        0.0625
    """
    return float(binomtest(n_correct, n, chance, alternative="greater").pvalue)
