"""Fine-tuning with the Transformers Trainer."""

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.image_processing_utils import BaseImageProcessor
from transformers.trainer_utils import EvalPrediction

from memevit import results
from memevit.model import backbone, feed
from memevit.model.transforms import Finish, PictureDataset, as_batch

logger = logging.getLogger(__name__)


def build_trainer(
    model: PreTrainedModel,
    image_processor: BaseImageProcessor,
    args: TrainingArguments,
    *,
    train: PictureDataset,
    validation: PictureDataset,
    finish: Finish,
    compute_metrics: Callable[[np.ndarray, np.ndarray], dict[str, float]],
) -> Trainer:
    """A Trainer for pictures.

    Args:
        model: with a head for the classes of the datasets.
        image_processor: saved with every checkpoint.
        args: the Trainer's own arguments.
        train: varied pictures.
        validation: pictures as in evaluation.
        finish: makes values of the levels that the datasets give, on the device of the model.
        compute_metrics: from predicted and true class ids, both [n], to values by name.
    """
    _keep_parameter_names(model)
    feed.never_wait(args)
    feed.choose_attention(model, args)

    def metrics_of(prediction: EvalPrediction) -> dict[str, float]:
        logits, labels = prediction
        return compute_metrics(np.argmax(logits, axis=-1), labels)

    return feed.FinishingTrainer(
        finish=finish,
        callbacks=[feed.EpochCallback(train)],
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=image_processor,
        compute_metrics=metrics_of,
        data_collator=as_batch,
    )


def _keep_parameter_names(model: PreTrainedModel) -> None:
    """Make checkpoints carry the names that the parameters have in memory.

    Transformers 5 saves a ViT under the names of version 4, but its Trainer loads checkpoints with `load_state_dict`,
    which skips names that it does not know: a resumed run would start from random blocks, and the "best" model would be
    the last one (seen with 5.24). `save` writes the usual names again.
    """
    model.save_pretrained = functools.partial(model.save_pretrained, save_original_format=False)


def train(trainer: Trainer, *, base_model: str, from_scratch: bool) -> dict[str, Any]:
    """Train, end with the best checkpoint, and return the sections `training` and `history` of results.json.

    Args:
        trainer: from `build_trainer`.
        base_model: name of the backbone, for the record.
        from_scratch: whether it started from random weights.
    """
    start = time.monotonic()
    trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    seconds = time.monotonic() - start
    state, args = trainer.state, trainer.args
    total, trainable = backbone.n_parameters(trainer.accelerator.unwrap_model(trainer.model))
    training = {
        "seconds": round(seconds, 1),
        "hardware": hardware(args),
        "n_steps": state.global_step,
        "n_epochs": round(state.epoch or 0.0, 2),
        "best_step": state.best_global_step or state.global_step,
        "n_parameters": total,
        "n_trainable_parameters": trainable,
        "learning_rate": args.learning_rate,
        "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "seed": args.seed,
        "from_scratch": from_scratch,
        "base_model": base_model,
        "image_size": image_size(trainer.processing_class),
    }
    return {"training": training, "history": _history(state.log_history)}


def _history(log: list[dict[str, Any]]) -> list[dict[str, float]]:
    names = {"loss": "train_loss"}
    wanted = ("step", "epoch", "loss", "learning_rate", "eval_loss", "eval_accuracy", "eval_macro_f1")
    rows = [{names.get(key, key): float(row[key]) for key in wanted if key in row} for row in log]
    return [row for row in rows if "train_loss" in row or "eval_loss" in row]


def image_size(image_processor: BaseImageProcessor) -> int:
    """Side in pixels of the square that the model sees."""
    size = image_processor.size
    return int(size.get("height") or size.get("shortest_edge"))


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
    del model.save_pretrained  # Back to the names that every version of Transformers reads.
    model.to(torch.float32).save_pretrained(model_dir)
    image_processor.save_pretrained(model_dir)
