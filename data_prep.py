"""Turn pictures in class folders into a verified, de-duplicated, split ImageFolder.

    python data_prep.py --source photos/ --output_dir prepared/
    python data_prep.py --source photos.zip --output_dir prepared/ --test_fraction 0.2
    python data_prep.py --source kaggle:andrewmvd/doom-crossing --output_dir prepared/
    python data_prep.py --source sample --output_dir prepared/

Writes prepared/{train,validation,test}/<class>/, manifest.csv (a row for every source file), prep.json, README.md
(the dataset card) and contact_sheet.jpg. The source is never changed.
"""

import dataclasses
import logging

from memevit import cli, files
from memevit.arguments import SourceArguments, SplitArguments
from memevit.data import prepare, sources, summary

logger = logging.getLogger(__name__)


def main(source_args: SourceArguments, split_args: SplitArguments) -> None:
    """Prepare one dataset folder."""
    settings = prepare.Settings(
        max_side=source_args.max_side,
        max_reject_fraction=source_args.max_reject_fraction,
        conflicts=source_args.conflicts,
        license=source_args.license,
        **dataclasses.asdict(split_args),
    )
    # Of a link, the folder that it leads to is replaced, not the link.
    output_dir = source_args.output_dir.resolve() if source_args.output_dir.is_symlink() else source_args.output_dir
    with (
        files.locked(output_dir),
        sources.opened(source_args.source, output_dir, zip_encoding=source_args.zip_encoding) as source,
    ):
        prep = prepare.prepare(
            source,
            output_dir,
            settings,
            corrections_path=source_args.corrections,
            n_processes=source_args.num_proc,
            overwrite=source_args.overwrite,
        )
    logger.info("%s", summary.table(prep))
    logger.info(
        "%d pictures of %d files are in %s; look at contact_sheet.jpg there",
        prep["n_by_status"]["kept"],
        prep["n_found"],
        output_dir,
    )


if __name__ == "__main__":
    raise SystemExit(cli.run(main, SourceArguments, SplitArguments, doc=__doc__))
