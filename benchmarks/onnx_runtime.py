"""Whether ONNX Runtime computes a network faster than PyTorch on the same processor.

    python -m benchmarks.onnx_runtime
    python -m benchmarks.onnx_runtime --models vit-b --batch_size 8 --repeats 9

The network alone: both get the same batch in memory and as many threads as PyTorch takes, in turns. Prints a table and
writes benchmarks/results/onnx_runtime_cpu.json.
"""

import functools
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers import AutoModelForImageClassification

from benchmarks import timing
from memevit import cli
from memevit.model import onnx_export

PYTORCH, ONNX = "PyTorch", "ONNX Runtime"


@dataclass
class RuntimeArguments:
    """Which networks are computed, and how often."""

    models: list[str] = field(
        default_factory=lambda: ["backbones/vit-micro-patch12-96", "vit-s"],
        metadata={"help": "vit-tiny, vit-s, vit-b or model folders."},
    )
    batch_size: int = field(default=32, metadata={"help": "Images at once."})
    n_batches: int = field(default=4, metadata={"help": "Batches per round."})
    repeats: int = field(default=7, metadata={"help": "Rounds; the median counts."})
    work_dir: Path = field(default=Path("runs/benchmarks"), metadata={"help": "For models and graphs; kept."})
    output: Path | None = field(default=None, metadata={"help": "Another file for the numbers."})


def main(args: RuntimeArguments) -> None:
    """Measure every network in both."""
    args.work_dir.mkdir(parents=True, exist_ok=True)
    rows, table = [], [["model", "PyTorch, images/s", "ONNX Runtime, images/s", "times as fast", "largest difference"]]
    for name in args.models:
        folder = timing.write_backbone(name, args.work_dir)
        by_pytorch, by_onnx, batch = both(folder, args.work_dir / f"{folder.name}.onnx", args.batch_size)
        differs = float(np.abs(by_pytorch(batch) - by_onnx(batch)).max())  # Also what is done only once.
        sides = {PYTORCH: by_pytorch, ONNX: by_onnx}
        measures = {side: functools.partial(rate, run, batch, args.n_batches) for side, run in sides.items()}
        found = timing.in_turns(measures, args.repeats)
        faster = timing.ratio(found, ONNX, PYTORCH)
        rows.append({"model": name, "images_per_s": found, "times_as_fast": faster, "largest_difference": differs})
        medians = [f"{statistics.median(found[side]):.1f}" for side in sides]
        table.append([name, *medians, f"{faster:.2f}", f"{differs:.1e}"])
    timing.publish("onnx_runtime", args, {"rows": rows}, table)


def both(folder: Path, path: Path, batch_size: int) -> tuple[Callable, Callable, np.ndarray]:
    """Functions from pixel values [B, 3, H, W] to logits, by PyTorch and by ONNX Runtime, and a batch for them."""
    torch.manual_seed(0)  # Of a head that the checkpoint lacks.
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    side = model.config.image_size
    onnx_export.export(model, path, image_size=(side, side))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    @torch.inference_mode()
    def by_pytorch(values: np.ndarray) -> np.ndarray:
        return model(pixel_values=torch.from_numpy(values)).logits.numpy()

    def by_onnx(values: np.ndarray) -> np.ndarray:
        return session.run([onnx_export.LOGITS], {onnx_export.INPUT: values})[0]

    batch = np.random.default_rng(0).standard_normal((batch_size, 3, side, side), dtype=np.float32)
    return by_pytorch, by_onnx, batch


def rate(run: Callable[[np.ndarray], np.ndarray], batch: np.ndarray, n_batches: int) -> float:
    """Images per second."""
    start = time.perf_counter()
    for _ in range(n_batches):
        run(batch)
    return n_batches * len(batch) / (time.perf_counter() - start)


if __name__ == "__main__":
    logging.getLogger("transformers").setLevel(logging.ERROR)
    raise SystemExit(cli.run(main, RuntimeArguments, doc=__doc__))
