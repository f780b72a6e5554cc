"""The dataset folder: stored images under split and class, manifest.csv, prep.json, card and contact sheet."""

import hashlib
import itertools
import json
import os
import shutil
import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from memevit import decoding, files, manifest
from memevit.data.conflicts import Decision
from memevit.data.dataset import PREP_FILE, has_prep, read_prep
from memevit.data.ingest import Scan
from memevit.data.layout import Layout, SourceFile
from memevit.errors import UserError
from memevit.manifest import Row
from memevit.results import CARD_FILE

SHEET_FILE = "contact_sheet.jpg"
STAGING = "staging"
_AHEAD_PER_THREAD = 32


def rows_of(
    found: list[SourceFile], scans: list[Scan], usable: list[int], decisions: list[Decision], keys: list[str]
) -> list[Row]:
    """One manifest row per source file, in the order of `found`, still without split and fold.

    Args:
        found: all source files.
        scans: what decoding them showed.
        usable: positions of the usable images in both.
        decisions: what becomes of those, in the order of `usable`.
        keys: their group keys.
    """
    rows = [_row(file, scan) for file, scan in zip(found, scans, strict=True)]
    for position, decision, key in zip(usable, decisions, keys, strict=True):
        row = rows[position]
        row.class_name, row.status, row.reason, row.group = decision.class_name, decision.status, decision.reason, key
        if decision.winner is not None:
            row.duplicate_of = found[usable[decision.winner]].name
    return rows


def _row(file: SourceFile, scan: Scan) -> Row:
    return Row(
        class_name=file.class_name,
        status=manifest.REJECTED,
        reason=scan.problem,
        source=file.name,
        sha256=scan.sha256,
        n_bytes=scan.n_bytes,
        image_format=scan.image_format,
        mode=scan.mode,
        width_px=scan.width_px,
        height_px=scan.height_px,
        notes=scan.notes,
        extra=file.metadata,
    )


def stray_rows(stray: list[SourceFile]) -> list[Row]:
    """Rows for what lies in no class folder."""
    return [Row(status=manifest.REJECTED, reason=file.problem, source=file.name) for file in stray]


def place(rows: list[Row], scans: list[Scan], split_of: dict[str, str], fold_of: dict[str, str]) -> None:
    """Give every kept row its split, fold and file name, and see that each class is in each split.

    Raises:
        UserError: a class has lost all its images of a split to conflicts or corrections.
    """
    for row, scan in zip(rows, scans, strict=True):
        if row.status == manifest.KEPT:
            row.split, row.fold = split_of[row.group], fold_of.get(row.group, "")
            row.file = f"{row.split}/{row.class_name}/{scan.stored}"
    held = Counter((row.split, row.class_name) for row in rows if row.status == manifest.KEPT)
    for class_name in sorted({row.class_name for row in rows}):
        for split in manifest.SPLITS:
            if not held[split, class_name]:
                n_kept = sum(n for (_, name), n in held.items() if name == class_name)
                raise UserError(
                    f"Class {class_name!r} has no image left for {split} ({n_kept} kept in all): the others are "
                    "duplicates, conflicts or dropped by corrections. Each class needs an image of its own in each "
                    "split: add some, correct fewer, see --conflicts, or, if the source is divided, --resplit."
                )


def write_images(rows: list[Row], scans: list[Scan], build_dir: Path) -> None:
    """Move the stored images of kept rows from staging to their places and throw the others away."""
    staging_dir = build_dir / STAGING
    moved: dict[str, str] = {}
    for row, scan in zip(rows, scans, strict=True):
        if row.status != manifest.KEPT:
            continue
        target = build_dir / row.file
        target.parent.mkdir(parents=True, exist_ok=True)
        if scan.stored in moved:  # One file kept in two classes.
            shutil.copyfile(build_dir / moved[scan.stored], target)
        else:
            (staging_dir / scan.stored).rename(target)
            moved[scan.stored] = row.file
    shutil.rmtree(staging_dir)


def fingerprint(found: Layout, hashes: list[str], settings: dict) -> str:
    """Hex digest of what a dataset is made from: every file's name, content and row of a CSV, and the settings.

    Args:
        found: the files of the source, with what their CSV files say.
        hashes: SHA-256 of each of them, see `hash_source`.
        settings: the arguments that decide the result.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file, sha256 in zip(found.files, hashes, strict=True):
        digest.update(json.dumps([file.name, file.problem, sha256, file.metadata]).encode())
    for file in found.stray:
        digest.update(json.dumps([file.name, file.problem]).encode())
    return digest.hexdigest()


def hash_source(found: list[SourceFile], *, n_processes: int) -> list[str]:
    """SHA-256 of every file, "" for those that must not or can't be opened."""
    with ThreadPoolExecutor(n_processes) as pool:  # Hashing releases the interpreter lock.
        hashes = decoding.in_order(pool, _hash, found, n_ahead=_AHEAD_PER_THREAD * n_processes)
        progress = tqdm(hashes, total=len(found), desc="Checking", unit="file", mininterval=0.5)
        return [sha256 for _, sha256 in progress]


def _hash(file: SourceFile) -> str:
    try:
        return "" if file.problem else files.sha256_of(file.path)
    except OSError:
        return ""


def is_current(dataset_dir: Path, wanted: str) -> bool:
    """Whether `dataset_dir` is complete and was made from what `wanted` stands for."""
    try:
        return (
            read_prep(dataset_dir)["fingerprint"] == wanted
            and not _strangers(dataset_dir)
            and _is_complete(dataset_dir)
        )
    except (KeyError, UserError):
        return False


def require_whole(dataset_dir: Path) -> None:
    """Assert that `dataset_dir` holds the files of its manifest and no others."""
    assert _is_complete(dataset_dir), f"a file of the manifest is not in {dataset_dir}"
    assert not (strangers := _strangers(dataset_dir)), f"{strangers[:3]} in {dataset_dir} are not in the manifest"


def _is_complete(dataset_dir: Path) -> bool:
    kept = (row.file for row in manifest.iter_rows(dataset_dir) if row.status == manifest.KEPT)
    names = itertools.chain(kept, (CARD_FILE, SHEET_FILE))
    return all(_has_content(os.path.join(dataset_dir, name)) for name in names)


def _has_content(path: str) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def _strangers(dataset_dir: Path) -> list[str]:
    """Files in `dataset_dir` that are not ours."""
    ours = {row.file for row in manifest.iter_rows(dataset_dir)}
    ours |= {PREP_FILE, CARD_FILE, SHEET_FILE, manifest.FILE_NAME}
    found = []
    for folder, _, names in os.walk(dataset_dir):
        within = Path(folder).relative_to(dataset_dir)
        found += [name for name in ((within / name).as_posix() for name in names) if name not in ours]
    return sorted(found)


def require_apart(source_dir: Path, dataset_dir: Path) -> None:
    """Refuse to write a dataset into its own source, where the next run would take it for a class.

    Raises:
        UserError: one folder lies in the other.
    """
    source, dataset = source_dir.resolve(), dataset_dir.resolve()
    if dataset.is_relative_to(source) or source.is_relative_to(dataset):
        raise UserError(
            f"--output_dir {dataset_dir} and the source {source_dir} overlap: one contains the other. "
            "Choose another folder."
        )


def require_own_partial(build_dir: Path) -> None:
    """Refuse to clear a folder that no interrupted run of ours has left.

    Raises:
        UserError: `build_dir` holds something else.
    """
    ours = {STAGING, *manifest.SPLITS, manifest.FILE_NAME, PREP_FILE, CARD_FILE, SHEET_FILE}
    present = sorted(path.name for path in build_dir.iterdir()) if build_dir.is_dir() else []
    if foreign := [name for name in present if name not in ours and not name.endswith(".part")]:
        raise UserError(
            f"{build_dir}, where the dataset is built, holds {foreign[0]}, which is not of data_prep.py. Move it away, "
            "or choose another --output_dir."
        )


def require_replaceable(dataset_dir: Path, *, overwrite: bool) -> None:
    """Refuse to touch a folder that we did not make, or that somebody has added to.

    Raises:
        UserError: `dataset_dir` holds files of somebody else and `overwrite` is not given.
    """
    if dataset_dir.is_mount():
        raise UserError(f"{dataset_dir} is where a disk is mounted and can't be replaced. Name a folder inside it.")
    if overwrite or not dataset_dir.exists():
        return
    if not dataset_dir.is_dir():
        raise UserError(f"{dataset_dir} is a file. Choose a folder for --output_dir.")
    if not any(dataset_dir.iterdir()):
        return
    if not has_prep(dataset_dir):
        raise UserError(
            f"{dataset_dir} is not empty and was not made by data_prep.py. Choose another; --overwrite deletes all "
            "that is in it."
        )
    if strangers := _strangers(dataset_dir):
        raise UserError(
            f"{dataset_dir} holds {len(strangers)} files that data_prep.py did not write, for example {strangers[0]}. "
            "Move them away, or --overwrite."
        )
