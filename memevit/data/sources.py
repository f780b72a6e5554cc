"""Where pictures come from: a folder, a zip, Kaggle or the built-in sample, and which class each file belongs to."""

import contextlib
import csv
import logging
import os
import shutil
import stat
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memevit.data import archives, kaggle, sample
from memevit.errors import UserError
from memevit.files import explained_disk_errors

logger = logging.getLogger(__name__)

KAGGLE_PREFIX = "kaggle:"
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
IMAGE_SUFFIXES = set(
    ".jpg .jpeg .jpe .jfif .png .gif .webp .bmp .dib .tif .tiff .avif .heic .heif .ppm .pgm .jp2 .ico .tga".split()
)
_FILE_COLUMNS = ("filename", "file_name", "file")
_CLASS_COLUMNS = ("class", "class_name", "label")
_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}
_CSV_FIELD_BYTES = 1 << 24


@dataclass(slots=True)
class SourceFile:
    """A file in a class folder.

    `name` is its path in the source with forward slashes. `problem` is set for what must not even be opened.
    """

    path: Path
    name: str
    class_name: str
    split: str = ""
    problem: str = ""
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def claims_to_be_image(self) -> bool:
        """Whether the name says picture: a text file beside the pictures is no broken picture."""
        return self.path.suffix.lower() in IMAGE_SUFFIXES


@dataclass(frozen=True)
class Source:
    """Class folders on disk, and what they were made from."""

    root: Path
    description: str


@contextlib.contextmanager
def opened(source: str, output_dir: Path) -> Iterator[Source]:
    """Make `source` available as a folder for as long as the context lasts.

    Args:
        source: `kaggle:OWNER/SLUG`, a zip file, a folder, or `sample`.
        output_dir: the dataset folder to be; the sample is drawn beside it, a zip is unpacked beside it and removed
            afterwards.

    Raises:
        UserError: there is nothing at `source`, or it can't be fetched or unpacked.
    """
    path = Path(source).expanduser()
    if source == "sample":
        yield Source(drawn_sample(output_dir) / "doom-crossing", "sample")
    elif source.startswith(KAGGLE_PREFIX):
        yield Source(kaggle.download(source.removeprefix(KAGGLE_PREFIX)), source)
    elif path.is_dir():
        yield Source(path, "folder")
    elif path.is_file():
        with _unpacked(path, output_dir) as root:
            yield Source(root, "zip")
    else:
        raise UserError(
            f"--source {source} is neither a folder nor a zip file, nor `sample` nor kaggle:OWNER/SLUG. Check the path."
        )


def drawn_sample(output_dir: Path) -> Path:
    """The folder beside `output_dir` that holds the drawn sample; drawn if it is not there yet."""
    sample_dir = output_dir.with_name(f"{output_dir.name}-sample")
    if not sample_dir.exists():
        partial_dir = sample_dir.with_name(f".{sample_dir.name}.partial")
        with explained_disk_errors(sample_dir.parent):
            shutil.rmtree(partial_dir, ignore_errors=True)
            sample.draw(partial_dir)
            partial_dir.rename(sample_dir)
    return sample_dir


@contextlib.contextmanager
def _unpacked(zip_path: Path, output_dir: Path) -> Iterator[Path]:
    with (
        explained_disk_errors(output_dir.parent),
        tempfile.TemporaryDirectory(prefix=f".{output_dir.name}.unpacked-", dir=output_dir.parent) as folder,
    ):
        archives.extract_zip(zip_path, Path(folder) / "files")
        yield Path(folder) / "files"


def find_images(root: Path) -> tuple[list[SourceFile], list[str]]:
    """Every file in the class folders of `root`, sorted by name, and the names of pictures that lie in no class folder.

    Class folders may lie one or more levels down, alone in their parent, and below `train`, `validation` and `test`
    folders. Links that leave `root` are not followed.

    Raises:
        UserError: fewer than two class folders, or one without any file.
    """
    base = _descend(root)
    splits = _split_folders(base)
    found: list[SourceFile] = []
    for split, parent in splits or [("", base)]:
        for class_dir in _folders(parent):
            found.extend(_files_below(class_dir, root, split))
    by_class: dict[str, int] = defaultdict(int)
    for file in found:
        by_class[file.class_name] += 1
    _require_classes(root, base, splits, by_class)
    _join_metadata(root, base, splits, found)
    stray = [path.relative_to(root).as_posix() for path in _stray_images(root, base)]
    return sorted(found, key=lambda file: file.name), sorted(stray)


def _require_classes(root: Path, base: Path, splits: list[tuple[str, Path]], by_class: dict[str, int]) -> None:
    parents = [parent for _, parent in splits] or [base]
    names = sorted({folder.name for parent in parents for folder in _folders(parent)})
    if len(names) < 2:
        raise UserError(
            f"Need at least 2 class folders in {root}, found {len(names)}: {names}. Put each class in its own folder."
        )
    if empty := [name for name in names if not by_class.get(name)]:
        raise UserError(f"The class folders {empty} in {root} hold no files. Fill or remove them.")


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _folders(parent: Path) -> list[Path]:
    return sorted(
        path for path in parent.iterdir() if path.is_dir() and not path.is_symlink() and not _is_litter(path.name)
    )


def _descend(root: Path) -> Path:
    """The folder whose sub-folders are classes or splits: `root`, or the lone folder chain below it."""
    base = root
    while True:
        folders = _folders(base)
        if len(folders) != 1 or not _folders(folders[0]) or folders[0].name.lower() in SPLIT_FOLDERS:
            return base
        base = folders[0]


def _split_folders(base: Path) -> list[tuple[str, Path]]:
    """(split, folder) pairs where `base` is already divided, else nothing."""
    folders = _folders(base)
    named = [(SPLIT_FOLDERS[folder.name.lower()], folder) for folder in folders if folder.name.lower() in SPLIT_FOLDERS]
    is_divided = named and len(named) == len(folders) and any(_folders(folder) for _, folder in named)
    return named if is_divided else []


def _files_below(class_dir: Path, root: Path, split: str) -> Iterator[SourceFile]:
    real_root = root.resolve()
    for folder, sub_folders, names in os.walk(class_dir):
        sub_folders[:] = sorted(name for name in sub_folders if not _is_litter(name))
        links = [name for name in sub_folders if (Path(folder) / name).is_symlink()]
        for name in sorted(names) + links:
            if _is_litter(name):
                continue
            path = Path(folder) / name
            problem = _problem(path, real_root)
            yield SourceFile(path, path.relative_to(root).as_posix(), class_dir.name, split, problem)


def _problem(path: Path, real_root: Path) -> str:
    """Why `path` must not be opened, or nothing."""
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(real_root):
            return "a link that leaves the source"
        mode = path.stat().st_mode
    except (OSError, RuntimeError):  # A link that leads nowhere or in a circle.
        return "a link that leads nowhere"
    if stat.S_ISDIR(mode):
        return "a link to a folder"
    return "" if stat.S_ISREG(mode) else "not a regular file"


def _stray_images(root: Path, base: Path) -> Iterator[Path]:
    folder = base
    while True:
        for path in folder.iterdir():
            if path.is_file() and not _is_litter(path.name) and path.suffix.lower() in IMAGE_SUFFIXES:
                yield path
        if folder == root:
            return
        folder = folder.parent


def _join_metadata(root: Path, base: Path, splits: list[tuple[str, Path]], found: list[SourceFile]) -> None:
    """Copy the rows of CSV files that lie beside the class folders to the files that they name."""
    folders = dict.fromkeys([root, base, *(folder for _, folder in splits)])
    by_name: dict[str, list[SourceFile]] = defaultdict(list)
    for file in found:
        by_name[file.path.name].append(file)
        by_name[f"{file.class_name}/{file.path.name}"].append(file)
    class_names = {file.class_name for file in found}
    for folder in folders:
        for path in sorted(folder.glob("*.[cC][sS][vV]")):
            n_rows, n_joined = _join_csv(path, by_name, class_names)
            if n_rows:
                logger.info("%s: %d of %d rows name a file of the source", path.name, n_joined, n_rows)


def _join_csv(path: Path, by_name: dict[str, list[SourceFile]], class_names: set[str]) -> tuple[int, int]:
    csv.field_size_limit(_CSV_FIELD_BYTES)
    n_rows = n_joined = 0
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        try:
            reader = csv.DictReader(line.replace("\0", "") for line in text)
            columns = {(name or "").strip().lower(): name for name in reader.fieldnames or []}
            file_column = next((columns[name] for name in _FILE_COLUMNS if name in columns), None)
            class_column = next((columns[name] for name in _CLASS_COLUMNS if name in columns), None)
            for record in reader if file_column is not None else ():
                n_rows += 1
                class_name = record.get(class_column) if class_column else _class_in_file_name(path.stem, class_names)
                class_name = class_name if class_name in class_names else None
                target = _named_file(record[file_column] or "", class_name, by_name)
                if target is not None:
                    n_joined += 1
                    target.metadata = {key: value or "" for key, value in record.items() if key} | target.metadata
        except csv.Error as error:
            raise UserError(f"{path} is no CSV file that can be read ({error}). Mend it or move it away.") from error
    return n_rows, n_joined


def _class_in_file_name(stem: str, class_names: set[str]) -> str | None:
    """The class that a CSV called `doom_crossing_dataset` is about: the longest class name that starts its name."""
    flat = stem.lower().replace("-", "_").replace(" ", "_")
    matches = [
        name for name in class_names if f"{flat}_".startswith(name.lower().replace("-", "_").replace(" ", "_") + "_")
    ]
    return max(matches, key=len, default=None)


def _named_file(value: str, class_name: str | None, by_name: dict[str, list[SourceFile]]) -> SourceFile | None:
    """The one file that a CSV row means; none when the name is not there or fits several."""
    parts = value.replace("\\", "/").strip("/").split("/")
    named = by_name.get("/".join(parts[-2:]), []) if len(parts) > 1 else []
    candidates = named or by_name.get(parts[-1], [])
    in_class = [file for file in candidates if file.class_name == class_name]
    chosen = in_class or (candidates if class_name is None or named else [])
    return chosen[0] if len(chosen) == 1 else None
