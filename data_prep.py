"""Turn images in class folders into a verified, de-duplicated, split ImageFolder.

    python data_prep.py --source photos/ --output_dir prepared/
    python data_prep.py --source photos.zip --output_dir prepared/ --test_fraction 0.2
    python data_prep.py --source kaggle:andrewmvd/doom-crossing --output_dir prepared/
    python data_prep.py --source hub:OWNER/NAME --output_dir prepared/
    python data_prep.py --source sample --output_dir prepared/

Writes prepared/{train,validation,test}/<class>/, manifest.csv (a row for every source file), prep.json, README.md
(the dataset card) and contact_sheet.jpg. The source is never changed.
"""

import logging

from memevit import cli
from memevit.arguments import SourceArguments, SplitArguments
from memevit.commands import prepare

logger = logging.getLogger(__name__)


def main(source_args: SourceArguments, split_args: SplitArguments) -> None:
    """Prepare one dataset folder."""
    done = prepare.run(source_args, split_args)
    logger.info("%s", done)
    logger.info(
        "%d images of %d files are in %s; look at contact_sheet.jpg there",
        done.prep["n_by_status"]["kept"],
        done.prep["n_found"],
        done.output_dir,
    )


if __name__ == "__main__":
    raise SystemExit(cli.run(main, SourceArguments, SplitArguments, doc=__doc__))
