"""Decoded pixels of a list of images, memory-mapped beside the dataset: decode once, read in every epoch.

    prepared.cache/hashes.json               size, time and SHA-256 of every image, so that each is hashed once
    prepared.cache/train-0123456789abcdef.npy    [n, 3, H, W] uint8, named after its content and settings

A file gets its name when it is complete, so what can be opened can be used. One process builds, the others wait.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from memevit import cores, decoding, files
from memevit.errors import UserError
from memevit.model.geometry import Render, Renders

logger = logging.getLogger(__name__)

MAX_SHARE_OF_FREE_SPACE = 0.5
_HASHES = "hashes.json"
_FEW = 64  # Below this the start of a process costs more than it saves.
_SHORT_KEY = 16
_ZEROS = 2**24  # Bytes written at once.


@dataclass(frozen=True)
class Request:
    """What is to be cached.

    `render` makes `shape` (3, H, W) of an image; `settings` says in words everything that it depends on.
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
    """The pixels of one request, see `open_or_build_all`."""
    return open_or_build_all([request], cache_dir, n_processes=n_processes)[request.name]


def open_or_build_all(
    requests: Sequence[Request], cache_dir: Path, *, n_processes: int | None = None
) -> dict[str, np.ndarray | None]:
    """[n, 3, H, W] uint8 pixels of all images, memory-mapped, by the name of the request; None if the disk is full.

    What is missing is made from one decoding of the images.

    Args:
        requests: of the same images, the most important one first.
        cache_dir: created if missing; older pixels of the same names there are removed.
        n_processes: that decode; one per core by default.

    Raises:
        UserError: an image can't be decoded.
    """
    found: dict[str, np.ndarray | None] = {request.name: None for request in requests}
    if not requests:
        return found
    try:
        with _alone_in(cache_dir):
            hashes = _hashes(requests[0].paths, cache_dir)
            paths = {request.name: _path(request, hashes, cache_dir) for request in requests}
            missing: list[Request] = []
            for request in requests:
                if not paths[request.name].exists() and _is_room(request, cache_dir, missing):
                    missing.append(request)
            if missing:
                _build(missing, paths, cores.n_cores() if n_processes is None else n_processes)
            found |= {name: np.load(path, mmap_mode="r") for name, path in paths.items() if path.exists()}
    except OSError as error:
        logger.warning("No pixel cache in %s (%s): every image is decoded in every epoch.", cache_dir, error)
    return found


@contextlib.contextmanager
def _alone_in(cache_dir: Path) -> Iterator[None]:
    """Hold the lock of `cache_dir`; the system gives it back when a process dies."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    with files.in_turn(cache_dir / ".lock", f"Another process works on {cache_dir}; waiting for it."):
        yield


def _path(request: Request, hashes: list[str], cache_dir: Path) -> Path:
    digest = hashlib.sha256(f"{request.settings}\n{request.shape}\n".encode())
    for sha256 in hashes:
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


def _is_room(request: Request, cache_dir: Path, others: Sequence[Request]) -> bool:
    """Whether the disk can hold the pixels, those of `others`, and as much again for everything else."""
    for stale in cache_dir.glob(f"{request.name}-{'[0-9a-f]' * _SHORT_KEY}.*"):
        stale.unlink()  # Whoever has it open keeps it.
    free_bytes = shutil.disk_usage(cache_dir).free
    n_bytes = request.n_bytes + sum(other.n_bytes for other in others)
    fits = n_bytes <= MAX_SHARE_OF_FREE_SPACE * free_bytes
    logger.log(
        logging.INFO if fits else logging.WARNING,
        "Caching decoded images: %s (%d images, %.0f MB) in %s (%.0f MB free)%s",
        *(request.name, len(request.paths), request.n_bytes / 1e6, cache_dir, free_bytes / 1e6),
        "" if fits else f"; needs more than {MAX_SHARE_OF_FREE_SPACE:.0%} of that, so every epoch decodes them again.",
    )
    return fits


def _build(requests: Sequence[Request], paths: Mapping[str, Path], n_processes: int) -> None:
    """Decode each image once, and write what each request wants of it."""
    images = requests[0].paths
    partial = {request.name: paths[request.name].with_suffix(".part") for request in requests}
    sizes = [int(np.prod(request.shape)) for request in requests]
    render = requests[0].render if len(requests) == 1 else Renders(tuple(request.render for request in requests))
    title = "Decoding " + " and ".join(request.name for request in requests)
    try:
        mapped = [_allocated(partial[request.name], (len(images), *request.shape)) for request in requests]
        found = decoding.decoded(images, render, n_processes=n_processes if len(images) >= _FEW else 0)
        for row, (path, pixels) in enumerate(tqdm(found, total=len(images), desc=title, unit="image", mininterval=0.5)):
            if isinstance(pixels, str):
                raise UserError(f"{path} can't be used for training: {pixels}. Run data_prep.py again.")
            for target, own in zip(mapped, np.split(pixels.reshape(-1), np.cumsum(sizes)[:-1]), strict=True):
                target[row] = own.reshape(target.shape[1:])
        for request, target in zip(requests, mapped, strict=True):
            target.flush()
            partial[request.name].replace(paths[request.name])
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def _allocated(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A new array on the disk. A full disk is noticed here; writing to a mapping would crash."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    n_bytes = path.stat().st_size
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        else:  # macOS
            for start in range(array.offset, n_bytes, _ZEROS):
                file.seek(start)
                file.write(bytes(min(_ZEROS, n_bytes - start)))
    return array
