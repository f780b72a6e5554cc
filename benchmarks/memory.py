"""Peak memory of a command and everything it starts, from Linux's /proc."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from memevit.errors import UserError

ALL = ("Pss:",)  # Proportional set size: pages that several processes share are counted once.
OWN = ("Pss_Anon:", "Pss_Shmem:")  # Without pages of files, which the system takes back when it needs them.
_PAUSE_S = 0.1


def require_proc() -> None:
    """See that memory can be measured here, before anything takes long.

    Raises:
        UserError: this is not Linux.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise UserError("This measurement reads /proc/PID/smaps_rollup, which only Linux has. Run it there.")


def measured(command: Sequence[object], kinds: tuple[str, ...], **more: object) -> dict[str, float]:
    """Run `command` and return its wall time (`seconds`) and the most memory it had (`peak_mb`).

    Args:
        command: program and arguments.
        kinds: which lines of smaps_rollup count, `ALL` or `OWN`.
        **more: arguments of `subprocess.Popen`.

    Raises:
        UserError: the command failed.
    """
    start, peak_kb = time.perf_counter(), 0
    with subprocess.Popen(list(map(str, command)), **more) as process:
        while process.poll() is None:
            peak_kb = max(peak_kb, sum(_memory_kb(pid, kinds) for pid in _family(process.pid)))
            time.sleep(_PAUSE_S)
    if process.returncode:
        raise UserError(f"{' '.join(map(str, command))} ended with {process.returncode}. Run it by itself.")
    return {"seconds": round(time.perf_counter() - start, 2), "peak_mb": round(peak_kb * 1024 / 1e6, 1)}


def _family(pid: int) -> list[int]:
    """`pid` and all processes below it, whichever of its threads has started them."""
    try:
        children = [
            child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
    except OSError:
        return []
    return [pid, *(member for child in children for member in _family(int(child)))]


def _memory_kb(pid: int, kinds: tuple[str, ...]) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # It has just ended.
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(kinds))
