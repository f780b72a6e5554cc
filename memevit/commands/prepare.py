"""Turn images in class folders into a prepared dataset."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

from memevit import files
from memevit.arguments import SourceArguments, SplitArguments, from_keywords
from memevit.data import prepare as preparation
from memevit.data import sources, summary

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared dataset: its folder, the content of its prep.json, and the table that is printed."""

    output_dir: Path
    prep: dict[str, Any]
    table: str

    def __str__(self) -> str:
        return self.table


def prepare(source: str | Path, output_dir: str | Path, **options: Any) -> Prepared:
    """Prepare a dataset, as data_prep.py does.

    Args:
        source: a folder of class folders, a .zip, `kaggle:OWNER/SLUG`, `hub:OWNER/NAME[@REVISION]`, or `sample`.
        output_dir: dataset folder to write.
        options: flags of data_prep.py without their dashes.

    Raises:
        UserError: an option is unknown or wrong, or the source does not give a dataset.

    Example:
        ``memevit.prepare("photos/", "prepared", folds=5)``
    """
    given = {"source": str(source), "output_dir": Path(output_dir)}
    return run(*from_keywords(given | options, SourceArguments, SplitArguments))


def run(source_args: SourceArguments, split_args: SplitArguments) -> Prepared:
    """See `prepare`."""
    values = dataclasses.asdict(source_args) | dataclasses.asdict(split_args)
    settings = preparation.Settings(
        **{field.name: values[field.name] for field in dataclasses.fields(preparation.Settings)}
    )
    # If `output_dir` is a symlink, its target is replaced.
    output_dir = source_args.output_dir.resolve() if source_args.output_dir.is_symlink() else source_args.output_dir
    reading = {name: values[name] for name in ("zip_encoding", "config_name", "image_column", "label_column")}
    with files.locked(output_dir), sources.opened(source_args.source, output_dir, **reading) as source:
        prep = preparation.prepare(
            source,
            output_dir,
            settings,
            corrections_path=source_args.corrections,
            n_processes=source_args.num_proc,
            overwrite=source_args.overwrite,
        )
    return Prepared(output_dir, prep, summary.table(prep))
