"""New files of a folder, each as soon as nobody writes to it any more."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from memevit.sorting.inputs import Input

INTERVAL_S = 1.0
SETTLED_S = 3.0  # A file that has not changed for so long is whole.
DAMAGED_SETTLED_S = 60.0  # One that can't be read gets more time: a slow download stalls now and then.
# What browsers and other programs call a file while they write it.
UNFINISHED_SUFFIXES = (".crdownload", ".download", ".part", ".partial", ".tmp", ".opdownload", ".!ut")

_State = tuple[int, int, int]  # Inode, size, time of change.


class Arrivals:
    """Tells which files have arrived and are whole; `batches` asks again and again.

    Args:
        find: lists all files.
        interval_s: seconds between two looks.
        settled_s: seconds without a change after which a file is whole.
        clock: seconds since any time.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        find: Callable[[], Iterable[Input]],
        *,
        interval_s: float = INTERVAL_S,
        settled_s: float = SETTLED_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._find, self._interval_s, self._settled_s = find, interval_s, settled_s
        self._clock, self._sleep = clock, sleep
        self._seen: dict[Path, tuple[_State, float]] = {}  # Since when a file is as it is.
        self._done: dict[Path, _State] = {}

    def batches(self) -> Iterator[list[Input]]:
        """Whole files that were not given before, whenever there are some; never ends."""
        while True:
            if arrived := self.look():
                yield arrived
            self._sleep(self._interval_s)

    def look(self) -> list[Input]:
        """Files that are whole now and were not given before as they are."""
        now = self._clock()
        seen: dict[Path, tuple[_State, float]] = {}
        done: dict[Path, _State] = {}
        arrived = []
        for one in self._find():
            if one.path.name.lower().endswith(UNFINISHED_SUFFIXES):
                continue
            state = _state(one.path)
            if state is None:
                continue
            if self._done.get(one.path) == state:
                done[one.path] = state
                continue
            before, since = self._seen.get(one.path, (None, now))
            seen[one.path] = (state, since if before == state else now)
            if before == state and now - since >= self._settled_s:
                arrived.append(one)
                done[one.path] = state
                del seen[one.path]
        self._seen, self._done = seen, done
        return arrived

    def again(self, path: Path) -> bool:
        """Give `path` once more when it has changed, or after `DAMAGED_SETTLED_S`; False if it has had that time.

        For a file that can't be read although nobody seems to write to it.
        """
        state = self._done.get(path)
        if state is None or time.time() - state[2] / 1e9 >= DAMAGED_SETTLED_S:
            return False
        del self._done[path]
        self._seen[path] = (state, self._clock() + DAMAGED_SETTLED_S - self._settled_s)
        return True


def _state(path: Path) -> _State | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
