"""A zip of images sorted into folders, for those who have no folder to sort into: the web page."""

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from memevit import rows
from memevit.sorting.folders import NOT_CLASSES, folded, folder_names, safe_name
from memevit.sorting.rows import Row, columns

TABLE_FILE = "answers.csv"


def write_sorted_zip(output: BinaryIO, images: Iterable[tuple[Path, Row]], class_names: Sequence[str]) -> None:
    """Write a zip with a folder per label, called as sort_memes.py calls them, and a table of the rows.

    Args:
        output: an open file.
        images: each with its row, see `rows.row_of`; the names in the rows need not be safe or different.
        class_names: the labels beside unknown, unsure and unreadable.
    """
    folder_of = {name: name for name in NOT_CLASSES} | folder_names(class_names)
    taken: set[str] = set()
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    lines.writerow(columns(class_names, is_filed=True))
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:  # Images are compressed already.
        for path, row in images:
            placed = _free_name(taken, folder_of[row["label"]], row["file"])
            archive.write(path, placed)
            lines.writerow(rows.csv_cells(row | {"placed": placed}))
        archive.writestr(TABLE_FILE, table.getvalue())


def _free_name(taken: set[str], folder: str, name: str) -> str:
    path = PurePosixPath(safe_name(name.replace("\\", "/").rsplit("/", 1)[-1]))
    free, number = path.name, 2
    while folded(f"{folder}/{free}") in taken:
        free = f"{path.stem}_{number}{path.suffix}"
        number += 1
    taken.add(folded(f"{folder}/{free}"))
    return f"{folder}/{free}"
