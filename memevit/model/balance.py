"""Classes with unequal numbers of pictures: weights in the loss, or an order of pictures that draws them alike."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Sampler
from transformers.utils import ModelOutput

Balance = Literal["auto", "none", "weights", "sampler"]
BALANCED_UP_TO = 1.5  # Largest class by smallest; below it `auto` leaves the classes as they are.


def chosen(balance: Balance, labels: Sequence[int], *, n_classes: int) -> Balance:
    """What `auto` comes to for these training labels; anything else stays as it is.

    Example:
        >>> chosen("auto", [0, 0, 0, 1, 1], n_classes=2), chosen("auto", [0, 0, 1], n_classes=2)
        ('none', 'weights')
    """
    if balance != "auto":
        return balance
    counts = np.bincount(labels, minlength=n_classes)
    present = counts[counts > 0]
    return "weights" if present.max() > BALANCED_UP_TO * present.min() else "none"


def class_weights(labels: Sequence[int], *, n_classes: int) -> torch.Tensor:
    """[C] weights with which every class counts the same in the loss; their mean over the pictures is 1.

    Example:
        >>> class_weights([0, 0, 0, 1], n_classes=2).tolist()
        [0.6666666865348816, 2.0]
    """
    counts = np.bincount(labels, minlength=n_classes)
    n_present = int((counts > 0).sum())
    return torch.tensor(len(labels) / (n_present * np.maximum(counts, 1)), dtype=torch.float32)


class BalancedOrder(Sampler[int]):
    """As many pictures of every class in an epoch; within a class each is drawn equally often, give or take one.

    The order depends on `seed` and the epoch alone, so that all processes, and a run that goes on, draw the same.
    """

    def __init__(self, labels: Sequence[int], *, seed: int) -> None:
        self._members = [np.flatnonzero(np.asarray(labels) == label) for label in np.unique(labels)]
        self._n = len(labels)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of another epoch; accelerate's loader calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self._seed, self._epoch])
        quota = -(-self._n // len(self._members))
        drawn = [self._draw(members, quota, random) for members in self._members]
        # Class by class in turn, so that cutting the surplus off takes at most one picture of a class.
        order = np.stack(drawn, axis=1).ravel()[: self._n]
        yield from random.permutation(order).tolist()

    def _draw(self, members: np.ndarray, quota: int, random: np.random.Generator) -> np.ndarray:
        rounds = -(-quota // len(members))
        # When a picture comes again its number lies beyond the last one: it is varied in another way.
        return np.concatenate([random.permutation(members) + again * self._n for again in range(rounds)])[:quota]


class ClassificationLoss:
    """Cross-entropy for the Trainer, of class ids [B] or of shares [B, C] that mixing pictures gives.

    Args:
        balance: how classes are balanced, not `auto`.
        weights: [C] from `class_weights`.
        label_smoothing: share of the probability that is spread over all classes in training.
    """

    def __init__(self, balance: Balance, weights: torch.Tensor, *, label_smoothing: float = 0.0) -> None:
        # A balanced order already makes classes count alike in training; validation pictures come as they are.
        self._in_training = weights if balance == "weights" else None
        self._in_evaluation = None if balance == "none" else weights
        self._label_smoothing = label_smoothing

    def __call__(
        self, outputs: ModelOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """The sum over the pictures divided by `num_items_in_batch`, which spans accumulated batches and devices."""
        logits = outputs["logits"].float()
        if self._in_evaluation is not None and self._in_evaluation.device != logits.device:
            self._in_evaluation = self._in_evaluation.to(logits.device)  # Once: a copy makes the host wait.
            self._in_training = None if self._in_training is None else self._in_evaluation
        is_training = torch.is_grad_enabled()
        weights = self._in_training if is_training else self._in_evaluation
        total = functional.cross_entropy(
            logits,
            labels,
            weight=weights,
            reduction="sum",
            label_smoothing=self._label_smoothing if is_training else 0.0,
        )
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)
