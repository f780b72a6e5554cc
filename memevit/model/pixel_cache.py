"""Decoded pixels of a list of pictures, memory-mapped beside the dataset: decode once, read in every epoch.

    prepared.cache/hashes.json               size, time and SHA-256 of every picture, so that each is hashed once
    prepared.cache/train-0123456789abcdef.npy    [n, 3, H, W] uint8, named after its content and settings

A file gets its name when it is complete, so what can be opened can be used. One process builds, the others wait.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from memevit import cores, decoding, files
from memevit.errors import UserError
from memevit.model.geometry import Render

logger = logging.getLogger(__name__)

MAX_SHARE_OF_FREE_SPACE = 0.5
_HASHES = "hashes.json"
_FEW = 64  # Below this the start of a process costs more than it saves.
_SHORT_KEY = 16


@dataclass(frozen=True)
class Request:
    """What is to be cached.

    `render` makes `shape` (3, H, W) of a picture; `settings` says in words everything that it depends on.
    """

    name: str
    paths: list[Path]
    render: Render
    shape: tuple[int, int, int]
    settings: str

    @property
    def n_bytes(self) -> int:
        """Size of the pixels."""
        return len(self.paths) * int(np.prod(self.shape))


def folder_of(dataset_dir: Path) -> Path:
    """Where the caches of a dataset lie: beside it, for the dataset itself stays an ordinary ImageFolder."""
    absolute = dataset_dir.absolute()
    return absolute.with_name(f"{absolute.name}.cache")


def open_or_build(request: Request, cache_dir: Path, *, n_processes: int | None = None) -> np.ndarray | None:
    """[n, 3, H, W] uint8 levels of every picture, memory-mapped; None where the disk does not allow it.

    Args:
        request: what is to be cached.
        cache_dir: created when missing; older pixels of the same name there are removed.
        n_processes: that decode; one per core by default.

    Raises:
        UserError: a picture can't be decoded.
    """
    try:
        with _alone_in(cache_dir):
            path = _path(request, cache_dir)
            if not path.exists():
                if not _is_room(request, path):
                    return None
                _build(request, path, cores.n_cores() if n_processes is None else n_processes)
            return np.load(path, mmap_mode="r")
    except OSError as error:
        logger.warning("No pixel cache in %s (%s): every picture is decoded in every epoch.", cache_dir, error)
        return None


@contextlib.contextmanager
def _alone_in(cache_dir: Path) -> Iterator[None]:
    """Hold the lock of `cache_dir`; the system gives it back when a process dies."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    with files.in_turn(cache_dir / ".lock", f"Another process works on {cache_dir}; waiting for it."):
        yield


def _path(request: Request, cache_dir: Path) -> Path:
    digest = hashlib.sha256(f"{request.settings}\n{request.shape}\n".encode())
    for sha256 in _hashes(request.paths, cache_dir):
        digest.update(f"{sha256}\n".encode())
    return cache_dir / f"{request.name}-{digest.hexdigest()[:_SHORT_KEY]}.npy"


def _hashes(paths: list[Path], cache_dir: Path) -> list[str]:
    """SHA-256 of every file; those whose size and time are as noted are not read again."""
    noted_path = cache_dir / _HASHES
    try:
        noted = json.loads(noted_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        noted = {}
    names = [os.path.relpath(path, cache_dir) for path in paths]
    found = {}
    for name, path in zip(names, paths, strict=True):
        status = path.stat()
        entry = noted.get(name)
        if not entry or entry[:2] != [status.st_size, status.st_mtime_ns]:
            entry = [status.st_size, status.st_mtime_ns, files.sha256_of(path)]
        found[name] = entry
    if any(noted.get(name) != entry for name, entry in found.items()):
        files.write_text(noted_path, json.dumps(noted | found))
    return [found[name][2] for name in names]


def _is_room(request: Request, path: Path) -> bool:
    """Whether the disk can hold the pixels and as much again for everything else."""
    for stale in path.parent.glob(f"{request.name}-*"):
        stale.unlink()  # Whoever has it open keeps it.
    free_bytes = shutil.disk_usage(path.parent).free
    fits = request.n_bytes <= MAX_SHARE_OF_FREE_SPACE * free_bytes
    logger.log(
        logging.INFO if fits else logging.WARNING,
        "Pixels of %s decoded once: %d pictures, %.0f MB in %s (%.0f MB free)%s",
        *(request.name, len(request.paths), request.n_bytes / 1e6, path.parent, free_bytes / 1e6),
        "." if fits else f"; more than {MAX_SHARE_OF_FREE_SPACE:.0%} of that, so every epoch decodes them again.",
    )
    return fits


def _build(request: Request, path: Path, n_processes: int) -> None:
    partial = path.with_name(f"{path.stem}.part")
    shape = (len(request.paths), *request.shape)
    n_processes = n_processes if len(request.paths) >= _FEW else 0
    try:
        pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        with partial.open("r+b") as file:  # A disk that is full after all says so here; a mapping would crash.
            files.reserve(file, partial.stat().st_size)
        found = decoding.decoded(request.paths, request.render, n_processes=n_processes)
        progress = tqdm(found, total=len(request.paths), desc=f"Decoding {request.name}", unit="image", mininterval=0.5)
        for row, (picture_path, levels) in enumerate(progress):
            if isinstance(levels, str):
                raise UserError(f"{picture_path} can't be used for training: {levels}. Run data_prep.py again.")
            pixels[row] = levels
        pixels.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
