"""Scan every file before it is published: for pickles, secrets, images and paths of this machine."""

import contextlib
import getpass
import json
import mmap
import re
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from memevit import files

# Signatures of image formats that are long enough not to turn up in weights by chance.
_IMAGE_INSIDE = re.compile(rb"\xff\xd8\xff\xe0\x00\x10JFIF\x00|\x89PNG\r\n\x1a\n|GIF8[79]a|ftyp(?:avif|heic|mif1)")
_IMAGE_STARTS = (b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*", b"\x00\x00\x01\x00", b"8BPS", b"\x00\x00\x00\x0cjP")
_IMAGE_IN_TEXT = re.compile(
    rb"data:image/[a-z+.-]+;base64,[A-Za-z0-9+/]{40}|[\"'=,\s](/9j/[A-Za-z0-9+/]{60}|iVBORw0KGgo[A-Za-z0-9+/]{40})"
)
_PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".dill", ".npy", ".npz"})
_PICKLE_START = re.compile(rb"\x80[\x02-\x05]")
_OLD_TORCH = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"

_SECRETS = {
    "a Hugging Face token": rb"(?<![A-Za-z0-9_])(?:hf|api_org)_[A-Za-z0-9]{24,}",
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a GitHub token": rb"(?<![A-Za-z0-9_])(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{40,})",
    "a Kaggle token": rb"(?<![A-Za-z0-9_])KGAT_[A-Za-z0-9]{24,}|\"key\"\s*:\s*\"[0-9a-f]{32}\"",
    "an AWS key": rb"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    "an API key": rb"(?<![A-Za-z0-9_-])sk-[A-Za-z0-9_-]{32,}",
    "a Slack token": rb"(?<![A-Za-z0-9])xox[abprs]-[A-Za-z0-9-]{20,}",
    "a password in an address": rb"https?://[^\s/:@\"']{1,64}:[^\s/@\"']{3,}@",
    "an authorization header": rb"[Aa]uthorization[\"']?\s*[:=]\s*[\"']?(?:Bearer|Basic)\s+[A-Za-z0-9+/=_.-]{16,}",
}
_SECRET_PATTERNS = {name: re.compile(pattern) for name, pattern in _SECRETS.items()}
_IMAGE = "is or holds an image"
_IS_TEXT = np.isin(np.arange(256), [*range(0x20, 0x7F), *b"\t\n\r"])
_WINDOW_BYTES, _OVERLAP_BYTES = 1 << 24, 1 << 9
_MIN_TEXT_BYTES = 8  # As short as the token of this machine may be; weights hold few runs of so many letters.

_ROOTS = (
    *("home", "Users", "root", "tmp", "var", "mnt", "media", "opt", "srv", "private", "Volumes", "etc", "usr", "dev"),
    *("content", "kaggle", "workspace", "workspaces", "work", "scratch", "lustre", "gpfs", "nfs", "data", "storage"),
    *("teamspace", "notebooks", "app", "builds", "github", "run"),
)
_TEXT_SUFFIXES = frozenset({".json", ".csv", ".md", ".txt", ".py", ".yaml", ".yml", ".jsonl", ".cfg", ".toml", ".html"})
_SAFETENSORS_MAX_HEADER_BYTES = 100_000_000


def findings(
    folder: Path, *, known_images: Mapping[str, str] | None = None, may_hold_images: bool = False
) -> list[str]:
    """What must not be published of `folder`, a line each; empty when all is well.

    Secrets are named by kind and file, never quoted.

    Args:
        folder: everything in it is looked at.
        known_images: SHA-256 of the images that belong there, by path relative to `folder`.
        may_hold_images: images are what the folder is for, as in a dataset.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return findings_in(named, known_images=known_images, may_hold_images=may_hold_images)


def findings_in(
    paths: Mapping[str, Path], *, known_images: Mapping[str, str] | None = None, may_hold_images: bool = False
) -> list[str]:
    """See `findings`; `paths` are the files by the name that they will have."""
    secrets, machine_paths = _own_secrets(), _path_pattern()
    found = []
    for name, path in paths.items():
        if path.is_symlink():
            found.append(f"{name} is a link")
            continue
        allows_image = may_hold_images or (known_images or {}).get(name) == files.sha256_of(path)
        found += [f"{name} {what}" for what in _in_file(path, secrets, machine_paths, allows_image=allows_image)]
    return found


def _in_file(
    path: Path, secrets: Sequence[bytes], machine_paths: re.Pattern[bytes], *, allows_image: bool
) -> Iterator[str]:
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield from _pickles(path, content)
        if path.suffix == ".safetensors":
            yield from _safetensors_faults(content)
        found = _held(content, secrets)
        if allows_image:
            found.discard(_IMAGE)
        elif _starts_as_image(content):
            found.add(_IMAGE)
        yield from sorted(found)
        readable = _readable_part(path, content)
        if match := machine_paths.search(readable):
            line = readable.count(b"\n", 0, match.start()) + 1
            yield f"names a folder of this machine in line {line}: {match.group(1).decode('utf-8', 'replace')[:80]}"


def _pickles(path: Path, content: mmap.mmap) -> Iterator[str]:
    start = content[:64]
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        yield f"has a name that ends in {path.suffix}, which pickles have"
    elif _PICKLE_START.match(start) or start.startswith(_OLD_TORCH) or _is_protocol_0(content):
        yield "is a pickle"
    elif start.startswith(b"PK\x03\x04") and _zip_holds_pickle(path):
        yield "is an archive that holds a pickle"


def _is_protocol_0(content: mmap.mmap) -> bool:
    """Whether a file is a pickle of the oldest, textual protocol that imports something."""
    return content[-2:].rstrip(b"\n").endswith(b".") and bool(re.match(rb"\(?c[\w.]+\n[\w.]+\n", content[:256]))


def _zip_holds_pickle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(Path(name).suffix.lower() in _PICKLE_SUFFIXES for name in archive.namelist())
    except zipfile.BadZipFile:
        return True


def _safetensors_faults(content: mmap.mmap) -> Iterator[str]:
    if _safetensors_header(content) is None:
        yield "is no safetensors file, whatever its name says"


def _safetensors_header(content: mmap.mmap) -> bytes | None:
    if len(content) < 8:
        return None
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(len(content) - 8, _SAFETENSORS_MAX_HEADER_BYTES):
        return None
    header = content[8 : 8 + length]
    try:
        return header if isinstance(json.loads(header), dict) else None
    except ValueError:
        return None


def _starts_as_image(content: mmap.mmap) -> bool:
    start = content[:16]
    return start.startswith(_IMAGE_STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def _held(content: mmap.mmap, secrets: Sequence[bytes]) -> set[str]:
    """What of images and secrets is anywhere in `content`."""
    found = set()
    for start in range(0, len(content), _WINDOW_BYTES):
        window = content[max(0, start - _OVERLAP_BYTES) : start + _WINDOW_BYTES]
        text = _text_in(window)
        if _IMAGE_INSIDE.search(window) or _IMAGE_IN_TEXT.search(text):
            found.add(_IMAGE)
        found |= {f"holds {what}" for what, pattern in _SECRET_PATTERNS.items() if pattern.search(text)}
        if any(secret in text for secret in secrets):
            found.add("holds the token of this machine")
    return found


def _text_in(window: bytes) -> bytes:
    r"""The runs of letters in it, with a zero between them: patterns are slow, and weights hold hardly any text.

    Example:
        >>> _text_in(b"\x01\x02some words\x00xy\xff")
        b'some words\x00'
    """
    runs = _IS_TEXT[np.frombuffer(window, np.uint8)]
    for step in (1, 2, 4):  # Afterwards it is true where 8 letters begin.
        runs = runs[:-step] & runs[step:]
    begins = np.flatnonzero(runs)
    groups = np.split(begins, np.flatnonzero(np.diff(begins) > 1) + 1) if len(begins) else []
    return b"".join(window[group[0] : group[-1] + _MIN_TEXT_BYTES] + b"\0" for group in groups)


def _readable_part(path: Path, content: mmap.mmap) -> bytes:
    """The part of a file that people wrote: all of a text, the header of safetensors, nothing of other files."""
    if path.suffix == ".safetensors":
        return _safetensors_header(content) or b""
    if path.suffix.lower() in _TEXT_SUFFIXES or b"\0" not in content[:4096]:
        return content[:]
    return b""


def _own_secrets() -> list[bytes]:
    """The token of this machine, wherever the Hub client finds it."""
    from huggingface_hub import get_token

    token = get_token()
    return [token.encode()] if token and len(token) > 7 else []


def _path_pattern() -> re.Pattern[bytes]:
    """Absolute paths as they look on this and on other machines."""
    places = [Path.cwd(), Path(tempfile.gettempdir()).resolve()]
    user = ""
    with contextlib.suppress(RuntimeError, KeyError, OSError):  # In containers a user may have no name and no home.
        places.append(Path.home())
        user = getpass.getuser()
    roots = sorted({*_ROOTS, *(place.parts[1] for place in places if len(place.parts) > 1)})
    names = "|".join(re.escape(root) for root in roots)
    posix = rf"(?<![\w.:/~-])(?:file://)?/(?:{names})/[\w.@+ -]+"
    windows = r"(?<![A-Za-z])[A-Za-z]:\\{1,2}(?:Users|home|Documents|[\w.-]+\\{1,2}[\w.-]+)"
    home = rf"~(?:{re.escape(user)})?/[\w.-]+"
    return re.compile(rf"({posix}|{windows}|{home})".encode())
