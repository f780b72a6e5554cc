"""How well a score tells known images from unknown ones. Scores are higher for images that are more known."""

from collections.abc import Callable, Mapping

import numpy as np

from memevit.errors import UserError


def _checked(known: np.ndarray, unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known, unknown = np.asarray(known, dtype=np.float64), np.asarray(unknown, dtype=np.float64)
    if not len(known) or not len(unknown):
        raise UserError(f"Need scores of known and of unknown images, got {len(known)} and {len(unknown)}.")
    if np.isnan(known).any() or np.isnan(unknown).any():
        raise ValueError("a score is NaN")
    return known, unknown


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Probability that a known image has a higher score than an unknown one; ties count half.

    Args:
        known: [n_known] scores.
        unknown: [n_unknown] scores.

    Raises:
        UserError: either array is empty.
        ValueError: a score is NaN.

    Example:
        >>> auroc(np.array([3.0, 1.0]), np.array([2.0, 1.0]))
        0.625
    """
    known, unknown = _checked(known, unknown)
    ordered = np.sort(unknown)
    below, at_most = np.searchsorted(ordered, known, "left"), np.searchsorted(ordered, known, "right")
    return float((below + at_most).sum() / (2 * len(known) * len(unknown)))


def fpr_at_tpr(known: np.ndarray, unknown: np.ndarray, *, tpr: float = 0.95) -> float:
    """Share of unknown images accepted at the threshold that accepts `tpr` of the known ones.

    The known class is the positive one, as in ODIN. OpenOOD v1.5 computes the mirror image (unknown positive), so its
    FPR@95 cannot be compared with this number.

    Args:
        known: [n_known] scores.
        unknown: [n_unknown] scores.
        tpr: share of known images to accept, in (0, 1].

    Raises:
        UserError: either array is empty.
        ValueError: `tpr` is outside (0, 1], or a score is NaN.

    Source:
        Liang et al., ODIN, 2018 (arXiv:1706.02690).

    Example:
        >>> fpr_at_tpr(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.75, 0.1]), tpr=0.5)
        0.0
        >>> fpr_at_tpr(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.75, 0.1]), tpr=1.0)
        0.5
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must be in (0, 1], got {tpr}")
    known, unknown = _checked(known, unknown)
    n_accepted = int(np.ceil(tpr * len(known) - 1e-9))
    threshold = np.sort(known)[len(known) - n_accepted]
    return float((unknown >= threshold).mean())


def aupr(known: np.ndarray, unknown: np.ndarray) -> dict[str, float]:
    """Average precision with the known images as positives (`aupr_in`) and with the unknown ones (`aupr_out`).

    Both sides are weighted to the same total, so that the baseline is 0.5 whatever the numbers of images are.

    Args:
        known: [n_known] scores.
        unknown: [n_unknown] scores.

    Example:
        >>> aupr(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
        {'aupr_in': 1.0, 'aupr_out': 1.0}
    """
    known, unknown = _checked(known, unknown)
    return {"aupr_in": _average_precision(known, unknown), "aupr_out": _average_precision(-unknown, -known)}


def _average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    """As in scikit-learn with weights that give both sides the same total, but ten times as fast for a bootstrap."""
    scores = np.concatenate([positive, negative])
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum((order < len(positive)) / len(positive))
    misses = np.cumsum((order >= len(positive)) / len(negative))
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # Equal scores are one threshold.
    recall, precision = hits[last], hits[last] / (hits[last] + misses[last])
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def oscr(known: np.ndarray, is_correct: np.ndarray, unknown: np.ndarray) -> float:
    """Area under the rate of known images that are accepted and correct against the rate of unknown ones accepted.

    Args:
        known: [n_known] scores.
        is_correct: [n_known] whether the most probable class is the true one.
        unknown: [n_unknown] scores.

    Returns:
        At most the accuracy; the two are equal if every unknown image has a lower score than every correct known one.

    Source:
        Dhamija et al., Reducing Network Agnostophobia, NeurIPS 2018 (arXiv:1811.04110).

    Example:
        >>> oscr(np.array([3.0, 1.0]), np.array([True, True]), np.array([2.0, 0.0]))
        0.75
    """
    known, unknown = _checked(known, unknown)
    ordered = np.sort(unknown)
    below = (np.searchsorted(ordered, known, "left") + np.searchsorted(ordered, known, "right")) / (2 * len(unknown))
    return float((below * np.asarray(is_correct, dtype=bool)).mean())


def bootstrap_interval(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    known_groups: np.ndarray,
    unknown_groups: np.ndarray,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of a statistic when whole groups of images are drawn with replacement.

    Args:
        statistic: of positions of known images and positions of unknown images.
        known_groups: [n_known] group of each known image.
        unknown_groups: [n_unknown] group of each unknown image.
        n_resamples: number of draws.
        seed: of the draws.

    Example:
        >>> values = np.arange(20.0)
        >>> bootstrap_interval(lambda a, b: auroc(values[a], values[b] - 100), np.arange(20), np.arange(20))
        (1.0, 1.0)
    """
    random = np.random.default_rng(seed)
    both = [members(groups) for groups in (known_groups, unknown_groups)]
    values = [statistic(*(drawn(own, random) for own in both)) for _ in range(n_resamples)]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def members(groups: np.ndarray) -> list[np.ndarray]:
    """Positions of the images of each group."""
    _, inverse = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.cumsum(np.bincount(inverse))[:-1])


def drawn(by_group: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Positions of the images of as many groups as there are, drawn with replacement."""
    return np.concatenate([by_group[position] for position in random.integers(0, len(by_group), len(by_group))])


def summary(known: np.ndarray, unknown: np.ndarray, is_correct: np.ndarray) -> Mapping[str, float]:
    """AUROC, FPR@95, AUPR both ways and OSCR of one score on one source of unknown images."""
    return {
        "auroc": auroc(known, unknown),
        "fpr_at_95": fpr_at_tpr(known, unknown),
        **aupr(known, unknown),
        "oscr": oscr(known, is_correct, unknown),
    }
