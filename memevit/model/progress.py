"""A progress bar for training, and checks of the experiment trackers of `--report_to`."""

from tqdm import tqdm
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import integration_utils
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.utils import logging as transformers_logging

from memevit.errors import UserError

_INSTALLED = {
    "tensorboard": integration_utils.is_tensorboard_available,
    "trackio": integration_utils.is_trackio_available,
    "wandb": integration_utils.is_wandb_available,
}


def require_reporters(report_to: list[str]) -> None:
    """Check the trackers of `--report_to` before anything is trained.

    Raises:
        UserError: one is unknown or not installed.
    """
    for name in report_to:
        if name not in integration_utils.INTEGRATION_TO_CALLBACK:
            raise UserError(f"--report_to does not know {name!r}. Choose tensorboard, trackio or none.")
        if name in _INSTALLED and not _INSTALLED[name]():
            raise UserError(f"--report_to {name} needs a package that is not installed: python -m pip install {name}")


class ProgressBar(TrainerCallback):
    """Images, images per second, loss and validation metrics on one line; the Trainer's bar prints every log entry."""

    def __init__(self, title: str = "") -> None:
        self._title = title
        self._bar: tqdm | None = None
        self._shown: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Open the bar at the step where training starts or resumes."""
        if state.is_world_process_zero:
            n_images = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc=self._title, unit="image", unit_scale=n_images
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Advance by a step."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Show the latest loss and validation metrics."""
        if self._bar is not None:
            logs = kwargs.get("logs") or {}
            names = {"loss": "loss", "eval_loss": "validation loss", "eval_accuracy": "accuracy"}
            self._shown |= {title: f"{logs[name]:.3f}" for name, title in names.items() if name in logs}
            self._bar.set_postfix(self._shown, refresh=False)  # Redrawn with the next step.

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def show_on(trainer: Trainer, title: str) -> None:
    """Replace the Trainer's progress bar; log entries are printed only if there is no bar."""
    transformers_logging.disable_progress_bar()  # One for each checkpoint that is written.
    trainer.remove_callback(DEFAULT_PROGRESS_CALLBACK)  # Another one in a notebook than elsewhere.
    if not trainer.args.disable_tqdm:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(ProgressBar(title))
