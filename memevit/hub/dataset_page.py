"""The prepared dataset as a repository: its images, a manifest without private columns, and its card."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from memevit import escape, files, manifest
from memevit.errors import UserError
from memevit.hub import leak_scan
from memevit.results import CARD_FILE

PREP_FILE = "prep.json"
_RECORDS = (manifest.FILE_NAME, PREP_FILE)
# What strangers may know of an image. `source`, `duplicate_of` and `reason` hold the file names of the source.
PUBLIC_COLUMNS = (
    *("file", "split", "class_name", "group", "fold", "sha256"),
    *("n_bytes", "image_format", "mode", "width_px", "height_px"),
)
# Of prep.json: lists of source files stay here, counts and settings are published.
_PUBLIC_PREP = (
    *("format", "source", "fingerprint", "settings", "pillow", "n_found", "n_by_status", "n_by_split", "classes"),
    *("rejected", "near_duplicates", "n_conflicts", "n_moved_between_splits", "split_made_by"),
)
MAX_FILES_IN_FOLDER = 10_000  # The Hub takes no more.
MAX_FILES_IN_COMMIT = 25_000  # Nor of those that go by LFS or Xet.


def is_ours(path_in_repo: str) -> bool:
    """Whether a file of a dataset repository is one that we put there, and may remove when it is outdated.

    Example:
        >>> is_ours("train/doom/a.jpg"), is_ours("manifest.csv"), is_ours("notes.txt")
        (True, True, False)
    """
    splits = "|".join(manifest.SPLITS)
    return path_in_repo in (CARD_FILE, *_RECORDS) or bool(re.fullmatch(rf"({splits})/.+", path_in_repo))


def write_records(dataset_dir: Path, target_dir: Path, *, columns: Sequence[str] = ()) -> None:
    """Write manifest.csv and prep.json as they are published: kept images only, and no file name of the source.

    Args:
        dataset_dir: a folder that data_prep.py wrote.
        target_dir: where the two files go.
        columns: of the CSV that lay beside the class folders, to publish as well.

    Raises:
        UserError: there is no such column.
    """
    rows = manifest.kept(manifest.read(dataset_dir))
    known = sorted({column for row in rows for column in row.extra})
    if missing := [column for column in columns if column not in known]:
        raise UserError(f"{dataset_dir} has no column {missing[0]!r}. --dataset_columns may name: {', '.join(known)}.")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([escape.csv_cell(column) for column in (*PUBLIC_COLUMNS, *columns)])
    for row in rows:
        own = [getattr(row, column) for column in PUBLIC_COLUMNS]
        writer.writerow([escape.csv_cell(cell) for cell in (*own, *(row.extra.get(one, "") for one in columns))])
    files.write_text(target_dir / manifest.FILE_NAME, text.getvalue())
    prep = json.loads((dataset_dir / PREP_FILE).read_text(encoding="utf-8"))
    public = {key: prep[key] for key in _PUBLIC_PREP if key in prep}
    public["source"] = without_folders(public.get("source"))
    public["settings"] = without_folders(public.get("settings"))
    files.write_text(target_dir / PREP_FILE, json.dumps(public, indent=2, ensure_ascii=False) + "\n")


def without_folders(value: object) -> object:
    """`value` with absolute paths cut down to their last part: where a file lay on this machine is private."""
    if isinstance(value, dict):
        return {key: without_folders(own) for key, own in value.items()}
    if isinstance(value, list):
        return [without_folders(own) for own in value]
    if isinstance(value, str) and re.fullmatch(r"(/|~/|[A-Za-z]:[\\/]).+", value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value


def collect(dataset_dir: Path, records_dir: Path) -> dict[str, Path]:
    """The files to publish of a dataset folder by their path in the repository.

    Other files in the folder are not published, among them the contact sheet, which shows images that were left out.

    Args:
        dataset_dir: a folder that data_prep.py wrote; its images are named by a hash of their content.
        records_dir: holds README.md and what `write_records` wrote.

    Raises:
        UserError: there are more images in one folder than the Hub takes.
    """
    images = [row.file for row in manifest.kept(manifest.read(dataset_dir))]
    fullest, n = Counter(file.rsplit("/", 1)[0] for file in images).most_common(1)[0]
    if n > MAX_FILES_IN_FOLDER:
        raise UserError(
            f"{dataset_dir / fullest} holds {n} images, and the Hub takes {MAX_FILES_IN_FOLDER} files in a folder. "
            "Leave --push_dataset out, and publish it as parquet with the datasets library."
        )
    if len(images) > MAX_FILES_IN_COMMIT:
        raise UserError(
            f"{dataset_dir} holds {len(images)} images, and the Hub takes {MAX_FILES_IN_COMMIT} in a commit. "
            "Leave --push_dataset out, and publish it as parquet with the datasets library."
        )
    records = {name: records_dir / name for name in (CARD_FILE, *_RECORDS)}
    return records | {name: dataset_dir / name for name in images}


def faults(contents: dict[str, Path]) -> list[str]:
    """What must not be published of a dataset, a line each: it holds images, but no secrets and no folders."""
    return leak_scan.findings_in(contents, may_hold_images=True)
