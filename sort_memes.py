"""Say which game each picture is about.

    python sort_memes.py --model model/ meme.jpg more_memes/
    python sort_memes.py --model model/ --output rows.csv memes/
    python sort_memes.py --model model/ --format jsonl memes/ > rows.jsonl

Writes one row per file, in the order of the paths, with a probability per class. A file that can't be read is a row
too, with the reason. Nothing is moved or changed.
"""

import logging
from pathlib import Path

from tqdm import tqdm

from memevit import cli, cores, rows
from memevit.arguments import SortArguments

logger = logging.getLogger(__name__)

POSITIONAL = cli.Positional("paths", "Pictures, or folders that are searched for pictures.")


def main(sort_args: SortArguments, paths: list[str]) -> None:
    """Classify every picture among `paths`."""
    files = rows.find_files(Path(path) for path in paths)

    from memevit.model.classifier import Classifier  # Takes seconds to import; a wrong path is told before that.

    classifier = Classifier.load(sort_args.model)
    names = classifier.class_names
    n_processes = sort_args.num_proc or cores.n_cores()
    found = classifier.classify(files, batch_size=sort_args.batch_size, n_processes=n_processes)
    with rows.writer(sort_args.output, sort_args.format, names) as write, tqdm(found, unit="image") as shown:
        counts = rows.write_all(
            (rows.row_of(str(one.path), names, one.probabilities, one.problem) for one in shown),
            write,
        )
    logger.info(
        "%d file%s: %s",
        counts.total(),
        "" if counts.total() == 1 else "s",
        ", ".join(f"{n} {label}" for label, n in counts.most_common()),
    )


if __name__ == "__main__":
    raise SystemExit(cli.run(main, SortArguments, doc=__doc__, positional=POSITIONAL))
