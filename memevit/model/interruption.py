"""Stopping between two steps: SIGTERM, Ctrl-C and a launcher that has gone are answered with a checkpoint."""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator

import accelerate.utils
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from memevit.errors import Interrupted

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 600.0
_SAME_REQUEST_S = 3.0  # A launcher repeats the terminal's signal; only a later one means "at once".
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LAUNCHER_MARK = "ACCELERATE_MIXED_PRECISION"  # Set by `accelerate launch` for the processes that it starts.


class StopRequest:
    """What this process has been asked; while `is_deferred`, a signal waits for the end of the step."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.is_deferred = False
        self._owner = os.getpid()
        self._launcher = os.getppid() if _LAUNCHER_MARK in os.environ else None
        self._first_s = 0.0

    @property
    def is_made(self) -> bool:
        """Whether to stop; also when the launcher was killed, whose signal does not reach its children."""
        if self.signal is None and self._launcher not in (None, os.getppid()):
            logger.warning("accelerate launch has gone; stopping with a checkpoint.")
            self.signal = signal.SIGTERM
        return self.signal is not None

    def receive(self, number: int, _: object) -> None:
        """Handle a signal.

        Raises:
            Interrupted: there is no step to finish, or it is the second request.
        """
        if os.getpid() != self._owner:  # A process that loads pictures: its parent decides.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._first_s = number, now
            if self.is_deferred:
                logger.warning("Stopping with a checkpoint after this step; a second signal stops at once.")
                return
        elif now - self._first_s < _SAME_REQUEST_S:
            return
        raise Interrupted(number)


@contextlib.contextmanager
def watched() -> Iterator[StopRequest]:
    """Note SIGTERM and Ctrl-C while the block runs."""
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        for number in _SIGNALS:
            signal.signal(number, request.receive)
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopCallback(TrainerCallback):
    """Asks the Trainer for a checkpoint when a stop is requested or the last one is old, and stops after the former.

    All processes act at the same step. It belongs behind the callback that completes checkpoints.
    """

    def __init__(self, request: StopRequest) -> None:
        self._request = request
        self._is_stopping = False
        self._saved_s = time.monotonic()
        self._underway: torch.Tensor | None = None  # What all processes wanted after the step before.

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """From here on a signal waits for the end of the step."""
        self._request.is_deferred = True
        self._saved_s = time.monotonic()
        self._underway = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Find out together whether to save now; after the very last step the Trainer does so anyway.

        Among several processes it is what they wanted a step ago: so nobody waits for the device.
        """
        is_old = args.process_index == 0 and time.monotonic() - self._saved_s > CHECKPOINT_EVERY_S
        wanted = [float(self._request.is_made), float(is_old)]
        if args.world_size > 1:
            wanted = self._agreed(wanted, args.device)
        self._is_stopping = wanted[0] > 0
        if any(wanted) and not control.should_training_stop:
            control.should_save = True

    def _agreed(self, wanted: list[float], device: torch.device) -> list[float]:
        """The sum over all processes of what was `wanted` in the call before."""
        before = self._underway
        own = torch.tensor(wanted, pin_memory=device.type == "cuda").to(device, non_blocking=True)
        self._underway = accelerate.utils.reduce(own, "sum")
        return [0.0] * len(wanted) if before is None else before.tolist()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Leave the Trainer when the checkpoint is there.

        Raises:
            Interrupted: a stop was requested.
        """
        self._saved_s = time.monotonic()
        self._underway = None  # It asks for what has just been done.
        if self._is_stopping:
            raise Interrupted(self._request.signal or signal.SIGTERM, step=state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """What comes now takes little time and is done again after a stop.

        Raises:
            Interrupted: a stop was requested in the last step.
        """
        self._request.is_deferred = False
        if self._request.is_made:
            raise Interrupted(self._request.signal or signal.SIGTERM, step=state.global_step)
