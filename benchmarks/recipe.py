r"""Measure what each choice of the fine-tuning recipe is worth: every arm changes the default in one thing.

    python -m benchmarks.recipe --datasets games/ sample/ --backbone backbones/vit-micro-patch12-96
    python -m benchmarks.recipe --datasets games/ --backbone runs/micro/backbone --arms default mixup --seeds 0 1 2
    python -m benchmarks.recipe --datasets games/ --backbone dinov2/ --image_size 112 --per_class 30 --by_epoch \
        --arms default "rate / 4" plain

The datasets are folders that data_prep.py wrote. Every training is a run of finetune_vit.py, or with --by_epoch one in
this process, which is scored after every epoch beside a linear probe of the backbone. Writes a JSON file with the
scores of every run; the same command goes on where it stopped. Choose by validation, report test.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import epochs, reference, runs
from memevit import cli
from memevit.errors import UserError

logger = logging.getLogger(__name__)

ARMS: dict[str, tuple[str, ...]] = {
    "default": (),
    "rate 2e-4": ("--learning_rate", "2e-4"),
    "rate 8e-4": ("--learning_rate", "8e-4"),
    "no warm-up": ("--warmup_steps", "0"),
    "falling linearly": ("--lr_scheduler_type", "linear"),
    "no layer decay": ("--layer_decay", "1"),
    "layer decay 0.6": ("--layer_decay", "0.6"),
    "layer decay 0.65": ("--layer_decay", "0.65"),
    "layer decay 0.9": ("--layer_decay", "0.9"),
    "head as the backbone": ("--head_factor", "1"),
    "probe first": ("--probe_first", "--head_factor", "1"),
    "probe alone": ("--freeze", "backbone"),
    "3 blocks frozen": ("--freeze", "3"),
    "LoRA": ("--lora_rank", "8"),
    "no augmentation": ("--min_area", "1", "--max_stretch", "1", "--colour", "0"),
    "small crops": ("--min_area", "0.3", "--max_stretch", "1.33"),
    "more colour": ("--colour", "0.4"),
    "erasing": ("--erasing", "0.25"),
    "mixup": ("--mixup", "0.2"),
    "cutmix": ("--cutmix", "1"),
    "label smoothing": ("--label_smoothing_factor", "0.1"),
    "no balance": ("--class_balance", "none"),
    "weight decay 0.3": ("--weight_decay", "0.3"),
    "best by loss": ("--metric_for_best_model", "loss"),
    "last checkpoint": ("--load_best_model_at_end", "False"),
    "batches of 8": ("--per_device_train_batch_size", "8"),
    "batches of 32": ("--per_device_train_batch_size", "32"),
    "no pixel cache": ("--no_pixel_cache",),
}
PLAIN = "plain"  # That of `benchmarks.reference`.
# Only with --by_epoch: the factor of the learning rate, which depends on the backbone, and flags.
BY_EPOCH: dict[str, tuple[float, tuple[str, ...]]] = {
    "rate x 2": (2.0, ()),
    **{f"rate / {factor}": (1 / factor, ()) for factor in (2, 4, 8, 16)},
    **{f"probe first, rate / {factor}": (1 / factor, ARMS["probe first"]) for factor in (4, 16)},
    PLAIN: (1.0, ()),
}


@dataclass
class RecipeBenchmarkArguments:
    """What is compared, on which images, and how long."""

    datasets: list[Path] = field(metadata={"help": "Folders that data_prep.py wrote."})
    backbone: Path = field(metadata={"help": "Checkpoint folder."})
    output: Path = field(default=Path("benchmarks/results/recipe.json"), metadata={"help": "JSON file."})
    arms: list[str] = field(default_factory=lambda: list(ARMS), metadata={"help": "Those to run."})
    seeds: list[int] = field(default_factory=lambda: [0, 1], metadata={"help": "One training each."})
    epochs: int = field(default=10, metadata={"help": "Of every training alike."})
    precision: str = field(default="fp32", metadata={"help": "fp32, or bf16 where the processor has it."})
    image_size: int | None = field(default=None, metadata={"help": "Resolution in pixels; that of the backbone."})
    per_class: int | None = field(default=None, metadata={"help": "Training images of each class; all by default."})
    by_epoch: bool = field(default=False, metadata={"help": "Score every epoch, and a linear probe."})
    jobs: int = field(default=2, metadata={"help": "Trainings at a time, with one thread each."})
    minutes: float = field(default=13.0, metadata={"help": "After so many no more trainings are begun."})

    def __post_init__(self) -> None:
        known = ARMS.keys() | (BY_EPOCH.keys() if self.by_epoch else set())
        if unknown := set(self.arms) - known:
            raise UserError(f"There is no arm {sorted(unknown)[0]!r}; take some of {sorted(known)}.")


def main(args: RecipeBenchmarkArguments) -> None:
    """Run every arm with every seed on every dataset, and say which is best."""
    tasks = {
        f"{dataset.name} | {arm} | {seed}": _task(args, dataset, arm, seed)
        for seed in args.seeds
        for dataset in args.datasets
        for arm in args.arms
    }
    header = {"backbone": args.backbone.name, "epochs": args.epochs, "precision": args.precision}
    if args.by_epoch:
        header |= {"image_size": args.image_size, "per_class": args.per_class}
    found = runs.collect(tasks, args.output, header, jobs=args.jobs, minutes=args.minutes)
    logger.info("%s", table(found))
    logger.info("Written to %s", args.output)


def _task(args: RecipeBenchmarkArguments, dataset: Path, arm: str, seed: int) -> Callable[[], dict[str, Any]]:
    """One training, to be called in another process."""
    if args.per_class is not None:
        dataset = runs.few_per_class(dataset, args.per_class, seed)
    if arm == PLAIN:
        return functools.partial(
            reference.plain, dataset, args.backbone, args.epochs, seed, args.precision, args.image_size
        )
    factor, flags = BY_EPOCH.get(arm) or (1.0, ARMS[arm])
    flags = ("--num_train_epochs", str(args.epochs), *flags)
    if args.image_size is not None:
        flags = ("--image_size", str(args.image_size), *flags)
    if not args.by_epoch:
        return functools.partial(runs.finetune, dataset, args.backbone, ("--precision", args.precision, *flags), seed)
    is_half = str(args.precision == "bf16")
    return functools.partial(
        epochs.finetune, dataset, args.backbone, ("--bf16", is_half, *flags), seed, rate_factor=factor
    )


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A line per dataset and arm: mean over seeds on validation, and mean, lowest and highest on test."""
    lines = [f"{'dataset':12} {'arm':24} {'n':>2}  {'validation':>10} {'nll':>6}  {'test':>6} {'low':>6} {'high':>6}"]
    names = {tuple(name.split(" | ")[:2]): None for name in found}
    for dataset, arm in names:
        own = [row for name, row in found.items() if name.startswith(f"{dataset} | {arm} | ")]
        validation, test = ([row[split]["balanced_accuracy"] for row in own] for split in runs.SPLITS)
        nll = np.mean([row["validation"]["nll"] for row in own])
        lines.append(
            f"{dataset:12} {arm:24} {len(own):2}  {np.mean(validation):10.3f} {nll:6.3f}  {np.mean(test):6.3f} "
            f"{min(test):6.3f} {max(test):6.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, RecipeBenchmarkArguments, doc=__doc__))
