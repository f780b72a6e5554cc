"""An image-classification dataset of the Hugging Face Hub as class folders: splits, labels and columns of its own."""

import contextlib
import csv
import logging
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from memevit import files
from memevit.data import folder_names, layout
from memevit.errors import UserError

logger = logging.getLogger(__name__)

PREFIX = "hub:"
_HANDLE = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target")
_IMAGE_COLUMNS = ("image", "img", "picture", "jpg", "png")
_SUFFIXES = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp"}
_TABLE = "columns.csv"


def write_folders(
    handle: str,
    folder: Path,
    *,
    config_name: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> str:
    """Write the labelled images of a dataset to `folder`/split/class/, byte for byte as the dataset has them.

    The dataset is downloaded to the cache of `datasets` and memory-mapped, never held in memory. Its other columns of
    plain values go to a CSV beside the folders. Rows without a label (-1 or none) are left out and counted in the log.

    Args:
        handle: OWNER/NAME or OWNER/NAME@REVISION.
        folder: a new folder.
        config_name: for datasets of several configurations.
        image_column: by default the only column of images, or the one called `image`.
        label_column: by default the only `ClassLabel`, or the column called `label`.

    Returns:
        OWNER/NAME@COMMIT of what was read, as far as `datasets` tells.

    Raises:
        UserError: no such dataset, no access, no network, or no images with one label each; the text says which.
    """
    if not _HANDLE.fullmatch(handle):
        raise UserError(
            f"hub:{handle} is not a dataset on the Hub. Write hub:OWNER/NAME or hub:OWNER/NAME@REVISION, as in "
            "hub:uoft-cs/cifar10."
        )
    name, _, revision = handle.partition("@")
    splits = _loaded(name, revision or None, config_name)
    features = next(iter(splits.values())).features
    image_column = _image_column(name, features, image_column)
    label_column = _label_column(name, features, label_column)
    extra = [column for column, feature in features.items() if _is_plain(feature) and column != label_column]
    wanted = _known_splits(name, list(splits))
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        table = None
        if extra:
            table = csv.writer(stack.enter_context((folder / _TABLE).open("w", encoding="utf-8", newline="")))
            table.writerow(["filename", *extra])
        for split, target in wanted.items():
            rows = splits[split].select_columns([image_column, label_column, *extra])
            for file, values in _written(rows, split, folder / target, image_column, label_column, name):
                if table:
                    table.writerow([file, *(values[column] for column in extra)])
    return f"{name}@{_commit(splits) or revision or 'main'}"


def _loaded(name: str, revision: str | None, config_name: str | None) -> Any:
    """The `DatasetDict` of a dataset, its images not decoded."""
    import datasets
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError

    page = f"https://huggingface.co/datasets/{name}"
    try:
        splits = datasets.load_dataset(name, config_name, revision=revision)
    except DatasetNotFoundError as error:
        text = " ".join(str(error).split())
        if "gated" in text:
            text = f"{name} is gated: open {page}, accept its terms, and sign in with `hf auth login`."
        elif "Revision" in text:
            text = f"{name} has no revision {revision!r}. See {page}/tree/main for those there are."
        else:
            text = (
                f"There is no dataset {name} on the Hub, or it is private. Check {page}; to read a private one, sign "
                "in with `hf auth login`."
            )
        raise UserError(text) from error
    except DataFilesNotFoundError as error:
        raise UserError(f"{name} holds no data files that `datasets` can read. See {page}.") from error
    except (ConnectionError, TimeoutError) as error:
        raise UserError(
            f"The Hub can't be reached for {name} ({_first_line(error)}), and it is not in the cache. Check the "
            "network and HF_HUB_OFFLINE, or give a local folder or zip with --source."
        ) from error
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if files.is_disk_full(error):
            raise
        raise UserError(_why_not(name, page, error)) from error
    for split, rows in splits.items():
        splits[split] = rows.cast(_undecoded(rows.features)) if rows.features != _undecoded(rows.features) else rows
    return splits


def _why_not(name: str, page: str, error: Exception) -> str:
    text = str(error)
    if "Config name is missing" in text or "BuilderConfig" in text:
        available = re.search(r"\[.*?\]", text, re.DOTALL)
        return (
            f"{name} has several configurations. Choose one with --config_name: {available[0] if available else page}."
        )
    if "scripts are no longer supported" in text:
        return f"{name} is a Python script, which `datasets` no longer runs. Look for a copy as Parquet files."
    return f"{name} can't be read by `datasets` ({_first_line(error)}). See {page}."


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _undecoded(features: Any) -> Any:
    import datasets

    return datasets.Features(
        {
            column: datasets.Image(decode=False) if isinstance(feature, datasets.Image) else feature
            for column, feature in features.items()
        }
    )


def _image_column(name: str, features: Any, wanted: str | None) -> str:
    import datasets

    columns = [column for column, feature in features.items() if isinstance(feature, datasets.Image)]
    if wanted is not None:
        if wanted not in columns:
            raise UserError(f"The column {wanted!r} of {name} holds no images. Columns of images: {columns}.")
        return wanted
    if not columns:
        raise UserError(f"{name} has no column of images; its columns are {list(features)}. Choose another dataset.")
    named = [column for column in _IMAGE_COLUMNS if column in columns]
    if len(columns) > 1 and not named:
        raise UserError(f"{name} has several columns of images: {columns}. Choose one with --image_column.")
    return columns[0] if len(columns) == 1 else named[0]


def _label_column(name: str, features: Any, wanted: str | None) -> str:
    import datasets

    classes = [column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    usable = [column for column, feature in features.items() if _is_plain(feature) and not _is_float(feature)]
    if wanted is not None:
        if wanted not in usable:
            raise UserError(f"The column {wanted!r} of {name} can't be a label. Columns that can: {usable}.")
        return wanted
    named = [column for column in _LABEL_COLUMNS if column in (classes or usable)]
    if len(classes) == 1:
        return classes[0]
    if named:
        return named[0]
    if classes:
        raise UserError(f"{name} has several labels: {classes}. Choose one with --label_column.")
    raise UserError(
        f"{name} has no label for its images; its columns are {list(features)}. Name one with --label_column if "
        "it holds classes, or choose another dataset."
    )


def _is_plain(feature: Any) -> bool:
    """Whether a column holds single numbers or texts."""
    import datasets

    return isinstance(feature, datasets.Value | datasets.ClassLabel) and "binary" not in feature.dtype


def _is_float(feature: Any) -> bool:
    return feature.dtype.startswith(("float", "double", "decimal"))


def _known_splits(name: str, splits: list[str]) -> dict[str, str]:
    """The folder for each split to use: train, validation, test, or none if the dataset is not divided into those."""
    known = {
        split: folder_names.SPLIT_FOLDERS[split.lower()]
        for split in splits
        if split.lower() in folder_names.SPLIT_FOLDERS
    }
    if len(set(known.values())) < len(known):
        raise UserError(
            f"{name} has several splits of one meaning: {list(known)}. Save the right ones as folders first."
        )
    if len(splits) == 1 or not known:
        return dict.fromkeys(splits, "")
    if others := [split for split in splits if split not in known]:
        logger.warning("The splits %s of %s were not used; those are %s.", others, name, list(known))
    return known


def _written(
    rows: Any, split: str, folder: Path, image_column: str, label_column: str, name: str
) -> Iterator[tuple[str, dict]]:
    """Write the images of one split; each one's file name, and the row."""
    names = _class_folders(name, rows, label_column)
    n_unlabelled = 0
    for number, row in enumerate(tqdm(rows, desc=f"Reading {split}", unit="image", mininterval=0.5)):
        label = row[label_column]
        if label is None or label not in names:
            n_unlabelled += 1
            continue
        own_name = _write_image(row[image_column], folder / names[label], f"{split}-{number:08d}")
        yield f"{names[label]}/{own_name}", row
    if n_unlabelled:
        logger.warning("%d of %d rows of the split %s have no label and were left out.", n_unlabelled, len(rows), split)


def _class_folders(name: str, rows: Any, label_column: str) -> dict[Any, str]:
    """The name of the class folder for each label."""
    feature = rows.features[label_column]
    if hasattr(feature, "names"):
        classes = dict(enumerate(feature.names))
    else:
        classes = {label: str(label) for label in rows.unique(label_column) if label is not None and label != ""}
    folders = {label: folder_names.acceptable_name(text) for label, text in classes.items()}
    changed = {text: folders[label] for label, text in classes.items() if folders[label] != text}
    if changed:
        logger.warning("Classes of %s were renamed so that they can be folders: %s", name, changed)
    if twice := [folder for folder, n in Counter(folders.values()).items() if n > 1]:
        raise UserError(f"Several classes of {name} would have the folder {twice[0]!r}. Rename them in a copy of it.")
    return folders


def _write_image(image: dict | None, folder: Path, stem: str) -> str:
    """Write one image as the dataset has it; an absent one becomes an empty file, which is rejected later on."""
    folder.mkdir(parents=True, exist_ok=True)
    content, path = (image or {}).get("bytes"), (image or {}).get("path")
    if content is None and path and _is_cached(Path(path)):
        suffix = Path(path).suffix.lower()
        target = folder / f"{stem}{suffix if suffix in layout.IMAGE_SUFFIXES else '.jpg'}"
        shutil.copyfile(path, target)
        return target.name
    content = content or b""
    suffix = next((suffix for magic, suffix in _SUFFIXES.items() if content.startswith(magic)), "jpg")
    (folder / f"{stem}.{suffix}").write_bytes(content)
    return f"{stem}.{suffix}"


def _is_cached(path: Path) -> bool:
    """Whether a path in a dataset leads into its download; a hostile one could name any file of this machine."""
    import datasets
    from huggingface_hub import constants

    caches = (datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH, constants.HF_HUB_CACHE)
    return path.is_file() and any(path.resolve().is_relative_to(Path(cache).resolve()) for cache in caches)


def _commit(splits: Any) -> str:
    """The commit that was read: `datasets` names the folder of its cache after it."""
    for rows in splits.values():
        for file in rows.cache_files:
            if found := re.search(r"[/\\]([0-9a-f]{40})[/\\]", file["filename"]):
                return found[1]
    return ""
