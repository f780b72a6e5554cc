"""Where the time of training steps goes, and for how much of it the device has nothing to do.

    python -m benchmarks.profile_training
    python -m benchmarks.profile_training --model vit-b --bf16 --batch_size 128 --n_images 1024 --n_steps 20

Trains as finetune_vit.py does, with the pixel cache, under torch's profiler. Prints the most expensive operations and
writes benchmarks/results/profile_training_DEVICE.json. On a GPU the times are those of its kernels and copies, on a
processor those of the operations themselves. The profiler slows the host down, so the idle share is an upper limit.
"""

import contextlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from benchmarks import timing
from benchmarks.train_throughput import our_trainer
from memevit import cli
from memevit.model.classifier import best_device
from memevit.model.timing import wait_for

_WARM_UP_STEPS = 3  # Kernels are chosen, memory is reserved, and the batches of the first steps wait already.
_N_ROWS = 15
_MAX_NAME = 70


@dataclass
class ProfileArguments:
    """What is trained, and how long."""

    model: str = field(default="vit-tiny", metadata={"help": "vit-tiny, vit-s, vit-b or a model folder."})
    n_images: int = field(default=128, metadata={"help": "Images of 1920 x 1080, half in each class."})
    n_steps: int = field(default=20, metadata={"help": "Steps that are profiled."})
    batch_size: int = field(default=16, metadata={"help": "Images per step."})
    bf16: bool = field(default=False, metadata={"help": "Mixed precision with bf16."})
    torch_compile: bool = field(default=False, metadata={"help": "Compile the model."})
    width_px: int = field(default=timing.FULL_HD[0], metadata={"help": "Of the images."})
    image_size: int = field(default=224, metadata={"help": "Side that the models named above see."})
    work_dir: Path = field(default=Path("runs/benchmarks"), metadata={"help": "For drawn images; kept."})
    output: Path | None = field(default=None, metadata={"help": "Another file for the numbers."})


class Profiling(TrainerCallback):
    """Profiles the steps after a warm-up; `seconds` is their wall time."""

    def __init__(self, device: torch.device, n_warm_up: int) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        self.profile = profile(activities=activities, acc_events=True)
        self.seconds = 0.0
        self._device, self._n_warm_up = device, n_warm_up
        self._open = contextlib.ExitStack()
        self._start_s = 0.0

    def on_step_end(self, args: TrainingArguments, state: object, control: object, **kwargs: object) -> None:
        """Start after the warm-up and stop after the last step, each time when the device is done."""
        if state.global_step == self._n_warm_up:
            wait_for(self._device)
            self._open.enter_context(self.profile)
            self._start_s = time.perf_counter()
        elif state.global_step == state.max_steps:
            wait_for(self._device)
            self.seconds = time.perf_counter() - self._start_s
            self._open.close()


def main(args: ProfileArguments) -> None:
    """Profile, print the table, and write the numbers."""
    size = (args.width_px, args.width_px * timing.FULL_HD[1] // timing.FULL_HD[0])
    paths = timing.draw_memes(args.work_dir / f"memes-{args.width_px}", args.n_images, size=size)
    folder = timing.write_backbone(args.model, args.work_dir, image_size=args.image_size)
    trainer = our_trainer(folder, paths, args, n_steps=_WARM_UP_STEPS + args.n_steps)
    profiling = Profiling(trainer.args.device, _WARM_UP_STEPS)
    trainer.add_callback(profiling)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    found = summary(profiling.profile.events(), profiling.seconds, is_on_gpu=best_device().type == "cuda")
    table = [["operation", "times", "ms", "share"]]
    table += [[row["name"], str(row["n"]), f"{row['ms']:.1f}", f"{row['share']:.1%}"] for row in found["rows"]]
    idle = found["idle_share"]
    table.append([f"{args.n_steps} steps", "", f"{1000 * profiling.seconds:.1f}",
                  "" if idle is None else f"device idle for {idle:.1%}"])  # fmt: skip
    timing.publish("profile_training", args, found, table)


def summary(events: Iterable[FunctionEvent], seconds: float, *, is_on_gpu: bool) -> dict[str, Any]:
    """The most expensive operations, and how busy the device and each of its streams were.

    Args:
        events: of the profiler.
        seconds: wall time of the steps.
        is_on_gpu: count kernels and copies on the GPU; otherwise operations on the CPU, without what they call.
    """
    time_us: dict[str, float] = defaultdict(float)
    n: Counter[str] = Counter()
    spans: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for event in events:
        if event.is_user_annotation or (event.device_type == DeviceType.CUDA) != is_on_gpu:
            continue
        span = (event.time_range.start, event.time_range.end)
        time_us[event.name] += span[1] - span[0] if is_on_gpu else event.self_cpu_time_total
        n[event.name] += 1
        if is_on_gpu:
            spans[event.device_resource_id].append(span)
    wall_us = 1e6 * seconds
    rows = [
        {"name": name[:_MAX_NAME], "n": n[name], "ms": round(us / 1e3, 3), "share": round(us / wall_us, 4)}
        for name, us in sorted(time_us.items(), key=lambda item: -item[1])[:_N_ROWS]
    ]
    busy = {str(stream): round(covered(own) / wall_us, 4) for stream, own in spans.items()}
    idle = 1 - covered([span for own in spans.values() for span in own]) / wall_us if is_on_gpu else None
    return {
        "seconds": round(seconds, 4),
        "idle_share": idle if idle is None else round(idle, 4),
        "busy_share_by_stream": busy,
        "rows": rows,
    }


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """The length of the union of intervals.

    Example:
        >>> covered([(0, 2), (1, 3), (5, 6)])
        4
    """
    total, end = 0, float("-inf")
    for left, right in sorted(spans):
        total += max(0, right - max(left, end))
        end = max(end, right)
    return total


if __name__ == "__main__":
    logging.getLogger("transformers").setLevel(logging.ERROR)
    raise SystemExit(cli.run(main, ProfileArguments, doc=__doc__))
