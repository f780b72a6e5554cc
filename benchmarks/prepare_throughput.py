"""Measure data_prep.py against bare Pillow on the same files with the same number of processes.

    python -m benchmarks.prepare_throughput
    python -m benchmarks.prepare_throughput --n_images 200 --repeats 1

Bare Pillow decodes each file, converts it to RGB and resizes it to the size at which data_prep.py would store it, no
more; a second version lets JPEG files be decoded at reduced scale, as data_prep.py does. Each side is a command of its
own with its start-up, and the sides take turns. A ratio of 1 means that hashing, storing, searching for duplicates,
splitting and the contact sheet cost nothing on top.
"""

import functools
import json
import logging
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from benchmarks import drawn_images
from memevit import cli, results

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
SIZE_PX = (1920, 1080)
MAX_SIDE_PX = 512  # What data_prep.py stores by default.
SIDES = ("data_prep.py", "bare Pillow", "bare Pillow, reduced scale")


@dataclass
class ThroughputArguments:
    """How much is measured, and where the figures go."""

    n_images: int = field(default=1000, metadata={"help": "Images per format."})
    processes: int = field(default=2, metadata={"help": "Of either side."})
    repeats: int = field(default=3, metadata={"help": "Turns of each side; the median counts."})
    output: Path = field(default=Path("benchmarks/results/prepare_throughput.json"), metadata={"help": "JSON file."})
    bare: Path | None = field(default=None, metadata={"help": "Only decode this folder; how the script calls itself."})
    reduced: bool = field(default=False, metadata={"help": "With --bare: decode JPEG files at reduced scale."})


def main(args: ThroughputArguments) -> None:
    """Measure both formats, and write and print the figures; or be one side of the comparison."""
    if args.bare:
        paths = sorted(path for path in args.bare.rglob("*") if path.is_file())
        shrink = functools.partial(_shrink, reduced=args.reduced)
        with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
            for _ in pool.imap(shrink, paths, chunksize=16):
                pass
        return
    runs = [_measure(suffix, args) for suffix in ("jpg", "png")]
    report = {
        "hardware": results.processor_name(),
        "processes": args.processes,
        "n_images": args.n_images,
        "size_px": SIZE_PX,
        "max_side_px": MAX_SIDE_PX,
        "repeats": args.repeats,
        "runs": runs,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    logger.info("Written to %s", args.output)


def _shrink(path: Path, *, reduced: bool) -> None:
    with Image.open(path) as image:
        if reduced:
            image.draft("RGB", (MAX_SIDE_PX, MAX_SIDE_PX))
        scale = MAX_SIDE_PX / max(SIZE_PX)
        image.convert("RGB").resize((round(SIZE_PX[0] * scale), round(SIZE_PX[1] * scale)))


def _measure(suffix: str, args: ThroughputArguments) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        paths = drawn_images.write_classes(
            source, n_images=args.n_images, size=SIZE_PX, suffix=suffix, n_processes=args.processes
        )
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for turn in range(args.repeats):
            for side in SIDES:
                seconds[side].append(_timed(_command(side, source, Path(folder) / f"data_{turn}", args.processes)))
        n_bytes = sum(path.stat().st_size for path in paths)
    ours, *bare = SIDES
    ratios = {side: [b / a for a, b in zip(seconds[ours], seconds[side], strict=True)] for side in bare}
    run = {
        "format": suffix,
        "mean_file_kb": round(n_bytes / len(paths) / 1e3),
        "images_per_s": {side: round(args.n_images / statistics.median(seconds[side]), 1) for side in SIDES},
        "seconds": {side: [round(value, 2) for value in seconds[side]] for side in SIDES},
        "ratio_to": {side: round(statistics.median(ratios[side]), 3) for side in bare},
    }
    logger.info("%s: %s images/s; as a share of %s", suffix, run["images_per_s"], run["ratio_to"])
    return run


def _command(side: str, source: Path, output_dir: Path, processes: int) -> list[str]:
    if side == "data_prep.py":
        options = ["--source", str(source), "--output_dir", str(output_dir), "--num_proc", str(processes)]
        return [sys.executable, "data_prep.py", *options]
    options = ["--bare", str(source), "--processes", str(processes), *(["--reduced"] if "reduced" in side else [])]
    return [sys.executable, "-m", "benchmarks.prepare_throughput", *options]


def _timed(command: list[str]) -> float:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    before = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - before


if __name__ == "__main__":
    raise SystemExit(cli.run(main, ThroughputArguments, doc=__doc__))
