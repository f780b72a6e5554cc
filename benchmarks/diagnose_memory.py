"""Measure the memory and the page of diagnose.py on many test images of many classes.

    python -m benchmarks.diagnose_memory
    python -m benchmarks.diagnose_memory --sizes 1000 5000 --classes 50

The images are small and drawn, and the network has random weights, so that nearly all of them are mistakes: as much as
a report can be asked to hold. Linux only. Writes benchmarks/results/diagnose_memory.json.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from benchmarks import memory, scaling, timing
from memevit import cli
from memevit.evaluation import report

ROOT = Path(__file__).parents[1]
SIDE_PX = 64
TEST_SHARE = 0.8


@dataclass
class DiagnoseMemoryArguments:
    """How many test images of how many classes."""

    sizes: list[int] = field(default_factory=lambda: [10_000, 100_000], metadata={"help": "Numbers of test images."})
    classes: int = field(default=1000, metadata={"help": "Number of classes."})
    processes: int = field(default=2, metadata={"help": "Of data_prep.py and diagnose.py."})
    output: Path = field(
        default=timing.RESULTS / "diagnose_memory.json", metadata={"help": "Another file for the numbers."}
    )


def main(args: DiagnoseMemoryArguments) -> None:
    """Diagnose every number of images in a process of its own."""
    memory.require_proc()
    table = [["test images", "classes", "peak MB", "seconds", "page MB"]]
    runs = []
    for n in args.sizes:
        runs.append(_measured(n, args))
        table.append(
            [f"{n:,}", f"{args.classes:,}", *(str(runs[-1][key]) for key in ("peak_mb", "seconds", "page_mb"))]
        )
    timing.publish("diagnose_memory", args, {"runs": runs}, table)


def _measured(n_test: int, args: DiagnoseMemoryArguments) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        source, dataset, model = (Path(folder) / name for name in ("source", "data", "model"))
        names = [f"class_{number:04}" for number in range(args.classes)]
        scaling.draw(source, round(n_test / TEST_SHARE), SIDE_PX, names)
        shares = ["--test_fraction", TEST_SHARE, "--validation_fraction", (1 - TEST_SHARE) / 2]
        _run("data_prep.py", "--source", source, "--output_dir", dataset, *shares, args=args)
        _write_model(model, names)
        found = _run("diagnose.py", "--model", model, "--dataset", dataset, args=args)
        page = model / report.FOLDER / report.PAGE
        return {"n_test": n_test, **found, "page_mb": round(page.stat().st_size / 1e6, 1)}


def _write_model(folder: Path, class_names: list[str]) -> None:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=192, num_hidden_layers=2, num_attention_heads=3, intermediate_size=768, image_size=SIDE_PX,
        id2label=dict(enumerate(class_names)), label2id={name: label for label, name in enumerate(class_names)},
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": SIDE_PX, "width": SIDE_PX}).save_pretrained(folder)


def _run(*command: object, args: DiagnoseMemoryArguments) -> dict[str, float]:
    return memory.measured(
        [sys.executable, *command, "--num_proc", args.processes],
        memory.OWN,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    raise SystemExit(cli.run(main, DiagnoseMemoryArguments, doc=__doc__))
