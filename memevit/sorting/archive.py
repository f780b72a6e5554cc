"""A zip of images sorted into folders, for those who have no folder to sort into: the web page."""

import zipfile
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import BinaryIO

from memevit.sorting.folders import NOT_CLASSES, folded, folder_names, safe_name


def write_sorted_zip(
    output: BinaryIO, images: Iterable[tuple[str, bytes, str]], class_names: Iterable[str] = ()
) -> dict[str, int]:
    """Write a zip with a folder per label and return how many images each holds.

    Args:
        output: an open file.
        images: name, content and label of each; names need not be safe or different.
        class_names: the labels beside unknown, unsure and unreadable, so that their folders are called as
            sort_memes.py calls them. Labels that are missing here get a folder of their own.

    Raises:
        ValueError: a content is not bytes.
    """
    folder_of = {name: name for name in NOT_CLASSES} | folder_names(class_names)
    taken: set[str] = set()
    counts: dict[str, int] = {}
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:  # Images are compressed already.
        for name, content, label in images:
            if label not in folder_of:
                folder_of = folder_of | folder_names([*folder_of, label])
            archive.writestr(_free_name(taken, folder_of[label], name), content)
            counts[label] = counts.get(label, 0) + 1
    return counts


def _free_name(taken: set[str], folder: str, name: str) -> str:
    path = PurePosixPath(safe_name(name.replace("\\", "/").rsplit("/", 1)[-1]))
    free, number = path.name, 2
    while folded(f"{folder}/{free}") in taken:
        free = f"{path.stem}_{number}{path.suffix}"
        number += 1
    taken.add(folded(f"{folder}/{free}"))
    return f"{folder}/{free}"
