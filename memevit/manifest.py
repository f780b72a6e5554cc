"""Rows of `manifest.csv`: one for every file of the source, kept or not, and why."""

import csv
import dataclasses
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memevit import escape, files
from memevit.errors import UserError
from memevit.labels import sorted_class_names

FILE_NAME = "manifest.csv"
SPLITS = ("train", "validation", "test")

KEPT = "kept"
DUPLICATE = "duplicate"  # The same image is kept under another name.
CONFLICT = "conflict"  # The same image lies in two classes.
REJECTED = "rejected"  # Not an image, or one that can't be used.
DROPPED = "dropped"  # Left out by a correction.


@dataclass(slots=True)
class Row:
    """What became of one source file.

    Paths are relative with forward slashes: `source` to the source folder, `file` to the dataset folder. `group` names
    images that stay on one side of the split. `extra` holds the columns of the CSV that lay beside the class folders.
    """

    file: str = ""
    split: str = ""
    class_name: str = ""
    status: str = ""
    reason: str = ""
    source: str = ""
    duplicate_of: str = ""
    group: str = ""
    fold: str = ""
    sha256: str = ""
    n_bytes: int = 0
    image_format: str = ""
    mode: str = ""
    width_px: int = 0
    height_px: int = 0
    notes: str = ""
    extra: dict[str, str] = field(default_factory=dict)


_COLUMNS = [column.name for column in dataclasses.fields(Row) if column.name != "extra"]
_COUNTS = ("n_bytes", "width_px", "height_px")
_FEW_VALUES = ("split", "class_name", "status", "reason", "fold", "image_format", "mode", "notes")


def write(dataset_dir: Path, rows: list[Row]) -> None:
    """Write `manifest.csv`; columns of a CSV that have names of ours get the prefix `csv_`.

    Cells that a spreadsheet would run as a formula are written as `escape.csv_cell` says, and read back unchanged.
    """
    files.write_chunks(dataset_dir / FILE_NAME, (_encoded(line) for line in _lines(rows)))


def _lines(rows: list[Row]) -> Iterator[str]:
    """The rows as CSV, one by one: the text of all takes as much room as the rows themselves."""
    extra_columns = list(dict.fromkeys(column for row in rows for column in row.extra))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    named = [f"csv_{column}" if column in _COLUMNS else column for column in extra_columns]
    writer.writerow(map(escape.csv_cell, _COLUMNS + named))
    yield text.getvalue()
    for row in rows:
        text.seek(0)
        text.truncate()
        own = [getattr(row, column) for column in _COLUMNS]
        writer.writerow(map(escape.csv_cell, own + [row.extra.get(column, "") for column in extra_columns]))
        yield text.getvalue()


def _encoded(line: str) -> bytes:
    # csv quotes no lone carriage return, and reads it as the end of a row.
    return re.sub("\r(?!\n)", r"\\r", line).encode("utf-8", "backslashreplace")


def read(dataset_dir: Path) -> list[Row]:
    """All rows of a prepared dataset, see `iter_rows`."""
    return list(iter_rows(dataset_dir))


def iter_rows(dataset_dir: Path) -> Iterator[Row]:
    """The rows of a prepared dataset, one by one.

    Raises:
        UserError: `dataset_dir` was not written by data_prep.py.
    """
    path = dataset_dir / FILE_NAME
    if not dataset_dir.is_dir():
        raise UserError(
            f"{dataset_dir} does not exist. Check the path, or write it: data_prep.py --output_dir {dataset_dir}"
        )
    if not path.is_file() and (dataset_dir / "config.json").is_file():
        raise UserError(f"{dataset_dir} is a model, not a dataset. Give the folder that data_prep.py wrote.")
    if not path.is_file():
        raise UserError(
            f"{dataset_dir} has no {FILE_NAME}, so data_prep.py did not write it. "
            f"Run: python data_prep.py --source {dataset_dir} --output_dir NEW_FOLDER"
        )
    with files.explained_csv_errors(path), path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [column for column in _COLUMNS if column not in (reader.fieldnames or [])]:
            raise UserError(f"{path} lacks the columns {missing}. Run data_prep.py again to write it anew.")
        yield from map(_row, reader)


def _row(record: dict[str, str]) -> Row:
    record = {escape.csv_value(column): escape.csv_value(value or "") for column, value in record.items() if column}
    own = {column: record.pop(column) for column in _COLUMNS}
    own |= {column: sys.intern(own[column]) for column in _FEW_VALUES}  # Held once, not in every row.
    try:
        counts = {column: int(own[column]) for column in _COUNTS}
    except (TypeError, ValueError):
        raise UserError(f"{FILE_NAME} has a damaged row for {own['source']!r}. Run data_prep.py again.") from None
    return Row(**{**own, **counts}, extra=dict(record))  # Of what was taken out, a dict keeps the room.


def kept(rows: list[Row], split: str | None = None) -> list[Row]:
    """The rows whose images are in the dataset, of one split or all, in the order that `datasets` lists them."""
    chosen = [row for row in rows if row.status == KEPT and split in (None, row.split)]
    return sorted(chosen, key=lambda row: row.file)


def class_names(rows: list[Row]) -> list[str]:
    """Class names of the kept images; position is the label."""
    return sorted_class_names(row.class_name for row in rows if row.status == KEPT)
