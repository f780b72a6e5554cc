"""Measure the peak memory of data_prep.py on many small pictures.

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
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import drawn_pictures
from memevit import cli, results
from memevit.errors import UserError

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
SIZE_PX = (64, 48)
_PAUSE_S = 0.1


@dataclass
class MemoryArguments:
    """How many pictures are prepared, and where the figures go."""

    sizes: list[int] = field(default_factory=lambda: [10_000, 100_000], metadata={"help": "Numbers of pictures."})
    processes: int = field(default=2, metadata={"help": "Of data_prep.py."})
    output: Path = field(default=Path("benchmarks/results/prepare_memory.json"), metadata={"help": "JSON file."})


def main(args: MemoryArguments) -> None:
    """Prepare each number of pictures, and write and print the figures."""
    if not Path("/proc/self/smaps_rollup").exists():
        raise UserError("This measurement reads /proc/PID/smaps_rollup, which only Linux has. Run it there.")
    runs = []
    for size in args.sizes:
        runs.append(_measure(size, args.processes))
        logger.info("%s", "{n_images:>9,} pictures: {peak_mb:,} MB at most, {seconds} s".format(**runs[-1]))
    report = {"hardware": results.processor_name(), "processes": args.processes, "size_px": SIZE_PX, "runs": runs}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    logger.info("Written to %s", args.output)


def _measure(n_images: int, processes: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        source, output_dir = Path(folder) / "source", Path(folder) / "data"
        drawn_pictures.write_classes(source, n_images=n_images, size=SIZE_PX, suffix="jpg", n_processes=processes)
        options = ["--source", str(source), "--output_dir", str(output_dir), "--num_proc", str(processes)]
        before = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "data_prep.py", *options],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stderr=subprocess.DEVNULL,
        ) as command:
            peak_kb = 0
            while command.poll() is None:
                peak_kb = max(peak_kb, sum(_memory_kb(pid) for pid in _family(command.pid)))
                time.sleep(_PAUSE_S)
        if command.returncode:
            raise UserError(f"data_prep.py ended with {command.returncode} on {n_images} pictures. Run it by itself.")
    return {
        "n_images": n_images,
        "peak_mb": round(peak_kb * 1024 / 1e6),
        "seconds": round(time.perf_counter() - before, 1),
    }


def _family(pid: int) -> list[int]:
    """`pid` and all processes below it, whichever of its threads has started them."""
    try:
        children = [
            child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
    except OSError:
        return []
    return [pid, *(member for child in children for member in _family(int(child)))]


def _memory_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # It has just ended.
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    raise SystemExit(cli.run(main, MemoryArguments, doc=__doc__))
