"""Whether time per image and memory stay flat from a thousand images to a hundred thousand.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --sizes 500 2000 --processes 1 2

For every number of images: data_prep.py, sort_memes.py, and finetune_vit.py for one epoch, with a small network, each
in a process of its own; then the largest is trained again by the other numbers of processes. Prints milliseconds per
image and the peak memory of all processes together, without mapped files (Linux only), and writes
benchmarks/results/scaling_DEVICE.json.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks import memory, timing
from memevit import cli
from memevit.cores import n_cores

ROOT = Path(__file__).parents[1]


@dataclass
class ScalingBenchmarkArguments:
    """How many images, and how many processes."""

    sizes: list[int] = field(default_factory=lambda: [1000, 10_000, 100_000], metadata={"help": "Numbers of images."})
    processes: list[int] = field(default_factory=lambda: [1, 2], metadata={"help": "Processes that train."})
    side_px: int = field(default=256, metadata={"help": "Side of the images."})
    model: str = field(
        default="vit-tiny", metadata={"help": "vit-tiny, vit-s, vit-b, of two layers, or a model folder."}
    )
    image_size: int = field(default=64, metadata={"help": "Side that the models named above see."})
    batch_size: int = field(default=64, metadata={"help": "Images per step, all processes together."})
    work_dir: Path = field(default=Path("runs/scaling"), metadata={"help": "For drawn images; kept."})
    output: Path | None = field(default=None, metadata={"help": "Another file for the numbers."})


def main(args: ScalingBenchmarkArguments) -> None:
    """Measure every size with one process, then the largest with more."""
    memory.require_proc()
    table = [["images", "processes", "prepare ms", "sort ms", "cache ms", "epoch ms", "prepare MB", "sort MB",
              "train MB"]]  # fmt: skip
    rows = []
    backbone = timing.write_backbone(args.model, args.work_dir, image_size=args.image_size, n_layers=2)
    sorter, rows_path = timing.with_head(backbone, args.work_dir), args.work_dir / "rows.csv"
    for n in args.sizes:
        source, dataset = args.work_dir / f"source-{n}", args.work_dir / f"prepared-{n}"
        draw(source, n, args.side_px)
        shutil.rmtree(dataset, ignore_errors=True)  # Else there would be nothing to prepare.
        prepare = _measured([sys.executable, ROOT / "data_prep.py", "--source", source, "--output_dir", dataset])
        sort = _measured([sys.executable, ROOT / "sort_memes.py", "--model", sorter, "--output", rows_path, source])
        for n_processes in args.processes if n == max(args.sizes) else args.processes[:1]:
            train = _trained(dataset, backbone, n_processes, args)
            row = {"n": n, "processes": n_processes, "prepare": prepare, "sort": sort, **train}
            rows.append(row)
            times = (prepare["seconds"], sort["seconds"], row["cache_s"], row["epoch_s"])
            cells = [f"{1000 * seconds / n:.2f}" for seconds in times]
            peaks = [f"{one['peak_mb']:.0f}" for one in (prepare, sort, row["train"])]
            table.append([str(n), str(n_processes), *cells, *peaks])
    timing.publish("scaling", args, {"rows": rows, "cores": n_cores()}, table)


def draw(folder: Path, n: int, side_px: int, class_names: Sequence[str] = tuple(timing.CLASSES)) -> None:
    """`n` different images of coarse noise in class folders: cheap to draw, unlike one another."""
    random = np.random.default_rng(0)
    for number in tqdm(range(n), desc="Drawing", unit="image", mininterval=0.5):
        levels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        path = folder / class_names[number % len(class_names)] / f"{number:07}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels).resize((side_px, side_px), Image.Resampling.BICUBIC).save(path, quality=85)


def _trained(dataset: Path, backbone: Path, n_processes: int, args: ScalingBenchmarkArguments) -> dict:
    """Seconds of the cache and of one epoch with its evaluations, and time and memory of the run."""
    stages_path, model_dir = args.work_dir / "stages.json", args.work_dir / "model"
    shutil.rmtree(dataset.with_name(f"{dataset.name}.cache"), ignore_errors=True)
    launch = ["-m", "benchmarks.time_to_result"]
    if n_processes > 1:
        # What accelerate calls processes that talk to one another, on a processor too.
        launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", n_processes]
        launch += ["--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no"]
        launch += ["-m", "benchmarks.time_to_result"]
    paths = [stages_path, "unused", dataset, backbone, model_dir]
    given = ["--side", "ours", *paths, 1, args.batch_size // n_processes, 0]
    train = _measured([sys.executable, *launch, *given])
    stages = json.loads(stages_path.read_text(encoding="utf-8"))
    return {"train": train, "cache_s": stages["cache"], "epoch_s": stages["train"] + stages["evaluate"]}


def _measured(command: list) -> dict[str, float]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return memory.measured(command, memory.OWN, env=environment)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, ScalingBenchmarkArguments, doc=__doc__))
