"""Keeps the device fed: batches are finished on it, and no step makes the host wait for it."""

from collections.abc import Iterator
from typing import Any

import torch
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from memevit.model.balance import BalancedOrder
from memevit.model.image_dataset import AugmentAndNormalise, ImageDataset


class FinishingTrainer(Trainer):
    """A Trainer whose batches are levels until they are on the device.

    Args:
        finish: makes arguments of the model of a batch.
    """

    def __init__(self, *args: Any, finish: AugmentAndNormalise, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._finish = finish
        self._copies = torch.cuda.Stream(self.args.device) if copies_ahead(self.args) else None

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], torch.Tensor | int | None]:
        """The next batches, on the device, and how many pictures they have.

        On a GPU they are copied and finished in a stream of their own, while it still computes the steps before.
        """
        if self._copies is None:
            return super().get_batch_samples(epoch_iterator, num_batches, device)
        with torch.cuda.stream(self._copies):
            batches, n_items = super().get_batch_samples(epoch_iterator, num_batches, device)
            if num_batches == 1:  # Finished ones are larger; those that wait for one another stay levels.
                batches = [self._finish(batch) for batch in batches]
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(self._copies)
        for value in [n_items, *(value for batch in batches for value in batch.values())]:
            if isinstance(value, torch.Tensor):
                value.record_stream(computing)  # Else a later batch could take its memory too early.
        return batches, n_items

    def finished(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of the loader as the model takes it, on its device."""
        return self._prepare_inputs(batch)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: the Trainer's estimate, pixels times weights, is not that of a ViT and takes time each step."""
        return 0

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return self._finish(super()._prepare_inputs(inputs))


class EpochCallback(TrainerCallback):
    """Tells the training pictures and their order which epoch begins, also when a run goes on in the middle of one."""

    def __init__(self, pictures: ImageDataset, order: BalancedOrder | None = None) -> None:
        self._pictures, self._order = pictures, order

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """The loader's own `set_epoch` is not enough: with several processes it stops at the sampler."""
        epoch = int(state.epoch or 0)
        self._pictures.set_epoch(epoch)
        if self._order is not None:
            self._order.set_epoch(epoch)


def never_wait(args: TrainingArguments) -> None:
    """Turn off what makes the host wait for the device in every step, before the Trainer is built.

    The filter looks at the loss of each step, and a copy that blocks waits for all the work before it.
    """
    args.logging_nan_inf_filter = False
    if copies_ahead(args):
        args.accelerator_config.non_blocking = True


def copies_ahead(args: TrainingArguments) -> bool:
    """Whether batches come to the device without anybody waiting: from pinned memory, which only CUDA has here."""
    return args.device.type == "cuda" and args.dataloader_pin_memory
