"""A sorting run taken back by its log, also a run that was killed halfway."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from memevit.errors import UserError
from memevit.sorting import copying, journal
from memevit.sorting.copying import PARTIAL_PREFIX, PARTIAL_SUFFIX, is_partial

MAX_KEPT_SHOWN = 20

REMOVED, RESTORED, NOTHING_TO_DO, KEPT = "removed", "restored", "nothing to do", "kept"


@dataclass
class Undone:
    """What became of the actions of a log: `counts` by outcome, and the first files that were `kept`, and why."""

    counts: Counter[str] = field(default_factory=Counter)
    kept: list[tuple[Path, str]] = field(default_factory=list)


def undo(log: Path, *, shown: Callable[[Iterable], Iterable] = iter) -> Undone:
    """Put everything back that the run with this `log` copied, linked or moved.

    A file that somebody has changed since is kept and reported. When nothing is left, the log goes too, and so do
    the folders that the run made. A second call goes on where a killed one stopped.

    Args:
        log: written by `Placer`; it may have been moved together with its folder.
        shown: given the records, yields them: for a progress bar.

    Raises:
        UserError: `log` is no log, is damaged, or another process is filing into the folder.
    """
    log = Path(os.path.abspath(log))
    into = log.parent
    if not log.is_file():
        raise UserError(f"{log} does not exist. The log lies in the --into folder: sort_log_DATE_TIME.jsonl.")
    with journal.locked(into):
        failed = Counter(record["to"] for record in journal.read(log) if record.get("do") == "failed")
        records = journal.read(log)
        made = [Path(path) for path in next(records)["made"]]
        undone, folders = Undone(), []
        for record in shown(records):
            if record["do"] == "make_folder":
                folders.append(_inside(into, record["to"]))
            elif record["do"] in ("copy", "link", "move"):
                if failed[record["to"]]:
                    failed[record["to"]] -= 1  # A later action may have come to this name.
                    _remove_partial(into, record)
                    continue
                outcome, why = _undo_one(into, record)
                undone.counts[outcome] += 1
                if outcome == KEPT and len(undone.kept) < MAX_KEPT_SHOWN:
                    undone.kept.append((_inside(into, record["to"]), why))
        for folder in reversed(folders):
            _remove_if_empty(folder)
        if not undone.counts[KEPT]:
            copying.remove_partials(into)
            log.unlink()
    if not undone.counts[KEPT]:
        for folder in made:
            _remove_if_empty(folder)
    return undone


def _undo_one(into: Path, record: journal.Record) -> tuple[str, str]:
    """Bring one file back to where it was, and say how that went."""
    _remove_partial(into, record)
    filed, source = _inside(into, record["to"]), Path(record["from"])
    if not os.path.lexists(filed):
        if record["do"] == "move" and not os.path.lexists(source):
            return KEPT, f"it is neither here nor at {source} any more"
        return NOTHING_TO_DO, ""  # The run ended before, or an earlier undo has done it.
    if os.path.lexists(source):
        if not _is_file(filed) or not copying.is_same_content(filed, source):
            return KEPT, f"it differs from {source}"
        filed.unlink()
        return REMOVED, ""
    if record["do"] != "move" and not source.parent.is_dir():
        return KEPT, f"the folder of the original, {source.parent}, is gone"
    try:
        source.parent.mkdir(parents=True, exist_ok=True)
        copying.move(filed, source, source.with_name(f"{PARTIAL_PREFIX}undo{PARTIAL_SUFFIX}"))
    except OSError as error:
        return KEPT, f"it can't be brought back to {source}: {error.strerror}"
    return RESTORED, ""


def _remove_partial(into: Path, record: journal.Record) -> None:
    """What was being copied when the run was killed."""
    if is_partial(record["by"]):
        _inside(into, record["to"]).with_name(Path(record["by"]).name).unlink(missing_ok=True)


def _inside(into: Path, relative: str) -> Path:
    """A path below `into`: a log that somebody made up removes nothing elsewhere."""
    path = into / relative
    if Path(relative).is_absolute() or ".." in Path(relative).parts:
        raise UserError(f"The log names {relative}, which lies outside of {into}. Restore the log from a copy.")
    return path


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
