"""Copies, links and moves of one file that never overwrite anything."""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from pathlib import Path

PARTIAL_PREFIX, PARTIAL_SUFFIX = ".sorting-", ".part"  # Names of files that are not whole yet.
_FICLONE = 0x40049409  # linux/fs.h: let two files share their blocks until one is written.
_PIECE_BYTES = 1 << 26
_NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY}
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.EACCES}


class ChangedMeanwhileError(OSError):
    """The file was written to while it was copied."""

    def __init__(self) -> None:
        super().__init__(errno.EAGAIN, "it changed while it was copied")


def copy(source: Path, destination: Path, partial: Path, *, is_durable: bool = False) -> None:
    """Copy content, times and permissions; `destination` appears at once and whole.

    Args:
        source: a regular file or a link to one.
        destination: must not exist.
        partial: where the copy is made, in the folder of `destination`; what lies there is replaced.
        is_durable: return only when the copy is on the disk.

    Raises:
        FileExistsError: something lies at `destination`.
        OSError: it can't be read or written; nothing is left behind.
    """
    try:
        _copy_content(source, partial, is_durable=is_durable)
        rename(partial, destination)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
    if is_durable:
        sync_folder(destination.parent)


def _copy_content(source: Path, partial: Path, *, is_durable: bool) -> None:
    # Without O_NONBLOCK, opening a pipe would wait for whoever writes to it.
    with open(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as original:
        before = os.fstat(original.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        with partial.open("xb", buffering=0) as written:
            _copy_bytes(original.fileno(), written.fileno())
            after = os.fstat(original.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or (
                os.fstat(written.fileno()).st_size != before.st_size
            ):
                raise ChangedMeanwhileError
            if is_durable:
                os.fsync(written.fileno())
    # Not every file system takes permissions or extended attributes; times come first.
    os.utime(partial, ns=(before.st_atime_ns, before.st_mtime_ns))
    with contextlib.suppress(OSError):
        shutil.copystat(source, partial)


def _copy_bytes(source: int, destination: int) -> None:
    """By the kernel where it can: as shared blocks, else without a detour through this process."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(destination, _FICLONE, source)
        return
    if hasattr(os, "copy_file_range"):
        try:
            while os.copy_file_range(source, destination, _PIECE_BYTES):
                pass
            if os.lseek(source, 0, os.SEEK_CUR) == os.fstat(source).st_size:
                return
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
    os.lseek(source, 0, os.SEEK_SET)
    os.lseek(destination, 0, os.SEEK_SET)
    os.ftruncate(destination, 0)
    while piece := os.read(source, 1 << 20):
        view = memoryview(piece)
        while view:
            view = view[os.write(destination, view) :]


def link(source: Path, destination: Path) -> bool:
    """Make `destination` another name of the file `source` (of where it leads, if it is a symbolic link).

    Returns:
        False where these two places can't share a file.

    Raises:
        FileExistsError: something lies at `destination`.
    """
    try:
        os.link(os.path.realpath(source), destination)
    except OSError as error:
        if isinstance(error, FileExistsError) or error.errno not in _NO_LINKS:
            raise
        return False
    return True


def rename(source: Path, destination: Path) -> None:
    """Rename within one file system, and never onto anything.

    Raises:
        FileExistsError: something lies at `destination`.
    """
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError as error:
        if isinstance(error, FileExistsError) or error.errno not in _NO_LINKS:
            raise
        # A file system without hard links, such as that of most memory sticks.
        if os.path.lexists(destination):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(destination)) from None
        os.rename(source, destination)
        return
    _take_away(source, destination)


def _take_away(source: Path, destination: Path) -> None:
    """Remove a file that now lies at `destination` too, or else that one."""
    try:
        source.unlink()
    except OSError:
        if os.path.lexists(source):
            destination.unlink()
            raise


def move(source: Path, destination: Path, partial: Path) -> None:
    """Move a file, also to another file system; the original goes only when the copy is on the disk.

    Raises:
        FileExistsError: something lies at `destination`.
        OSError: it can't be done; the file is where it was.
    """
    if source.lstat().st_dev == destination.parent.stat().st_dev:
        try:
            rename(source, destination)
        except OSError as error:
            if error.errno != errno.EXDEV:  # Two mounts of one file system.
                raise
        else:
            return
    copy(source, destination, partial, is_durable=True)
    _take_away(source, destination)


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` are on the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # Some file systems know no such thing.
            os.fsync(opened)
    finally:
        os.close(opened)


def is_same_content(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes; False where one can't be read."""
    try:
        if os.path.samefile(one, other):
            return True
        with one.open("rb", buffering=0) as first, other.open("rb", buffering=0) as second:
            if os.fstat(first.fileno()).st_size != os.fstat(second.fileno()).st_size:
                return False
            while True:
                piece, second_piece = first.read(1 << 20), second.read(1 << 20)
                if piece != second_piece:
                    return False
                if not piece:
                    return True
    except OSError:
        return False


def is_partial(name: str) -> bool:
    """Whether a file of this name is not whole yet."""
    return name.startswith(PARTIAL_PREFIX) and name.endswith(PARTIAL_SUFFIX)


def remove_partials(folder: Path) -> None:
    """Delete what a run that was killed left half-written in `folder` itself."""
    for path in folder.glob(f"{PARTIAL_PREFIX}*{PARTIAL_SUFFIX}"):
        with contextlib.suppress(OSError):
            path.unlink()
