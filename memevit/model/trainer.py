"""The Trainer for images: prepares batches on the device, sets a learning rate per layer, and stops on a bad loss.

Written for Transformers 5.24. Everything that differs from a plain `Trainer` is in this file and uses its public hooks,
with one exception: `load_best_checkpoint` calls `_load_from_checkpoint`.
"""

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.trainer_utils import EvalPrediction

from memevit.errors import UserError
from memevit.model import balance, checkpoints, optimizer, precision, progress, sharding
from memevit.model.checkpoints import CheckpointKeeper
from memevit.model.image_dataset import ImageDataset, as_batch
from memevit.model.interruption import StopCallback, StopRequest
from memevit.model.recipe import Recipe, is_divided, selection_value

Batch = dict[str, Any]


class ImageTrainer(Trainer):
    """A Trainer whose batches are uint8 pixels until they are on the device.

    Args:
        prepare_batch: augments and normalises a batch; a batch that is prepared already passes unchanged.
        rate_of: the peak learning rate of every parameter by name, see `optimizer.rates`.
    """

    def __init__(
        self, *args: Any, prepare_batch: Callable[[Batch], Batch], rate_of: dict[str, float], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._prepare_batch = prepare_batch
        self._rate_of = rate_of
        self._copy_stream = torch.cuda.Stream(self.args.device) if copies_ahead(self.args) else None

    def model_inputs(self, batch: Batch) -> Batch:
        """A batch of one of the Trainer's loaders as the model takes it, on its device."""
        return self._prepare_batch({name: value.to(self.args.device) for name, value in batch.items()})

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor | int | None]:
        """The next batches on the device and their number of images.

        Overridden because no callback surrounds the copy to the device: on a GPU, copying and augmenting the next batch
        run in a separate stream while the GPU still computes the previous step.
        """
        if self._copy_stream is None:
            return super().get_batch_samples(epoch_iterator, num_batches, device)
        with torch.cuda.stream(self._copy_stream):
            batches, n_items = super().get_batch_samples(epoch_iterator, num_batches, device)
            if num_batches == 1:  # Accumulated batches wait as uint8 pixels, which take a quarter of the memory.
                batches = [self._prepare_batch(batch) for batch in batches]
        compute_stream = torch.cuda.current_stream(device)
        compute_stream.wait_stream(self._copy_stream)
        for value in [n_items, *(value for batch in batches for value in batch.values())]:
            if isinstance(value, torch.Tensor):
                value.record_stream(compute_stream)  # Otherwise a later batch could reuse its memory too early.
        return batches, n_items

    def compute_loss(self, model: nn.Module, inputs: Batch, *args: Any, **kwargs: Any) -> Any:
        """The loss of a batch, which is augmented and normalised first.

        Overridden because a collator runs in the loader's processes, before the batch is on the device.
        """
        return super().compute_loss(model, self._prepare_batch(inputs), *args, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of `args.optim` with a learning rate per layer.

        Overridden because the `optimizers` argument needs the parameters before FSDP replaces them.
        """
        if self.optimizer is None:
            chosen = self.model if model is None else model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, chosen)
            groups = optimizer.parameter_groups(chosen, self._rate_of, weight_decay=self.args.weight_decay)
            # The log shows the rate of the first group, which should be the one that --learning_rate names.
            groups.sort(key=lambda group: group["lr"] != self.args.learning_rate)
            self.optimizer_cls_and_kwargs = (optimizer_class, options | {"params": groups})
        return super().create_optimizer(model)

    def floating_point_ops(self, inputs: Batch) -> int:
        """Zero. Overridden because no argument turns the estimate off, which costs time in every step."""
        return 0

    def load_best_checkpoint(self, last: Path) -> None:
        """Restore the state at the end of a finished training: the best checkpoint, or `last` where none is chosen.

        `train(resume_from_checkpoint=...)` would take another step after early stopping, and no public method loads the
        weights alone.
        """
        self.state = TrainerState.load_from_json(str(last / checkpoints.STATE_FILE))
        best = checkpoints.best_in(last.parent, self.state) if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(str(best or last))


class EpochCallback(TrainerCallback):
    """Passes the epoch to the training dataset, which augments every epoch differently.

    The loader's own `set_epoch` reaches only the sampler when there are several processes.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Set the epoch, also when training resumes in the middle of one."""
        self._dataset.set_epoch(int(state.epoch or 0))


class FiniteLossCallback(TrainerCallback):
    """Stops all processes when the training loss is no longer finite.

    The loss that the Trainer logs is the mean over all processes, so all of them see the same value and stop at the
    same step. It is logged before every checkpoint and at the end, whatever `logging_steps` says, so that no checkpoint
    holds weights of a diverged run. This callback must come after those that ask for checkpoints.
    """

    def __init__(self) -> None:
        self._last_logged = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Remember where training starts."""
        self._last_logged = state.global_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Log before a checkpoint and after the last step."""
        if control.should_save or control.should_training_stop:
            control.should_log = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Log before the checkpoint of an epoch."""
        self.on_step_end(args, state, control)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Check the logged loss.

        Raises:
            UserError: it is not finite.
        """
        logs = kwargs.get("logs") or {}
        if "loss" not in logs:
            return
        first, self._last_logged = self._last_logged + 1, state.global_step
        if not math.isfinite(logs["loss"]):
            raise UserError(_divergence_message(logs["loss"], (first, state.global_step), logs["learning_rate"], args))


def _divergence_message(loss: float, steps: tuple[int, int], rate: float, args: TrainingArguments) -> str:
    advice = [f"a smaller --learning_rate ({args.learning_rate / 10:.1e} instead of {args.learning_rate:.1e})"]
    if args.fp16:
        advice.append("--precision bf16 or fp32, because fp16 overflows early")
    if not args.max_grad_norm:
        advice.append("--max_grad_norm 1")
    advice.append("a longer --warmup_steps")
    where = f"step {steps[0]}" if steps[0] == steps[1] else f"steps {steps[0]} to {steps[1]}"
    return (
        f"The training loss became {loss} in {where}, at a learning rate of {rate:.2e}. Earlier checkpoints are not "
        f"affected. Start again with --overwrite and {'; or '.join(advice)}."
    )


class TieBreakCallback(TrainerCallback):
    """Of evaluations with the same metric, lets the one with the lowest loss count as the best.

    Small validation splits often give equal metrics. The Trainer compares with `state.best_metric` right after
    `on_evaluate`; for a tie with a lower loss, that value is moved to the next worse number, and the Trainer restores
    it. This callback must come after `EarlyStoppingCallback`, for which a tie is no progress.
    """

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Prepare the comparison of the Trainer."""
        metrics = kwargs["metrics"]
        if not args.metric_for_best_model or selection_value(metrics, args) != state.best_metric:
            return
        losses = [row["eval_loss"] for row in state.log_history
                  if row["step"] == state.best_global_step and "eval_loss" in row]  # fmt: skip
        if losses and metrics["eval_loss"] < losses[-1]:
            worse = -math.inf if args.greater_is_better else math.inf
            state.best_metric = math.nextafter(state.best_metric, worse)


def disable_synchronisation(args: TrainingArguments) -> None:
    """Turn off what makes the host, or the copy stream, wait for the device in every step; before a Trainer is built.

    The NaN filter reads the loss of each step, and a blocking copy waits for all queued work. Counting the images of
    all processes is a collective inside `get_batch_samples`; accelerate gives every process batches of the same size,
    so the mean over the processes is the same without it.
    """
    args.logging_nan_inf_filter = False
    args.average_tokens_across_devices = False
    if copies_ahead(args):
        args.accelerator_config.non_blocking = True


def copies_ahead(args: TrainingArguments) -> bool:
    """Whether batches are copied to the device asynchronously, which needs CUDA and pinned memory."""
    return args.device.type == "cuda" and args.dataloader_pin_memory


def build_trainer(
    model: PreTrainedModel,
    image_processor: BaseImageProcessor,
    args: TrainingArguments,
    recipe: Recipe,
    *,
    train: ImageDataset,
    validation: ImageDataset,
    prepare_batch: Callable[[Batch], Batch],
    compute_metrics: Callable[[np.ndarray, np.ndarray], dict[str, float]],
    checkpoint: Path | None = None,
    request: StopRequest | None = None,
    title: str = "",
) -> ImageTrainer:
    """A Trainer for images that can be stopped and resumed at any step.

    Args:
        model: with a head for the classes of the datasets.
        image_processor: saved with every checkpoint.
        args: the Trainer's own arguments; changed.
        recipe: how the model is trained.
        train: augmented images.
        validation: images as in evaluation.
        prepare_batch: augments and normalises the uint8 pixels of a batch, on the device of the model.
        compute_metrics: from logits [n, C] and true class ids [n] to values by name.
        checkpoint: where training resumes, None to start.
        request: to stop; None if nobody can ask.
        title: of the progress bar.
    """
    _keep_parameter_names(model)
    if is_divided(args):
        sharding.prepare(model)
    disable_synchronisation(args)
    precision.agree_on_tf32()
    for dataset in (train, validation):
        dataset.is_pinned = copies_ahead(args)
    precision.choose_attention(model, precision.BF16 if args.bf16 else precision.FP32, args.device)

    def metrics_of(prediction: EvalPrediction) -> dict[str, float]:
        return compute_metrics(*prediction)

    n_classes = model.config.num_labels
    is_weighted = balance.is_weighted(recipe.class_balance, train.labels, n_classes=n_classes)
    n_newest = args.save_total_limit if (args.save_total_limit or 0) > 0 else None  # None keeps all, as the Trainer.
    args.save_total_limit = None  # The keeper removes old checkpoints, but only once the new one is sealed.
    args.restore_callback_states_from_checkpoint = True  # Early stopping counts on after an interruption.
    trainer = ImageTrainer(
        prepare_batch=prepare_batch,
        rate_of=optimizer.rates(
            model, rate=args.learning_rate, layer_decay=recipe.layer_decay, head_factor=recipe.head_factor
        ),
        compute_loss_func=balance.ClassificationLoss(
            balance.class_weights(train.labels, n_classes=n_classes) if is_weighted else None,
            label_smoothing=args.label_smoothing_factor,
        ),
        callbacks=[
            EpochCallback(train),
            *([EarlyStoppingCallback(recipe.early_stopping)] if recipe.early_stopping else []),
            TieBreakCallback(),
            CheckpointKeeper(n_newest=n_newest, seconds_before=checkpoints.seconds_until(checkpoint)),
            StopCallback(request or StopRequest()),
            FiniteLossCallback(),
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


def _keep_parameter_names(model: PreTrainedModel) -> None:
    """Make checkpoints carry the names that the parameters have in memory.

    Transformers 5 saves a ViT under the names of version 4, but its Trainer loads checkpoints with `load_state_dict`,
    which skips names that it does not know: a resumed run would start from random blocks, and the "best" model would be
    the last one (seen with 5.24). `training.save` writes the usual names again.
    """
    model.save_pretrained = functools.partial(model.save_pretrained, save_original_format=False)
