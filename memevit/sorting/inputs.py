"""The files to sort: paths, folders, glob patterns and lists on standard input."""

import contextlib
import glob
import itertools
import os
import sqlite3
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from memevit.errors import UserError

STANDARD_INPUT = "-"
_MAX_NAMES_IN_MEMORY = 50_000  # Of one folder; more are sorted on disk.
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Input:
    """A file to sort; `problem` says why nothing is to be opened there: a pipe, a link to a folder."""

    path: Path
    problem: str = ""


def find(paths: Iterable[str], *, stdin: BinaryIO | None = None, left_out: Collection[Path] = ()) -> Iterator[Input]:
    """Every file that `paths` names, each folder sorted by name.

    Folders are searched recursively. Hidden files and folders are skipped; links to folders and special files are
    inputs with a problem.

    Args:
        paths: files, folders, glob patterns (`**` is any depth), or `-` for a list on standard input.
        stdin: where the list for `-` is read: one path per line, or separated by zero bytes.
        left_out: files and folders that are skipped, such as the one that is filed into.

    Raises:
        UserError: a path does not exist or a pattern matches nothing; said before anything is read.
    """
    given = _without_nested([part for path in paths for part in _expanded(path)])
    if missing := [path for path in given if path != STANDARD_INPUT and not os.path.lexists(path)]:
        raise UserError(f"{missing[0]} does not exist ({len(missing)} of {len(given)} paths). Check the path.")
    skipped = {identity for path in left_out if (identity := _identity(path)) is not None}
    return _found(given, stdin, skipped)


def _found(given: list[str], stdin: BinaryIO | None, skipped: set[tuple[int, int]]) -> Iterator[Input]:
    for path in given:
        if path != STANDARD_INPUT:
            yield from _below(path, skipped)
        elif stdin is not None:
            for line in _lines(stdin):
                yield from _below(line, skipped)


def _expanded(path: str) -> list[str]:
    """The matches of a pattern; a path that exists is itself, whatever characters it holds."""
    if path == STANDARD_INPUT or os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    if matches := sorted(glob.glob(path, recursive=True)):
        return matches
    raise UserError(f"Nothing matches {path}. Check the pattern.")


def _without_nested(given: list[str]) -> list[str]:
    """`given` once each, without what lies in a folder that is also given: each file is sorted once."""
    real = {path: os.path.realpath(path) for path in given if path != STANDARD_INPUT}
    folders = {own for own in real.values() if os.path.isdir(own)}
    seen: set[str] = set()
    kept = []
    for path in given:
        own = real.get(path, path)
        if own not in seen and (path not in real or os.path.islink(path) or not _is_found_in(folders, own)):
            kept.append(path)
        seen.add(own)
    return kept


def _is_found_in(folders: set[str], path: str) -> bool:
    """Whether a walk through one of `folders` comes to `path`, where it is not hidden."""
    own = Path(path)
    for parent, depth in zip(own.parents, range(1, len(own.parts)), strict=False):
        if own.parts[-depth].startswith("."):
            return False
        if str(parent) in folders:
            return True
    return False


def _lines(stdin: BinaryIO) -> Iterator[str]:
    """Paths of a list as they arrive; a zero byte in its first piece says that these separate them."""
    read = getattr(stdin, "read1", stdin.read)
    rest, separator = b"", None
    while piece := read(_READ_BYTES):
        if separator is None:
            separator = b"\0" if b"\0" in piece else b"\n"
        *lines, rest = (rest + piece).split(separator)
        yield from (os.fsdecode(line) for line in lines if line)
    if rest:
        yield os.fsdecode(rest)


def _below(path: str, skipped: set[tuple[int, int]]) -> Iterator[Input]:
    """The file at `path`, or all below the folder there."""
    if os.path.isdir(path):
        yield from _walk(path, skipped)
    elif _identity(path) not in skipped:
        yield Input(Path(path))


def _walk(folder: str, skipped: set[tuple[int, int]]) -> Iterator[Input]:
    if _identity(folder) in skipped:
        return
    with contextlib.ExitStack() as stack:
        try:
            names = stack.enter_context(_sorted_names(folder))
        except OSError as error:
            yield Input(Path(folder), f"this folder can't be read: {error.strerror}")
            return
        sub_folders = []
        for name in names:
            path = os.path.join(folder, name)
            kind = _kind(path)
            if kind == "folder":
                sub_folders.append(path)
            elif _identity(path) not in skipped:
                yield Input(Path(path), kind)
    for sub_folder in sub_folders:
        yield from _walk(sub_folder, skipped)


def _kind(path: str) -> str:
    """`folder`, or why the file at `path` can't be sorted; empty for a file."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            if os.path.isdir(path):
                return "a link to a folder, not followed"
            mode = os.stat(path).st_mode
    except OSError:
        return ""  # It has gone, or leads nowhere: whoever opens it says so.
    if stat.S_ISDIR(mode):
        return "folder"
    return "" if stat.S_ISREG(mode) else "not a regular file"


@contextlib.contextmanager
def _sorted_names(folder: str) -> Iterator[Iterable[str]]:
    """Names in `folder` without hidden ones, in order; those of a very large folder are sorted outside of memory."""
    with os.scandir(folder) as entries, contextlib.ExitStack() as stack:
        names = (entry.name for entry in entries if not entry.name.startswith("."))
        first = list(itertools.islice(names, _MAX_NAMES_IN_MEMORY))
        if len(first) < _MAX_NAMES_IN_MEMORY:
            yield sorted(first)
            return
        # An empty name is a temporary database on disk that nobody else sees.
        table = stack.enter_context(contextlib.closing(sqlite3.connect("")))
        table.execute("CREATE TABLE names (name BLOB PRIMARY KEY) WITHOUT ROWID")
        insert = "INSERT OR IGNORE INTO names VALUES (?)"
        table.executemany(insert, ((os.fsencode(name),) for name in first))
        first.clear()
        table.executemany(insert, ((os.fsencode(name),) for name in names))
        yield (os.fsdecode(name) for (name,) in table.execute("SELECT name FROM names ORDER BY name"))


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Device and number of what lies at `path` (of the link itself, not where it leads)."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
