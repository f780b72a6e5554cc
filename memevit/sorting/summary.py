"""What the reader sees of a sorting run: running counts, and the summary at the end."""

import os
from collections import Counter
from pathlib import Path

from memevit import escape, labels
from memevit.sorting.folders import NOT_CLASSES
from memevit.sorting.placement import Placer
from memevit.sorting.run import Counts
from memevit.sorting.undo import KEPT, NOTHING_TO_DO, REMOVED, RESTORED, Undone

MAX_RUNNING_LABELS = 4
MAX_SUMMARY_LABELS = 30
_DONE = {"copy": "copied", "link": "linked", "move": "moved"}


def running(counts: Counter[str]) -> str:
    """The most frequent labels, for the end of a progress bar.

    Example:
        >>> running(Counter(doom=3, tetris=5))
        '5 tetris, 3 doom'
    """
    shown = [f"{n:,} {escape.terminal(label)}" for label, n in counts.most_common(MAX_RUNNING_LABELS)]
    n_others = counts.total() - sum(n for _, n in counts.most_common(MAX_RUNNING_LABELS))
    return ", ".join([*shown, f"{n_others:,} others"] if n_others else shown)


def lines(counts: Counts, seconds: float, placer: Placer | None) -> list[str]:
    """The summary of a run, a line each."""
    rate = f", {counts.total / seconds:.1f} per second" if seconds > 0 else ""
    found = [f"{plural(counts.total, 'file')} in {seconds:.0f} s{rate}"]
    ordered = [(label, n) for label, n in counts.labels.most_common() if label not in NOT_CLASSES]
    rest = [(label, counts.labels[label]) for label in NOT_CLASSES if label in counts.labels]
    hidden = ordered[MAX_SUMMARY_LABELS:]
    rows = [
        *ordered[:MAX_SUMMARY_LABELS],
        *([(f"{len(hidden)} more classes", sum(n for _, n in hidden))] * bool(hidden)),
        *rest,
    ]
    width = max((len(escape.terminal(label)) for label, _ in rows), default=0)
    for label, n in rows:
        why = f"  ({_reasons(counts.problems)})" if label == labels.UNREADABLE and counts.problems else ""
        found.append(f"  {escape.terminal(label):<{width}}  {n:>7,}{why}")
    return found if placer is None else [*found, *_filing(counts, placer)]


def _filing(counts: Counts, placer: Placer) -> list[str]:
    would = "would be " if placer.is_dry_run else ""
    parts = [f"{n:,} {would}{_DONE[action]}" for action, n in counts.actions.most_common()]
    if counts.n_already:
        parts.append(f"{counts.n_already:,} skipped because their content is there already")
    n_special = counts.total - counts.actions.total() - counts.n_already - counts.not_filed.total()
    if counts.not_filed:
        parts.append(f"{counts.not_filed.total():,} NOT filed ({_reasons(counts.not_filed)})")
    if n_special:
        parts.append(f"{n_special:,} left alone (links to folders, special files)")
    found = [f"{placer.into}: {', '.join(parts) or 'nothing to file'}"]
    if placer.is_dry_run:
        found.append("This was a dry run; no file was touched.")
    elif placer.log_path is not None:
        found.append(f"To take it back: python sort_memes.py --undo {shell_word(placer.log_path)}")
    return found


def _reasons(found: Counter[str]) -> str:
    return ", ".join(f"{n:,} {reason}" for reason, n in found.most_common(5))


def undone_lines(found: Undone, log: Path) -> list[str]:
    """What `undo` did, a line each."""
    parts = [
        (found.counts[REMOVED], "removed from the folders, whose originals are where they were"),
        (found.counts[RESTORED], "moved back"),
        (found.counts[NOTHING_TO_DO], "as before already"),
    ]
    said = [", ".join(f"{n:,} {done}" for n, done in parts if n) or "Nothing to undo"]
    if not found.counts[KEPT]:
        return [f"{said[0]}. The log {log} is done with and removed."]
    said[0] += f", {found.counts[KEPT]:,} left as they are:"
    said += [f"  {escape.terminal(str(path))}: {escape.terminal(why)}" for path, why in found.kept]
    if found.counts[KEPT] > len(found.kept):
        said.append(f"  and {found.counts[KEPT] - len(found.kept):,} more")
    return [*said, f"The log stays: {log}"]


def shell_word(path: Path) -> str:
    """`path` relative to the current folder where that is shorter, quoted for a shell."""
    import shlex

    relative = os.path.relpath(path)
    return shlex.quote(min(str(path), relative, key=len))


def plural(n: int, noun: str) -> str:
    """`n` and `noun`.

    Example:
        >>> plural(1, "file"), plural(1200, "file")
        ('1 file', '1,200 files')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
