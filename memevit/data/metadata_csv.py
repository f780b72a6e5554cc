"""CSV files that lie beside the class folders: their columns travel with the pictures that they name."""

import csv
import logging
from collections import defaultdict
from pathlib import Path
from typing import TextIO

from memevit import files
from memevit.data.layout import SourceFile
from memevit.errors import UserError

logger = logging.getLogger(__name__)

_FILE_COLUMNS = ("filename", "file_name", "file")
_CLASS_COLUMNS = ("class", "class_name", "label")


def join(folders: list[Path], found: list[SourceFile]) -> None:
    """Copy the rows of the CSV files in `folders` into the metadata of the files that they name.

    The first folder is the source; links that leave it are not followed.

    Raises:
        UserError: a file ends in .csv and is none.
    """
    by_name: dict[str, list[SourceFile]] = defaultdict(list)
    for file in found:
        by_name[file.own_name].append(file)
        by_name[f"{file.class_name}/{file.own_name}"].append(file)
    class_names = {file.class_name for file in found}
    for folder in folders:
        for path in sorted(folder.glob("*.[cC][sS][vV]")):
            if not path.is_file() or not path.resolve().is_relative_to(folders[0].resolve()):
                continue
            n_rows, n_joined = _join_csv(path, by_name, class_names)
            if n_rows:
                logger.info("%s: %d of %d rows name a file of the source", path.name, n_joined, n_rows)


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", errors="replace", newline="")
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}). Mend its permissions or move it away.") from error


def _join_csv(path: Path, by_name: dict[str, list[SourceFile]], class_names: set[str]) -> tuple[int, int]:
    csv.field_size_limit(files.MAX_CSV_FIELD_BYTES)
    n_rows = n_joined = 0
    with _opened(path) as text:
        try:
            reader = csv.DictReader(line.replace("\0", "") for line in text)
            columns = {(name or "").strip().lower(): name for name in reader.fieldnames or []}
            file_column = next((columns[name] for name in _FILE_COLUMNS if name in columns), None)
            class_column = next((columns[name] for name in _CLASS_COLUMNS if name in columns), None)
            for record in reader if file_column is not None else ():
                n_rows += 1
                class_name = record.get(class_column) if class_column else _class_in_file_name(path.stem, class_names)
                class_name = class_name if class_name in class_names else None
                target = _named_file(record[file_column] or "", class_name, by_name)
                if target is not None:
                    n_joined += 1
                    target.metadata = {key: value or "" for key, value in record.items() if key} | target.metadata
        except csv.Error as error:
            raise UserError(f"{path} is no CSV file that can be read ({error}). Mend it or move it away.") from error
    return n_rows, n_joined


def _class_in_file_name(stem: str, class_names: set[str]) -> str | None:
    """The class that a CSV called `doom_crossing_dataset` is about: the longest class name that starts its name."""
    flat = stem.lower().replace("-", "_").replace(" ", "_")
    matches = [
        name for name in class_names if f"{flat}_".startswith(name.lower().replace("-", "_").replace(" ", "_") + "_")
    ]
    return max(matches, key=len, default=None)


def _named_file(value: str, class_name: str | None, by_name: dict[str, list[SourceFile]]) -> SourceFile | None:
    """The one file that a CSV row means; none when the name is not there or fits several."""
    parts = value.replace("\\", "/").strip("/").split("/")
    named = by_name.get("/".join(parts[-2:]), []) if len(parts) > 1 else []
    candidates = named or by_name.get(parts[-1], [])
    in_class = [file for file in candidates if file.class_name == class_name]
    chosen = in_class or (candidates if class_name is None or named else [])
    return chosen[0] if len(chosen) == 1 else None
