"""How a model is trained: presets, the values that they fill in, and `TrainingArguments` with other defaults."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from transformers import TrainingArguments

from memevit.errors import UserError
from memevit.model.augment import Augmentation, Mixing
from memevit.model.balance import Balance
from memevit.ranges import MAX_SEED, require

# Values for what is not given; benchmarks/recipe.py measures what each of them is worth.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"num_train_epochs": 5.0},
    "default": {"num_train_epochs": 20.0},
    "best": {"num_train_epochs": 50.0},
}
_EVERY_PRESET = {
    "early_stopping": 0, "min_area": 0.6, "max_stretch": 1.2, "colour": 0.2, "erasing": 0.0, "mixup": 0.0,
    "cutmix": 0.0,
}  # fmt: skip
FINE_TUNING = {"layer_decay": 0.75, "head_factor": 10.0}
_FROM_SCRATCH = {"layer_decay": 1.0, "head_factor": 1.0}
_LORA = {"layer_decay": 1.0, "head_factor": 1.0}
# Peak learning rates. Those of pretrained networks are for ViT-B; narrower ones need more, in proportion.
FINE_TUNING_RATE, LORA_RATE, FROM_SCRATCH_RATE = 1e-4, 5e-4, 1e-3
_USUAL_WIDTH = 768
METRICS = ("loss", "calibrated_loss", "accuracy", "balanced_accuracy", "macro_f1")
_MAX_RATE = 3e-3
_EPOCHS_BY_PRESET = ", ".join(f"{name} {values['num_train_epochs']:g}" for name, values in PRESETS.items())


@dataclass(frozen=True)
class Recipe:
    """Which weights are trained, how fast, and how images are augmented; made by `complete`.

    `freeze` is `none`, `backbone` or a number of blocks. `image_size` and `lora_rank` are None where the backbone keeps
    its size and no adapters are trained. For the other values see `RecipeArguments`.
    """

    preset: str
    image_size: int | None
    freeze: str
    lora_rank: int | None
    probe_first: bool
    probe_if_better: bool
    layer_decay: float
    head_factor: float
    class_balance: Balance
    early_stopping: int
    min_area: float
    max_stretch: float
    colour: float
    erasing: float
    mixup: float
    cutmix: float

    @property
    def is_probe(self) -> bool:
        """Whether only the head is fitted."""
        return self.freeze == "backbone"

    @property
    def augmentation(self) -> Augmentation:
        """How each training image is augmented."""
        return Augmentation(self.min_area, self.max_stretch, self.colour, self.erasing)

    @property
    def mixing(self) -> Mixing:
        """How training images are mixed with one another."""
        return Mixing(self.mixup, self.cutmix)

    @property
    def n_frozen_blocks(self) -> int | None:
        """How many lower blocks keep their weights; None if the embeddings are trained, too."""
        return int(self.freeze) if self.freeze.isdecimal() else None


@dataclass
class FineTuningArguments(TrainingArguments):
    """Every flag of the Transformers Trainer, some with other defaults."""

    output_dir: str | None = field(default=None, metadata={"help": "Model folder to write."})
    num_train_epochs: float | None = field(
        default=None, metadata={"help": f"Passes over the training images. By preset: {_EPOCHS_BY_PRESET}."}
    )
    learning_rate: float | None = field(
        default=None,
        metadata={"help": f"Peak learning rate (top block). By default {FINE_TUNING_RATE:g}, or {LORA_RATE:g} with "
                  f"LoRA, for a backbone of width {_USUAL_WIDTH}, and proportionally more for a narrower one; "
                  f"{FROM_SCRATCH_RATE:g} from scratch."},
    )  # fmt: skip
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning rate schedule."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up steps, or their share of all steps."})
    weight_decay: float = field(
        default=0.05,
        metadata={"help": "Weight decay of AdamW; not applied to norms, biases, tokens and position embeddings."},
    )
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Images per device and step."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Images per device in evaluation."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate on validation."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to write a checkpoint."})
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Number of newest checkpoints to keep, in addition to the best one."}
    )
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Use the best checkpoint, not the last one."})
    metric_for_best_model: str | None = field(
        default="macro_f1", metadata={"help": f"Validation metric that chooses the checkpoint: {', '.join(METRICS)}."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Steps between two entries of the training log."})
    report_to: None | str | list[str] = field(default="none", metadata={"help": "tensorboard, trackio, ... or none."})
    seed: int = field(default=0, metadata={"help": "Seed of the new head, the order of images and the augmentation."})
    remove_unused_columns: bool | None = field(
        default=False, metadata={"help": "Has no effect here: images have no columns."}
    )

    def __post_init__(self) -> None:
        if not self.output_dir:
            raise UserError("--output_dir is missing: name the model folder to write.")
        for name in ("num_train_epochs", "learning_rate"):
            require(name, getattr(self, name), above=0.0)
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            require(name, getattr(self, name), at_least=1)
        for name in ("weight_decay", "warmup_steps", "max_grad_norm"):
            require(name, getattr(self, name), at_least=0.0)
        require("label_smoothing_factor", self.label_smoothing_factor, at_least=0.0, at_most=1.0)
        for name in ("seed", "data_seed"):
            require(name, getattr(self, name), at_least=0, at_most=MAX_SEED)
        for name in ("dataloader_drop_last", "prediction_loss_only", "batch_eval_metrics"):
            if getattr(self, name):
                raise UserError(f"--{name} would leave images out of the evaluation; leave the flag out.")
        if self.metric_for_best_model and self.metric_for_best_model.removeprefix("eval_") not in METRICS:
            raise UserError(
                f"--metric_for_best_model takes {', '.join(METRICS[:-1])} or {METRICS[-1]}, got "
                f"{self.metric_for_best_model}."
            )
        if self.max_steps != -1:
            require("max_steps", self.max_steps, at_least=1)
        super().__post_init__()
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()

    @property
    def n_gpu(self) -> int:
        """At most one device per process: `accelerate launch` starts a process for each."""
        return min(1, super().n_gpu)


def default_rate(*, from_scratch: bool, lora: bool, width: int | None) -> float:
    """The learning rate if none is given.

    Args:
        from_scratch: random weights.
        lora: adapters with frozen weights.
        width: of the backbone's features, None if unknown.

    Example:
        >>> default_rate(from_scratch=False, lora=False, width=128)
        0.0006
    """
    if from_scratch:
        return FROM_SCRATCH_RATE
    rate = (LORA_RATE if lora else FINE_TUNING_RATE) * _USUAL_WIDTH / (width or _USUAL_WIDTH)
    return float(f"{min(rate, _MAX_RATE):.2g}")


def complete(given: object, args: TrainingArguments, *, from_scratch: bool, width: int | None = None) -> Recipe:
    """Fill in what was not given, in `args` in place.

    Args:
        given: an object with the attributes of `Recipe`, None where the preset decides, such as `RecipeArguments`.
        args: `FineTuningArguments` as parsed.
        from_scratch: whether the weights are random.
        width: of the backbone's features.

    Raises:
        UserError: two choices exclude each other.
    """
    choices = {each.name: getattr(given, each.name) for each in fields(Recipe)}
    kind = _FROM_SCRATCH if from_scratch else _LORA if choices["lora_rank"] else FINE_TUNING
    values = _EVERY_PRESET | PRESETS[choices["preset"]] | kind
    recipe = Recipe(**{name: values.get(name) if value is None else value for name, value in choices.items()})
    if recipe.is_probe:
        args.num_train_epochs = 1.0  # Every image is used once.
    elif args.num_train_epochs is None:
        args.num_train_epochs = values["num_train_epochs"]
    if args.learning_rate is None:
        args.learning_rate = default_rate(from_scratch=from_scratch, lora=bool(recipe.lora_rank), width=width)
    _check(recipe, args, from_scratch=from_scratch)
    return recipe


def _check(recipe: Recipe, args: TrainingArguments, *, from_scratch: bool) -> None:
    if from_scratch and (recipe.freeze != "none" or recipe.lora_rank or recipe.probe_first):
        raise UserError(
            "--from_scratch starts from random weights, which are useless when frozen: leave out --freeze, "
            "--lora_rank and --probe_first, or name a pretrained backbone with --model_name_or_path."
        )
    if recipe.early_stopping and not (args.load_best_model_at_end and args.metric_for_best_model):
        raise UserError("--early_stopping compares checkpoints on validation: leave --load_best_model_at_end on.")
    needs_whole = {
        "--freeze backbone": recipe.is_probe, "--lora_rank": recipe.lora_rank, "--probe_first": recipe.probe_first
    }  # fmt: skip
    if is_divided(args) and any(needs_whole.values()):
        flag = next(flag for flag, is_on in needs_whole.items() if is_on)
        raise UserError(f"{flag} needs all weights in one process, but FSDP shards them: leave it out.")


def is_divided(args: TrainingArguments) -> bool:
    """Whether FSDP shards the weights over the processes, of which only the first one loads them."""
    return bool(args.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"


def selection_value(metrics: Mapping[str, float], args: TrainingArguments) -> float:
    """The value in the `metrics` of an evaluation that selects the checkpoint."""
    return metrics[f"eval_{args.metric_for_best_model.removeprefix('eval_')}"]
