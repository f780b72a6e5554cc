"""Say which game each image is about, and file the images by it.

    python sort_memes.py --model model/ inbox/                        # rows on standard output, nothing is moved
    python sort_memes.py --model model/ inbox/ --into sorted/         # copies into a folder per game
    python sort_memes.py --model model/ inbox/ --into sorted/ --move
    python sort_memes.py --undo sorted/sort_log_20260131_120000.jsonl
    python sort_memes.py --model model/ --watch inbox/ --into sorted/
    find . -name '*.jpg' -print0 | python sort_memes.py --model model/ --output rows.parquet -

Writes one row per file, in input order (CSV, JSON lines or Parquet). A file that can't be read is a row too, with the
reason. With --into, files are copied (or linked, or moved) into DIR/<class>/, DIR/unknown/, DIR/unsure/ and
DIR/unreadable/; nothing is overwritten, and every action is in a log before it happens. docs/sort_memes.md explains
every column and option.
"""

import secrets

from memevit import cli
from memevit.arguments import SortArguments
from memevit.sorting import command, processes

POSITIONAL = cli.Positional(
    "paths", "Images, folders, glob patterns, or - for a list on standard input.", is_required=False
)


def main(sort_args: SortArguments, paths: list[str]) -> None:
    """Classify every image among `paths` and file it."""
    if sort_args.undo is not None:
        command.undo(sort_args.undo)
        return
    options = command.Options(**{name: value for name, value in vars(sort_args).items() if name != "undo"})
    team, device = _join_processes()

    def load() -> command.Classifier:
        from memevit.model.classifier import Classifier  # Takes seconds to import; a wrong path is told before that.

        return Classifier.load(options.model, device=device, answers_unknown=options.unknown)

    command.sort(options, paths, load, team)


def _join_processes() -> tuple[command.Team | None, object]:
    """The processes that accelerate has launched, and the device of this one; None and None for a process alone."""
    rank, n = processes.rank_and_size()
    if n == 1:
        return None, None
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    state = PartialState()
    token = broadcast_object_list([secrets.token_hex(8)])[0]
    return command.Team(rank, n, token, state.wait_for_everyone), state.device


if __name__ == "__main__":
    raise SystemExit(cli.run(main, SortArguments, doc=__doc__, positional=POSITIONAL))
