"""Read a dataset folder that data_prep.py has written."""

import json
from dataclasses import dataclass
from pathlib import Path

from memevit import manifest
from memevit.errors import UserError
from memevit.labels import sorted_class_names

PREP_FILE = "prep.json"


def has_prep(dataset_dir: Path) -> bool:
    """Whether data_prep.py has written `dataset_dir`."""
    return (dataset_dir / PREP_FILE).is_file()


def read_prep(dataset_dir: Path) -> dict:
    """The content of prep.json.

    Raises:
        UserError: it is not there or damaged.
    """
    try:
        content = json.loads((dataset_dir / PREP_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{dataset_dir / PREP_FILE} can't be read ({error}). Run data_prep.py again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{dataset_dir / PREP_FILE} is damaged (no object). Run data_prep.py again.")
    return content


@dataclass(frozen=True)
class Split:
    """Pictures of one split, in the order that `load_dataset("imagefolder")` gives them.

    `files` are the paths within the dataset folder, `labels` the class ids.
    """

    paths: list[Path]
    files: list[str]
    labels: list[int]


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset: class names by label, splits by name, and the fingerprint of what it was made from."""

    class_names: list[str]
    by_name: dict[str, Split]
    fingerprint: str


def load(dataset_dir: Path) -> Dataset:
    """The prepared dataset in `dataset_dir`.

    Raises:
        UserError: no prepared dataset, or a picture is missing from it.
    """
    kept = sorted(
        (row.file, row.split, row.class_name) for row in manifest.iter_rows(dataset_dir) if row.status == manifest.KEPT
    )
    class_names = sorted_class_names(class_name for _, _, class_name in kept)
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    by_name = {}
    for name in manifest.SPLITS:
        files, labels = [], []
        for file, split, class_name in kept:
            if split == name:
                files.append(file)
                labels.append(label_of[class_name])
        by_name[name] = Split([dataset_dir / file for file in files], files, labels)
    every = [path for split in by_name.values() for path in split.paths]
    if missing := [path for path in every if not path.is_file()]:
        raise UserError(
            f"{len(missing)} of {len(every)} pictures are gone, first {missing[0]}. Run data_prep.py again."
        )
    return Dataset(class_names, by_name, read_prep(dataset_dir)["fingerprint"])


def describe(dataset_dir: Path) -> dict:
    """What a model card says about the data: source, licence, and counts."""
    prep = read_prep(dataset_dir)
    return {
        "source": prep["source"],
        "license": prep["settings"]["license"],
        "fingerprint": prep["fingerprint"],
        "classes": {
            name: {split: counts[split] for split in manifest.SPLITS} for name, counts in prep["classes"].items()
        },
        "n_left_out": {status: n for status, n in prep["n_by_status"].items() if status != manifest.KEPT},
        "split_by": prep["settings"]["split_by"],
    }
