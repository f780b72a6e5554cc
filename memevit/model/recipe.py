"""How a model is trained: our own arguments, `TrainingArguments` with other defaults, and presets for both."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from memevit.errors import UserError
from memevit.model.augment import Augmentation, Mixing
from memevit.model.balance import Balance

# What is filled in where the reader gave nothing; benchmarks/recipe.py measures what each choice is worth.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"num_train_epochs": 5.0, "average_checkpoints": 1, "early_stopping": 0},
    "default": {"num_train_epochs": 20.0, "average_checkpoints": 1, "early_stopping": 0},
    "best": {"num_train_epochs": 50.0, "average_checkpoints": 5, "early_stopping": 0},
}
_EVERY_PRESET = {
    "min_area": 0.6, "max_stretch": 1.2, "colour": 0.2, "erasing": 0.0, "mixup": 0.0,
    "cutmix": 0.0,
}  # fmt: skip
_FINE_TUNING = {"layer_decay": 0.75, "head_factor": 10.0}
_FROM_SCRATCH = {"layer_decay": 1.0, "head_factor": 1.0}
_LORA = {"layer_decay": 1.0, "head_factor": 1.0}
# Peak rates. Those of pretrained networks are for ViT-B; a narrower one takes, and needs, more in proportion.
FINE_TUNING_RATE, LORA_RATE, FROM_SCRATCH_RATE = 2e-4, 5e-4, 1e-3
_USUAL_WIDTH = 768
METRICS = ("loss", "accuracy", "balanced_accuracy", "macro_f1")
_MAX_RATE = 3e-3
_MAX_SEED = 2**32 - 1


def _by_preset(name: str) -> str:
    values = [f"{preset} {PRESETS[preset][name]:g}" for preset in PRESETS]
    return f" By preset: {', '.join(values)}."


@dataclass
class RecipeArguments:
    """Which weights are trained, at which rates, on which variation of the pictures. What is None, the preset gives."""

    preset: Literal["quick", "default", "best"] = field(
        default="default", metadata={"help": "A set of values for what is not given: quick, default or best."}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Side in pixels of what the model sees; that of the backbone by default."}
    )
    freeze: str = field(
        default="none",
        metadata={"help": "`backbone` trains the head alone, on features computed once; a number freezes "
                  "the embeddings and so many of the lower blocks; `none` trains all."},
    )  # fmt: skip
    lora_rank: int | None = field(
        default=None, metadata={"help": "Train low-rank adapters of this rank, merged in the end, and the head."}
    )
    probe_first: bool = field(
        default=False, metadata={"help": "Start from a head that was fitted to the frozen backbone."}
    )
    layer_decay: float | None = field(
        default=None, metadata={"help": f"Learning rate of a block as a share of that of the block above it "
                                f"({_FINE_TUNING['layer_decay']} by default, 1 from scratch and with LoRA)."}
    )  # fmt: skip
    head_factor: float | None = field(
        default=None, metadata={"help": f"Learning rate of the head as a multiple of --learning_rate "
                                f"({_FINE_TUNING['head_factor']:g} by default, 1 from scratch and with LoRA)."}
    )  # fmt: skip
    class_balance: Balance = field(
        default="auto",
        metadata={"help": "Unequal classes: weights in the loss, a sampler that draws them alike, none; "
                  "auto takes weights when the largest class has 1.5 times as many pictures as the smallest."},
    )  # fmt: skip
    early_stopping: int | None = field(
        default=None, metadata={"help": "Stop after so many evaluations without progress; 0 never stops early."}
    )
    average_checkpoints: int | None = field(
        default=None, metadata={"help": "End with the mean of so many best checkpoints if it is no worse on "
                                "validation; 1 takes the best." + _by_preset("average_checkpoints")}
    )  # fmt: skip
    min_area: float | None = field(default=None, metadata={"help": "Smallest share of a picture that a crop keeps."})
    max_stretch: float | None = field(default=None, metadata={"help": "Largest change of a crop's proportions."})
    colour: float | None = field(
        default=None, metadata={"help": "Largest change of brightness, contrast and saturation, as a share."}
    )
    erasing: float | None = field(default=None, metadata={"help": "Probability that a patch of a picture is erased."})
    mixup: float | None = field(
        default=None, metadata={"help": "Parameter of the Beta distribution by which pairs are blended; 0 never."}
    )
    cutmix: float | None = field(
        default=None, metadata={"help": "The same for pasting a part of one picture into another; 0 never."}
    )

    def __post_init__(self) -> None:
        if self.freeze not in ("none", "backbone") and not self.freeze.isdecimal():
            raise UserError(f"--freeze takes none, backbone or a number of blocks, got {self.freeze!r}.")
        _require("image_size", self.image_size, at_least=16)
        _require("lora_rank", self.lora_rank, at_least=1)
        _require("layer_decay", self.layer_decay, above=0.0, at_most=1.0)
        _require("head_factor", self.head_factor, above=0.0)
        _require("early_stopping", self.early_stopping, at_least=0)
        _require("average_checkpoints", self.average_checkpoints, at_least=1)
        _require("min_area", self.min_area, above=0.0, at_most=1.0)
        _require("max_stretch", self.max_stretch, at_least=1.0)
        for name in ("colour", "erasing"):
            _require(name, getattr(self, name), at_least=0.0, at_most=1.0)
        for name in ("mixup", "cutmix"):
            _require(name, getattr(self, name), at_least=0.0)
        if self.lora_rank and self.freeze != "none":
            raise UserError("--lora_rank freezes the whole backbone already; leave --freeze out.")

    @property
    def is_probe(self) -> bool:
        """Whether the head alone is fitted."""
        return self.freeze == "backbone"

    @property
    def augmentation(self) -> Augmentation:
        """How each training picture is varied."""
        return Augmentation(self.min_area, self.max_stretch, self.colour, self.erasing)

    @property
    def mixing(self) -> Mixing:
        """How training pictures are mixed with one another."""
        return Mixing(self.mixup, self.cutmix)

    @property
    def n_frozen_blocks(self) -> int | None:
        """How many lower blocks keep their weights; None when not even the embeddings do."""
        return int(self.freeze) if self.freeze.isdecimal() else None


def _require(
    name: str, value: float | None, *, at_least: float | None = None, above: float | None = None,
    at_most: float | None = None,
) -> None:  # fmt: skip
    if value is None:
        return
    if at_least is not None and not value >= at_least:
        raise UserError(f"--{name} must be at least {at_least:g}, got {value:g}.")
    if above is not None and not value > above:
        raise UserError(f"--{name} must be larger than {above:g}, got {value:g}.")
    if at_most is not None and value > at_most:
        raise UserError(f"--{name} must be at most {at_most:g}, got {value:g}.")


@dataclass
class FineTuningArguments(TrainingArguments):
    """Every flag of the Transformers Trainer, with other defaults where memes ask for them."""

    output_dir: str | None = field(default=None, metadata={"help": "Model folder to write."})
    num_train_epochs: float | None = field(
        default=None, metadata={"help": "How often every training picture is seen." + _by_preset("num_train_epochs")}
    )
    learning_rate: float | None = field(
        default=None,
        metadata={"help": f"Peak learning rate of the uppermost block. By default {FINE_TUNING_RATE:g}, or "
                  f"{LORA_RATE:g} with LoRA, for a backbone {_USUAL_WIDTH} wide, and in proportion more for a "
                  f"narrower one; {FROM_SCRATCH_RATE:g} from scratch."},
    )  # fmt: skip
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "How the learning rate falls."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps, or share of all steps, in which it rises."})
    weight_decay: float = field(
        default=0.05, metadata={"help": "AdamW's weight decay, not for norms, biases, tokens and positions."}
    )
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Pictures per device and step."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Pictures per device in evaluation."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate on validation."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to write a checkpoint."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Newest checkpoints kept, besides the best one."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the best checkpoint."})
    metric_for_best_model: str | None = field(
        default="macro_f1", metadata={"help": "Validation metric that makes a checkpoint the best, or loss."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Steps between two lines of the training log."})
    report_to: None | str | list[str] = field(default="none", metadata={"help": "tensorboard, trackio, ... or none."})
    seed: int = field(default=0, metadata={"help": "Seeds weights of the head, order of pictures and augmentation."})
    remove_unused_columns: bool | None = field(default=False, metadata={"help": "Leave it: pictures are no columns."})

    def __post_init__(self) -> None:
        if not self.output_dir:
            raise UserError("--output_dir is missing: name the model folder to write.")
        for name in ("num_train_epochs", "learning_rate"):
            _require(name, getattr(self, name), above=0.0)
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            _require(name, getattr(self, name), at_least=1)
        for name in ("weight_decay", "warmup_steps", "max_grad_norm"):
            _require(name, getattr(self, name), at_least=0.0)
        _require("label_smoothing_factor", self.label_smoothing_factor, at_least=0.0, at_most=1.0)
        for name in ("seed", "data_seed"):
            _require(name, getattr(self, name), at_least=0, at_most=_MAX_SEED)
        for name in ("dataloader_drop_last", "prediction_loss_only", "batch_eval_metrics"):
            if getattr(self, name):
                raise UserError(f"--{name} would leave pictures out of what is measured; leave the flag out.")
        if self.metric_for_best_model and self.metric_for_best_model.removeprefix("eval_") not in METRICS:
            raise UserError(
                f"--metric_for_best_model takes {', '.join(METRICS[:-1])} or {METRICS[-1]}, got "
                f"{self.metric_for_best_model}."
            )
        if self.max_steps != -1:
            _require("max_steps", self.max_steps, at_least=1)
        super().__post_init__()
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()

    @property
    def n_gpu(self) -> int:
        """One device per process: several are for `accelerate launch`, not for the threads of one process."""
        return min(1, super().n_gpu)


def default_rate(*, from_scratch: bool, lora: bool, width: int | None) -> float:
    """The learning rate where none is given.

    Args:
        from_scratch: random weights.
        lora: adapters beside frozen weights.
        width: of the backbone's features, None when it is not known.

    Example:
        >>> default_rate(from_scratch=False, lora=False, width=128)
        0.0012
    """
    if from_scratch:
        return FROM_SCRATCH_RATE
    rate = (LORA_RATE if lora else FINE_TUNING_RATE) * _USUAL_WIDTH / (width or _USUAL_WIDTH)
    return float(f"{min(rate, _MAX_RATE):.2g}")


def complete(
    recipe: RecipeArguments, args: FineTuningArguments, *, from_scratch: bool, width: int | None = None
) -> RecipeArguments:
    """Fill in what the reader left open: `args` in place, the recipe as a copy.

    Args:
        recipe: as parsed.
        args: as parsed.
        from_scratch: whether the weights are random.
        width: of the backbone's features.

    Raises:
        UserError: two choices exclude each other.
    """
    kind = _FROM_SCRATCH if from_scratch else _LORA if recipe.lora_rank else _FINE_TUNING
    values = _EVERY_PRESET | PRESETS[recipe.preset] | kind
    if recipe.is_probe:
        args.num_train_epochs = 1.0  # Every picture is looked at once.
    elif args.num_train_epochs is None:
        args.num_train_epochs = values["num_train_epochs"]
    if args.learning_rate is None:
        args.learning_rate = default_rate(from_scratch=from_scratch, lora=bool(recipe.lora_rank), width=width)
    missing = {each.name for each in dataclasses.fields(recipe) if getattr(recipe, each.name) is None}
    recipe = dataclasses.replace(recipe, **{name: values[name] for name in missing & values.keys()})
    _check(recipe, args, from_scratch=from_scratch)
    return recipe


def _check(recipe: RecipeArguments, args: FineTuningArguments, *, from_scratch: bool) -> None:
    if from_scratch and (recipe.freeze != "none" or recipe.lora_rank or recipe.probe_first):
        raise UserError(
            "--from_scratch starts from random weights, which are worth nothing frozen: leave out --freeze, "
            "--lora_rank and --probe_first, or name a pretrained backbone with --model_name_or_path."
        )
    averages = recipe.average_checkpoints > 1
    needs_best = _flags(early_stopping=recipe.early_stopping > 0, average_checkpoints=averages)
    if needs_best and not (args.load_best_model_at_end and args.metric_for_best_model):
        raise UserError(f"{needs_best[0]} compares checkpoints on validation: leave --load_best_model_at_end on.")
    needs_whole = ["--freeze backbone"] if recipe.is_probe else []
    needs_whole += _flags(lora_rank=recipe.lora_rank, probe_first=recipe.probe_first, average_checkpoints=averages)
    if needs_whole and is_divided(args):
        instead = "set it to 1" if needs_whole[0] == "--average_checkpoints" else "leave it out"  # A preset may set it.
        raise UserError(f"{needs_whole[0]} needs whole weights in one place, and FSDP divides them: {instead}.")


def _flags(**is_on: object) -> list[str]:
    """The names of those that are on, as flags."""
    return [f"--{name}" for name, on in is_on.items() if on]


def is_divided(args: TrainingArguments) -> bool:
    """Whether FSDP divides the weights among the processes, of which only the first one loads them."""
    return bool(args.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"


def deciding_value(metrics: Mapping[str, float], args: TrainingArguments) -> float:
    """The value by which checkpoints are compared, among the `metrics` of an evaluation."""
    return metrics[f"eval_{args.metric_for_best_model.removeprefix('eval_')}"]
