"""Where images come from: a folder, a zip, Kaggle, the Hugging Face Hub or the built-in sample."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from memevit.data import archives, hub_source, imagefolder, kaggle, sample
from memevit.errors import UserError
from memevit.files import explained_disk_errors, partial_of

KAGGLE_PREFIX = "kaggle:"


@dataclass(frozen=True)
class Source:
    """Class folders on disk, and what they were made from."""

    root: Path
    description: str


@contextlib.contextmanager
def opened(
    source: str,
    output_dir: Path,
    *,
    zip_encoding: str | None = None,
    config_name: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Iterator[Source]:
    """Make `source` available as a folder for as long as the context lasts.

    Args:
        source: `kaggle:OWNER/SLUG`, `hub:OWNER/NAME` or `hub:OWNER/NAME@REVISION`, a zip file, a folder, or `sample`.
        output_dir: the dataset folder to be. The sample is drawn beside it; so is a zip unpacked, and a dataset of the
            Hub written, to be removed afterwards.
        zip_encoding: of names in a zip that are not UTF-8.
        config_name: configuration of a dataset of the Hub.
        image_column: its column of images.
        label_column: its column of labels.

    Raises:
        UserError: there is nothing at `source`, or it can't be fetched or unpacked.
    """
    path = Path(source).expanduser()
    if source == "sample":
        yield Source(drawn_sample(output_dir) / "doom-crossing", "sample")
    elif source.startswith(KAGGLE_PREFIX):
        yield Source(kaggle.download(source.removeprefix(KAGGLE_PREFIX)), source)
    elif source.startswith(hub_source.PREFIX):
        with _temporary_folder(output_dir, "downloaded") as folder:
            read = hub_source.write_folders(
                source.removeprefix(hub_source.PREFIX),
                folder,
                config_name=config_name,
                image_column=image_column,
                label_column=label_column,
            )
            yield Source(folder, f"{hub_source.PREFIX}{read}")
    elif path.is_dir():
        yield Source(path, "folder")
    elif path.is_file():
        for folder in (output_dir, partial_of(output_dir)):  # Both are replaced.
            imagefolder.require_apart(path, folder)
        with _temporary_folder(output_dir, "unpacked") as folder:
            archives.extract_zip(path, folder, encoding=zip_encoding)
            yield Source(folder, "zip")
    else:
        raise UserError(
            f"--source {source} is neither a folder nor a zip file, nor `sample`, kaggle:OWNER/SLUG or hub:OWNER/NAME. "
            "Check the path."
        )


def drawn_sample(output_dir: Path) -> Path:
    """The folder beside `output_dir` that holds the drawn sample; drawn if it is not there yet."""
    sample_dir = output_dir.with_name(f"{output_dir.name}-sample")
    if not sample_dir.exists():
        partial_dir = sample_dir.with_name(f".{sample_dir.name}.partial")
        with explained_disk_errors(sample_dir.parent):
            shutil.rmtree(partial_dir, ignore_errors=True)
            sample.draw(partial_dir)
            partial_dir.rename(sample_dir)
    if not (sample_dir / "doom-crossing").is_dir():
        raise UserError(f"{sample_dir} is no drawn sample. Move it away, or choose another --output_dir.")
    return sample_dir


@contextlib.contextmanager
def _temporary_folder(output_dir: Path, purpose: str) -> Iterator[Path]:
    """A name beside `output_dir`, always the same, so that what a killed run left goes away; removed at the end."""
    folder = output_dir.with_name(f".{output_dir.name}.{purpose}")
    with explained_disk_errors(output_dir.parent):
        archives.remove_tree(folder)
        try:
            yield folder
        finally:
            archives.remove_tree(folder)
