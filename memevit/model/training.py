"""One training run: build the model, train it, predict, and save it."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.image_processing_utils import BaseImageProcessor

from memevit.errors import UserError
from memevit.model import backbone, balance, checkpoints, linear_probe, lora, preflight, resolution
from memevit.model.checkpoints import CheckpointKeeper
from memevit.model.recipe import Recipe
from memevit.model.trainer import ImageTrainer
from memevit.results import PROBE

logger = logging.getLogger(__name__)


def build_model(
    base_model: str, class_names: list[str], recipe: Recipe, *, from_scratch: bool, trust_remote_code: bool
) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """A backbone with a new head, frozen as the recipe says, and its image processor.

    Args:
        base_model: a Hub id or a local folder.
        class_names: position is the label.
        recipe: what is trained.
        from_scratch: random weights.
        trust_remote_code: run the code that comes with the backbone.
    """
    model, image_processor = backbone.load_for_training(
        base_model,
        class_names,
        from_scratch=from_scratch,
        image_size=recipe.image_size,
        trust_remote_code=trust_remote_code,
    )
    backbone.restrict(
        model, only_head=recipe.is_probe, n_frozen_blocks=recipe.n_frozen_blocks, lora_rank=recipe.lora_rank
    )
    return model, image_processor


def require_optimizer(args: TrainingArguments) -> None:
    """Check that the optimizer of `args.optim` is available.

    Raises:
        UserError: its package is missing, or it cannot be used here.
    """
    try:
        Trainer.get_optimizer_cls_and_kwargs(args)
    except (ImportError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--optim {args.optim.value} can't be used: {reason}") from error


def train(
    trainer: ImageTrainer,
    recipe: Recipe,
    checkpoint: Path | None,
    *,
    base_model: str,
    from_scratch: bool,
    store: linear_probe.Store,
) -> dict[str, Any]:
    """Train, load the best checkpoint, and return the sections `training` and `history` of results.json.

    Args:
        trainer: from `trainer.build_trainer`.
        recipe: how the model is trained.
        checkpoint: where training resumes, None to start.
        base_model: name of the backbone, for the record.
        from_scratch: whether it started from random weights.
        store: where features for a linear probe are kept.
    """
    start = time.monotonic()
    if recipe.is_probe or (recipe.probe_first and checkpoint is None):
        labels, n_classes = trainer.train_dataset.labels, trainer.model.config.num_labels
        weighted = balance.is_weighted(recipe.class_balance, labels, n_classes=n_classes)
        linear_probe.fit_head(trainer, store, weighted=weighted)
    seconds = time.monotonic() - start
    if not recipe.is_probe:
        seconds += _train_weights(trainer, checkpoint)
    section = _record(trainer, recipe, seconds)
    section |= {"from_scratch": from_scratch, "base_model": backbone.name_without_folders(base_model)}
    return {"training": section, "history": _history(trainer.state.log_history)}


def _train_weights(trainer: ImageTrainer, checkpoint: Path | None) -> float:
    """Train by gradient descent, load the best checkpoint, and return the training time, earlier parts included."""
    if checkpoint is not None and checkpoints.is_last(checkpoint) and not trainer.is_fsdp_enabled:
        trainer.load_best_checkpoint(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    (keeper,) = (callback for callback in trainer.callback_handler.callbacks if isinstance(callback, CheckpointKeeper))
    return keeper.seconds


def _record(trainer: ImageTrainer, recipe: Recipe, seconds: float) -> dict[str, Any]:
    state, args = trainer.state, trainer.args
    model = trainer.accelerator.unwrap_model(trainer.model)
    total, trainable = backbone.n_parameters(model)
    total -= sum(weight.numel() for name, weight in model.named_parameters() if ".lora_" in name)  # Merged when saved.
    return {
        "seconds": round(seconds, 1),
        "hardware": hardware(args),
        "n_steps": state.global_step,
        "n_epochs": round(state.epoch or 0.0, 2),
        "best_step": (args.load_best_model_at_end and state.best_global_step) or state.global_step,
        "method": method(recipe),
        "n_parameters": total,
        "n_trainable_parameters": trainable,
        "learning_rate": None if recipe.is_probe else args.learning_rate,
        "batch_size": None
        if recipe.is_probe
        else args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "precision": "bf16" if args.bf16 and not recipe.is_probe else "fp16" if args.fp16 else "fp32",
        "seed": args.seed,
        "image_size": resolution.side_of(trainer.processing_class),
    }


def as_probe(section: Mapping[str, Any], *, n_trainable: int) -> dict[str, Any]:
    """The section `training` of a model that was trained, but of which a linear probe is saved.

    Args:
        section: of the training.
        n_trainable: parameters of the head.
    """
    unused = dict.fromkeys(("best_step", "learning_rate", "batch_size"))
    own = {"method": PROBE, "n_steps": 0, "n_epochs": 0.0, "n_trainable_parameters": n_trainable, "precision": "fp32"}
    return {**section, **unused, **own}


def _history(log: list[dict[str, Any]]) -> list[dict[str, float]]:
    names = {"loss": "train_loss"}
    evaluated = ("eval_loss", "eval_calibrated_loss", "eval_accuracy", "eval_macro_f1")
    wanted = ("step", "epoch", "loss", "learning_rate", *evaluated)
    rows = [{names.get(key, key): float(row[key]) for key in wanted if key in row} for row in log]
    return [row for row in rows if "train_loss" in row or "eval_loss" in row]


def method(recipe: Recipe) -> str:
    """What was trained, for the model card.

    Example:
        >>> from types import SimpleNamespace
        >>> method(SimpleNamespace(is_probe=False, lora_rank=8, n_frozen_blocks=None))
        'LoRA of rank 8'
    """
    if recipe.is_probe:
        return PROBE
    if recipe.lora_rank:
        return f"LoRA of rank {recipe.lora_rank}"
    frozen = recipe.n_frozen_blocks
    return "all weights" if frozen is None else f"all weights above block {frozen}"


def hardware(args: TrainingArguments) -> str:
    """The devices that trained, for the model card."""
    name = preflight.device_name(args)
    return name if args.device.type == "cpu" and args.world_size == 1 else f"{args.world_size} x {name}"


def save(trainer: Trainer, image_processor: BaseImageProcessor, model_dir: Path) -> None:
    """Write model and image processor as an ordinary Transformers checkpoint in fp32; called by all processes."""
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    lora.merge(model)
    weights = trainer.accelerator.get_state_dict(trainer.model) if trainer.is_fsdp_enabled else model.state_dict()
    if not trainer.is_world_process_zero():
        return
    del model.save_pretrained  # Back to the parameter names that every version of Transformers reads.
    in_fp32 = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    backbone.save_checkpoint(model, image_processor, model_dir, state_dict=in_fp32)
