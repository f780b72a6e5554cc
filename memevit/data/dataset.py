"""A dataset folder that data_prep.py has written, opened with `datasets`.

    dataset = load(Path("prepared"))
    dataset["train"].features["label"].names     class names; position is the label
    dataset["train"][0]                          {"image": {"path": ..., "bytes": None}, "label": 0, "file": ..., ...}

Each split has the columns `image` (not decoded), `label`, `file` (path within the folder), `group` and `fold`, and
`title` if the source had titles. Rows are those of manifest.csv that were kept, sorted by `file`. They are
memory-mapped from an Arrow file beside the folder, so loader processes share them.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memevit import files, manifest
from memevit.errors import UserError
from memevit.labels import sorted_class_names

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

PREP_FILE = "prep.json"
TITLE = "title"
_WORDS = ("tags", "source_url", "citation")  # Of the settings, those that are of use to a model card, too.
_FORMAT = 1  # Raise it when the same manifest.csv gives other columns than before.
_KEY_LENGTH = 16
_WRITTEN_AT_ONCE = 10_000  # Rows.
MIN_FOLDS = 3


def has_prep(dataset_dir: Path) -> bool:
    """Whether data_prep.py has written `dataset_dir`."""
    return (dataset_dir / PREP_FILE).is_file()


def read_prep(dataset_dir: Path) -> dict:
    """The content of prep.json.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        content = json.loads((dataset_dir / PREP_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{dataset_dir / PREP_FILE} can't be read ({error}). Run data_prep.py again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{dataset_dir / PREP_FILE} is damaged (not an object). Run data_prep.py again.")
    return content


def write_variant(
    dataset_dir: Path, folder: Path, rows: Sequence[manifest.Row], *, fingerprint: str | None = None
) -> None:
    """Write a dataset folder with other rows, such as other classes or fewer images; the images are linked.

    Args:
        dataset_dir: a prepared dataset.
        folder: may be there already, with the same links.
        rows: of the new manifest.
        fingerprint: of the new dataset; that of `dataset_dir` when None.
    """
    folder.mkdir(exist_ok=True)
    for split in manifest.SPLITS:
        if not (folder / split).exists():
            (folder / split).symlink_to((dataset_dir / split).resolve())
    manifest.write(folder, list(rows))
    prep = read_prep(dataset_dir)
    files.write_text(folder / PREP_FILE, json.dumps(prep | {"fingerprint": fingerprint or prep["fingerprint"]}))


def require_prepared(dataset_dir: Path) -> None:
    """Check that `dataset_dir` was written by data_prep.py; takes no time and imports nothing.

    Raises:
        UserError: it was not.
    """
    next(manifest.iter_rows(dataset_dir), None)
    read_prep(dataset_dir)


def load(dataset_dir: Path) -> "datasets.DatasetDict":
    """The splits of a prepared dataset, see the top of this module.

    Raises:
        UserError: `dataset_dir` was not written by data_prep.py, or images are missing from it.
    """
    import datasets  # Takes a second; `--help` and wrong paths need not wait for it.

    require_prepared(dataset_dir)
    dataset_dir = dataset_dir.absolute()
    key = hashlib.sha256(
        f"{_FORMAT} {dataset_dir} {files.sha256_of(dataset_dir / manifest.FILE_NAME)} "
        f"{files.sha256_of(dataset_dir / PREP_FILE)}".encode()
    ).hexdigest()[:_KEY_LENGTH]
    cache_dir = dataset_dir.with_name(f"{dataset_dir.name}.cache")
    paths = {split: cache_dir / f"rows-{key}-{split}.arrow" for split in manifest.SPLITS}
    if not all(path.is_file() for path in paths.values()):
        columns, names = _columns(dataset_dir)
        features = _features(names, has_title=TITLE in columns["train"])
        try:
            _write(columns, features, paths)
        except OSError as error:
            logger.debug("The rows are held in memory, for %s can't be written: %s", cache_dir, error)
            found = {split: datasets.Dataset.from_dict(own, features=features) for split, own in columns.items()}
            return _checked(datasets.DatasetDict(found))
    return _checked(datasets.DatasetDict({split: datasets.Dataset.from_file(str(paths[split])) for split in paths}))


def _features(names: list[str], *, has_title: bool) -> "datasets.Features":
    from datasets import ClassLabel, Features, Image, Value

    text = ("file", "group", "fold", TITLE) if has_title else ("file", "group", "fold")
    return Features(
        {"image": Image(decode=False), "label": ClassLabel(names=names)} | {name: Value("string") for name in text}
    )


def _columns(dataset_dir: Path) -> tuple[dict[str, dict[str, list]], list[str]]:
    """The columns of each split, from manifest.csv, and the class names, in the order of prep.json."""
    kept = sorted(
        (row.file, row.split, row.class_name, row.group, row.fold, row.extra.get(TITLE))
        for row in manifest.iter_rows(dataset_dir)
        if row.status == manifest.KEPT
    )
    found = {class_name for _, _, class_name, *_ in kept}
    names = [name for name in read_prep(dataset_dir).get("classes", {}) if name in found]
    names += sorted_class_names(found - set(names))
    label_of = {name: label for label, name in enumerate(names)}
    has_title = any(title is not None for *_, title in kept)
    columns = {}
    for split in manifest.SPLITS:
        own = [row for row in kept if row[1] == split]
        columns[split] = {
            "image": [{"path": str(dataset_dir / file), "bytes": None} for file, *_ in own],
            "label": [label_of[class_name] for _, _, class_name, *_ in own],
            "file": [file for file, *_ in own],
            "group": [group for *_, group, _, _ in own],
            "fold": [fold for *_, fold, _ in own],
        } | ({TITLE: [title or "" for *_, title in own]} if has_title else {})
    return columns, names


def _write(columns: Mapping[str, dict[str, list]], features: "datasets.Features", paths: Mapping[str, Path]) -> None:
    """Write an Arrow file per split; each gets its name when it is complete."""
    from datasets.arrow_writer import ArrowWriter

    for split, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f"rows-*-{split}.arrow"):
            if stale != path:  # Which another process of the same command may have just written.
                stale.unlink(missing_ok=True)
        partial = path.with_name(f"{path.stem}.{os.getpid()}.part")
        try:
            with ArrowWriter(features=features, path=str(partial)) as writer:
                n = len(columns[split]["file"])
                for start in range(0, n, _WRITTEN_AT_ONCE):
                    own = slice(start, start + _WRITTEN_AT_ONCE)
                    writer.write_batch({name: values[own] for name, values in columns[split].items()})
                writer.finalize()
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _checked(dataset: "datasets.DatasetDict") -> "datasets.DatasetDict":
    """`dataset`, when every image is there."""
    paths = [path for split in dataset.values() for path in paths_of(split)]
    if missing := [path for path in paths if not os.path.isfile(path)]:
        raise UserError(
            f"{len(missing)} of {len(paths)} images are missing, first {missing[0]}. Run data_prep.py again."
        )
    return dataset


def paths_of(split: "datasets.Dataset") -> list[str]:
    """Paths of the images of one split, in its order."""
    return [image["path"] for image in split["image"][:]]


def folds(dataset: "datasets.DatasetDict") -> "dict[str, datasets.DatasetDict]":
    """Train, validation and test images of each fold of a cross-validation, by the name of the fold.

    Every image is tested once, by a model that has not seen its group: the fold itself is tested, the next one (after
    the last comes the first) selects the checkpoint, the others train.

    Raises:
        UserError: data_prep.py was run without `--folds`, or with fewer than 3.
    """
    import datasets

    everything = datasets.concatenate_datasets(list(dataset.values()))
    fold_of, file_of = everything["fold"][:], everything["file"][:]
    names = sorted(set(filter(None, fold_of)), key=lambda name: (len(name), name))
    if len(names) < MIN_FOLDS:
        found = f"{len(names)} folds" if names else "no folds"
        raise UserError(
            f"The dataset has {found}; one is tested, one selects the checkpoint, and at least one trains. Run "
            "data_prep.py again with --folds 5."
        )
    if without := [file for file, fold in zip(file_of, fold_of, strict=True) if not fold]:
        raise UserError(f"{len(without)} images are in no fold, first {without[0]}. Run data_prep.py again.")
    ordered = sorted(range(len(file_of)), key=lambda row: file_of[row])
    found = {}
    for number, test in enumerate(names):
        validation = names[(number + 1) % len(names)]
        role = dict.fromkeys(names, "train") | {validation: "validation", test: "test"}
        rows = {split: [row for row in ordered if role[fold_of[row]] == split] for split in manifest.SPLITS}
        found[test] = datasets.DatasetDict({split: everything.select(chosen) for split, chosen in rows.items()})
    return found


def describe(dataset_dir: Path) -> dict[str, Any]:
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
        **{key: value for key in _WORDS if (value := prep["settings"].get(key))},
    }
