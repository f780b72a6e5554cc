"""Local files as they are sent and compared."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memevit import files


@dataclass(frozen=True)
class LocalFile:
    """A file to publish, with the two checksums by which the Hub may know it."""

    path: Path
    size: int
    sha256: str
    git_sha1: str

    @classmethod
    def of(cls, path: Path) -> "LocalFile":
        """Read `path` once for each checksum."""
        size = path.stat().st_size
        digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        with path.open("rb") as file:
            while chunk := file.read(files.CHUNK_BYTES):
                digest.update(chunk)
        return cls(path, size, files.sha256_of(path), digest.hexdigest())

    def is_same_as(self, remote: Any) -> bool:
        """Whether `remote` (a `RepoFile`) has the same content."""
        return remote.lfs.sha256 == self.sha256 if remote.lfs else remote.blob_id == self.git_sha1


class OnDemand(io.BufferedIOBase):
    """A file that is open only while it is read. The Hub client sends open files by plain LFS, never by Xet."""

    def __init__(self, path: Path) -> None:
        self._path, self._position = path, 0

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether the position can be moved."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        with self._path.open("rb") as file:
            file.seek(self._position)
            self._position = file.seek(offset, whence)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """The next `size` bytes, or all that remain."""
        with self._path.open("rb") as file:
            file.seek(self._position)
            content = file.read(-1 if size is None else size)
        self._position += len(content)
        return content
