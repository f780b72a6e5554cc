"""Sorting from inputs to rows: in input order, whatever is filed already passed over, each file accounted for."""

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memevit import labels
from memevit.sorting.inputs import Input
from memevit.sorting.placement import Placer
from memevit.sorting.rows import Row

ALREADY_FILED = "its content is already filed"
_MAX_WAITING = 10_000  # Files passed over that wait for an earlier one to be classified.

# The row of every path, in order. It may read ahead.
Classify = Callable[[Iterable[Path]], Iterator[Row]]


@dataclass
class Counts:
    """How many files got which label, and what became of them."""

    labels: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)  # Why files are unreadable.
    not_filed: Counter[str] = field(default_factory=Counter)
    n_already: int = 0
    n_failed: int = 0  # Readable images that could not be filed.

    @property
    def total(self) -> int:
        """All files."""
        return self.labels.total()

    def add(self, row: Row) -> None:
        """Count the label of a row, and why it is unreadable."""
        self.labels[row["label"]] += 1
        if row["label"] == labels.UNREADABLE and row["reason"] != ALREADY_FILED:
            self.problems[_kind_of(row["reason"])] += 1


def _kind_of(reason: str) -> str:
    """A reason without what is particular to the file.

    Example:
        >>> _kind_of("damaged: image file is truncated (3 bytes not processed)")
        'damaged'
    """
    return reason.split(";")[0].split(":")[0] if not reason.startswith("can't") else reason.split(";")[0]


class Sorter:
    """Sorts inputs; see `sort`.

    Args:
        classify: the row of every path.
        blank: the row of a file that is not classified.
        write: takes each finished row.
        placer: files the images; None only writes rows.
        seen: is told of every finished row, with where its file can be read now.
        group_size: rows that are filed together; one write to the log serves them all.
    """

    def __init__(
        self,
        classify: Classify,
        blank: Callable[[str, str], Row],
        write: Callable[[Row], None],
        *,
        placer: Placer | None = None,
        seen: Callable[[Row, Path], None] = lambda row, path: None,
        group_size: int = 32,
    ) -> None:
        self.counts = Counts()
        # Whether a row is left out now, because its file will be given again.
        self.postpone: Callable[[Row, Path], bool] = lambda row, path: False
        self._classify, self._blank, self._write, self._seen = classify, blank, write, seen
        self._placer = placer
        self._group_size = group_size
        self._group: list[tuple[Row, Path, Path | None]] = []
        self._waiting: deque[tuple[Input, Path | None] | Path] = deque()
        self._lock = threading.RLock()

    def sort(self, inputs: Iterable[Input]) -> None:
        """Classify and file `inputs`, and write a row for each, in order."""
        for row in self._classify(self._to_classify(inputs)):
            with self._lock:
                path = self._waiting.popleft()
                if not self.postpone(row, path):
                    self._finish(row, path, None)
                self._finish_passed_over()
        with self._lock:
            self._finish_passed_over()
            self._flush()

    def _to_classify(self, inputs: Iterable[Input]) -> Iterator[Path]:
        """The paths that need a model; the others wait for their turn. `classify` may pull this from another thread."""
        for one in inputs:
            with self._lock:
                filed = None
                if not one.problem and self._placer and len(self._waiting) < _MAX_WAITING:
                    filed = self._placer.find_filed(one.path)
                if one.problem or filed:
                    self._waiting.append((one, filed))
                    self._finish_passed_over()
                    continue
                self._waiting.append(one.path)
            yield one.path

    def _finish_passed_over(self) -> None:
        while self._waiting and isinstance(self._waiting[0], tuple):
            one, filed = self._waiting.popleft()
            row = self._blank(str(one.path), one.problem)
            if filed is not None:
                row["label"] = self._placer.label_of(filed)
            self._finish(row, None if one.problem else one.path, filed)

    def _finish(self, row: Row, path: Path | None, filed: Path | None) -> None:
        """Take a row whose turn it is; `path` is None where there is nothing to file, `filed` where it lies already."""
        if self._placer is None:
            self._emit(row, path)
            return
        self._group.append((row, path, filed))
        if len(self._group) >= self._group_size:
            self._flush()

    def _flush(self) -> None:
        group, self._group = self._group, []
        to_place = [(path, row["label"]) for row, path, _ in group if path is not None]
        placed = iter(self._placer.place(to_place) if to_place else [])
        for row, path, _ in group:
            where = path
            if path is not None:
                done = next(placed)
                if done.path is not None:
                    row["placed"] = str(done.path)
                    where = path if self._placer.is_dry_run else done.path
                if done.problem:
                    row["reason"] = "; ".join(filter(None, (row["reason"], done.problem)))
                    self.counts.not_filed[done.problem] += 1
                    self.counts.n_failed += row["label"] != labels.UNREADABLE
                elif done.is_new:
                    self.counts.actions[done.action] += 1
                else:
                    self.counts.n_already += 1
                    row["reason"] = "; ".join(filter(None, (row["reason"], ALREADY_FILED)))
            self._emit(row, where)

    def _emit(self, row: Row, path: Path | None) -> None:
        self.counts.add(row)
        self._write(row)
        self._seen(row, path if path is not None else Path(os.devnull))
