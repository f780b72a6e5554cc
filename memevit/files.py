"""Files that are whole or not there: temporary neighbours, renames, locks and checksums."""

import contextlib
import csv
import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock

from memevit.errors import UserError

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
MAX_CSV_FIELD_BYTES = 1 << 24


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part."""
    write_chunks(path, [content])


def write_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """Write `chunks` one after the other to `path` in one step, see `write_bytes`."""
    neighbour = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with neighbour.open("wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(path)
    finally:
        neighbour.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path` in one step, see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def partial_of(final_dir: Path) -> Path:
    """The neighbour in which `final_dir` is built before it is renamed."""
    return final_dir.with_name(f"{final_dir.name}.partial")


def _retired(final_dir: Path) -> Path:
    return final_dir.with_name(f".{final_dir.name}.replaced")


def publish(partial_dir: Path, final_dir: Path) -> None:
    """Put `partial_dir` in the place of `final_dir`; an old folder there goes away only after that."""
    retired = _retired(final_dir)
    if final_dir.exists():
        shutil.rmtree(retired, ignore_errors=True)
        final_dir.rename(retired)
    partial_dir.rename(final_dir)
    shutil.rmtree(retired, ignore_errors=True)


def recover(final_dir: Path) -> None:
    """Undo a `publish` that was killed between its two renames."""
    retired = _retired(final_dir)
    if retired.exists() and not final_dir.exists():
        retired.rename(final_dir)
    shutil.rmtree(retired, ignore_errors=True)


@contextlib.contextmanager
def locked(final_dir: Path) -> Iterator[None]:
    """Keep a second command away from `final_dir` while this one builds it.

    Raises:
        UserError: another process holds the lock, or the parent folder can't be written.
    """
    lock_path = final_dir.with_name(f".{final_dir.name}.lock")
    try:
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(lock_path).acquire(blocking=False)
    except filelock.Timeout:
        raise UserError(f"Another command is writing {final_dir}; wait for it or choose another folder.") from None
    except OSError as error:
        raise UserError(f"Can't write beside {final_dir}: {error.strerror}. Choose another --output_dir.") from error
    with lock:
        try:
            recover(final_dir)
            yield
        finally:
            lock_path.unlink(missing_ok=True)


@contextlib.contextmanager
def in_turn(lock_path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file, after whoever holds it now; the system gives it back when a process dies.

    Args:
        lock_path: made if it is not there, and left.
        busy: what to say before waiting.
    """
    lock = filelock.FileLock(lock_path)
    try:
        held = lock.acquire(blocking=False)
    except filelock.Timeout:
        logger.info("%s", busy)
        held = lock.acquire()
    with held:
        yield


@contextlib.contextmanager
def explained_csv_errors(path: Path) -> Iterator[None]:
    """Turn what reading a file that is no UTF-8 CSV raises into one sentence."""
    csv.field_size_limit(MAX_CSV_FIELD_BYTES)
    try:
        yield
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file in UTF-8 ({error}). Save it as CSV UTF-8, or restore it.") from error


@contextlib.contextmanager
def explained_disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or a quota into one sentence that names the folder."""
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "a file could not be written"
        raise UserError(
            f"The disk that holds {folder} is full ({reason}). Free some space and run the command again."
        ) from error


def is_disk_full(error: Exception) -> bool:
    """Whether `error` says that nothing more fits on the disk, in the words of Python, Rust or torch.

    Example:
        >>> is_disk_full(OSError(errno.ENOSPC, "No space left on device")), is_disk_full(OSError("no such file"))
        (True, False)
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # safetensors and torch.save raise errors of their own without a number.
    words = ("No space left on device", "os error 28)", "Disk quota exceeded", "unexpected pos", "PytorchStreamWriter")
    return any(part in str(error) for part in words)


def existing_part(folder: Path) -> Path:
    """`folder`, or the nearest folder above it that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder


def require_free_space(folder: Path, needed_bytes: int) -> None:
    """Refuse to start what the disk can't hold.

    Raises:
        UserError: fewer than `needed_bytes` are free where `folder` will lie.
    """
    free_bytes = shutil.disk_usage(existing_part(folder)).free
    if free_bytes < needed_bytes:
        raise UserError(
            f"About {needed_bytes / 1e6:,.0f} MB are needed in {folder}, {free_bytes / 1e6:,.0f} MB are free. "
            "Free some space or choose another folder."
        )
