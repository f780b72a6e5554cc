"""One sorting run in several processes: the first one lists, files and writes rows, all classify.

They meet in files of a folder that all of them see. The first process appends paths to the list of each process, a
block at a time in turns, and takes rows back from the file of each in the same order. Every path is thus in one list,
and its row in one place, whatever happens to the inputs meanwhile; and nobody waits for a collective operation.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from memevit.sorting.rows import Row

_PAUSE_S = 0.01
_END = "null"

ClassifyRows = Callable[[Iterable[Path]], Iterator[Row]]


def serve(folder: Path, rank: int, classify: ClassifyRows) -> None:
    """Classify the paths in the list of process `rank` until its end.

    Args:
        folder: that all processes see.
        rank: from 1.
        classify: the row of every path, in order.
    """
    with _rows_file(folder, rank).open("w", encoding="ascii") as file:
        for row in classify(_listed(_list_file(folder, rank))):
            file.write(json.dumps(row) + "\n")
            file.flush()
    _done_file(folder, rank).touch()


def _listed(path: Path) -> Iterator[Path]:
    for line in _tail(path):
        if line == _END:
            return
        yield Path(json.loads(line))


def shared(folder: Path, n_processes: int, classify: ClassifyRows, *, block: int, n_ahead: int) -> ClassifyRows:
    """A way to classify that shares the work among `n_processes`, for the process of rank 0.

    Args:
        folder: that all processes see.
        n_processes: this one is counted.
        classify: the row of every path, in order, by this process alone.
        block: paths in a row that go to one process: the batch size.
        n_ahead: paths that `classify` may read before it gives its first row. Every process gets that many in advance.
    """

    def classified(paths: Iterable[Path]) -> Iterator[Row]:
        lists = _Lists(folder, n_processes, paths, block=block, n_ahead=n_ahead)
        own = classify(lists.own())
        others = [iter(()), *(_tail(_rows_file(folder, rank)) for rank in range(1, n_processes))]
        try:
            while (rank := lists.next_rank()) is not None:
                yield next(own) if rank == 0 else json.loads(next(others[rank]))
        finally:
            lists.close()

    return classified


class _Lists:
    """Gives every process its share of `paths`, in blocks and in turns."""

    def __init__(self, folder: Path, n_processes: int, paths: Iterable[Path], *, block: int, n_ahead: int) -> None:
        self._paths = iter(paths)
        self._n, self._block = n_processes, block
        self._n_ahead = max(n_ahead, 2 * block) * n_processes
        self._n_given = self._n_taken = 0
        self._is_at_end = False
        self._own: deque[Path] = deque()
        self._files: list[TextIO | None] = [None]
        self._files += [_list_file(folder, rank).open("w", encoding="ascii") for rank in range(1, n_processes)]

    def next_rank(self) -> int | None:
        """The process whose row is the next one; None after the last."""
        self._give()
        if self._is_at_end and self._n_taken == self._n_given:
            return None
        rank = self._n_taken // self._block % self._n
        self._n_taken += 1
        return rank

    def own(self) -> Iterator[Path]:
        """The share of this process."""
        while self._own or not self._is_at_end:
            if not self._own:
                self._give_block()
            else:
                yield self._own.popleft()

    def _give(self) -> None:
        """Fill the lists, so that no process waits for paths while the first one waits for its rows."""
        while not self._is_at_end and self._n_given - self._n_taken < self._n_ahead:
            self._give_block()

    def _give_block(self) -> None:
        file = self._files[self._n_given // self._block % self._n]
        for _ in range(self._block):
            path = next(self._paths, None)
            if path is None:
                self.close()
                return
            if file is None:
                self._own.append(path)
            else:
                file.write(json.dumps(str(path)) + "\n")
            self._n_given += 1
        if file is not None:
            file.flush()

    def close(self) -> None:
        """Tell the others that there is no more."""
        self._is_at_end = True
        for file in self._files:
            if file is not None and not file.closed:
                file.write(_END + "\n")
                file.close()


def wait_for_others(folder: Path, n_processes: int) -> None:
    """Return when all other processes need `folder` no more."""
    for rank in range(1, n_processes):
        while not _done_file(folder, rank).exists():
            time.sleep(_PAUSE_S)


def _list_file(folder: Path, rank: int) -> Path:
    return folder / f"paths-{rank}"


def _rows_file(folder: Path, rank: int) -> Path:
    return folder / f"rows-{rank}"


def _done_file(folder: Path, rank: int) -> Path:
    return folder / f"done-{rank}"


def _tail(path: Path) -> Iterator[str]:
    """Lines of a file that another process appends to; never ends by itself."""
    while not path.exists():
        time.sleep(_PAUSE_S)
    with path.open(encoding="ascii") as file:
        line = ""
        while True:
            line += file.readline()
            if line.endswith("\n"):
                yield line[:-1]
                line = ""
            else:
                time.sleep(_PAUSE_S)


def rank_and_size() -> tuple[int, int]:
    """The number of this process and how many there are, as accelerate and torchrun say it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
