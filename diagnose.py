"""Which images a model gets wrong, why, what helps, and whether it learned or was lucky.

    python diagnose.py --model model/ --dataset prepared/
    python diagnose.py --model model/ --dataset prepared/ --only mistakes,evidence
    python diagnose.py --model new-model/ --dataset corrected/ --compare model/
    python diagnose.py --model model/ --dataset prepared/ --learning_curve
    python diagnose.py --model model/ --dataset prepared/ --pool unlabelled/

Writes model/report/index.html (one file that needs no network), model/report/corrections.csv (suggestions, none of them
applied) and the numbers into model/results.json. Any image classification checkpoint with a prepared dataset will do.
"""

import logging

from memevit import cli
from memevit.arguments import DiagnoseArguments
from memevit.data import dataset

logger = logging.getLogger(__name__)


def main(args: DiagnoseArguments) -> None:
    """Examine one model."""
    dataset.require_prepared(args.dataset)
    from memevit.commands import diagnose  # Takes seconds to import, and --help needs none of it.

    done = diagnose.run(args)
    logger.info("%s", done)
    logger.info("The report is in %s", done.page)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, DiagnoseArguments, doc=__doc__))
