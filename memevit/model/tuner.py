"""The Trainer with a rate for every layer and an order of pictures of our own."""

from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from transformers import Trainer

from memevit.model import optimizer
from memevit.model.recipe import deciding_value


class FineTuner(Trainer):
    """A Trainer that asks for two things more.

    Args:
        rate_of: the peak learning rate of every parameter, see `optimizer.rates`.
        order: the order of training pictures; shuffled anew in every epoch when None.
    """

    def __init__(self, *args: Any, rate_of: dict[str, float], order: Sampler[int] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rate_of = rate_of
        self._order = order

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer that the arguments name, with groups of parameters of our own."""
        if self.optimizer is None:
            chosen = self.model if model is None else model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, chosen)
            groups = optimizer.parameter_groups(chosen, self._rate_of, weight_decay=self.args.weight_decay)
            # The log shows the rate of the first group: that of the uppermost block, which the reader gave.
            groups.sort(key=lambda group: group["lr"] != self.args.learning_rate)
            self.optimizer_cls_and_kwargs = (optimizer_class, options | {"params": groups})
        return super().create_optimizer(model)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        return super()._get_train_sampler(train_dataset) if self._order is None else self._order

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Of equal evaluations the one with the lower loss is the better; few pictures often give equal ones."""
        if super()._determine_best_metric(metrics, trial):
            return True
        state = self.state
        if not self.args.metric_for_best_model or deciding_value(metrics, self.args) != state.best_metric:
            return False
        of_best = [row["eval_loss"] for row in state.log_history
                   if row["step"] == state.best_global_step and "eval_loss" in row]  # fmt: skip
        if not of_best or metrics["eval_loss"] >= of_best[-1]:
            return False
        state.best_global_step = state.global_step
        return True
