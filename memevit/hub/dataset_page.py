"""The prepared dataset as a repository: the pictures that are in it, its manifest and its card, and nothing else."""

import re
from collections import Counter
from pathlib import Path

from memevit import manifest
from memevit.errors import UserError
from memevit.hub import leak_scan

CARD_FILE = "README.md"
_RECORDS = (manifest.FILE_NAME, "prep.json")
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


def collect(dataset_dir: Path, card_path: Path) -> dict[str, Path]:
    """The files to publish of a dataset folder by their path in the repository.

    What else lies in the folder stays here, among it the contact sheet, which shows pictures that were left out.

    Args:
        dataset_dir: a folder that data_prep.py wrote.
        card_path: the dataset card.

    Raises:
        UserError: there are more pictures in one folder than the Hub takes.
    """
    pictures = [row.file for row in manifest.kept(manifest.read(dataset_dir))]
    fullest, n = Counter(file.rsplit("/", 1)[0] for file in pictures).most_common(1)[0]
    if n > MAX_FILES_IN_FOLDER:
        raise UserError(
            f"{dataset_dir / fullest} holds {n} pictures, and the Hub takes {MAX_FILES_IN_FOLDER} files in a folder. "
            "Leave --push_dataset out, and publish it as parquet with the datasets library."
        )
    if len(pictures) > MAX_FILES_IN_COMMIT:
        raise UserError(
            f"{dataset_dir} holds {len(pictures)} pictures, and the Hub takes {MAX_FILES_IN_COMMIT} in a commit. "
            "Leave --push_dataset out, and publish it as parquet with the datasets library."
        )
    return {CARD_FILE: card_path} | {name: dataset_dir / name for name in (*_RECORDS, *pictures)}


def faults(contents: dict[str, Path]) -> list[str]:
    """What must not be published of a dataset, a line each: it holds pictures, but no secrets and no folders."""
    return leak_scan.findings_in(contents, may_hold_pictures=True)
