"""Which contents already lie in the folders that are filed into, however their files are called there."""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from memevit.sorting import copying

_SAMPLE_BYTES = 1 << 14


class Filed:
    """An index of files by content, kept on disk for the time of the run.

    Most files differ in size from all others, so that they need not be read. Those of equal size are told apart by
    hashes of their beginning and end, and at last byte by byte.
    """

    def __init__(self) -> None:
        # An empty name is a temporary database on disk that nobody else sees.
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._table.execute("PRAGMA journal_mode = OFF")
        self._table.execute("CREATE TABLE filed (size INTEGER, sample BLOB, path BLOB, place BLOB)")
        self._table.execute("CREATE INDEX by_content ON filed (size, sample)")
        self._table.execute("CREATE INDEX by_place ON filed (place) WHERE place IS NOT NULL")

    def close(self) -> None:
        """Let go of the index."""
        self._table.close()

    def add_folders(
        self, folders: Iterable[Path], *, left_out: Iterable[Path] = (), removes_partials: bool = False
    ) -> None:
        """Add every file below `folders`.

        Args:
            folders: searched recursively; those that do not exist are skipped.
            left_out: folders below them that are no results but inputs.
            removes_partials: delete what an interrupted run left half-copied there.
        """
        skipped = {os.path.realpath(path) for path in left_out}
        for folder in folders:
            if os.path.realpath(folder) not in skipped:
                self._add_folder(folder, skipped, removes_partials)

    def _add_folder(self, folder: Path, skipped: set[str], removes_partials: bool) -> None:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if os.path.realpath(entry.path) not in skipped:
                        self._add_folder(Path(entry.path), skipped, removes_partials)
                elif copying.is_partial(entry.name):
                    if removes_partials:
                        with contextlib.suppress(OSError):
                            os.unlink(entry.path)
                elif entry.is_file():
                    with contextlib.suppress(OSError):
                        self._insert(entry.stat().st_size, entry.path)

    def add(self, path: Path, *, place: Path | None = None) -> None:
        """Add a file that has just been filed, or one that would be filed at `place`."""
        self._insert(path.stat().st_size, path, place)

    def is_used(self, place: Path) -> bool:
        """Whether a file would be filed at `place`."""
        found = self._table.execute("SELECT 1 FROM filed WHERE place = ?", (os.fsencode(place),))
        return found.fetchone() is not None

    def _insert(self, size: int, path: Path | str, place: Path | None = None) -> None:
        values = (size, os.fsencode(path), None if place is None else os.fsencode(place))
        self._table.execute("INSERT INTO filed (size, path, place) VALUES (?, ?, ?)", values)

    def find(self, path: Path) -> Path | None:
        """A filed file with the content of `path`, which is another file; None where there is none.

        Raises:
            OSError: `path` can't be read.
        """
        size = os.stat(path).st_size
        if self._table.execute("SELECT 1 FROM filed WHERE size = ? LIMIT 1", (size,)).fetchone() is None:
            return None
        self._sample_those_of(size)
        found = self._table.execute(
            "SELECT rowid, path, place FROM filed WHERE size = ? AND sample = ?", (size, sample_of(path, size))
        )
        for row, other, place in found.fetchall():
            other_path = Path(os.fsdecode(other))
            if not os.path.lexists(other_path):
                self._table.execute("DELETE FROM filed WHERE rowid = ?", (row,))
            elif copying.is_same_content(path, other_path):
                return Path(os.fsdecode(place)) if place else other_path
        return None

    def _sample_those_of(self, size: int) -> None:
        unread = self._table.execute("SELECT rowid, path FROM filed WHERE size = ? AND sample IS NULL", (size,))
        for row, other in unread.fetchall():
            try:
                sample = sample_of(Path(os.fsdecode(other)), size)
            except OSError:
                self._table.execute("DELETE FROM filed WHERE rowid = ?", (row,))
            else:
                self._table.execute("UPDATE filed SET sample = ? WHERE rowid = ?", (sample, row))


def sample_of(path: Path, size: int) -> bytes:
    """A hash of the first and the last 16 KiB of a file of `size` bytes."""
    digest = hashlib.blake2b(digest_size=16)
    # A pipe that has taken the place of the file would keep us waiting without O_NONBLOCK.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
        digest.update(file.read(_SAMPLE_BYTES))
        if size > _SAMPLE_BYTES:
            file.seek(max(_SAMPLE_BYTES, size - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.digest()
