"""Near-duplicates on two sides of a split, counted anew from the stored images."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memevit import decoding, pixels
from memevit.data import duplicates, hashes, keypoints
from memevit.data.duplicates import SAME, TEMPLATE
from memevit.data.ingest import Scan


@dataclass(frozen=True)
class Leak:
    """Two files of different splits that show the same image (`SAME`) or share a template (`TEMPLATE`)."""

    file: str
    split: str
    other_file: str
    other_split: str
    kind: str


def find(dataset_dir: Path, files_by_split: Mapping[str, Sequence[str]], *, n_processes: int) -> list[Leak]:
    """All pairs of near-duplicates between two splits; data_prep.py leaves none unless it is told to.

    Args:
        dataset_dir: the prepared dataset.
        files_by_split: paths within it.
        n_processes: that decode and compare.
    """
    files = [file for own in files_by_split.values() for file in own]
    splits = [split for split, own in files_by_split.items() for _ in own]
    scan = functools.partial(_scan, dataset_dir=dataset_dir)
    scans = list(decoding.map_ordered(scan, files, n_processes=n_processes, description="Looking for leaks"))
    found = duplicates.relate(scans, dataset_dir, n_processes=n_processes, between=splits)
    return [
        Leak(files[a], splits[a], files[b], splits[b], SAME if found.same[a] == found.same[b] else TEMPLATE)
        for a, b in found.pairs
        if splits[a] != splits[b]
    ]


def _scan(file: str, *, dataset_dir: Path) -> Scan:
    image = pixels.load_image(dataset_dir / file)
    return Scan(
        file,
        stored=file,
        pixel_digest=hashlib.sha256(b"%dx%d" % image.size + image.tobytes()).digest(),
        codes=hashes.codes(image),
        features=keypoints.describe(image),
    )
