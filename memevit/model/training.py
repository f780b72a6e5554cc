"""Fine-tuning with the Transformers Trainer."""

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.trainer_utils import EvalPrediction

from memevit import results
from memevit.model import averaging, backbone, balance, features, lora, optimizer, resolution
from memevit.model.recipe import RecipeArguments
from memevit.model.transforms import PictureDataset
from memevit.model.tuner import FineTuner

logger = logging.getLogger(__name__)


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


def build_trainer(
    model: PreTrainedModel,
    image_processor: BaseImageProcessor,
    args: TrainingArguments,
    recipe: RecipeArguments,
    *,
    train: PictureDataset,
    validation: PictureDataset,
    compute_metrics: Callable[[np.ndarray, np.ndarray], dict[str, float]],
) -> FineTuner:
    """A Trainer for pictures.

    Args:
        model: with a head for the classes of the datasets.
        image_processor: saved with every checkpoint.
        args: the Trainer's own arguments.
        recipe: completed.
        train: varied pictures.
        validation: pictures as in evaluation.
        compute_metrics: from predicted and true class ids, both [n], to values by name.
    """
    _keep_parameter_names(model)

    def metrics_of(prediction: EvalPrediction) -> dict[str, float]:
        logits, labels = prediction
        return compute_metrics(np.argmax(logits, axis=-1), labels)

    n_classes = model.config.num_labels
    chosen = balance.chosen(recipe.class_balance, train.labels, n_classes=n_classes)
    return FineTuner(
        rate_of=optimizer.rates(
            model, rate=args.learning_rate, layer_decay=recipe.layer_decay, head_factor=recipe.head_factor
        ),
        order=balance.BalancedOrder(train.labels, seed=args.seed) if chosen == "sampler" else None,
        compute_loss_func=balance.ClassificationLoss(
            chosen,
            balance.class_weights(train.labels, n_classes=n_classes),
            label_smoothing=args.label_smoothing_factor,
        ),
        callbacks=_callbacks(recipe, args),
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=image_processor,
        compute_metrics=metrics_of,
        data_collator=default_data_collator,
    )


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
    trainer: FineTuner, recipe: RecipeArguments, *, base_model: str, from_scratch: bool, store: features.Store
) -> dict[str, Any]:
    """Train, end with the best checkpoint, and return the sections `training` and `history` of results.json.

    Args:
        trainer: from `build_trainer`.
        recipe: completed.
        base_model: name of the backbone, for the record.
        from_scratch: whether it started from random weights.
        store: where features for a linear probe are kept.
    """
    start = time.monotonic()
    resumed = trainer.args.resume_from_checkpoint
    if recipe.is_probe or (recipe.probe_first and not resumed):
        labels, n_classes = trainer.train_dataset.labels, trainer.model.config.num_labels
        chosen = balance.chosen(recipe.class_balance, labels, n_classes=n_classes)
        features.fit_head(trainer, store, weighted=chosen != "none")
    averaged = []
    if not recipe.is_probe:
        trainer.train(resume_from_checkpoint=resumed)
        if recipe.average_checkpoints > 1:
            averaged = averaging.take_mean_if_better(trainer)
    seconds = time.monotonic() - start
    state, args = trainer.state, trainer.args
    total, trainable = backbone.n_parameters(trainer.accelerator.unwrap_model(trainer.model))
    training = {
        "seconds": round(seconds, 1),
        "hardware": hardware(args),
        "n_steps": state.global_step,
        "n_epochs": round(state.epoch or 0.0, 2),
        "best_step": state.best_global_step or state.global_step,
        "averaged_steps": averaged,
        "method": method(recipe),
        "n_parameters": total,
        "n_trainable_parameters": trainable,
        "learning_rate": args.learning_rate,
        "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "seed": args.seed,
        "from_scratch": from_scratch,
        "base_model": base_model,
        "image_size": resolution.side_of(trainer.processing_class),
    }
    return {"training": training, "history": _history(state.log_history)}


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
    if args.device.type == "cuda":
        return f"{args.world_size} x {torch.cuda.get_device_name(args.device)}"
    return results.processor_name() if args.device.type == "cpu" else str(args.device)


def predict_logits(trainer: Trainer, dataset: PictureDataset) -> np.ndarray:
    """[n, C] logits for every picture of `dataset`, in its order, each counted once however many devices there are."""
    logits = trainer.predict(dataset, metric_key_prefix="predict").predictions
    return np.asarray(logits, dtype=np.float64)


def save(trainer: Trainer, image_processor: BaseImageProcessor, model_dir: Path) -> None:
    """Write model and image processor as an ordinary Transformers checkpoint in fp32."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    lora.merge(model)
    del model.save_pretrained  # Back to the names that every version of Transformers reads.
    model.to(torch.float32).save_pretrained(model_dir)
    image_processor.save_pretrained(model_dir)
