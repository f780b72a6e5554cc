"""Unpack a zip without trusting it."""

import contextlib
import errno
import logging
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from memevit.errors import UserError
from memevit.files import CHUNK_BYTES, explained_disk_errors, require_free_space

logger = logging.getLogger(__name__)

# The guard of the disk is `require_free_space`; this one only catches sizes that no collection of images has.
MAX_UNPACKED_BYTES = 1 << 40
# Photographs hardly shrink in a zip, tables and web pages by 5 to 20, flat screenshots stored as BMP by 100;
# deflate reaches 1,032 on zeros. Below 1 GiB the ratio doesn't matter: such a file fits, whatever it holds.
MAX_RATIO = 200
RATIO_COUNTS_FROM_BYTES = 1 << 30
MAX_ENTRIES = 5_000_000
MAX_DEPTH = 64

_MAX_NAME_BYTES = 255  # Of one part of a path; the limit of ext4, APFS, NTFS and most others.
_BLOCK_BYTES = 4096  # What even the smallest file takes from the disk.
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED, _UTF8_NAME = 0x1, 0x800  # Bits of an entry's flags. Source: PKWARE APPNOTE 4.4.4.
_DOS_FOLDER = 0x10  # Bit of an entry's external attributes.
_LITTER = {"__macosx", ".ds_store", "thumbs.db", "desktop.ini"}
_OTHER_FORMATS = {
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"\x1f\x8b": "a gzip file",
    b"\xfd7zX": "an xz file",
    b"BZh": "a bzip2 file",
    b"<": "a web page, as a download without signing in leaves it",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
}
_BY_HAND = "Unpack it by hand and give the folder."
_UNICODE_PATH = 0x7075  # Extra field with the name in UTF-8. Source: PKWARE APPNOTE 4.6.9.
# How old programs write names in Japan, mainland China, Taiwan, Korea, Russia and the West (Windows, DOS).
_LEGACY_ENCODINGS = ("cp932", "gb18030", "big5", "cp949", "cp1251", "cp1252", "cp437")


def extract_zip(zip_path: Path, target_dir: Path, *, encoding: str | None = None) -> None:
    """Unpack `zip_path` into the new folder `target_dir`, with a progress bar on stderr.

    All entries are checked before the first is written: names that would leave the folder, links, sizes, free space.
    Sizes are checked again against what really comes out. Nothing is lost in silence: a zip with an entry that can't be
    written as it is meant is refused, and an entry gets another name only if the file system can't take its own. Left
    out is what Windows and macOS add for themselves (`__MACOSX/`, `.DS_Store`, `Thumbs.db`, `desktop.ini`). Zips within
    the zip stay zips. After an error `target_dir` may hold a part: unpack into a temporary folder.

    Args:
        zip_path: the zip file.
        target_dir: a folder that does not exist yet.
        encoding: of names that are neither ASCII nor UTF-8, which old programs write without saying which it is.

    Raises:
        UserError: no zip, damaged, encrypted, too large, an entry that would land outside of `target_dir`, or names
            that can't be read without `encoding` or with it.
    """
    with contextlib.ExitStack() as stack:
        with _damage_explained(zip_path):
            archive = stack.enter_context(_opened(zip_path))
        names = _names(zip_path, archive.infolist(), encoding)
        entries = [pair for pair in zip(archive.infolist(), names, strict=True) if not _is_litter(pair[1])]
        _require_harmless(zip_path, entries)
        _require_bounded(zip_path, [entry for entry, _ in entries])
        _require_disjoint(zip_path, archive)
        n_bytes = sum(entry.file_size for entry, _ in entries)
        require_free_space(target_dir, n_bytes + len(entries) * _BLOCK_BYTES)
        with explained_disk_errors(target_dir):
            target_dir.mkdir(parents=True)
            _extract(archive, entries, target_dir, zip_path)


def remove_tree(folder: Path) -> None:
    """Remove a folder that an interrupted command has left, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def _opened(zip_path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(zip_path)
    except OSError as error:
        raise UserError(f"{zip_path} can't be read ({error.strerror}). Check the path and its permissions.") from error


@contextlib.contextmanager
def _damage_explained(zip_path: Path, place: str = "") -> Iterator[None]:
    """Turn what zipfile raises on damaged or unusual files into one sentence."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise UserError(_why_bad(zip_path, place, error)) from error
    except NotImplementedError as error:
        raise UserError(f"{zip_path}{place} uses a rare feature of zip files ({error}). {_BY_HAND}") from error
    except (zlib.error, struct.error, EOFError, OverflowError, ValueError) as error:
        reason = str(error) or "its data end too early"
        raise UserError(f"{zip_path} is damaged{place} ({reason}). Download it again.") from error


def _why_bad(zip_path: Path, place: str, error: zipfile.BadZipFile) -> str:
    if str(error) != "File is not a zip file":
        return f"{zip_path} is damaged{place} ({error}). Download it again."
    with zip_path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \r\n\t") if zip_path.stat().st_size else b""
    if not start:
        return f"{zip_path} is empty. Download it again."
    if start.startswith(b"PK\x03\x04"):
        return f"{zip_path} is a zip file whose end is missing, as after an interrupted download. Download it again."
    found = next((name for magic, name in _OTHER_FORMATS.items() if start.startswith(magic)), "something else")
    return f"{zip_path} is not a zip file but {found}. Give a zip file or a folder."


def _names(zip_path: Path, entries: list[zipfile.ZipInfo], encoding: str | None) -> list[str]:
    """The paths of the entries with forward slashes.

    macOS writes UTF-8 names without saying so; some Windows tools write backslashes, and folders without the slash at
    their end. A backslash is replaced only after decoding: in Shift-JIS, Big5 and GBK it is also a part of letters.
    """
    raw_names = [_raw_name(entry) for entry in entries]
    legacy = [raw for raw in raw_names if isinstance(raw, bytes)]
    if legacy and encoding is None:
        raise UserError(_ask_for_encoding(zip_path, legacy))
    try:
        names = [raw if isinstance(raw, str) else raw.decode(encoding or "utf-8") for raw in raw_names]
    except UnicodeDecodeError as error:
        raise UserError(
            f"{zip_path} has names that are not in {encoding} ({error.object!r}). Give another --zip_encoding."
        ) from error
    if legacy:
        logger.info("%s: %d names read as %s", zip_path, len(legacy), encoding)
    return [_with_slashes(entry, name) for entry, name in zip(entries, names, strict=True)]


def _raw_name(entry: zipfile.ZipInfo) -> str | bytes:
    """The entry's name, as bytes if nothing tells their encoding."""
    if entry.flag_bits & _UTF8_NAME:
        return entry.filename
    raw = entry.filename.encode("cp437")  # As zipfile has read it.
    if (declared := _unicode_path(entry.extra, raw)) is not None:
        return declared
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """The name in UTF-8 that an extra field holds beside the old one."""
    while len(extra) >= 4:
        kind, n_bytes = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + n_bytes], extra[4 + n_bytes :]
        if kind == _UNICODE_PATH and field[1:5] == struct.pack("<I", zlib.crc32(raw)):
            with contextlib.suppress(UnicodeDecodeError):
                return field[5:].decode("utf-8")
    return None


def _ask_for_encoding(zip_path: Path, legacy: list[bytes]) -> str:
    readings = []
    for encoding in _LEGACY_ENCODINGS:
        with contextlib.suppress(UnicodeDecodeError):
            names = [raw.decode(encoding) for raw in legacy]
            if all(name.isprintable() for name in names):
                readings.append(f"{names[0][:60]} ({encoding})")
    shown = ", ".join(readings) or repr(legacy[0][:60])
    return (
        f"{zip_path} has {len(legacy)} names that are neither ASCII nor UTF-8, and does not say what they are. The "
        f"first could be {shown}. Give the right encoding with --zip_encoding. {_BY_HAND}"
    )


def _with_slashes(entry: zipfile.ZipInfo, name: str) -> str:
    name = name.replace("\\", "/")
    is_folder = entry.external_attr & _DOS_FOLDER and entry.file_size == 0
    return f"{name}/" if name and is_folder and not name.endswith("/") else name


def _is_litter(name: str) -> bool:
    return not _LITTER.isdisjoint(part.lower() for part in PurePosixPath(name).parts)


def _is_folder(name: str) -> bool:
    return name.endswith("/")


def _shown(name: str) -> str:
    """`name` as it may appear in a message: quoted, control characters escaped, not too long."""
    return repr(name if len(name) <= 100 else f"{name[:60]}...{name[-30:]}")


def _require_harmless(zip_path: Path, entries: list[tuple[zipfile.ZipInfo, str]]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise UserError(f"{zip_path} has {len(entries):,} entries; at most {MAX_ENTRIES:,} are unpacked. {_BY_HAND}")
    # zipfile unpacks bzip2 and LZMA without a bound: a few kilobytes would fill the memory.
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    for entry, name in entries:
        parts = PurePosixPath(name).parts
        if entry.flag_bits & _ENCRYPTED:
            raise UserError(f"{zip_path} is encrypted (entry {_shown(name)}). {_BY_HAND}")
        if entry.compress_type not in methods:
            method = zipfile.compressor_names.get(entry.compress_type, f"method {entry.compress_type}")
            raise UserError(
                f"{zip_path} is packed with {method} (entry {_shown(name)}), only deflate and stored files are read. "
                f"{_BY_HAND}"
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UserError(f"{zip_path} holds the link {_shown(name)}, and links are not unpacked. {_BY_HAND}")
        if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", name):
            raise UserError(
                f"{zip_path} holds {_shown(name)}, which would be written outside of its folder. "
                "It is not unpacked; ask for a zip with plain paths."
            )
        if len(parts) > MAX_DEPTH or not (parts or _is_folder(name)):
            problem = "lies too many folders deep" if parts else "has no name"
            raise UserError(f"{zip_path} holds the entry {_shown(name)}, which {problem}. {_BY_HAND}")


def _require_bounded(zip_path: Path, entries: list[zipfile.ZipInfo]) -> None:
    n_packed = max(1, zip_path.stat().st_size)
    n_unpacked = sum(entry.file_size for entry in entries)
    is_bomb = n_unpacked > RATIO_COUNTS_FROM_BYTES and n_unpacked > MAX_RATIO * n_packed
    if is_bomb or n_unpacked > MAX_UNPACKED_BYTES:
        raise UserError(
            f"{zip_path} would grow from {n_packed:,} to {n_unpacked:,} bytes, which no collection of images does "
            f"(at most {MAX_RATIO} times and {MAX_UNPACKED_BYTES:,} bytes). It is not unpacked; if it is "
            "what it should be, unpack it by hand and give the folder."
        )


def _require_disjoint(zip_path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse entries that share bytes: the trick by which a small zip declares honest sizes and still explodes.

    Source: D. Fifield, A better zip bomb, WOOT 2019.
    """
    ends_at = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        if entry.header_offset < ends_at:
            raise UserError(
                f"{zip_path} is damaged or a zip bomb: {_shown(entry.filename)} shares its bytes with another entry. "
                "Download it again, or ask for another zip."
            )
        ends_at = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size
    if ends_at > archive.start_dir:
        raise UserError(f"{zip_path} is damaged: its last entry runs into the table of contents. Download it again.")


def _extract(
    archive: zipfile.ZipFile, entries: list[tuple[zipfile.ZipInfo, str]], target_dir: Path, zip_path: Path
) -> None:
    folds_case = target_dir.with_name(target_dir.name.swapcase()).exists()
    folders, files = _planned(zip_path, entries, key=str.casefold if folds_case else str)
    for folder in sorted(folders):
        with _name_explained(zip_path, str(folder), target_dir):
            (target_dir / folder).mkdir(parents=True, exist_ok=True)
    total = sum(entry.file_size for entry, _, _ in files)
    with tqdm(total=total, desc="Unpacking", unit="B", unit_scale=True, mininterval=0.5) as progress:
        for entry, name, path in files:
            with (
                _damage_explained(zip_path, f" at {_shown(name)}"),
                _name_explained(zip_path, name, target_dir),
                archive.open(entry) as packed,
                (target_dir / path).open("xb") as unpacked,
            ):
                n_written = 0
                while chunk := packed.read(CHUNK_BYTES):
                    n_written += len(chunk)
                    if n_written > entry.file_size:  # Today's zipfile stops by itself; the disk hangs on it.
                        break
                    unpacked.write(chunk)
                    progress.update(len(chunk))
                if n_written != entry.file_size:
                    raise zipfile.BadZipFile(f"{entry.file_size:,} bytes declared, {n_written:,} found")


@contextlib.contextmanager
def _name_explained(zip_path: Path, name: str, target_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
            raise
        raise UserError(
            f"{zip_path} holds {_shown(name)}, a name that can't be written in {target_dir} ({error.strerror}). "
            "Choose an --output_dir with a shorter path or on another disk."
        ) from error


def _planned(
    zip_path: Path, entries: list[tuple[zipfile.ZipInfo, str]], key: Callable[[str], str]
) -> tuple[set[PurePosixPath], list[tuple[zipfile.ZipInfo, str, PurePosixPath]]]:
    """Which folders to make, and where each file goes, in the zip's order.

    A second file of the same name gets another one that depends only on its name and on how many came before.

    Args:
        zip_path: named in messages.
        entries: those to unpack, with their names.
        key: maps names that are one for the file system to one string.
    """
    folders: set[PurePosixPath] = set()
    files: list[tuple[zipfile.ZipInfo, str, PurePosixPath]] = []
    seen: Counter[str] = Counter()
    for entry, name in entries:
        path = PurePosixPath(*(_fitting(part) for part in PurePosixPath(name).parts))
        folders.update(path.parents)
        if _is_folder(name):
            folders.add(path)
            continue
        while n_before := seen[key(str(path))]:
            seen[key(str(path))] += 1
            path = path.with_name(_fitting(path.name, distinguish=f"{name}\0{n_before}"))
        seen[key(str(path))] += 1
        files.append((entry, name, path))
    folder_keys = {key(str(folder)) for folder in folders}
    for _, name, path in files:
        if key(str(path)) in folder_keys:
            raise UserError(f"{zip_path} holds {_shown(name)} both as a file and as a folder. {_BY_HAND}")
    renamed = [(name, path) for _, name, path in files if path != PurePosixPath(name)]
    if renamed:
        logger.warning(
            "%s: %d of %d names are too long or there twice and were changed, first %s to %s",
            *(zip_path, len(renamed), len(files), _shown(renamed[0][0]), _shown(str(renamed[0][1]))),
        )
    return folders, files


def _fitting(part: str, distinguish: str = "") -> str:
    """One part of a path, short enough for file systems, with its suffix; changed only if it must be.

    >>> _fitting("meme.png")
    'meme.png'
    >>> _fitting("meme.png", distinguish="1")
    'meme-4d9345c7.png'
    >>> len(_fitting("m" * 300 + ".png"))
    255
    """
    if not distinguish and len(part.encode()) <= _MAX_NAME_BYTES:
        return part
    suffix = PurePosixPath(part).suffix
    if len(suffix.encode()) > 16:
        suffix = ""
    tail = f"-{zlib.crc32((part + distinguish).encode()):08x}{suffix}"
    stem = part.removesuffix(suffix).encode()[: _MAX_NAME_BYTES - len(tail.encode())]
    return stem.decode("utf-8", "ignore") + tail
