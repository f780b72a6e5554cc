"""CSV files beside the class folders: their columns travel with the images that they name."""

import codecs
import csv
import io
import itertools
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from memevit import files
from memevit.data.layout import SourceFile
from memevit.errors import UserError

logger = logging.getLogger(__name__)

FILE_COLUMNS = (
    *("filename", "file_name", "file", "image", "image_name", "image_path", "image_file", "path", "filepath", "img"),
    *("image_id", "img_id", "id", "name"),
)
_CLASS_COLUMNS = ("class", "class_name", "label")
_DELIMITERS = (",", ";", "\t", "|")
_SUFFIXES = {".csv", ".tsv"}
_N_TRIED = 1000  # Rows that decide which column names the files.


@dataclass(frozen=True)
class _Index:
    """Files of the source by the names that a table may use: with or without class folder, with or without suffix."""

    by_name: dict[str, list[SourceFile]]
    by_stem: dict[str, list[SourceFile]]
    class_names: set[str]


def join(folders: list[Path], found: list[SourceFile]) -> None:
    """Copy the rows of the CSV files in `folders` into the metadata of the files that they name.

    Read is what spreadsheets write: UTF-8, UTF-16 or Windows-1252, with commas, semicolons, tabs or bars, with or
    without a `sep=` line. Every table is logged, with what was joined or why nothing was.

    Args:
        folders: the source first; links that leave it are not followed.
        found: the files in class folders.

    Raises:
        UserError: a table can't be opened.
    """
    index = _indexed(found)
    for path in sorted(path for folder in folders for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES):
        if path.is_dir():
            continue
        if not path.is_file() or not path.resolve().is_relative_to(folders[0].resolve()):
            logger.warning("%s was not used: it is a link that leaves the source.", path.name)
            continue
        _join_table(path, index)
    for file in found:
        if Path(file.own_name).suffix.lower() in _SUFFIXES:
            logger.warning("%s was not used: it lies in a class folder. Move it beside those.", file.name)


def _indexed(found: list[SourceFile]) -> _Index:
    by_name: dict[str, list[SourceFile]] = defaultdict(list)
    by_stem: dict[str, list[SourceFile]] = defaultdict(list)
    for file in found:
        for names, name in ((by_name, file.own_name), (by_stem, PurePosixPath(file.own_name).stem)):
            names[name].append(file)
            names[f"{file.class_name}/{name}"].append(file)
    return _Index(by_name, by_stem, {file.class_name for file in found})


def _join_table(path: Path, index: _Index) -> None:
    text, encoding = _read(path)
    if text is None:
        logger.warning("%s was not used: it is not a table in UTF-8, UTF-16 or Windows-1252.", path.name)
        return
    csv.field_size_limit(files.MAX_CSV_FIELD_BYTES)
    try:
        outcome = _joined(path.stem, text, index)
    except csv.Error as error:
        outcome = f"was not used: it is not a CSV file that can be read ({error})."
    if encoding == "cp1252":
        outcome += " It is not in UTF-8 and was read as Windows-1252; if letters are wrong, save it as CSV UTF-8."
    logger.log(
        logging.INFO if "rows name" in outcome and encoding != "cp1252" else logging.WARNING,
        "%s %s",
        path.name,
        outcome,
    )


def _read(path: Path) -> tuple[str | None, str]:
    """The text of a table and the encoding in which it was read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}). Fix its permissions or move it away.") from error
    encodings = ["utf-8-sig", "cp1252"]
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    elif content[1:2] == b"\0" or content[:1] == b"\0":  # ASCII letters of a header in UTF-16 without a mark.
        encodings = ["utf-16-le" if content[1:2] == b"\0" else "utf-16-be", *encodings]
    for encoding in encodings:
        try:
            return content.decode(encoding).replace("\0", ""), encoding
        except UnicodeDecodeError:
            continue
    return None, ""


def _joined(stem: str, text: str, index: _Index) -> str:
    """Join one table; what happened, as the end of a sentence that begins with its name."""
    first_line, _, rest = text.partition("\n")
    delimiter = None
    if first_line.strip().strip('"').lower().startswith("sep=") and len(first_line.strip().strip('"')) == 5:
        text, delimiter = rest, first_line.strip().strip('"')[-1]
    header = next(csv.reader(io.StringIO(text), delimiter=delimiter or _delimiter(text)), [])
    delimiter = delimiter or _delimiter(text)
    columns = {name.strip().lower(): name for name in reversed(header)}
    candidates = [columns[name] for name in FILE_COLUMNS if name in columns]
    if not candidates:
        return (
            f"was not used: no column names the files. It has {header[:12]}; call the right one `filename`."
            if header
            else "was not used: it is empty."
        )
    class_column = next((columns[name] for name in _CLASS_COLUMNS if name in columns), None)
    class_in_name = _class_in_file_name(stem, index.class_names)

    def matches(column: str, n_rows: int | None) -> Iterator[tuple[dict, SourceFile | None]]:
        for record in itertools.islice(csv.DictReader(io.StringIO(text), delimiter=delimiter), n_rows):
            class_name = record.get(class_column) if class_column else class_in_name
            class_name = class_name if class_name in index.class_names else None
            yield record, _named_file(record[column] or "", class_name, index)

    hits = {column: sum(file is not None for _, file in matches(column, _N_TRIED)) for column in candidates}
    chosen = max(candidates, key=hits.__getitem__)  # The first of those that do equally well.
    n_rows = n_joined = 0
    for record, file in matches(chosen, None):
        n_rows += 1
        if file is not None:
            n_joined += 1
            file.metadata = {key: value or "" for key, value in record.items() if key} | file.metadata
    if not n_joined:
        return f"was not used: none of the {n_rows} values of its column {chosen!r} names one file of the source."
    return f"is joined by its column {chosen!r}: {n_joined} of {n_rows} rows name a file of the source."


def _delimiter(text: str) -> str:
    """The delimiter that splits the header into most parts, among them the name of a column that we know."""
    first_line = text.lstrip("\r\n").partition("\n")[0]

    def quality(delimiter: str) -> tuple[bool, int]:
        parts = [part.strip().lower() for part in next(csv.reader([first_line], delimiter=delimiter), [])]
        return not set(FILE_COLUMNS).isdisjoint(parts), len(parts)

    return max(_DELIMITERS, key=quality)


def _class_in_file_name(stem: str, class_names: set[str]) -> str | None:
    """The class that a CSV called `doom_crossing_dataset` is about: the longest class name that starts its name."""
    flat = stem.lower().replace("-", "_").replace(" ", "_")
    matches = [
        name for name in class_names if f"{flat}_".startswith(name.lower().replace("-", "_").replace(" ", "_") + "_")
    ]
    return max(matches, key=len, default=None)


def _named_file(value: str, class_name: str | None, index: _Index) -> SourceFile | None:
    """The one file that a row means; none when the name is not there or fits several."""
    parts = value.strip().replace("\\", "/").strip("/").split("/")
    for names in (index.by_name, index.by_stem):
        named = names.get("/".join(parts[-2:]), []) if len(parts) > 1 else []
        candidates = named or names.get(parts[-1], [])
        in_class = [file for file in candidates if file.class_name == class_name]
        chosen = in_class or (candidates if class_name is None or named else [])
        if len(chosen) == 1:
            return chosen[0]
    return None
