"""One row per sorted file, written as CSV, JSON lines or Parquet while the files are sorted."""

import contextlib
import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from memevit import escape, files, labels, rows
from memevit.errors import UserError

FORMATS = ("csv", "jsonl", "parquet")
UNSURE = "unsure"  # A known class, but less probable than was asked for.

Row = dict[str, Any]
Write = Callable[[Row], None]

_ROWS_PER_GROUP = 8192  # Of a Parquet file.
_SURROGATE = re.compile("[\ud800-\udfff]")


def columns(class_names: Sequence[str], *, top_k: int | None = None, is_filed: bool = False) -> list[str]:
    """Names of the columns, see `row_of`."""
    return list(row_of("", class_names, None, top_k=top_k, is_filed=is_filed))


def row_of(
    file: str,
    class_names: Sequence[str],
    probabilities: Sequence[float] | None,
    problem: str = "",
    *,
    known_score: float | None = None,
    accepted: bool | None = None,
    reason: str = "",
    min_probability: float = 0.0,
    top_k: int | None = None,
    is_filed: bool = False,
) -> Row:
    """What is written about one file.

    Args:
        file: its path.
        class_names: position is the label.
        probabilities: [C], or None for a file that can't be read.
        problem: why it can't be read.
        known_score: see `memevit.rows.prediction`.
        accepted: False makes the label `unknown`.
        reason: why it is not accepted.
        min_probability: a class that is less probable makes the label `unsure`.
        top_k: see `memevit.rows.prediction`.
        is_filed: add a column `placed`, to be filled in by whoever files.

    Example:
        >>> row = row_of("a.png", ["doom", "tetris"], [0.4, 0.6], min_probability=0.7)
        >>> row["label"], row["predicted"], row["reason"]
        ('unsure', 'tetris', 'probability 0.600 is below 0.7')
    """
    said = rows.prediction(class_names, probabilities, known_score=known_score, accepted=accepted, top_k=top_k)
    if probabilities is None:
        label, why = labels.UNREADABLE, problem
    elif accepted is False:
        label, why = labels.UNKNOWN, reason or "not like the images of any class"
    elif said["confidence"] < min_probability:
        label, why = UNSURE, f"probability {said['confidence']:.3f} is below {min_probability:g}"
    else:
        label, why = said["predicted"], ""
    decided = {name: said.pop(name) for name in ("predicted", "confidence", "known_score", "accepted")}
    placed = {"placed": ""} if is_filed else {}
    return {"file": file, "label": label, **decided, "reason": why, **placed, **said}


@contextlib.contextmanager
def writer(output: Path | None, row_format: str, names: list[str], *, at_once: bool = False) -> Iterator[Write]:
    """A function that writes one row at a time.

    Args:
        output: a file, which appears when all rows are written; standard output when None.
        row_format: one of `FORMATS`.
        names: the columns.
        at_once: write to `output` itself, row by row and behind what it holds: for a command that never ends.

    Raises:
        UserError: `output` can't be written.
    """
    if output is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # For names that are no UTF-8.
        yield _flushed(sys.stdout, _write_to(sys.stdout, row_format, names))
    elif at_once:
        with _explained(output), output.open("a", encoding="utf-8", newline="", errors="backslashreplace") as text:
            yield _flushed(text, _write_to(text, row_format, names, with_header=text.tell() == 0))
    else:
        partial = output.with_name(f".{output.name}.part")
        try:
            with files.explained_disk_errors(output.parent), _opened(output, partial, row_format, names) as write:
                yield write
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(output: Path, partial: Path, row_format: str, names: list[str]) -> Iterator[Write]:
    if row_format == "parquet":
        with _explained(output):
            partial.touch()
        with _parquet(partial, names) as write:
            yield write
        return
    with _explained(output):
        text = partial.open("w", encoding="utf-8", newline="", errors="backslashreplace")
    with text:
        yield _write_to(text, row_format, names)


@contextlib.contextmanager
def _explained(output: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{output} can't be written: {error.strerror}. Choose another --output.") from error


def _flushed(text: TextIO, write: Write) -> Write:
    def write_through(row: Row) -> None:
        write(row)
        text.flush()  # Whoever reads a pipe sees a row when it is known.

    return write_through


def _write_to(text: TextIO, row_format: str, names: list[str], *, with_header: bool = True) -> Write:
    if row_format == "jsonl":
        return lambda row: text.write(json_line(row) + "\n")
    lines = csv.writer(text, lineterminator="\n")
    if with_header:
        lines.writerow(rows.csv_cells(dict(enumerate(names))))
    return lambda row: lines.writerow(rows.csv_cells(row))


def json_line(row: Row) -> str:
    r"""`row` as JSON on one line, with characters that a terminal would execute as JSON's own escapes.

    Example:
        >>> json_line({"file": "ü\x1b[2J\udcff.png"})
        '{"file": "ü\\u001b[2J\\udcff.png"}'
    """
    return escape.json_text(json.dumps(row, ensure_ascii=False))


@contextlib.contextmanager
def _parquet(path: Path, names: list[str]) -> Iterator[Write]:
    """Rows in groups, so that a million of them need no room in memory."""
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(name, _parquet_type(name, pyarrow)) for name in names])
    waiting: list[Row] = []

    with parquet.ParquetWriter(path, schema) as file:

        def flush() -> None:
            if waiting:
                file.write_table(pyarrow.Table.from_pylist(waiting, schema=schema))
                waiting.clear()

        def write(row: Row) -> None:
            waiting.append({name: _utf8(value) for name, value in row.items()})
            if len(waiting) >= _ROWS_PER_GROUP:
                flush()

        yield write
        flush()


def _parquet_type(name: str, pyarrow: Any) -> Any:
    if name == "accepted":
        return pyarrow.bool_()
    is_number = name in ("confidence", "known_score") or name.startswith(rows.PROBABILITY)
    is_number |= re.fullmatch(r"top\d+_probability", name) is not None
    return pyarrow.float64() if is_number else pyarrow.string()


def _utf8(value: Any) -> Any:
    return _SURROGATE.sub(lambda match: ascii(match.group())[1:-1], value) if isinstance(value, str) else value
