"""How many processes and threads are worth starting."""

import os
from collections.abc import Mapping


def share_of_cores(environment: Mapping[str, str]) -> int | None:
    """Threads that a process may use where `accelerate launch` left it one, as it does by default; None elsewhere.

    Args:
        environment: its environment variables.

    Example:
        >>> share_of_cores({"OMP_NUM_THREADS": "1"}) is None
        True
    """
    if "ACCELERATE_MIXED_PRECISION" not in environment or environment.get("OMP_NUM_THREADS") != "1":
        return None
    return max(1, n_cores() // int(environment.get("LOCAL_WORLD_SIZE", 1)))


def n_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
