"""Which names class folders may have, so that `load_dataset` and people tell them apart and from splits."""

import logging
import re
import unicodedata
from collections import defaultdict

from memevit.errors import UserError

logger = logging.getLogger(__name__)

# Folder names by which `load_dataset("imagefolder")` knows a split, in any case here.
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
# As a word of their own, in lower case, they make that loader take the images of a class for a split, too.
_SPLIT_WORD = re.compile(rf"(?:^|[-._ 0-9])({'|'.join(SPLIT_FOLDERS)})(?=[-._ 0-9]|$)")
_UNLOADABLE = re.compile(r"^__|::|\\|\$|[\x00-\x1f\x7f\ud800-\udfff]")  # Passed over, or a part of its own syntax.
_MAX_NAME_LETTERS = 60  # Of a class folder made for a dataset of the Hub; 240 bytes even in Japanese.


def require_usable_name(name: str) -> None:
    """Check that `load_dataset` will read the images of a class folder called `name`.

    Raises:
        UserError: it would not.
    """
    if word := _SPLIT_WORD.search(name):
        raise UserError(
            f"The class folder {name!r} can't keep its name: load_dataset would take it for the split "
            f"{SPLIT_FOLDERS[word[1]]!r} and mix up the rows. Rename it, for example to {_capitalized(name)!r}."
        )
    if _UNLOADABLE.search(name):
        raise UserError(
            f"The class folder {name!r} can't keep its name: load_dataset would not find its images. Rename it "
            "without two underscores at its start, and without ::, \\, $ and control characters."
        )


def require_distinct(names: list[str]) -> None:
    """Refuse classes that a person, macOS or Windows would take for one."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[" ".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
        if name != name.strip():
            logger.warning("The name of the class folder %r begins or ends with a space; rename it if not meant.", name)
    for group in alike.values():
        if len(group) > 1:
            raise UserError(
                f"The class folders {' and '.join(map(ascii, group))} differ only in {_difference(*group[:2])}. Move "
                "their images into one folder if they are one class, or rename one of them."
            )


def _difference(one: str, other: str) -> str:
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return "how their accents are encoded (Unicode NFC and NFD)"
    if one.casefold() == other.casefold():
        return "capital letters"
    return "spaces" if "".join(one.split()) == "".join(other.split()) else "capital letters, spaces or width"


def acceptable_name(class_name: str) -> str:
    """`class_name` changed as little as needed for a class folder that `read` and `load_dataset` accept.

    >>> acceptable_name("n01/tench"), acceptable_name("test"), acceptable_name(".NET"), acceptable_name("cat")
    ('n01_tench', 'Test', '_NET', 'cat')
    """
    name = re.sub(r"[/\\\\$\x00-\x1f\x7f\ud800-\udfff]|::", "_", class_name.strip())
    name = re.sub(r"^(\.|__)", "_", name)[:_MAX_NAME_LETTERS] or "_"
    return _capitalized(name)


def _capitalized(name: str) -> str:
    """`name` with each word that stands for a split capitalised, which no loader takes for one.

    >>> _capitalized("test-drive 2 eval")
    'Test-drive 2 Eval'
    """
    return _SPLIT_WORD.sub(lambda word: word[0].replace(word[1], word[1].capitalize()), name)
