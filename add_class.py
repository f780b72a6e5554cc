r"""Teach a trained model another class without starting again, or take one out, or rename one.

    python add_class.py --model model/ --dataset prepared/ --images genshin/ --class_name genshin_impact \
        --output_dir model-3/
    python add_class.py --model model/ --dataset prepared/ --images more_games/ --output_dir model-5/
    python add_class.py --model model-3/ --dataset model-3.dataset/ --remove_class doom --output_dir model-2/
    python add_class.py --model model/ --dataset prepared/ --rename_class doom doom_1993 --output_dir renamed/

The network stays as it is; its head is fitted anew to features of all images, old and new, which takes seconds. If the
new class trails the old ones, or with --refine, the whole network is then trained a little on all images. Writes
model-3/, an ordinary model folder with a table of every class before and after in results.json and growth.png, and
model-3.dataset/ with all images, on which it can be diagnosed and extended again. Old labels keep their numbers.
"""

import logging

from memevit import cli
from memevit.arguments import ClassArguments, OpenSetArguments
from memevit.data import dataset

logger = logging.getLogger(__name__)


def main(args: ClassArguments, settings: OpenSetArguments) -> None:
    """Change the classes of one model."""
    dataset.require_prepared(args.dataset)

    from memevit.commands import add_class  # Takes seconds to import; a wrong dataset is told before that.

    done = add_class.run(args, settings)
    logger.info("%s", done)
    logger.info("The model is in %s", done.output_dir)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, ClassArguments, OpenSetArguments, doc=__doc__))
