"""How fast training is, and how much of the device it uses.

    python -m benchmarks.train_throughput
    python -m benchmarks.train_throughput --models vit-b --bf16 --batch_size 128 --n_images 6144 --n_steps 34

Four sides per model: (a) our path, levels from the cache, finished on the device; (b) the plain Trainer on full-size
files with Pillow transforms in workers; (c) our model step alone on one batch that stays on the device: the limit; (d)
our batches alone, finished but seen by no model. Prints images/s and the share of the device's measured matrix-product
rate (model FLOPs utilisation), and writes benchmarks/results/train_throughput_DEVICE.json.
"""

import logging
import math
import os
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.image_processing_utils import BaseImageProcessor

from benchmarks import timing
from benchmarks.plain_trainer import PlainDataset
from memevit import cli, cores
from memevit.arguments import RecipeArguments
from memevit.model import recipe
from memevit.model.classifier import best_device
from memevit.model.image_dataset import AugmentAndNormalise, Augmentation, ImageDataset, keep_decoded
from memevit.model.processor import Processor
from memevit.model.timing import wait_for
from memevit.model.trainer import ImageTrainer, build_trainer

SIDES = {
    "ours": "(a) our path",
    "plain": "(b) plain Trainer",
    "limit": "(c) model step alone",
    "feed": "(d) our batches alone",
}
_WARM_UP_STEPS = 2
_FEED_S = 2.0


@dataclass
class TrainBenchmarkArguments:
    """What is trained, and how long."""

    models: list[str] = field(
        default_factory=lambda: ["vit-tiny"], metadata={"help": "vit-tiny, vit-s, vit-b or model folders."}
    )
    n_images: int = field(default=128, metadata={"help": "Images of 1920 x 1080, half in each class."})
    n_steps: int = field(default=6, metadata={"help": "Steps per side and round, the first two not counted."})
    repeats: int = field(default=3, metadata={"help": "Rounds; the median counts."})
    batch_size: int = field(default=16, metadata={"help": "Images per step."})
    bf16: bool = field(default=False, metadata={"help": "Mixed precision with bf16."})
    torch_compile: bool = field(default=False, metadata={"help": "Compile the model of (a) and (c)."})
    width_px: int = field(default=timing.FULL_HD[0], metadata={"help": "Of the images."})
    image_size: int = field(default=224, metadata={"help": "Side that the models named above see."})
    num_proc: int | None = field(default=None, metadata={"help": "Loader workers of (b); one per core by default."})
    work_dir: Path = field(default=Path("runs/benchmarks"), metadata={"help": "For drawn images; kept."})
    output: Path | None = field(default=None, metadata={"help": "Another file for the numbers."})


class Clock(TrainerCallback):
    """Time from the end of a warm-up of so many steps to the end of the last step."""

    def __init__(self, device: torch.device, n_warm_up: int) -> None:
        self._device, self._n_warm_up = device, n_warm_up
        self.start = self.end = 0.0

    def on_step_end(self, args: TrainingArguments, state: object, control: object, **kwargs: object) -> None:
        """Wait for the device only where the time is read."""
        if state.global_step in (self._n_warm_up, state.max_steps):
            wait_for(self._device)
            self.start, self.end = (self.start or time.perf_counter()), time.perf_counter()


def main(args: TrainBenchmarkArguments) -> None:
    """Measure every model on every side."""
    device = best_device()
    size = (args.width_px, args.width_px * timing.FULL_HD[1] // timing.FULL_HD[0])
    paths = timing.draw_memes(args.work_dir / f"memes-{args.width_px}", args.n_images, size=size)
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    rows, table = [], [["model", "side", "images/s", "utilisation", "share of (c)", "times (b)"]]
    for name in args.models:
        folder = timing.write_backbone(name, args.work_dir, image_size=args.image_size)
        sides, flops = sides_of(folder, paths, args)
        rates = [timing.matmul_rate(device, dtype)]
        found = timing.in_turns(sides, args.repeats)
        rates.append(timing.matmul_rate(device, dtype))
        for side, per_s in found.items():
            used = None if side == "feed" else statistics.median(per_s) * flops / statistics.mean(rates)
            of_limit, of_plain = timing.ratio(found, side, "limit"), timing.ratio(found, side, "plain")
            rows.append(
                {"model": name, "side": SIDES[side], "images_per_s": per_s, "utilisation": used and round(used, 3),
                 "share_of_limit": of_limit, "times_plain": of_plain, "flops_per_image": flops, "matmul_rates": rates}
            )  # fmt: skip
            cells = (
                f"{statistics.median(per_s):.1f}",
                f"{used:.1%}" if used else "",
                f"{of_limit:.2f}",
                f"{of_plain:.2f}",
            )
            table.append([name, SIDES[side], *cells])
    timing.publish("train_throughput", args, {"rows": rows}, table)


def sides_of(
    folder: Path, paths: list[Path], args: TrainBenchmarkArguments
) -> tuple[dict[str, Callable[[], float]], float]:
    """Each side as a function that returns images per second, and the operations of one training image."""
    processor = AutoImageProcessor.from_pretrained(folder)
    plain = PlainDataset(paths, _labels(paths), processor, is_train=True)

    def ours() -> ImageTrainer:
        return our_trainer(folder, paths, args, n_steps=args.n_steps)

    sides = {
        "ours": lambda: throughput(ours(), _WARM_UP_STEPS),
        "plain": lambda: plain_throughput(new_model(folder), plain, args),
        "limit": lambda: resident(new_model(folder), processor, args),
        "feed": lambda: feeding(ours()),
    }
    return sides, training_flops(new_model(folder), Processor.of(processor).size)


def _labels(paths: list[Path]) -> list[int]:
    return [list(timing.CLASSES).index(path.parent.name) for path in paths]


def new_model(folder: Path) -> PreTrainedModel:
    """The network with a new head."""
    set_seed(0)
    return AutoModelForImageClassification.from_pretrained(
        folder, num_labels=len(timing.CLASSES), ignore_mismatched_sizes=True,
        problem_type="single_label_classification",
    )  # fmt: skip


def our_trainer(folder: Path, paths: list[Path], args: Any, *, n_steps: int) -> ImageTrainer:
    """The Trainer of finetune_vit.py on cached pixels.

    Args:
        folder: of the network.
        paths: of the images.
        args: with `batch_size`, `bf16`, `torch_compile` and `work_dir`.
        n_steps: of the training.
    """
    processor = AutoImageProcessor.from_pretrained(folder)
    shown, augmentation = Processor.of(processor), Augmentation()
    cached = ImageDataset(paths, _labels(paths), shown, augmentation)
    keep_decoded([cached], "train", args.work_dir / "cache")
    usual_log = recipe.FineTuningArguments.logging_steps  # Each line waits for the device.
    own = trainer_arguments(args, n_steps, torch_compile=args.torch_compile, logging_steps=usual_log)
    chosen = recipe.complete(RecipeArguments(), own, from_scratch=True)
    trainer = build_trainer(
        new_model(folder), processor, own, chosen, train=cached, validation=cached,
        prepare_batch=AugmentAndNormalise(shown, augmentation), compute_metrics=lambda logits, true: {},
    )  # fmt: skip
    os.environ.pop("ACCELERATE_DYNAMO_BACKEND", None)  # By which the next Trainer would be compiled too.
    return trainer


def trainer_arguments(args: Any, n_steps: int, **more: object) -> TrainingArguments:
    """Those of a run that only trains."""
    return TrainingArguments(
        output_dir=str(args.work_dir / "trainer"), max_steps=n_steps, per_device_train_batch_size=args.batch_size,
        bf16=args.bf16, report_to="none", save_strategy="no", remove_unused_columns=False,
        disable_tqdm=True, dataloader_drop_last=True, dataloader_pin_memory=torch.cuda.is_available(), **more,
    )  # fmt: skip


def throughput(trainer: Trainer, n_warm_up: int) -> float:
    """Images per second of a Trainer after the warm-up."""
    clock = Clock(trainer.args.device, n_warm_up)
    trainer.add_callback(clock)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    shutil.rmtree(trainer.args.output_dir, ignore_errors=True)
    return (trainer.args.max_steps - n_warm_up) * trainer.args.train_batch_size / (clock.end - clock.start)


def plain_throughput(model: PreTrainedModel, images: PlainDataset, args: TrainBenchmarkArguments) -> float:
    """Images per second of the plain Trainer, once its loader runs steadily.

    Each worker makes a whole batch, so all of them come to their first one together: only whole rounds count.
    """
    n_workers = args.num_proc or cores.n_cores()
    n_warm_up = max(_WARM_UP_STEPS, n_workers)
    n_steps = n_warm_up + n_workers * math.ceil((args.n_steps - _WARM_UP_STEPS) / n_workers)
    workers = {"dataloader_num_workers": n_workers, "dataloader_persistent_workers": True}
    return throughput(Trainer(model, trainer_arguments(args, n_steps, **workers), train_dataset=images), n_warm_up)


def feeding(trainer: ImageTrainer) -> float:
    """Images per second of batches that are ready for the model; the first epoch is not counted."""
    device, loader = trainer.args.device, trainer.get_train_dataloader()
    n_images, start = 0, 0.0
    while not start or time.perf_counter() - start < _FEED_S:
        batches = iter(loader)
        while batch := trainer.get_batch_samples(batches, 1, device)[0]:
            n_images += len(trainer.model_inputs(batch[0])["labels"])
        wait_for(device)
        if not start:
            n_images, start = 0, time.perf_counter()
    return n_images / (time.perf_counter() - start)


def resident(model: PreTrainedModel, processor: BaseImageProcessor, args: TrainBenchmarkArguments) -> float:
    """Images per second of forward, backward and optimizer on one batch that is there already."""
    device = best_device()
    model.to(device).train()
    if args.torch_compile:
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    height, width = Processor.of(processor).size
    values = torch.randn(args.batch_size, 3, height, width, device=device)
    labels = torch.zeros(args.batch_size, dtype=torch.long, device=device)
    start = 0.0
    for step in range(args.n_steps):
        if step == _WARM_UP_STEPS:
            wait_for(device)
            start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bf16):
            loss = model(pixel_values=values, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    wait_for(device)
    return (args.n_steps - _WARM_UP_STEPS) * args.batch_size / (time.perf_counter() - start)


def training_flops(model: PreTrainedModel, size: tuple[int, int]) -> float:
    """Floating-point operations of one training image: the backward pass takes twice those of the forward pass."""
    model.set_attn_implementation("eager")  # The counter overlooks the fused attention of processors.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(pixel_values=torch.zeros(1, 3, *size))
    return 3.0 * counter.get_total_flops()


if __name__ == "__main__":
    logging.getLogger("transformers").setLevel(logging.ERROR)
    raise SystemExit(cli.run(main, TrainBenchmarkArguments, doc=__doc__))
