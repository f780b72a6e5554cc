"""A Trainer that notices when the loss is no number any more."""

import math
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from memevit.errors import UserError

_CHECK_EVERY = 10  # Losses.


class GuardedTrainer(Trainer):
    """Stops at the first loss that is not finite; `args.logging_nan_inf_filter`, which hides such a loss, is off.

    Losses are looked at a few together, on a GPU when they have come to the host meanwhile, which waits for them only
    before a checkpoint is written and at the end.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.args.logging_nan_inf_filter = False
        self._unseen: list[tuple[int, float, torch.Tensor]] = []  # Step, learning rate, loss.
        self._underway = _Underway([])

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """All steps; the last losses are looked at even where no checkpoint follows them.

        Raises:
            UserError: a loss is not finite.
        """
        done = super().train(*args, **kwargs)
        self._look_at_all()
        return done

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward pass.

        Raises:
            UserError: the loss is not finite.
        """
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._unseen.append((self.state.global_step + 1, self._get_learning_rate(), loss.detach()))
        if len(self._unseen) == _CHECK_EVERY:
            self._look()
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self._look_at_all()
        super()._save_checkpoint(*args, **kwargs)

    def _look_at_all(self) -> None:
        self._look()
        self._look()

    def _look(self) -> None:
        """See that the losses before the newest ones are finite, and send for those."""
        arriving, self._underway, self._unseen = self._underway, _Underway(self._unseen), []
        for step, rate, loss in arriving.losses():
            if not math.isfinite(loss):
                raise UserError(explanation(loss, step, rate, self.args))


class _Underway:
    """Losses on their way to the host, with step and learning rate."""

    def __init__(self, unseen: list[tuple[int, float, torch.Tensor]]) -> None:
        self._places = [(step, rate) for step, rate, _ in unseen]
        losses = torch.stack([loss for _, _, loss in unseen]) if unseen else torch.empty(0)
        self._arrival = torch.cuda.Event() if losses.is_cuda else None
        self._losses = losses.to("cpu", non_blocking=losses.is_cuda)
        if self._arrival is not None:
            self._arrival.record()

    def losses(self) -> list[tuple[int, float, float]]:
        """Step, learning rate and loss of each, when they are there."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return [(*place, loss) for place, loss in zip(self._places, self._losses.tolist(), strict=True)]


def explanation(loss: float, step: int, rate: float, args: TrainingArguments) -> str:
    """What happened, and what helps most often."""
    advice = [f"a smaller --learning_rate ({args.learning_rate / 10:.1e} instead of {args.learning_rate:.1e})"]
    if args.fp16:
        advice.append("--precision bf16 or fp32, for fp16 overflows early")
    if not args.max_grad_norm:
        advice.append("--max_grad_norm 1")
    advice.append("a longer --warmup_steps")
    return (
        f"The loss became {loss} in step {step}, at a learning rate of {rate:.2e}; what was saved before is whole. "
        f"Start anew with --overwrite and {'; or '.join(advice)}."
    )
