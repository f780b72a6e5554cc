"""The stages of data_prep.py in their order."""

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memevit import cores, files, manifest
from memevit.data import (
    conflicts,
    contact_sheet,
    corrections,
    dataset,
    dataset_card,
    duplicates,
    imagefolder,
    ingest,
    layout,
    metadata_csv,
    splits,
    summary,
)
from memevit.data.ingest import Scan
from memevit.data.layout import Layout, SourceFile
from memevit.data.sources import Source

logger = logging.getLogger(__name__)

_VERSION = 4  # Raise it when the same source and settings give other files than before.
_BYTES_PER_PIXEL = 0.6  # Of a stored JPEG, quality 95, generously.
_GROWTH = 3  # Of a small image that is stored anew without loss, likewise.
_BLOCK_BYTES = 4096  # What even the smallest file takes from the disk.
_SHEET_QUALITY = 85


@dataclass(frozen=True)
class Settings:
    """What, besides the source, decides the dataset; saved in prep.json.

    `title`, `description`, `tags`, `source_url`, `citation` and `license` are words for the dataset card.
    """

    max_side: int = 512
    max_reject_fraction: float = 0.2
    conflicts: str = "drop"
    license: str | None = None
    title: str | None = None
    description: str | None = None
    tags: list[str] | None = None
    source_url: str | None = None
    citation: str | None = None
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    split_by: str = "group"
    resplit: bool = False
    group_column: str | None = None
    allow_leaks: bool = False
    folds: int | None = None
    seed: int = 0

    @property
    def fractions(self) -> dict[str, float]:
        """Share of each split, oldest first."""
        train = 1.0 - self.validation_fraction - self.test_fraction
        return {"train": train, "validation": self.validation_fraction, "test": self.test_fraction}


@dataclass(frozen=True)
class Earlier:
    """The prepared dataset that another one extends.

    `class_names` are its classes in their order, `groups` the group of each of its images by source name, which are
    not looked for again, and `left_out` the rows of what it left out.
    """

    class_names: list[str]
    groups: dict[str, str]
    left_out: list[manifest.Row]


def prepare(
    source: Source,
    output_dir: Path,
    settings: Settings,
    *,
    corrections_path: Path | None = None,
    n_processes: int | None = None,
    overwrite: bool = False,
) -> dict:
    """Make the dataset folder, or find that it is already what it would become.

    Args:
        source: the opened source.
        output_dir: dataset folder to be.
        settings: what decides the result.
        corrections_path: a corrections.csv.
        n_processes: processes that decode, one per core by default.
        overwrite: replace whatever lies at `output_dir`.

    Returns:
        The content of prep.json.

    Raises:
        UserError: the source or the settings don't give a dataset.
    """
    for folder in (output_dir, files.partial_of(output_dir)):  # Both are replaced.
        imagefolder.require_apart(source.root, folder)
    found = layout.read(source.root)
    metadata_csv.join(found.around, found.files)
    if settings.resplit:
        for file in found.files:
            file.split = ""
    layout.require_classes_in_splits(found.files)
    orders = corrections.read(corrections_path) if corrections_path else []
    return prepare_layout(
        found,
        source.description,
        output_dir,
        settings,
        orders=orders,
        n_processes=n_processes,
        overwrite=overwrite,
    )


def prepare_layout(
    found: Layout,
    description: str,
    output_dir: Path,
    settings: Settings,
    *,
    orders: Sequence[corrections.Correction] = (),
    earlier: Earlier | None = None,
    check: Callable[[dict], None] | None = None,
    n_processes: int | None = None,
    overwrite: bool = False,
) -> dict:
    """Make the dataset folder from files that are known already, see `prepare_source`.

    Args:
        found: the files.
        description: what they were made from.
        output_dir: dataset folder to be.
        settings: what decides the result.
        orders: corrections.
        earlier: the prepared dataset that this one extends.
        check: called with the content of prep.json before anything is put at `output_dir`; it may raise.
        n_processes: processes that decode, one per core by default.
        overwrite: replace whatever lies at `output_dir`.
    """
    n_processes = n_processes or cores.n_cores()
    build_dir = files.partial_of(output_dir)
    parameters = dataclasses.asdict(settings) | {
        "version": _VERSION,
        "corrections": [dataclasses.astuple(o) for o in orders],
    }
    imagefolder.require_own_partial(build_dir)
    shutil.rmtree(build_dir, ignore_errors=True)  # Left by a run that was killed.
    if dataset.has_prep(output_dir):
        hashes = imagefolder.hash_source(found.files, n_processes=n_processes)
        wanted = imagefolder.fingerprint(found, hashes, parameters)
        if imagefolder.is_current(output_dir, wanted):
            logger.info("%s is up to date: same files, same settings", output_dir)
            return dataset.read_prep(output_dir)
    imagefolder.require_replaceable(output_dir, overwrite=overwrite)
    files.require_free_space(output_dir, _needed_bytes(found.files, settings.max_side))
    build_dir.mkdir(parents=True)
    try:
        with files.explained_disk_errors(output_dir):
            prep = _build(build_dir, description, found, settings, orders, parameters, n_processes, earlier)
            if check:
                check(prep)
            files.publish(build_dir, output_dir)
    finally:
        shutil.rmtree(build_dir, ignore_errors=True)
    return prep


def _needed_bytes(found: list[SourceFile], max_side: int) -> int:
    largest = int(max_side**2 * _BYTES_PER_PIXEL)
    sizes = (file.path.stat().st_size for file in found if not file.problem and file.path.exists())
    return sum(_BLOCK_BYTES + min(_GROWTH * size, largest) for size in sizes)


def _build(
    build_dir: Path,
    description: str,
    layout_found: Layout,
    settings: Settings,
    orders: Sequence[corrections.Correction],
    parameters: dict,
    n_processes: int,
    earlier: Earlier | None,
) -> dict:
    staging_dir = build_dir / imagefolder.STAGING
    found = layout_found.files
    scans = ingest.scan_all(found, staging_dir, max_side=settings.max_side, n_processes=n_processes)
    ingest.require_mostly_readable(found, scans, settings.max_reject_fraction)
    usable = [position for position, scan in enumerate(scans) if not scan.problem]
    seen, seen_found = [scans[p] for p in usable], [found[p] for p in usable]
    known = [earlier.groups.get(file.name) for file in seen_found] if earlier else None
    between = known and [file.name if group is None else "" for group, file in zip(known, seen_found, strict=True)]
    relations = duplicates.relate(seen, staging_dir, n_processes=n_processes, between=between)
    if known:
        relations = duplicates.with_known_groups(relations, known)
    for scan in seen:
        scan.codes, scan.features = (), b""  # Done with, and they take as much room as all the rest of it.
    together = dataclasses.replace(relations, group=np.arange(len(seen))) if settings.allow_leaks else relations
    keys = conflicts.group_keys(seen, seen_found, together, settings.group_column)
    without_orders = conflicts.decide(seen, seen_found, relations, {}, conflicts=settings.conflicts)
    split_of, moved, made_by = _split(seen, seen_found, without_orders, keys, settings)
    fold_of = _fold(seen, seen_found, without_orders, keys, settings)
    matched = corrections.match(orders, seen, seen_found)
    decisions = conflicts.decide(seen, seen_found, relations, matched, conflicts=settings.conflicts)
    rows = imagefolder.rows_of(found, scans, usable, decisions, keys)
    imagefolder.place(rows, scans, split_of, fold_of)
    conflicting = [[rows[usable[p]] for p in members] for members in conflicts.conflicts_among(decisions)]
    all_rows = rows + imagefolder.stray_rows(layout_found.stray) + (earlier.left_out if earlier else [])
    prep = summary.summarize(
        all_rows,
        usable,
        relations,
        moved,
        conflicting,
        split_made_by=made_by,
        settings=dataclasses.asdict(settings) | {"n_corrections": len(orders)},
        fingerprint=imagefolder.fingerprint(layout_found, [scan.sha256 for scan in scans], parameters),
        source=description,
        class_names=earlier.class_names if earlier else (),
    )
    if settings.allow_leaks:
        logger.warning("%s", dataset_card.near_duplicates_in_words(prep))
    stored = {scan.name: scan.stored for scan in scans if scan.stored}
    sheet = contact_sheet.draw(all_rows, conflicting, staging_dir, stored)
    sheet.save(build_dir / imagefolder.SHEET_FILE, "JPEG", quality=_SHEET_QUALITY)
    imagefolder.write_images(rows, scans, build_dir)
    manifest.write(build_dir, all_rows)
    files.write_text(build_dir / imagefolder.CARD_FILE, dataset_card.render(prep))
    files.write_text(build_dir / dataset.PREP_FILE, json.dumps(prep, indent=2, ensure_ascii=False) + "\n")
    imagefolder.require_whole(build_dir)
    return prep


def _split(
    seen: list[Scan], found: list[SourceFile], decisions: list[conflicts.Decision], keys: list[str], settings: Settings
) -> tuple[dict[str, str], list[int], dict[str, str]]:
    """The split of every group, the images that this moves out of the split the source gave them, and who made which.

    Who made a split: "source", or "seed" or "time" for those that are made here.
    """
    own = "time" if settings.split_by == "time" else "seed"
    fixed, moved = conflicts.source_splits(found, keys)
    open_splits = [split for split in manifest.SPLITS if split not in fixed.values()]
    if set(fixed.values()) <= {"train"}:
        if moved:
            logger.warning("All groups of the source's other splits are in its train, too: new splits are made.")
        fixed, open_splits = {}, list(manifest.SPLITS)
        made_by = dict.fromkeys(manifest.SPLITS, own)
    else:
        made_by = {split: own if split in open_splits else "source" for split in manifest.SPLITS}
    if fixed and any(not file.split for file in found):  # Images that extend a dataset: they go to all splits.
        open_splits = list(manifest.SPLITS)
    elif fixed and open_splits:  # What the source lacks is taken out of its train.
        fixed = {key: split for key, split in fixed.items() if split != "train"}
        open_splits = ["train", *(split for split in open_splits if split != "train")]
    fixed |= conflicts.train_only_groups(decisions, keys)
    total = sum(settings.fractions[split] for split in open_splits)
    fractions = {split: settings.fractions[split] / total for split in open_splits}
    by_time = settings.split_by == "time"
    groups = conflicts.groups_to_place(seen, found, decisions, keys, fixed=fixed, by_time=by_time)
    return splits.assign(groups, fractions, seed=settings.seed, by_time=by_time), moved, made_by


def _fold(
    seen: list[Scan], found: list[SourceFile], decisions: list[conflicts.Decision], keys: list[str], settings: Settings
) -> dict[str, str]:
    """The fold of every group, from "0", or nothing."""
    if not settings.folds:
        return {}
    groups = conflicts.groups_to_place(seen, found, decisions, keys, fixed={}, by_time=False)
    shares = {str(fold): 1.0 / settings.folds for fold in range(settings.folds)}
    return splits.assign(groups, shares, seed=settings.seed, parts="folds")
