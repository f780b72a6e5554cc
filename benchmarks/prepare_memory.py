"""Measure the peak memory of data_prep.py on many small images.

    python -m benchmarks.prepare_memory
    python -m benchmarks.prepare_memory --sizes 1000 10000

Adds up the memory of the command and all its workers (proportional set size, which counts shared pages once) ten times
a second, from Linux's /proc.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import drawn_images, memory
from memevit import cli, results

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
SIZE_PX = (64, 48)


@dataclass
class MemoryArguments:
    """How many images are prepared, and where the figures go."""

    sizes: list[int] = field(default_factory=lambda: [10_000, 100_000], metadata={"help": "Numbers of images."})
    processes: int = field(default=2, metadata={"help": "Of data_prep.py."})
    output: Path = field(default=Path("benchmarks/results/prepare_memory.json"), metadata={"help": "JSON file."})


def main(args: MemoryArguments) -> None:
    """Prepare each number of images, and write and print the figures."""
    memory.require_proc()
    runs = []
    for size in args.sizes:
        runs.append(_measure(size, args.processes))
        logger.info("%s", "{n_images:>9,} images: {peak_mb:,} MB at most, {seconds} s".format(**runs[-1]))
    report = {"hardware": results.processor_name(), "processes": args.processes, "size_px": SIZE_PX, "runs": runs}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    logger.info("Written to %s", args.output)


def _measure(n_images: int, processes: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        source, output_dir = Path(folder) / "source", Path(folder) / "data"
        drawn_images.write_classes(source, n_images=n_images, size=SIZE_PX, suffix="jpg", n_processes=processes)
        options = ["--source", str(source), "--output_dir", str(output_dir), "--num_proc", str(processes)]
        found = memory.measured(
            [sys.executable, "data_prep.py", *options],
            memory.ALL,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stderr=subprocess.DEVNULL,
        )
    return {"n_images": n_images, "peak_mb": round(found["peak_mb"]), "seconds": round(found["seconds"], 1)}


if __name__ == "__main__":
    raise SystemExit(cli.run(main, MemoryArguments, doc=__doc__))
