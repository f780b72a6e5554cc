"""A Trainer that notices when the loss is no number any more."""

from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from memevit.errors import UserError

_CHECK_EVERY = 10  # Steps; reading a loss makes the host wait for an accelerator.


class GuardedTrainer(Trainer):
    """Stops at the first loss that is not finite; `args.logging_nan_inf_filter`, which hides such a loss, is off.

    Losses are looked at a few together, and always before a checkpoint is written.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.args.logging_nan_inf_filter = False
        self._unseen: list[tuple[int, float, torch.Tensor]] = []  # Step, learning rate, loss.

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward pass.

        Raises:
            UserError: the loss is not finite.
        """
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._unseen.append((self.state.global_step + 1, self._get_learning_rate(), loss.detach()))
        if len(self._unseen) == _CHECK_EVERY:
            self._require_finite()
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self._require_finite()
        super()._save_checkpoint(*args, **kwargs)

    def _require_finite(self) -> None:
        unseen, self._unseen = self._unseen, []
        for step, rate, loss in unseen:
            if not torch.isfinite(loss):
                raise UserError(explanation(float(loss), step, rate, self.args))


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
