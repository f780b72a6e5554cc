"""Peak memory of sorting a thousand to a million files: it must not grow with their number.

    python -m benchmarks.sorting_memory
    python -m benchmarks.sorting_memory --sizes 1000 100000 --link

A stand-in for a model names a class at once, so that what is measured is the listing, the choice of names and the rows,
which go to a CSV file; with --link, which is slow for a million files, the log and the filing, too. The peak is that of
the process's own memory, from Linux's /proc. Adds to benchmarks/results/sorting_memory.json.
"""

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import memory
from benchmarks.sorting_stress import Said
from memevit import cli, results
from memevit.sorting import command

logger = logging.getLogger(__name__)

_FILES_PER_FOLDER = 10_000
_PROBABILITIES = np.array([0.9, 0.1])


@dataclass
class MemoryArguments:
    """How many files are sorted, and where the figures go."""

    sizes: list[int] = field(
        default_factory=lambda: [1_000, 100_000, 1_000_000], metadata={"help": "Numbers of files."}
    )
    link: bool = field(default=False, metadata={"help": "File by hard link; a dry run otherwise."})
    work_dir: Path | None = field(default=None, metadata={"help": "Where to work; a temporary folder by default."})
    output: Path = field(default=Path("benchmarks/results/sorting_memory.json"), metadata={"help": "JSON file."})
    sort: Path | None = field(default=None, metadata={"help": "Sort this folder and end: what is measured."})


class StandIn:
    """Says the same about every file, without reading it."""

    class_names = ("doom", "animal_crossing")

    def classify(self, paths: Iterable[Path], *, batch_size: int, n_processes: int) -> Iterator[Said]:
        """One `Said` per path."""
        return (Said(path, _PROBABILITIES) for path in paths)


def main(args: MemoryArguments) -> None:
    """Sort each number of files, and write and print the figures."""
    if args.sort is not None:
        options = command.Options(
            model=Path("stand-in"), into=args.sort / "sorted", output=args.sort / "rows.csv", num_proc=1,
            link=args.link, dry_run=not args.link,
        )  # fmt: skip
        command.sort(options, [str(args.sort / "inbox")], StandIn)
        return
    memory.require_proc()
    action = "hard links" if args.link else "dry run"
    report = json.loads(args.output.read_text(encoding="utf-8")) if args.output.exists() else {}
    runs = report[action] = []
    for size in args.sizes:
        runs.append({"n_files": size} | _measured(size, args))
        logger.info("%s", "{n_files:>9,} files: {peak_mb:,} MB at most, {seconds} s".format(**runs[-1]))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(
        json.dumps({"hardware": results.processor_name()} | report, indent=2) + "\n", encoding="utf-8"
    )


def _measured(n_files: int, args: MemoryArguments) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
        for number in range(n_files):
            inbox = Path(folder) / "inbox" / str(number // _FILES_PER_FOLDER)
            if number % _FILES_PER_FOLDER == 0:
                inbox.mkdir(parents=True)
            with open(inbox / f"{number}.jpg", "wb") as file:
                file.write(number.to_bytes(4, "big"))
        sort = [sys.executable, "-m", "benchmarks.sorting_memory", "--sort", folder, *(["--link"] if args.link else [])]
        found = memory.measured(sort, memory.OWN, stderr=subprocess.DEVNULL)
        with open(Path(folder) / "rows.csv", encoding="utf-8") as rows:
            n_rows = sum(1 for _ in rows) - 1
        if n_rows != n_files:
            raise RuntimeError(f"{n_rows} rows for {n_files} files")
        return found


if __name__ == "__main__":
    raise SystemExit(cli.run(main, MemoryArguments, doc=__doc__))
