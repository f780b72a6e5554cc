"""Fine-tuning with the Transformers Trainer."""

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.trainer_utils import EvalPrediction

from memevit.errors import UserError
from memevit.model import (
    averaging,
    backbone,
    balance,
    checkpoints,
    feed,
    linear_probe,
    lora,
    optimizer,
    precision,
    preflight,
    progress,
    resolution,
    sharding,
)
from memevit.model.checkpoints import CheckpointKeeper
from memevit.model.guard import GuardedTrainer
from memevit.model.image_dataset import AugmentAndNormalise, ImageDataset, as_batch
from memevit.model.interruption import StopCallback, StopRequest
from memevit.model.recipe import RecipeArguments, is_divided
from memevit.model.tuner import FineTuner

logger = logging.getLogger(__name__)


class PictureTrainer(feed.FinishingTrainer, FineTuner, GuardedTrainer):
    """Finishes batches on the device, trains each layer at its own rate, and notices a loss that is no number."""


def build_model(
    base_model: str, class_names: list[str], recipe: RecipeArguments, *, from_scratch: bool, trust_remote_code: bool
) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """A backbone with a head, of which training changes what the recipe says, and its image processor.

    Args:
        base_model: a Hub id or a local folder.
        class_names: position is the label.
        recipe: completed.
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
    """See that the optimizer that `args` names is there.

    Raises:
        UserError: its package is missing, or it can't be used.
    """
    try:
        Trainer.get_optimizer_cls_and_kwargs(args)
    except (ImportError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--optim {args.optim.value} can't be used: {reason}") from error


def build_trainer(
    model: PreTrainedModel,
    image_processor: BaseImageProcessor,
    args: TrainingArguments,
    recipe: RecipeArguments,
    *,
    train: ImageDataset,
    validation: ImageDataset,
    finish: AugmentAndNormalise,
    compute_metrics: Callable[[np.ndarray, np.ndarray], dict[str, float]],
    checkpoint: Path | None = None,
    request: StopRequest | None = None,
    title: str = "",
) -> PictureTrainer:
    """A Trainer for pictures that can be stopped and go on at any step.

    Args:
        model: with a head for the classes of the datasets.
        image_processor: saved with every checkpoint.
        args: the Trainer's own arguments; changed.
        recipe: completed.
        train: varied pictures.
        validation: pictures as in evaluation.
        finish: makes values of the levels that the datasets give, on the device of the model.
        compute_metrics: from predicted and true class ids, both [n], to values by name.
        checkpoint: where training goes on, None to begin.
        request: to stop; None where nobody asks.
        title: of the progress bar.
    """
    _keep_parameter_names(model)
    if is_divided(args):
        sharding.prepare(model)
    feed.never_wait(args)
    for pictures in (train, validation):
        pictures.is_pinned = feed.copies_ahead(args)
    precision.choose_attention(model, precision.BF16 if args.bf16 else precision.FP32, args.device)

    def metrics_of(prediction: EvalPrediction) -> dict[str, float]:
        logits, labels = prediction
        return compute_metrics(np.argmax(logits, axis=-1), labels)

    n_classes = model.config.num_labels
    chosen = balance.chosen(recipe.class_balance, train.labels, n_classes=n_classes)
    order = balance.BalancedOrder(train.labels, seed=args.seed) if chosen == "sampler" else None
    n_newest = args.save_total_limit if (args.save_total_limit or 0) > 0 else None  # As the Trainer: all of them.
    keeper = CheckpointKeeper(n_newest=n_newest, seconds_before=checkpoints.seconds_until(checkpoint))
    args.save_total_limit = None  # The keeper's: it removes an old checkpoint only when the new one is safe.
    args.restore_callback_states_from_checkpoint = True  # Early stopping counts on after an interruption.
    trainer = PictureTrainer(
        finish=finish,
        rate_of=optimizer.rates(
            model, rate=args.learning_rate, layer_decay=recipe.layer_decay, head_factor=recipe.head_factor
        ),
        order=order,
        compute_loss_func=balance.ClassificationLoss(
            chosen,
            balance.class_weights(train.labels, n_classes=n_classes),
            label_smoothing=args.label_smoothing_factor,
        ),
        callbacks=[
            feed.EpochCallback(train, order),
            *_callbacks(recipe, args),
            keeper,
            StopCallback(request or StopRequest()),
        ],
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=image_processor,
        compute_metrics=metrics_of,
        data_collator=as_batch,
    )
    progress.show_on(trainer, title)
    return trainer


def _callbacks(recipe: RecipeArguments, args: TrainingArguments) -> list[TrainerCallback]:
    chosen: list[TrainerCallback] = []
    if recipe.early_stopping:
        chosen.append(EarlyStoppingCallback(recipe.early_stopping))
    if recipe.average_checkpoints > 1:
        greater_is_better = bool(args.greater_is_better)
        chosen.append(averaging.BestWeights(recipe.average_checkpoints, greater_is_better=greater_is_better))
    return chosen


def _keep_parameter_names(model: PreTrainedModel) -> None:
    """Make checkpoints carry the names that the parameters have in memory.

    Transformers 5 saves a ViT under the names of version 4, but its Trainer loads checkpoints with `load_state_dict`,
    which skips names that it does not know: a resumed run would start from random blocks, and the "best" model would be
    the last one (seen with 5.24). `save` writes the usual names again.
    """
    model.save_pretrained = functools.partial(model.save_pretrained, save_original_format=False)


def train(
    trainer: PictureTrainer,
    recipe: RecipeArguments,
    checkpoint: Path | None,
    *,
    base_model: str,
    from_scratch: bool,
    store: linear_probe.Store,
) -> dict[str, Any]:
    """Train, end with the best checkpoint, and return the sections `training` and `history` of results.json.

    Args:
        trainer: from `build_trainer`.
        recipe: completed.
        checkpoint: where training goes on, None to begin.
        base_model: name of the backbone, for the record.
        from_scratch: whether it started from random weights.
        store: where features for a linear probe are kept.
    """
    start = time.monotonic()
    if recipe.is_probe or (recipe.probe_first and checkpoint is None):
        labels, n_classes = trainer.train_dataset.labels, trainer.model.config.num_labels
        chosen = balance.chosen(recipe.class_balance, labels, n_classes=n_classes)
        linear_probe.fit_head(trainer, store, weighted=chosen != "none")
    seconds = time.monotonic() - start
    averaged = []
    if not recipe.is_probe:
        seconds += _train_weights(trainer, checkpoint)
        if recipe.average_checkpoints > 1:
            averaged = averaging.take_mean_if_better(trainer)
    section = _record(trainer, recipe, seconds) | {"averaged_steps": averaged}
    section |= {"from_scratch": from_scratch, "base_model": backbone.name_without_folders(base_model)}
    return {"training": section, "history": _history(trainer.state.log_history)}


def _train_weights(trainer: PictureTrainer, checkpoint: Path | None) -> float:
    """Train by gradient descent, end with the best checkpoint, and return the seconds, also those of earlier parts."""
    if checkpoint is not None and checkpoints.is_last(checkpoint) and not trainer.is_fsdp_enabled:
        _take_best(trainer, checkpoint)
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    (keeper,) = (callback for callback in trainer.callback_handler.callbacks if isinstance(callback, CheckpointKeeper))
    return keeper.seconds


def _record(trainer: PictureTrainer, recipe: RecipeArguments, seconds: float) -> dict[str, Any]:
    state, args = trainer.state, trainer.args
    model = trainer.accelerator.unwrap_model(trainer.model)
    total, trainable = backbone.n_parameters(model)
    total -= sum(weight.numel() for name, weight in model.named_parameters() if ".lora_" in name)  # Merged in the end.
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


def _take_best(trainer: Trainer, checkpoint: Path) -> None:
    """End as training ended: the Trainer itself would take another step after early stopping."""
    trainer.state = TrainerState.load_from_json(str(checkpoint / checkpoints.STATE_FILE))
    best = checkpoints.best_in(checkpoint.parent, trainer.state) if trainer.args.load_best_model_at_end else None
    trainer._load_from_checkpoint(str(best or checkpoint))


def _history(log: list[dict[str, Any]]) -> list[dict[str, float]]:
    names = {"loss": "train_loss"}
    wanted = ("step", "epoch", "loss", "learning_rate", "eval_loss", "eval_accuracy", "eval_macro_f1")
    rows = [{names.get(key, key): float(row[key]) for key in wanted if key in row} for row in log]
    return [row for row in rows if "train_loss" in row or "eval_loss" in row]


def method(recipe: RecipeArguments) -> str:
    """What was trained, as a reader would name it."""
    if recipe.is_probe:
        return "linear probe"
    if recipe.lora_rank:
        return f"LoRA of rank {recipe.lora_rank}"
    frozen = recipe.n_frozen_blocks
    return "all weights" if frozen is None else f"all weights above block {frozen}"


def hardware(args: TrainingArguments) -> str:
    """What the training ran on, as a reader would name it."""
    name = preflight.device_name(args)
    return name if args.device.type == "cpu" and args.world_size == 1 else f"{args.world_size} x {name}"


def save(trainer: Trainer, image_processor: BaseImageProcessor, model_dir: Path) -> None:
    """Write model and image processor as an ordinary Transformers checkpoint in fp32; called by all processes."""
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    lora.merge(model)
    weights = trainer.accelerator.get_state_dict(trainer.model) if trainer.is_fsdp_enabled else model.state_dict()
    if not trainer.is_world_process_zero():
        return
    del model.save_pretrained  # Back to the names that every version of Transformers reads.
    in_fp32 = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    model.save_pretrained(model_dir, state_dict=in_fp32)
    image_processor.save_pretrained(model_dir)
