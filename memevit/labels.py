"""Class names and their ids, in the order that `datasets` gives an ImageFolder."""

from collections.abc import Iterable

from memevit.errors import UserError

UNKNOWN = "unknown"  # What an image of none of the classes is called; never a class id.
UNREADABLE = "unreadable"  # What a file that can't be decoded is called.


def sorted_class_names(names: Iterable[str]) -> list[str]:
    """The distinct `names` in alphabetical order: position is the label, as in `load_dataset("imagefolder")`."""
    return sorted(set(names))


def label_maps(class_names: list[str]) -> tuple[dict[int, str], dict[str, int]]:
    """`id2label` and `label2id` of a list of class names, in its order.

    Raises:
        UserError: fewer than two classes, or one name twice.
    """
    if len(class_names) < 2 or len(set(class_names)) != len(class_names):
        raise UserError(f"Need at least 2 different class names, found {class_names}.")
    return dict(enumerate(class_names)), {name: label for label, name in enumerate(class_names)}
