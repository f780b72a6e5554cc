"""A person's corrections of single images, found again by content."""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from memevit import escape, files
from memevit.data.ingest import HASH_DIGITS, Scan
from memevit.data.layout import SourceFile
from memevit.errors import UserError

ACTIONS = ("relabel", "drop", "keep")


@dataclass(frozen=True)
class Correction:
    """A person's decision about one image, from corrections.csv."""

    file: str
    action: str
    class_name: str
    reason: str
    sha256: str


def read(path: Path) -> list[Correction]:
    """The rows of a corrections.csv (file, action, class, reason, and sha256 where known).

    Raises:
        UserError: not there, columns missing, or an action that does not exist.
    """
    if not path.is_file():
        raise UserError(f"--corrections {path} does not exist. Check the path.")
    with files.explained_csv_errors(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if missing := {"file", "action"} - set(reader.fieldnames or []):
            raise UserError(f"{path} lacks the columns {sorted(missing)}; it needs file, action, class, reason.")
        rows = [
            {
                key: escape.csv_value((value or "").strip())
                for key, value in record.items()
                if isinstance(value, str) and key
            }
            for record in reader
        ]
    for number, row in enumerate(rows, start=2):
        if row.get("action") not in ACTIONS:
            raise UserError(
                f"{path}, line {number}: action {row.get('action', '')!r} must be one of {', '.join(ACTIONS)}."
            )
        if row["action"] == "relabel" and not row.get("class"):
            raise UserError(f"{path}, line {number}: relabel needs the new class in the column `class`.")
    return [
        Correction(
            row.get("file", ""), row["action"], row.get("class", ""), row.get("reason", ""), row.get("sha256", "")
        )
        for row in rows
    ]


def match(corrections: list[Correction], scans: list[Scan], found: list[SourceFile]) -> dict[int, Correction]:
    """The correction of each image that has one, by position.

    A correction means the file with its `sha256`, else the source file of that name, else the stored file of that name:
    those are called after their content, so it is found under any new name. Of several files with one content it means
    the one that has its name, else all.

    Args:
        corrections: what a person decided.
        scans: usable images.
        found: their source files, in the same order.

    Raises:
        UserError: a correction fits no image, names a class that is not there, or contradicts another.
    """
    by_hash: dict[str, list[int]] = defaultdict(list)
    for position, scan in enumerate(scans):
        by_hash[scan.sha256[:HASH_DIGITS]].append(position)
    by_name = {scan.name: [position] for position, scan in enumerate(scans)}
    class_names = sorted({file.class_name for file in found})
    orders: dict[int, Correction] = {}
    for correction in corrections:
        if correction.class_name and correction.class_name not in class_names:
            raise UserError(
                f"The correction of {correction.file} names the class {correction.class_name!r}; there "
                f"are {class_names}."
            )
        for position in _positions(correction, by_hash, by_name):
            other = orders.setdefault(position, correction)
            if (other.action, other.class_name) != (correction.action, correction.class_name):
                raise UserError(
                    f"{correction.file} is corrected twice: {other.action} and {correction.action}. Keep one."
                )
    return orders


def _positions(correction: Correction, by_hash: dict[str, list[int]], by_name: dict[str, list[int]]) -> list[int]:
    named = by_name.get(correction.file.replace("\\", "/").removeprefix("./"), [])
    if correction.sha256:
        found = by_hash.get(correction.sha256[:HASH_DIGITS].lower(), [])
        found = [position for position in found if position in named] or found
    else:
        found = named or by_hash.get(Path(correction.file).stem, [])
    if not found:
        raise UserError(
            f"The correction of {correction.file} matches no usable image of the source. Check its file and sha256, or "
            "remove that line."
        )
    return found
