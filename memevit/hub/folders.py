"""Where what goes up is put together: in a temporary folder, or beside the model for reading."""

import shutil
from collections.abc import Callable
from pathlib import Path

from memevit import files
from memevit.errors import UserError


class UploadFolders:
    """Folders for what goes up.

    Args:
        scratch: an empty folder that goes away afterwards.
        keep_beside: a model folder; what is placed is kept as its neighbour `MODEL.upload`, `MODEL.upload-data`, ...
    """

    def __init__(self, scratch: Path, *, keep_beside: Path | None) -> None:
        self._scratch, self._model = scratch, keep_beside.resolve() if keep_beside else None
        self.kept: list[Path] = []

    def new(self, name: str) -> Path:
        """An empty folder; `name` is `model` or what else it is for."""
        folder = self._scratch / name
        folder.mkdir()
        return folder

    def place(self, folder: Path, is_ours: Callable[[str], bool]) -> Path:
        """Where a finished folder lies from now on.

        Args:
            folder: one of `new`.
            is_ours: whether a file of an older folder there is one that we may replace.

        Raises:
            UserError: something else lies where the folder is to be kept.
        """
        if self._model is None:
            return folder
        suffix = "" if folder.name == "model" else f"-{folder.name}"
        final = self._model.with_name(f"{self._model.name}.upload{suffix}")
        partial = files.partial_of(final)
        for there in (final, partial):
            if foreign := _foreign(there, is_ours):
                raise UserError(f"{there} holds {foreign}, which is not of a dry run. Move it away and try again.")
        with files.locked(final), files.explained_disk_errors(final):
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(folder, partial)
            files.publish(partial, final)
        self.kept.append(final)
        return final


def _foreign(folder: Path, is_ours: Callable[[str], bool]) -> str | None:
    """A file in `folder` that is not of a dry run."""
    if folder.exists() and not folder.is_dir():
        return folder.name
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return next((path for path in found if not is_ours(path)), None)
