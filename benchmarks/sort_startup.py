"""How long sort_memes.py takes from the command to its first row, against the shortest script with the plain pipeline.

    python -m benchmarks.sort_startup --model model/

Both classify one image, in processes of their own and in turns. Seconds on the clock depend on what else the machine
does; the processor time of each process and its children depends on it less. Writes
benchmarks/results/sort_startup_DEVICE.json.
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from benchmarks import timing
from memevit import cli

ROOT = Path(__file__).parents[1]
OURS, PIPELINE = "sort_memes.py", "shortest pipeline script"
SHORTEST = """
import sys
from transformers import pipeline
classify = pipeline("image-classification", model=sys.argv[1])
print(sys.argv[2], classify(sys.argv[2]), flush=True)
"""


@dataclass
class StartupArguments:
    """What is started, and how often."""

    model: Path = field(metadata={"help": "Model folder."})
    repeats: int = field(default=5, metadata={"help": "Rounds; the median counts."})
    width_px: int = field(default=timing.FULL_HD[0], metadata={"help": "Of the image."})
    work_dir: Path = field(default=Path("runs/benchmarks"), metadata={"help": "For the drawn image; kept."})
    output: Path | None = field(default=None, metadata={"help": "Another file for the numbers."})


def main(args: StartupArguments) -> None:
    """Start both sides in turns."""
    size = (args.width_px, args.width_px * timing.FULL_HD[1] // timing.FULL_HD[0])
    (image,) = timing.draw_memes(args.work_dir / f"memes-{args.width_px}", 1, size=size)
    model = args.model.resolve()
    commands = {
        OURS: [sys.executable, "sort_memes.py", "--model", model, image.resolve()],
        PIPELINE: [sys.executable, "-c", SHORTEST, model, image.resolve()],
    }
    first_row: dict[str, list[float]] = {name: [] for name in commands}
    processor: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(args.repeats):
        for name, command in commands.items():
            seconds, processor_s = time_to_first_row(command, str(image.resolve()))
            first_row[name].append(round(seconds, 3))
            processor[name].append(round(processor_s, 3))
    table = [["side", "first row after, s", "processor time, s"]]
    for name in commands:
        medians = statistics.median(first_row[name]), statistics.median(processor[name])
        table.append([name, *(f"{value:.2f}" for value in medians)])
    ratios = {
        "times_as_long": timing.ratio(first_row, OURS, PIPELINE),
        "times_the_processor_time": timing.ratio(processor, OURS, PIPELINE),
    }
    shown = SimpleNamespace(**vars(args) | {"model": model.name})
    timing.publish("sort_startup", shown, {"first_row_s": first_row, "processor_s": processor, **ratios}, table)


def time_to_first_row(command: Sequence[object], file: str) -> tuple[float, float]:
    """Seconds until a line that begins with `file` appears, and processor time until the end, of a command."""
    before, start = _processor_s(), time.perf_counter()
    with subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        while not process.stdout.readline().startswith(file):
            if process.poll() is not None:
                raise RuntimeError(f"no row from {command}")
        seconds = time.perf_counter() - start
        process.stdout.read()
    return seconds, _processor_s() - before


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    raise SystemExit(cli.run(main, StartupArguments, doc=__doc__))
