"""The log of a sorting run: every action is in it, on the disk, before it is carried out.

A JSON object per line. The first describes the run; the others are actions, each true whether or not it was carried
out before the run ended. `undo` therefore looks at what lies on the disk, not at how far the log goes.
"""

import contextlib
import fcntl
import itertools
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from memevit.errors import UserError
from memevit.sorting.copying import PARTIAL_PREFIX, PARTIAL_SUFFIX, rename, sync_folder

FORMAT = 1
KIND = "memevit sorting log"
_NAME = re.compile(r"sort_log_\d{8}_\d{6}(_\d+)?\.jsonl")

Record = dict[str, Any]


class Journal:
    """An append-only log in `folder`, made when the first action is written."""

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self._folder = folder
        self._header = {"log": KIND, "format": FORMAT, **header}
        self._file: int | None = None
        self.path: Path | None = None

    def write(self, actions: Iterable[Record]) -> None:
        """Append `actions` and return when they are on the disk.

        Raises:
            OSError: they can't be written; carry none of them out.
        """
        lines = [json.dumps(action) for action in actions]  # ASCII: names that are no UTF-8 survive as \\udcXX.
        if not lines:
            return
        if self._file is None:
            self._open()
        _write_whole(self._file, "".join(f"{line}\n" for line in lines).encode("ascii"))
        os.fsync(self._file)

    def _open(self) -> None:
        """Make the log with its first line, whole or not at all."""
        partial = self._folder / f"{PARTIAL_PREFIX}{os.getpid():x}-log{PARTIAL_SUFFIX}"
        self._file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        try:
            _write_whole(self._file, f"{json.dumps(self._header)}\n".encode("ascii"))
            os.fsync(self._file)
            self.path = self._named(partial)
        except OSError:
            self.close()
            partial.unlink(missing_ok=True)
            raise
        sync_folder(self._folder)

    def _named(self, partial: Path) -> Path:
        stem = time.strftime("sort_log_%Y%m%d_%H%M%S")
        for number in itertools.count(1):
            path = self._folder / (f"{stem}.jsonl" if number == 1 else f"{stem}_{number}.jsonl")
            with contextlib.suppress(FileExistsError):
                rename(partial, path)
                return path
        raise AssertionError

    def close(self) -> None:
        """Close the file; a log without actions was never made."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _write_whole(file: int, content: bytes) -> None:
    """Append `content`, or nothing of it where the disk is full."""
    start = os.fstat(file).st_size
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(file, view) :]
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file, start)
        raise


def is_log(name: str) -> bool:
    """Whether a file of this name is a log.

    Example:
        >>> is_log("sort_log_20260102_030405.jsonl"), is_log("notes.jsonl")
        (True, False)
    """
    return _NAME.fullmatch(name) is not None


def logs(folder: Path) -> list[Path]:
    """The logs in `folder`, the oldest first."""
    return sorted((path for path in folder.glob("sort_log_*.jsonl") if is_log(path.name)), key=_age)


def _age(path: Path) -> tuple[str, int]:
    parts = path.stem.split("_")
    return "_".join(parts[:4]), int(parts[4]) if len(parts) > 4 else 1


def read(path: Path) -> Iterator[Record]:
    """The description of the run, then its actions; a last line that was cut off is left out.

    Raises:
        UserError: `path` is no log, or a line before the last is damaged.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}. Name the log that sort_memes.py wrote.") from error
    with file:
        yield _header(path, file.readline())
        for number, line in enumerate(file, start=2):
            if not line.endswith(b"\n"):
                return
            try:
                yield dict(json.loads(line))
            except (ValueError, TypeError):
                raise UserError(f"Line {number} of {path} is damaged. Restore the log from a copy.") from None


def _header(path: Path, line: bytes) -> Record:
    try:
        header = dict(json.loads(line))
    except (ValueError, TypeError):
        header = {}
    if header.get("log") != KIND:
        raise UserError(
            f"{path} is not a log of sort_memes.py. It lies in the --into folder: sort_log_DATE_TIME.jsonl."
        )
    if header.get("format") != FORMAT:
        raise UserError(f"{path} was written by another version (format {header.get('format')}). Use that version.")
    return header


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that file into `folder` away.

    Raises:
        UserError: one is at work.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"Another command is filing into {folder}. Wait for it, or choose another folder."
            ) from None
        except OSError:
            pass  # Some network file systems have no locks.
        yield
    finally:
        os.close(opened)
