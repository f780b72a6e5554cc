"""One row per sorted picture, as CSV or JSON lines, written as it comes."""

import contextlib
import csv
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from memevit import labels
from memevit.errors import UserError

logger = logging.getLogger(__name__)

Write = Callable[[dict[str, Any]], None]


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Every file among `paths` and below the folders among them, each folder sorted by name; hidden files are skipped.

    Raises:
        UserError: one of `paths` does not exist; said before anything is read.
    """
    paths = list(paths)
    if missing := [path for path in paths if not path.exists() and not path.is_symlink()]:
        raise UserError(f"{missing[0]} does not exist ({len(missing)} of {len(paths)} paths). Check the path.")
    return _walk(paths)


def _walk(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, sub_folders, names in os.walk(path):
            sub_folders[:] = sorted(name for name in sub_folders if not name.startswith("."))
            yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))


@contextlib.contextmanager
def writer(output: Path | None, row_format: str, class_names: list[str]) -> Iterator[Write]:
    """A function that writes one row at a time.

    Args:
        output: a file, which appears when all rows are written; standard output when None.
        row_format: `csv` or `jsonl`.
        class_names: one column each.

    Raises:
        UserError: `output` can't be written.
    """
    if output is None:
        yield _at_once(_write_to(sys.stdout, row_format, class_names))
        return
    partial = output.with_name(f".{output.name}.part")
    try:
        text = partial.open("w", encoding="utf-8", newline="", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{output} can't be written: {error.strerror}. Choose another --output.") from error
    try:
        with text:
            yield _write_to(text, row_format, class_names)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


def _at_once(write: Write) -> Write:
    def write_through(row: dict[str, Any]) -> None:
        write(row)
        sys.stdout.flush()  # Whoever reads a pipe sees a row when it is known.

    return write_through


def _write_to(text: TextIO, row_format: str, class_names: list[str]) -> Write:
    if row_format == "jsonl":
        return lambda row: print(json.dumps(row, ensure_ascii=False), file=text)
    columns = csv.DictWriter(text, row_of("", class_names, None, "").keys(), lineterminator="\n")
    columns.writeheader()
    return columns.writerow


def row_of(file: str, class_names: list[str], probabilities: Iterable[float] | None, problem: str) -> dict[str, Any]:
    """What is written about one file.

    Args:
        file: its path.
        class_names: position is the label.
        probabilities: [C], or None for a file that can't be read.
        problem: why it can't be read.
    """
    if probabilities is None:
        shares = dict.fromkeys(class_names)
        return {"file": file, "label": labels.UNREADABLE, "confidence": None, "reason": problem} | _columns(shares)
    shares = dict(zip(class_names, (round(float(share), 6) for share in probabilities), strict=True))
    best = max(shares, key=lambda name: shares[name])
    return {"file": file, "label": best, "confidence": shares[best], "reason": ""} | _columns(shares)


def _columns(shares: dict[str, float | None]) -> dict[str, float | None]:
    return {f"p_{name}": share for name, share in shares.items()}


def write_all(found: Iterable[dict[str, Any]], write: Write) -> Counter[str]:
    """Write every row and count the labels."""
    counts: Counter[str] = Counter()
    for row in found:
        write(row)
        counts[row["label"]] += 1
    return counts
