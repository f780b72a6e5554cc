"""Where pictures come from: a folder, a zip, Kaggle or the built-in sample."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from memevit.data import archives, imagefolder, kaggle, sample
from memevit.errors import UserError
from memevit.files import explained_disk_errors, partial_of

KAGGLE_PREFIX = "kaggle:"


@dataclass(frozen=True)
class Source:
    """Class folders on disk, and what they were made from."""

    root: Path
    description: str


@contextlib.contextmanager
def opened(source: str, output_dir: Path, *, zip_encoding: str | None = None) -> Iterator[Source]:
    """Make `source` available as a folder for as long as the context lasts.

    Args:
        source: `kaggle:OWNER/SLUG`, a zip file, a folder, or `sample`.
        output_dir: the dataset folder to be; the sample is drawn beside it, a zip is unpacked beside it and removed
            afterwards.
        zip_encoding: of names in a zip that are not UTF-8.

    Raises:
        UserError: there is nothing at `source`, or it can't be fetched or unpacked.
    """
    path = Path(source).expanduser()
    if source == "sample":
        yield Source(drawn_sample(output_dir) / "doom-crossing", "sample")
    elif source.startswith(KAGGLE_PREFIX):
        yield Source(kaggle.download(source.removeprefix(KAGGLE_PREFIX)), source)
    elif path.is_dir():
        yield Source(path, "folder")
    elif path.is_file():
        for folder in (output_dir, partial_of(output_dir)):  # Both are replaced.
            imagefolder.require_apart(path, folder)
        with _unpacked(path, output_dir, zip_encoding) as root:
            yield Source(root, "zip")
    else:
        raise UserError(
            f"--source {source} is neither a folder nor a zip file, nor `sample` nor kaggle:OWNER/SLUG. Check the path."
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
def _unpacked(zip_path: Path, output_dir: Path, encoding: str | None) -> Iterator[Path]:
    folder = output_dir.with_name(f".{output_dir.name}.unpacked")  # One name, so that a killed run's files go away.
    with explained_disk_errors(output_dir.parent):
        archives.remove_tree(folder)
        try:
            archives.extract_zip(zip_path, folder, encoding=encoding)
            yield folder
        finally:
            archives.remove_tree(folder)
