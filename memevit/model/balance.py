"""Cross-entropy for classes with unequal numbers of images."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch.nn import functional
from transformers.utils import ModelOutput

Balance = Literal["auto", "none", "weights"]
BALANCED_UP_TO = 1.5  # Size of the largest class divided by the smallest; `auto` leaves classes within it unweighted.


def is_weighted(balance: Balance, labels: Sequence[int], *, n_classes: int) -> bool:
    """Whether classes are weighted in the loss for these training labels.

    Example:
        >>> is_weighted("auto", [0, 0, 0, 1, 1], n_classes=2), is_weighted("auto", [0, 0, 1], n_classes=2)
        (False, True)
    """
    if balance != "auto":
        return balance == "weights"
    counts = np.bincount(labels, minlength=n_classes)
    present = counts[counts > 0]
    return bool(present.max() > BALANCED_UP_TO * present.min())


def class_weights(labels: Sequence[int], *, n_classes: int) -> torch.Tensor:
    """[C] weights with which every class contributes equally to the loss; their mean over the images is 1.

    Example:
        >>> class_weights([0, 0, 0, 1], n_classes=2).tolist()
        [0.6666666865348816, 2.0]
    """
    counts = np.bincount(labels, minlength=n_classes)
    n_present = int((counts > 0).sum())
    return torch.tensor(len(labels) / (n_present * np.maximum(counts, 1)), dtype=torch.float32)


class ClassificationLoss:
    """Cross-entropy for the Trainer, for class ids [B] or the class shares [B, C] that mixup and cutmix give.

    Args:
        weights: [C] from `class_weights`; None weighs all images equally.
        label_smoothing: share of the probability that is spread over all classes in training.
    """

    def __init__(self, weights: torch.Tensor | None, *, label_smoothing: float = 0.0) -> None:
        self._weights = weights
        self._label_smoothing = label_smoothing

    def __call__(
        self, outputs: ModelOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """The sum over the images divided by `num_items_in_batch`, which counts all accumulated batches."""
        logits = outputs["logits"].float()
        if self._weights is not None and self._weights.device != logits.device:
            self._weights = self._weights.to(logits.device)  # Only once, because a copy makes the host wait.
        smoothing = self._label_smoothing if torch.is_grad_enabled() else 0.0
        total = functional.cross_entropy(
            logits, labels, weight=self._weights, reduction="sum", label_smoothing=smoothing
        )
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)
