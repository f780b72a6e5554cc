"""Near-duplicates on two sides of a split, counted anew from the stored images."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memevit import pixels
from memevit.data import duplicates, hashes, workers


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
    codes_of = functools.partial(_codes, dataset_dir=dataset_dir)
    codes = list(workers.map_ordered(codes_of, files, n_processes=n_processes, description="Leaks: hashing"))
    proposed, _ = hashes.candidate_pairs(codes)
    across = [(a, b) for a, b in proposed.tolist() if splits[a] != splits[b]]
    compare = functools.partial(duplicates.compare_files, staging_dir=dataset_dir)
    names = [(files[a], files[b]) for a, b in across]
    verdicts = workers.map_ordered(compare, names, n_processes=n_processes, description="Leaks: comparing", unit="pair")
    return [
        Leak(files[a], splits[a], files[b], splits[b], verdict)
        for (a, b), verdict in zip(across, verdicts, strict=True)
        if verdict
    ]


def _codes(file: str, *, dataset_dir: Path) -> tuple[int, ...]:
    try:
        return hashes.codes(pixels.load_image(dataset_dir / file))
    except pixels.UnreadableImageError:
        return ()
