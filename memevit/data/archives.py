"""Unpack a zip without trusting it."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from memevit.errors import UserError
from memevit.files import CHUNK_BYTES, explained_disk_errors, require_free_space

# Pictures hardly shrink in a zip, tables by 10 or 20; a zip bomb by a thousand and more.
MAX_RATIO = 200
_RATIO_COUNTS_FROM_BYTES = 1 << 28
MAX_UNPACKED_BYTES = 1 << 40
MAX_ENTRIES = 5_000_000
_MAX_NAME_BYTES = 255  # Of one part of a path on common file systems.
_LITTER = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}


def extract_zip(zip_path: Path, target_dir: Path) -> None:
    """Unpack `zip_path` into the new folder `target_dir`, with a progress bar on stderr.

    Sizes are checked against what the zip declares before anything is written, and against what really comes out while
    it is written.

    Raises:
        UserError: no zip, damaged, encrypted, too large, or an entry that would land outside of `target_dir`.
    """
    try:
        with zipfile.ZipFile(zip_path) as archive:
            entries = [entry for entry in archive.infolist() if not _is_litter(entry)]
            _require_harmless(zip_path, entries)
            require_free_space(target_dir, sum(entry.file_size for entry in entries))
            target_dir.mkdir(parents=True)
            with explained_disk_errors(target_dir):
                _extract(archive, entries, target_dir, zip_path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{zip_path} is no zip file or a damaged one ({error}). Download it again.") from error
    except (zlib.error, EOFError, NotImplementedError, OverflowError, ValueError) as error:
        raise UserError(f"{zip_path} can't be unpacked ({error}). Download it again, or unpack it by hand.") from error


def remove_tree(folder: Path) -> None:
    """Remove a folder that an interrupted command has left, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def _is_litter(entry: zipfile.ZipInfo) -> bool:
    return not _LITTER.isdisjoint(PurePosixPath(entry.filename).parts)


def _require_harmless(zip_path: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise UserError(f"{zip_path} has {len(entries):,} entries; at most {MAX_ENTRIES:,} are unpacked.")
    for entry in entries:
        if entry.flag_bits & 0x1:
            raise UserError(f"{zip_path} is encrypted ({entry.filename}). Unpack it by hand and give the folder.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UserError(f"{zip_path} holds the link {entry.filename}. Unpack it by hand and give the folder.")
        if _leaves_target(entry.filename):
            raise UserError(f"{zip_path} would write outside of its folder ({entry.filename}). It is not unpacked.")
    _require_bounded(zip_path, sum(entry.file_size for entry in entries))


def _leaves_target(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or (len(name) > 1 and name[1] == ":")


def _require_bounded(zip_path: Path, n_unpacked: int) -> None:
    n_packed = max(1, zip_path.stat().st_size)
    is_bomb = n_unpacked > _RATIO_COUNTS_FROM_BYTES and n_unpacked > MAX_RATIO * n_packed
    if is_bomb or n_unpacked > MAX_UNPACKED_BYTES:
        raise UserError(
            f"{zip_path} would unpack from {n_packed:,} to {n_unpacked:,} bytes or more, which no collection of "
            "pictures does. It is not unpacked."
        )


def _extract(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], target_dir: Path, zip_path: Path) -> None:
    n_written = 0
    for entry in tqdm(entries, desc="Unpacking", unit="file", mininterval=0.5):
        path = target_dir.joinpath(*(_fitting(part) for part in PurePosixPath(entry.filename.replace("\\", "/")).parts))
        if entry.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as packed, path.open("xb") as unpacked:
                while chunk := packed.read(CHUNK_BYTES):
                    n_written += len(chunk)
                    _require_bounded(zip_path, n_written)
                    unpacked.write(chunk)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise UserError(
                f"{zip_path} holds {entry.filename} twice, or as file and folder. Unpack it by hand and give "
                "the folder."
            ) from None


def _fitting(part: str) -> str:
    """`part` of a path, shortened to what file systems take; its suffix stays."""
    if len(part.encode("utf-8", "surrogateescape")) <= _MAX_NAME_BYTES:
        return part
    suffix = PurePosixPath(part).suffix[:16]
    digest = f"{zlib.crc32(part.encode('utf-8', 'surrogateescape')):08x}"
    head = part.encode("utf-8", "surrogateescape")[: _MAX_NAME_BYTES - 60].decode("utf-8", "ignore")
    return f"{head}-{digest}{suffix}"
