"""Put together and check what goes up: the files of a model page, of a dataset and of a Space, by their paths there."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from memevit import files
from memevit.errors import UserError
from memevit.hub import checks, dataset_page, model_repo, publish, space_page
from memevit.hub.description import Description
from memevit.hub.html_page import Page
from memevit.hub.model_page import Example, Links
from memevit.hub.model_repo import OnnxFiles
from memevit.results import CARD_FILE


class UploadFolders:
    """Folders for what goes up.

    Args:
        scratch: an empty folder that is deleted afterwards.
        keep_beside: a model folder; what is placed is kept as its neighbour `MODEL.upload`, `MODEL.upload-data`, ...
    """

    def __init__(self, scratch: Path, *, keep_beside: Path | None) -> None:
        self._scratch, self._model = scratch, keep_beside.resolve() if keep_beside else None
        self.kept: list[Path] = []

    def new(self, name: str) -> Path:
        """An empty folder; `name` is `model` or what else it is for."""
        folder = self._scratch / name
        shutil.rmtree(folder, ignore_errors=True)
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


def model_files(
    uploads: UploadFolders,
    model_dir: Path,
    reference: checks.Reference,
    *,
    description: Description,
    links: Links,
    license_id: str | None,
    figures: Mapping[str, bytes],
    examples: Sequence[Example] = (),
    onnx: OnnxFiles | None = None,
) -> dict[str, Path]:
    """The files of a model page that says the same as the model in `model_dir`.

    Args:
        uploads: where they are put together.
        model_dir: a model folder that finetune_vit.py wrote.
        reference: what the local model says about some images.
        description: title, sentence and tags.
        links: names on the Hub.
        license_id: licence of the model, if it is not that of a known backbone.
        figures: drawn anew from results.json, by file name.
        examples: images that may be published, with what the model says.
        onnx: the model for JavaScript.

    Raises:
        UserError: something must not be published.
    """
    folder = uploads.new("model")
    model_repo.assemble(
        model_dir,
        folder,
        description=description,
        links=links,
        license_id=license_id,
        figures=figures,
        examples=examples,
        onnx=onnx,
    )
    seal(folder / CARD_FILE)
    folder = uploads.place(folder, model_repo.is_ours)
    checks.check(folder, reference, images=model_repo.known_images(figures, examples))
    return publish.files_in(folder)


def dataset_files(
    uploads: UploadFolders, dataset_dir: Path, card_text: str, *, repo_id: str, columns: Sequence[str] = ()
) -> dict[str, Path]:
    """The files of a dataset that data_prep.py wrote, with `card_text` as its README.md.

    Raises:
        UserError: something must not be published.
    """
    folder = uploads.new("data")
    files.write_text(folder / CARD_FILE, publish.sealed(card_text))
    dataset_page.write_records(dataset_dir, folder, columns=columns)
    placed = uploads.place(folder, dataset_page.is_ours)
    contents = dataset_page.collect(dataset_dir, placed)
    checks.refuse(dataset_page.faults(contents), repo_id)
    return contents


def space_files(
    uploads: UploadFolders,
    *,
    repo_id: str,
    model_id: str,
    description: Description,
    examples: Sequence[Path] = (),
    page: Page | None = None,
) -> dict[str, Path]:
    """The files of a Space to try the model `model_id`: those of `page`, or of one that runs the model on the Hub.

    Raises:
        UserError: something must not be published.
    """
    folder = uploads.new("demo")
    if page:
        space_page.assemble_static(folder, page, model_id=model_id, description=description)
    else:
        space_page.assemble(folder, model_id=model_id, description=description, examples=examples)
    seal(folder / CARD_FILE)
    folder = uploads.place(folder, space_page.is_ours)
    checks.refuse(space_page.faults(folder, examples), repo_id)
    return publish.files_in(folder)


def seal(card_path: Path) -> None:
    """Mark a card as written here, see `publish.sealed`."""
    files.write_text(card_path, publish.sealed(card_path.read_text(encoding="utf-8")))
