"""Intervals for what was measured on few pictures."""

import math

Z_95 = 1.959963984540054
WILSON = "Wilson score, 95 %"


def wilson_interval(n_correct: int, n: int, *, z: float = Z_95) -> tuple[float, float]:
    """The interval of a share that was `n_correct` of `n`.

    Unlike plus-minus two standard errors it stays within [0, 1] and has a width at 0 and at `n`.

    Args:
        n_correct: 0 to n.
        n: at least 1.
        z: quantile of the normal distribution; 1.96 for 95 %.

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
    share = n_correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
