"""The plan of a run before it starts: precision, batches and steps, and what it will cost."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from transformers import PreTrainedModel, TrainingArguments

from memevit import results
from memevit.errors import UserError
from memevit.model import backbone, precision, recipe, timing

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

FEATURES = "features"  # Among the counts: images whose features are computed for a linear probe.
_CPU_SAMPLE = 8  # Images that are enough to time a CPU.
_SAFETY = 0.9  # Share of the time limit that is planned for: steps are not all alike.
_BYTES_PER_WEIGHT = 4
_ADAM_COPIES = 2
_PROGRESS_BYTES = 1_000_000  # The other files of a checkpoint.


@dataclass(frozen=True)
class Plan:
    """How a run is carried out. Made once; a run that resumes after an interruption keeps it.

    `step_s` are seconds per optimizer step and `image_s` per evaluated image, None where nothing was timed, and
    `save_s` per checkpoint.
    `max_steps` is -1 where the number of epochs counts. `has_idle` is whether some trained parameters get no gradient,
    which several processes then have to look for in every step; True if it is not known.
    """

    precision: str
    batch_size: int
    accumulation: int
    max_steps: int
    step_s: float | None
    image_s: float | None
    has_idle: bool = True
    save_s: float = 0.0

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> "Plan":
        """The plan in run.json."""
        return cls(**run["plan"])

    def record(self) -> dict[str, Any]:
        """The plan as an entry of run.json."""
        return {"plan": asdict(self)}

    def halved(self) -> "Plan":
        """The same effective batch size with smaller batches, accumulated.

        Raises:
            UserError: not even one image fits.
        """
        if self.batch_size == 1:
            raise UserError(
                "Not even one image fits into the memory of the device. Choose a smaller backbone or --image_size, "
                "--precision bf16, or --gradient_checkpointing."
            )
        smaller = next(size for size in range(self.batch_size // 2, 0, -1) if self.batch_size % size == 0)
        return replace(self, batch_size=smaller, accumulation=self.accumulation * self.batch_size // smaller)

    def set_on(self, args: TrainingArguments) -> None:
        """Make the Trainer follow the plan."""
        precision.set_on(args, self.precision)
        args.per_device_train_batch_size = self.batch_size
        args.gradient_accumulation_steps = self.accumulation
        args.max_steps = self.max_steps
        if not self.has_idle and args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = False


def steps_in(n_images: int, plan: Plan, args: TrainingArguments) -> int:
    """Optimizer steps of a run, counted as the Trainer does."""
    if plan.max_steps > 0:
        return plan.max_steps
    return math.ceil(args.num_train_epochs * steps_per_epoch(n_images, plan, args))


def steps_per_epoch(n_images: int, plan: Plan, args: TrainingArguments) -> int:
    """Optimizer steps in which every training image is used once."""
    batches = math.ceil(n_images / (plan.batch_size * args.world_size))
    return max(1, math.ceil(batches / plan.accumulation))


def seconds_of(plan: Plan, args: TrainingArguments, counts: Mapping[str, int]) -> float | None:
    """Estimated seconds of one run.

    Args:
        plan: with its timings.
        args: of the Trainer.
        counts: number of images by split.
    """
    if plan.step_s is None or plan.image_s is None:
        return None
    n_steps = steps_in(counts["train"], plan, args)
    n_evaluations = math.ceil(n_steps / steps_per_epoch(counts["train"], plan, args))
    n_evaluated = counts["validation"] * (n_evaluations + 1) + counts["test"]
    saving_s = math.ceil(n_steps / _steps_between_saves(counts["train"], plan, args)) * plan.save_s
    return n_steps * plan.step_s + n_evaluated * plan.image_s / args.world_size + saving_s


def _steps_between_saves(n_images: int, plan: Plan, args: TrainingArguments) -> float:
    """Optimizer steps from one checkpoint to the next, infinity if none is written."""
    if args.save_strategy == "no":
        return math.inf
    every = args.save_steps if args.save_strategy == "steps" else steps_per_epoch(n_images, plan, args)
    return every if every >= 1 else math.ceil(every * steps_in(n_images, plan, args))


def make(
    model: PreTrainedModel,
    args: TrainingArguments,
    *,
    load: Callable[[int], torch.Tensor],
    counts: Mapping[str, int],
    wanted: str,
    limit_s: float | None,
) -> Plan:
    """The plan for a run, from a few timed steps; the same in all processes.

    Args:
        model: as it will be trained.
        args: of the Trainer.
        load: returns n training images as `pixel_values` [n, 3, H, W].
        counts: number of images by split, and of `FEATURES`.
        wanted: fp32, bf16, fp16 or auto.
        limit_s: time limit of one run in seconds.

    Raises:
        UserError: not even one image fits into memory, or not even one step into the limit.
    """
    device = args.device
    asked = precision.asked_for(args)
    if asked not in (None, wanted) and wanted != "auto":
        raise UserError(f"--precision {wanted} and {asked} contradict each other; leave one out.")
    is_fixed = wanted != "auto" or asked is not None
    chosen = asked or (precision.of_accelerator(device) if wanted == "auto" else wanted)
    plan = Plan(
        precision.require(chosen, device),
        args.per_device_train_batch_size,
        args.gradient_accumulation_steps,
        args.max_steps,
        None,
        None,
    )
    if args.process_index == 0:
        beside = Path(args.output_dir).parent  # Where the run will be; an existing model is not touched.
        plan = replace(plan, save_s=timing.seconds_to_save(_checkpoint_bytes(model), beside))
    if not recipe.is_divided(args):  # Sharded, because it may not fit on one device.
        model.to(device)
        plan = _timed(plan, model, args, load, counts)
        if device.type == "cpu" and not is_fixed:
            plan = _perhaps_bf16(plan, model, args, load, counts)
        if args.world_size > 1:
            plan = replace(plan, has_idle=timing.has_idle(model, load(1), plan.precision))
    if args.world_size > 1:
        plans = gather_object([plan])
        plan = replace(min(plans, key=lambda one: one.batch_size), save_s=max(one.save_s for one in plans))
        (plan,) = broadcast_object_list([plan])
    return plan if limit_s is None else _limited(plan, args, counts, limit_s)


def _timed(
    plan: Plan,
    model: PreTrainedModel,
    args: TrainingArguments,
    load: Callable[[int], torch.Tensor],
    counts: Mapping[str, int],
) -> Plan:
    largest = _CPU_SAMPLE if args.device.type == "cpu" else plan.batch_size
    while True:
        n_sample = min(counts["train"], plan.batch_size, largest)
        try:
            load_s, batch = _load_seconds(load, n_sample, args.device)
            compute_s = timing.step_seconds(model, batch, plan.precision) / n_sample
            look_s = timing.image_seconds(model, batch, plan.precision)
            break
        except RuntimeError as error:
            if not precision.is_out_of_memory(error):
                raise
        plan, batch = plan.halved(), None
        precision.free_memory()
    # Loading alternates with the steps, unless other processes load or an accelerator computes.
    n_loaders = args.dataloader_num_workers or int(args.device.type != "cpu")
    both = (lambda own: max(own, load_s / n_loaders)) if n_loaders else (lambda own: own + load_s)
    n_images = min(plan.batch_size * plan.accumulation, counts["train"])
    return replace(plan, step_s=both(compute_s) * n_images, image_s=both(look_s))


def _load_seconds(load: Callable[[int], torch.Tensor], n: int, device: torch.device) -> tuple[float, torch.Tensor]:
    """Seconds per image until it is ready for the model, and the `n` images [n, 3, H, W] on the device."""
    load(n)  # The first call also allocates and chooses kernels.
    timing.wait_for(device)
    start = time.perf_counter()
    images = load(n).to(device)
    timing.wait_for(device)
    return (time.perf_counter() - start) / n, images


def _perhaps_bf16(
    plan: Plan,
    model: PreTrainedModel,
    args: TrainingArguments,
    load: Callable[[int], torch.Tensor],
    counts: Mapping[str, int],
) -> Plan:
    if not precision.cpu_has_bf16() or (seconds_of(plan, args, counts) or 0.0) < precision.CPU_MIN_RUN_S:
        return plan
    other = _timed(replace(plan, precision=precision.BF16), model, args, load, counts)
    return other if plan.step_s > precision.CPU_GAIN * other.step_s else plan


def _limited(plan: Plan, args: TrainingArguments, counts: Mapping[str, int], limit_s: float) -> Plan:
    """`plan` with the number of steps that fit into the limit, at most those asked for."""
    if plan.step_s is None:
        return plan
    per_epoch = steps_per_epoch(counts["train"], plan, args)
    at_end_s = (counts["validation"] + counts["test"]) * plan.image_s / args.world_size
    evaluation_s = counts["validation"] * plan.image_s / args.world_size
    save_every = _steps_between_saves(counts["train"], plan, args)
    last_save_s = plan.save_s if math.isfinite(save_every) else 0.0
    with_rest_s = plan.step_s + evaluation_s / per_epoch + plan.save_s / save_every
    left_s = limit_s * _SAFETY - at_end_s - last_save_s
    probe_s = counts.get(FEATURES, 0) * plan.image_s / args.world_size
    # Where the features of a probe would leave less than an epoch, there is no probe, see `runs`.
    n_steps = max(int((left_s - probe_s) / with_rest_s), min(int(left_s / with_rest_s), max(1, per_epoch - 1)))
    if n_steps < 1:
        raise UserError(
            f"--time_limit leaves {limit_s:.0f} s per model; evaluation takes {at_end_s:.0f} s of it and a step "
            f"{plan.step_s:.1f} s. Give more minutes, a smaller backbone or fewer images."
        )
    return replace(plan, max_steps=min(n_steps, steps_in(counts["train"], plan, args)))


def disk_bytes(model: PreTrainedModel, n_newest: int | None) -> int:
    """The most that checkpoints and model occupy at one time: those kept, the one being written, and the result.

    Args:
        model: as it will be trained.
        n_newest: checkpoints that are kept in addition to the best one; None, which keeps all, counts as one.
    """
    weights = backbone.n_parameters(model)[0] * _BYTES_PER_WEIGHT
    return ((n_newest or 1) + 2) * _checkpoint_bytes(model) + weights


def _checkpoint_bytes(model: PreTrainedModel) -> int:
    total, trained = backbone.n_parameters(model)
    return (total + _ADAM_COPIES * trained) * _BYTES_PER_WEIGHT + _PROGRESS_BYTES


def screen(
    plan: Plan,
    model: PreTrainedModel,
    args: TrainingArguments,
    class_names: list[str],
    splits: "Mapping[str, datasets.Dataset]",
    *,
    n_runs: int,
    n_bytes: int,
) -> str:
    """A summary of the plan that fits on one screen.

    Args:
        plan: of each run.
        model: as it will be trained.
        args: of the Trainer.
        class_names: position is the label.
        splits: images by split.
        n_runs: models to train.
        n_bytes: disk space needed.
    """
    counts = {name: len(split) for name, split in splits.items()}
    total, trained = backbone.n_parameters(model)
    n_steps = steps_in(counts["train"], plan, args)
    n_epochs = n_steps / steps_per_epoch(counts["train"], plan, args)
    seconds = seconds_of(plan, args, counts)
    effective = plan.batch_size * plan.accumulation * args.world_size
    parts = {"accumulated": plan.accumulation, "processes": args.world_size}
    factors = [str(plan.batch_size), *(f"{n} {name}" for name, n in parts.items() if n > 1)]
    facts = {
        "backbone": f"{model.config.name_or_path or 'random weights'} ({model.config.model_type})",
        "parameters": f"{total:,}, {trained:,} of them trained",
        "device": f"{args.world_size} x {device_name(args)}, {plan.precision}",
        "batch": f"{effective}" + (f" = {' x '.join(factors)}" if len(factors) > 1 else ""),
        "steps": f"{n_steps:,} ({n_epochs:.1f} epochs)" + (f" for each of {n_runs} models" if n_runs > 1 else ""),
        "time": "not measured" if seconds is None else f"about {duration(seconds * n_runs)}",
        "disk": f"up to {n_bytes / 1e6:,.0f} MB",
    }
    return "\n".join(_count_lines(class_names, splits) + [f"{title:<12}{text}" for title, text in facts.items()])


def device_name(args: TrainingArguments) -> str:
    """The name of this process's device, for people."""
    if args.device.type == "cuda":
        return torch.cuda.get_device_name(args.device)
    return results.processor_name() if args.device.type == "cpu" else str(args.device)


_MAX_CLASS_LINES = 12


def _count_lines(class_names: list[str], splits: "Mapping[str, datasets.Dataset]") -> list[str]:
    labels = [split["label"][:] for split in splits.values()]
    width = max(12, *(len(name) + 1 for name in class_names[:_MAX_CLASS_LINES]))
    lines = [f"{'images':<{width}}" + "".join(f"{name:>11}" for name in splits)]
    for label, name in enumerate(class_names[:_MAX_CLASS_LINES]):
        lines.append(f"{name:<{width}}" + "".join(f"{own.count(label):>11,}" for own in labels))
    if len(class_names) > _MAX_CLASS_LINES:
        lines.append(f"... and {len(class_names) - _MAX_CLASS_LINES} more classes")
    lines.append(f"{'all':<{width}}" + "".join(f"{len(split):>11,}" for split in splits.values()))
    return lines


def duration(seconds: float) -> str:
    """Seconds in words.

    Example:
        >>> duration(40), duration(400), duration(40_020)
        ('40 s', '6 min 40 s', '11 h 7 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{max(1, whole)} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
