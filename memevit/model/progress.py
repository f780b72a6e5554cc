"""How far the training is: a progress bar, and programs that draw curves while it runs."""

import time

from tqdm import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import integration_utils
from transformers.utils import logging as transformers_logging

from memevit.errors import UserError

_INSTALLED = {
    "tensorboard": integration_utils.is_tensorboard_available,
    "trackio": integration_utils.is_trackio_available,
    "wandb": integration_utils.is_wandb_available,
}
_SMOOTHING = 0.9  # Of images per second, from step to step.


def require_reporters(report_to: list[str]) -> None:
    """See that the programs of `--report_to` are there before anything is trained.

    Raises:
        UserError: one is not known or not installed.
    """
    for name in report_to:
        if name not in integration_utils.INTEGRATION_TO_CALLBACK:
            raise UserError(f"--report_to knows no {name!r}. Choose tensorboard, trackio or none.")
        if name in _INSTALLED and not _INSTALLED[name]():
            raise UserError(f"--report_to {name} needs a package that is not here: python -m pip install {name}")


class ProgressBar(TrainerCallback):
    """Steps, loss, images per second and validation in one line."""

    def __init__(self, title: str = "") -> None:
        self._title = title
        self._bar: tqdm | None = None
        self._shown: dict[str, str] = {}
        self._rate = 0.0
        self._last_s = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Open the bar at the step where the run goes on."""
        if state.is_world_process_zero:
            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc=self._title, unit="step", leave=True
            )

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Start the clock where it was stopped for an evaluation."""
        self._last_s = self._last_s or time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Move on by a step."""
        if self._bar is None:
            return
        now = time.monotonic()
        n_images = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        rate = n_images / max(now - self._last_s, 1e-9)
        self._rate = _SMOOTHING * self._rate + (1 - _SMOOTHING) * rate if self._rate else rate
        self._last_s = now
        self._show({"images/s": f"{self._rate:.0f}"})
        self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Show the newest loss and validation values."""
        logs = kwargs.get("logs") or {}
        names = {"loss": "loss", "eval_loss": "validation loss", "eval_accuracy": "accuracy"}
        self._show({title: f"{logs[name]:.3f}" for name, title in names.items() if name in logs})

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """The time of an evaluation does not count as that of a step."""
        self._last_s = 0.0

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, values: dict[str, str]) -> None:
        if self._bar is not None:
            self._shown |= values
            self._bar.set_postfix(self._shown, refresh=False)  # The bar decides when it is drawn again.


def show_on(trainer: Trainer, title: str) -> None:
    """Give `trainer` our bar in the place of its own, and no lines between unless there is no bar at all."""
    transformers_logging.disable_progress_bar()  # One for each checkpoint that is written.
    trainer.remove_callback(ProgressCallback)
    if not trainer.args.disable_tqdm:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(ProgressBar(title))
