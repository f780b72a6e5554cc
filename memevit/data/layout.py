"""Which files a folder of class folders holds, and which class and split each belongs to."""

import logging
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memevit.data.folder_names import SPLIT_FOLDERS, require_distinct, require_usable_name
from memevit.errors import UserError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = set(
    ".jpg .jpeg .jpe .jfif .png .gif .webp .bmp .dib .tif .tiff .avif .heic .heif .ppm .pgm .jp2 .ico .tga".split()
)
# A folder of class folders with such a name is meant as a split, though no loader knows it.
_LIKE_SPLIT = re.compile(rf"(?:\w+[-_ ])??({'|'.join(SPLIT_FOLDERS)})[-_ ]?(?:\d+|set|data|images|imgs|split)?")
# What systems and network drives put into folders by themselves, among it copies of images.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found"}
_HIDDEN_BY_SYSTEMS = {".git", ".ipynb_checkpoints", ".cache", ".thumbnails", ".trash", ".trashes", ".spotlight-v100"}


@dataclass(slots=True)
class SourceFile:
    """A file in a class folder.

    It lies as `own_name` in `folder`; `name` is its path in the source with forward slashes. `problem` is set for what
    must not even be opened.
    """

    folder: Path
    own_name: str
    name: str
    class_name: str
    split: str = ""
    problem: str = ""
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where it is. Made when it is needed, for a path takes three times the room of its name."""
        return self.folder / self.own_name

    @property
    def claims_to_be_image(self) -> bool:
        """Whether the name says image: a text file beside the images is not a broken image."""
        return self.path.suffix.lower() in IMAGE_SUFFIXES


@dataclass(frozen=True)
class Layout:
    """What lies in a source folder.

    `files` are those in class folders, `stray` the images and linked folders in none, with a `problem` and without a
    class, both sorted by name. `around` are the folders in which class folders lie or could lie.
    """

    files: list[SourceFile]
    stray: list[SourceFile]
    around: list[Path]


def read(root: Path) -> Layout:
    """What lies in `root`.

    Class folders may lie one or more levels down, alone in their parent, and below `train`, `validation` and `test`
    folders. Links that leave `root` are not followed, nor are links to folders. Hidden folders are not read. What may
    be meant otherwise is logged: hidden folders with images, and folders within class folders.

    Raises:
        UserError: fewer than two class folders, one without any file, two that look alike, one whose name the loader
            of the dataset would misunderstand, or a folder that can't be listed.
    """
    try:
        return _read(root)
    except PermissionError as error:
        raise UserError(f"{error.filename} can't be listed ({error.strerror}). Check its permissions.") from error


def _read(root: Path) -> Layout:
    base = _descend(root)
    splits = _split_folders(base)
    found: list[SourceFile] = []
    for split, parent in splits or [("", base)]:
        for class_dir in _folders(parent):
            found.extend(files_below(class_dir, root, split))
    by_class: dict[str, int] = defaultdict(int)
    for file in found:
        by_class[file.class_name] += 1
    _require_classes(root, base, splits, by_class)
    _report_unread(root)
    _report_nested(root, found)
    around = _around(root, base, splits)
    return Layout(
        files=sorted(found, key=lambda file: file.name),
        stray=sorted(_stray(root, around), key=lambda file: file.name),
        around=around,
    )


def _require_classes(root: Path, base: Path, splits: list[tuple[str, Path]], by_class: dict[str, int]) -> None:
    parents = [parent for _, parent in splits] or [base]
    names = sorted({folder.name for parent in parents for folder in _folders(parent)})
    if len(names) < 2:
        _report_unread(root)
        if not names and _is_flat(root):
            raise UserError(f"{root} holds images, but no class folders. Give the folder above it, or sort them first.")
        raise UserError(
            f"Need at least 2 class folders in {root}, found {len(names)}: {names}. Put each class in its own folder."
        )
    if empty := [name for name in names if not by_class.get(name)]:
        raise UserError(f"The class folders {empty} in {root} hold no files. Fill or remove them.")
    require_distinct(names)
    for name in names:
        require_usable_name(name)


def _report_unread(root: Path) -> None:
    """Log the folders that are not read though images lie in them."""
    system: dict[str, int] = defaultdict(int)
    for folder, sub_folders, _ in os.walk(root):
        passed_over = [name for name in sub_folders if _is_passed_over(name)]
        sub_folders[:] = [name for name in sub_folders if name not in passed_over]
        for name in passed_over:
            path = Path(folder, name)
            if name.lower() in _LITTER or name.lower() in _HIDDEN_BY_SYSTEMS:
                system[name] += 1
            elif _holds_images(path):
                logger.warning(
                    "%s was not read, because its name begins with a dot. If it is a class, rename it.", path
                )
    for name, n in sorted(system.items()):
        logger.info("%d folders called %s were not read: a system has made them", n, name)


def _holds_images(folder: Path) -> bool:
    return any(Path(name).suffix.lower() in IMAGE_SUFFIXES for _, _, names in os.walk(folder) for name in names)


def _report_nested(root: Path, found: list[SourceFile]) -> None:
    """Log the class folders whose sub-folders may be the real classes."""
    below: dict[str, set[str]] = defaultdict(set)
    for file in found:
        own = file.folder.relative_to(root).parts
        place = own.index(file.class_name)
        if len(own) > place + 1 and file.claims_to_be_image:
            below[file.class_name].add(own[place + 1])
    for class_name, inner in below.items():
        logger.warning(
            "All images in the folders %s of %r count as the class %r. If those folders are the classes, move them up "
            "beside %r, or give their parent as the source.",
            *(sorted(inner)[:5], class_name, class_name, class_name),
        )


def require_classes_in_splits(found: list[SourceFile]) -> None:
    """See that a divided source has each class in each of its splits; with `train` alone there is nothing to see.

    Raises:
        UserError: a class is missing in a split.
    """
    held = Counter((file.class_name, file.split) for file in found)
    splits = sorted({split for _, split in held}, key=list(SPLIT_FOLDERS.values()).index) if found[0].split else []
    for class_name in sorted({name for name, _ in held}):
        missing = [split for split in splits if not held[class_name, split]]
        if missing:
            there = ", ".join(f"{held[class_name, split]} files in {split}" for split in splits if split not in missing)
            raise UserError(
                f"The class {class_name!r} has no files in the split {missing[0]!r} of the source ({there}). Put some "
                "of its images there, remove its folders, or let new splits be made of all images with --resplit."
            )


def _is_litter(name: str) -> bool:
    """Whether the system, not a person, has put it there; a hidden file that calls itself an image may be one."""
    is_image = name.startswith(".") and not name.startswith("._") and Path(name).suffix.lower() in IMAGE_SUFFIXES
    return (name.startswith(".") and not is_image) or name.lower() in _LITTER


def _is_passed_over(folder_name: str) -> bool:
    return folder_name.startswith(".") or folder_name.lower() in _LITTER


def _folders(parent: Path) -> list[Path]:
    return sorted(
        path for path in parent.iterdir() if path.is_dir() and not path.is_symlink() and not _is_passed_over(path.name)
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
    """(split, folder) pairs where `base` is already divided, else nothing.

    Raises:
        UserError: some folders look like splits, others don't.
    """
    folders = _folders(base)
    named = [(SPLIT_FOLDERS[folder.name.lower()], folder) for folder in folders if folder.name.lower() in SPLIT_FOLDERS]
    classes = [{folder.name for folder in _folders(parent)} for _, parent in named]
    if len(named) == len(folders):
        return named if any(classes) else []
    divided = [
        folder for folder in folders if _LIKE_SPLIT.fullmatch(folder.name.lower()) and _holds_only_folders(folder)
    ]
    is_certain = len(divided) > 1 or all(folder.name.islower() for folder in divided)  # `Test` alone may be a class.
    if divided and is_certain and (len(divided) == len(folders) or any(folder in divided for _, folder in named)):
        raise UserError(_mixed_up(base, divided, [folder for folder in folders if folder not in divided]))
    return []


def _holds_only_folders(folder: Path) -> bool:
    """Whether all images in `folder` lie in folders, as those of a split do and those of a class don't."""
    return bool(_folders(folder)) and not _is_flat(folder)


def _is_flat(folder: Path) -> bool:
    """Whether images lie in `folder` itself."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir() if not path.is_dir())


def _mixed_up(base: Path, divided: list[Path], others: list[Path]) -> str:
    """What to do about a source that is divided into splits, but not only, or under other names."""
    advice = []
    for folder in divided:
        if folder.name.lower() not in SPLIT_FOLDERS:
            split = SPLIT_FOLDERS[_LIKE_SPLIT.fullmatch(folder.name.lower())[1]]
            advice.append(f"rename {folder.name} to {split}")
    for folder in others:
        if _holds_only_folders(folder):
            advice.append(f"move the classes in {folder.name} into the splits, or {folder.name} away")
        else:
            advice.append(f"move {folder.name} away, as images without a class are of no use here")
    names, rest = [folder.name for folder in divided], [folder.name for folder in others]
    also = f" but also holds {rest}" if rest else ", which are not all names of splits (train, validation, test)"
    return f"{base} is divided into {names}{also}. To use it: {'; '.join(advice)}."


def files_below(class_dir: Path, root: Path, split: str) -> Iterator[SourceFile]:
    """The files in `class_dir` and below, named by their paths within `root`."""
    real_root = root.resolve()
    for folder, sub_folders, names in os.walk(class_dir, onerror=_raise):
        sub_folders[:] = sorted(name for name in sub_folders if not _is_passed_over(name))
        parent = Path(folder)
        links = [name for name in sub_folders if (parent / name).is_symlink()]
        for name in sorted(names) + links:
            if not _is_litter(name):
                path = parent / name
                yield SourceFile(parent, name, _name(path, root), class_dir.name, split, _problem(path, real_root))


def _raise(error: OSError) -> None:
    raise error  # Without this `os.walk` passes over what it can't list.


def _name(path: Path, root: Path) -> str:
    """`path` within `root` as text that every file format takes: bytes that are no UTF-8 are spelled out."""
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


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


def _around(root: Path, base: Path, splits: list[tuple[str, Path]]) -> list[Path]:
    """The folders in which class folders could lie: `root`, those down to `base`, and the splits."""
    parts = base.relative_to(root).parts
    return [*(root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)), *(folder for _, folder in splits)]


def _stray(root: Path, around: list[Path]) -> Iterator[SourceFile]:
    real_root = root.resolve()
    for path in (path for folder in around for path in folder.iterdir() if not _is_litter(path.name)):
        if path.is_symlink() and path.is_dir():
            yield SourceFile(path.parent, path.name, _name(path, root), "", problem=_problem(path, real_root))
        elif path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
            yield SourceFile(path.parent, path.name, _name(path, root), "", problem="in no class folder")
