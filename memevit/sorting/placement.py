"""Files copied, linked or moved into a folder per label, every action logged before it happens."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from memevit import files
from memevit.errors import UserError
from memevit.sorting import copying, folders, journal
from memevit.sorting.copying import PARTIAL_PREFIX, PARTIAL_SUFFIX
from memevit.sorting.filed import Filed

Action = Literal["copy", "link", "move"]

_ATTEMPTS = 5  # At a name that somebody else takes at the same moment.
_REFUSED_NAMES = {errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG}
_MAX_HINTS = 100_000
_MAX_SUFFIX = 20


@dataclass(frozen=True)
class Placed:
    """What became of one file.

    `path` is where its content lies now, None if it could not be filed (`problem` says why). `is_new` is False where
    it lay there already. `action` is what was done, which for a link can be a copy.
    """

    path: Path | None
    is_new: bool = False
    problem: str = ""
    action: str = ""


@dataclass
class _Plan:
    source: Path
    label: str
    destination: Path
    partial: Path
    action: Action


class Placer:
    """Files images into `into`; see `open_placer`."""

    def __init__(
        self, into: Path, action: Action, folder_of: Mapping[str, str], header: Mapping[str, Any], *, is_dry_run: bool
    ) -> None:
        self.into = into
        self.action = action
        self.is_dry_run = is_dry_run
        self._folder_of = folder_of
        self._label_of = {name: label for label, name in folder_of.items()}
        self._log = journal.Journal(into, {"action": action, **header})
        self._filed = Filed()
        self._run = f"{os.getpid():x}-{os.urandom(4).hex()}"
        self._n_planned = 0
        self._made: set[Path] = set()
        self._next_number: dict[Path, int] = {}
        self._unfinished: dict[str, str] = {}
        self._reserved: set[Path] = set()

    @property
    def log_path(self) -> Path | None:
        """The log; None while nothing was done."""
        return self._log.path

    def prepare(self, inputs: Iterable[Path]) -> None:
        """Learn what is filed already; `inputs` are the paths to sort, which may lie in the same folder."""
        if not self.is_dry_run:
            copying.remove_partials(self.into)
        names = [*self._folder_of.values()]
        self._filed.add_folders(
            (self.into / name for name in names), left_out=inputs, removes_partials=not self.is_dry_run
        )
        if self.action == "move":
            self._unfinished = _last_moves(self.into)

    def close(self) -> None:
        """Close the log and the index."""
        self._log.close()
        self._filed.close()

    def label_of(self, path: Path) -> str:
        """The label in whose folder a filed file lies."""
        name = path.relative_to(self.into).parts[0]
        return self._label_of.get(name, name)

    def find_filed(self, source: Path) -> Path | None:
        """Where the content of `source` lies already, None if it doesn't, or if that can't be read."""
        try:
            if not stat.S_ISREG(os.stat(source).st_mode):
                return None
            return self._filed.find(source)
        except OSError:
            return None

    def place(self, labelled: list[tuple[Path, str]]) -> list[Placed]:
        """File each path under its label, and say where; the actions of one call share one write to the log.

        Raises:
            UserError: the disk is full or read-only. What was filed until then is logged and stays.
        """
        done: list[Placed | None] = [None] * len(labelled)
        group: list[tuple[int, _Plan]] = []
        in_group: set[int] = set()
        for number, (source, label) in enumerate(labelled):
            try:
                status = os.stat(source)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(errno.EINVAL, "not a regular file")
                if status.st_size in in_group:  # Perhaps the same content, which the index learns only when it lies.
                    self._carry_out(group, done)
                    group, in_group = [], set()
                if os.path.realpath(source.parent) == os.path.realpath(self.into / self._folder_of[label]):
                    done[number] = Placed(source)  # It lies where it belongs.
                    continue
                if (found := self._filed.find(source)) is not None:
                    done[number] = self._already(source, found)
                    continue
                group.append((number, self._plan(source, status, label)))
                in_group.add(status.st_size)
            except OSError as error:
                done[number] = _failed(error)
        self._carry_out(group, done)
        assert None not in done
        return done

    def _plan(self, source: Path, status: os.stat_result, label: str, *, name: str | None = None) -> _Plan:
        folder = self.into / self._folder_of[label]
        action = self.action
        if action == "move" and source.is_symlink():
            action = "copy"  # What a link leads to stays where it is, and so does the link.
        if action == "link" and status.st_dev != _device(folder):
            action = "copy"
        self._n_planned += 1
        partial = folder / f"{PARTIAL_PREFIX}{self._run}-{self._n_planned}{PARTIAL_SUFFIX}"
        return _Plan(source, label, self._free_name(folder, name or source.name), partial, action)

    def _free_name(self, folder: Path, name: str) -> Path:
        """`name` in `folder`, with a number where that is taken."""
        wanted = free = folder / name
        number = self._next_number.get(wanted, 2)
        while self._is_taken(free):
            free = _numbered(wanted, number)
            number += 1
        if number > 2:
            if len(self._next_number) >= _MAX_HINTS:
                self._next_number.clear()
            self._next_number[wanted] = number
        self._reserved.add(free)
        return free

    def _is_taken(self, path: Path) -> bool:
        return path in self._reserved or os.path.lexists(path) or (self.is_dry_run and self._filed.is_used(path))

    def _carry_out(self, group: list[tuple[int, _Plan]], done: list[Placed | None]) -> None:
        """Log all of `group`, then do it."""
        if not group:
            return
        if self.is_dry_run:
            for number, plan in group:
                self._filed.add(plan.source, place=plan.destination)
                done[number] = Placed(plan.destination, is_new=True, action=plan.action)
            self._reserved.clear()
            return
        with files.explained_disk_errors(self.into):
            self._make_folders({plan.destination.parent for _, plan in group})
            self._log.write(self._record(plan) for _, plan in group)
            for number, plan in group:
                done[number] = self._carry_out_one(plan)
        self._reserved.clear()

    def _carry_out_one(self, plan: _Plan) -> Placed:
        for _ in range(_ATTEMPTS):
            try:
                action = self._act(plan)
                self._filed.add(plan.destination)
            except OSError as error:
                self._log.write([{"do": "failed", "to": self._relative(plan.destination)}])
                is_taken = isinstance(error, FileExistsError)
                if not is_taken and (error.errno not in _REFUSED_NAMES or _is_safe(plan.destination.name)):
                    return _failed(error)
                name = plan.source.name if is_taken else folders.safe_name(plan.source.name)
                try:
                    plan = self._plan(plan.source, os.stat(plan.source), plan.label, name=name)
                except OSError as gone:
                    return _failed(gone)
                self._log.write([self._record(plan)])
            else:
                return Placed(plan.destination, is_new=True, action=action)
        return Placed(None, problem="not filed: others keep taking the name")

    def _act(self, plan: _Plan) -> str:
        """Do what `plan` says and return what it was: a link can turn out to be impossible."""
        if plan.action == "move":
            copying.move(plan.source, plan.destination, plan.partial)
        elif plan.action == "copy" or not copying.link(plan.source, plan.destination):
            copying.copy(plan.source, plan.destination, plan.partial)
            return "copy"
        return plan.action

    def _already(self, source: Path, found: Path) -> Placed:
        """A file whose content is filed: nothing to do, but for a move that was killed before its last step."""
        if self._unfinished.get(os.path.abspath(source)) == os.path.abspath(found):
            if not self.is_dry_run:
                plan = _Plan(source, "", found, found.with_name(f"{PARTIAL_PREFIX}{PARTIAL_SUFFIX}"), "move")
                self._log.write([self._record(plan)])
                source.unlink()
            return Placed(found, is_new=True, action="move")
        return Placed(found)

    def _make_folders(self, wanted: set[Path]) -> None:
        for folder in sorted(wanted - self._made):
            if not folder.is_dir():
                self._log.write([{"do": "make_folder", "to": self._relative(folder)}])
                try:
                    folder.mkdir(exist_ok=True)
                except OSError as error:
                    if files.is_disk_full(error):
                        raise
                    raise UserError(
                        f"Can't make the folder {folder}: {error.strerror}. Move what lies there."
                    ) from error
            self._made.add(folder)

    def _record(self, plan: _Plan) -> journal.Record:
        return {
            "do": plan.action,
            "from": os.path.abspath(plan.source),
            "to": self._relative(plan.destination),
            "by": plan.partial.name,
            "label": plan.label,
        }

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.into))


@contextlib.contextmanager
def open_placer(
    into: Path,
    action: Action,
    class_names: Iterable[str],
    *,
    inputs: Iterable[Path] = (),
    header: Mapping[str, Any] | None = None,
    is_dry_run: bool = False,
) -> Iterator[Placer]:
    """A `Placer` for `into`, which no other process files into meanwhile.

    Args:
        into: made if it is not there.
        action: copy, link (a hard link, or a copy where that is impossible) or move.
        class_names: the labels beside unknown, unsure and unreadable.
        inputs: the paths to sort.
        header: what else the first line of the log says.
        is_dry_run: only say where files would go.

    Raises:
        UserError: `into` can't be written, or another process is filing into it.
    """
    folder_of = folders.folder_names(class_names)
    folder_of |= {name: name for name in folders.NOT_CLASSES}
    missing = [path for path in (into, *into.parents) if not path.exists()]
    header = dict(header or {}) | {"made": [os.path.abspath(path) for path in missing]}
    with contextlib.ExitStack() as stack:
        if not is_dry_run:
            _make_writable(into)
            stack.enter_context(journal.locked(into))
        placer = Placer(into, action, folder_of, header, is_dry_run=is_dry_run)
        stack.callback(placer.close)
        if not is_dry_run and missing:
            stack.callback(_remove_if_empty, missing)
        placer.prepare(inputs)
        yield placer


def _make_writable(into: Path) -> None:
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Can't make {into}: {error.strerror}. Choose another folder for --into.") from error
    if not os.access(into, os.W_OK | os.X_OK):
        raise UserError(f"Can't write into {into}. Choose another folder for --into, or change its permissions.")


def _remove_if_empty(paths: list[Path]) -> None:
    """Take back folders in which nothing was filed."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.rmdir()


def _last_moves(into: Path) -> dict[str, str]:
    """Where the last actions of the last run were to move files: one of them may be half done."""
    found: dict[str, str] = {}
    for path in journal.logs(into)[-1:]:
        records = journal.read(path)
        next(records)
        for record in records:
            if record["do"] == "move":
                found[record["from"]] = os.path.abspath(into / record["to"])
                if len(found) > _MAX_HINTS:
                    found.pop(next(iter(found)))
    return found


def _failed(error: OSError) -> Placed:
    if files.is_disk_full(error):
        raise error  # The next file would fail likewise.
    return Placed(None, problem=f"not filed: {error.strerror or error}")


def _numbered(path: Path, number: int) -> Path:
    """`path` with a number before its suffix.

    Example:
        >>> _numbered(Path("doom/a.tar.gz"), 2).name
        'a.tar_2.gz'
    """
    suffix = path.suffix if len(path.suffix) <= _MAX_SUFFIX else ""
    stem = path.name[: len(path.name) - len(suffix)]
    return path.with_name(f"{stem}_{number}{suffix}")


def _is_safe(name: str) -> bool:
    return folders.safe_name(name) == name


def _device(folder: Path) -> int:
    return os.stat(files.existing_part(folder)).st_dev
