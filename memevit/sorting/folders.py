"""Names of folders for classes, whatever characters the classes have."""

import os
import re
import unicodedata
from collections.abc import Iterable

from memevit import labels
from memevit.sorting.rows import UNSURE

NOT_CLASSES = (labels.UNKNOWN, UNSURE, labels.UNREADABLE)
MAX_NAME_BYTES = 120  # Most file systems take 255; names of files in it count towards limits of the whole path.
MAX_SUFFIX_BYTES = 20
# What Windows or macOS refuse, control characters, and marks that reorder text.
_UNSAFE = re.compile('[<>:"/\\\\|?*\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def folder_names(class_names: Iterable[str]) -> dict[str, str]:
    """A folder for each class: its name where that is possible, and no two that any file system takes for one.

    Example:
        >>> folder_names(["doom", "AC/DC", "Doom", "Unknown", "..", "con", ""]).values()
        dict_values(['doom', 'AC_DC', 'Doom_2', 'Unknown_2', '_', 'con_', '__2'])
    """
    taken = {folded(name) for name in NOT_CLASSES}
    found = {}
    for class_name in class_names:
        if class_name in NOT_CLASSES:  # Shares the folder, as it shares the label.
            found[class_name] = class_name
            continue
        name = free_name = safe_name(class_name)
        number = 2
        while folded(free_name) in taken:
            free_name = f"{name}_{number}"
            number += 1
        taken.add(folded(free_name))
        found[class_name] = free_name
    return found


def safe_name(name: str) -> str:
    """`name` as a file name on every common system.

    Example:
        >>> safe_name("a" * 300 + ".jpg")[-6:], safe_name(" .hidden. "), safe_name("AC/DC")
        ('aa.jpg', '_hidden', 'AC_DC')
    """
    safe = _UNSAFE.sub("_", unicodedata.normalize("NFC", name)).strip(" ").rstrip(". ")
    if safe.startswith((".", "-", "~")):  # Hidden, an option to commands, somebody's home.
        safe = "_" + safe[1:]
    if _DEVICES.fullmatch(safe):
        safe += "_"
    if len(safe.encode("utf-8")) > MAX_NAME_BYTES:
        stem, suffix = os.path.splitext(safe)
        suffix = suffix if len(suffix.encode("utf-8")) <= MAX_SUFFIX_BYTES else ""
        cut = stem.encode("utf-8")[: MAX_NAME_BYTES - len(suffix.encode("utf-8"))].decode("utf-8", "ignore")
        safe = cut.rstrip(". ") + suffix
    return safe or "_"


def folded(name: str) -> str:
    """What a file system that ignores case and accents' spelling makes of `name`."""
    return unicodedata.normalize("NFD", name).casefold()
