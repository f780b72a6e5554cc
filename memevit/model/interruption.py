"""Stop between two steps, with a checkpoint, on SIGTERM, Ctrl-C, or when the launcher was killed."""

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
from memevit.model.host_copy import HostCopy

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 600.0
_SAME_REQUEST_S = 3.0  # A launcher repeats the terminal's signal; only a later one means "at once".
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LAUNCHER_MARK = "ACCELERATE_MIXED_PRECISION"  # Set by `accelerate launch` for the processes that it starts.


class StopRequest:
    """The signal that this process has received; while `is_deferred`, it takes effect at the end of the step."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.is_deferred = False
        self._owner = os.getpid()
        self._launcher = os.getppid() if _LAUNCHER_MARK in os.environ else None
        self._first_s = 0.0

    @property
    def is_made(self) -> bool:
        """Whether to stop, also because the launcher was killed, which does not signal its children."""
        if self.signal is None and self._launcher not in (None, os.getppid()):
            logger.warning("accelerate launch is no longer running; stopping with a checkpoint.")
            self.signal = signal.SIGTERM
        return self.signal is not None

    def receive(self, number: int, _: object) -> None:
        """Handle a signal.

        Raises:
            Interrupted: there is no step to finish, or it is the second request.
        """
        if os.getpid() != self._owner:  # A worker of a data loader: its parent decides.
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
    """Record SIGTERM and Ctrl-C while the block runs."""
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
    """Requests a checkpoint when a stop was requested or the last checkpoint is old, and then stops in the first case.

    All processes act at the same step. This callback must come after the one that seals checkpoints.
    """

    def __init__(self, request: StopRequest) -> None:
        self._request = request
        self._is_stopping = False
        self._saved_s = time.monotonic()
        self._previous: HostCopy | None = None  # What the processes wanted after the previous step, summed.

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """From now on, a signal takes effect at the end of a step."""
        self._request.is_deferred = True
        self._saved_s = time.monotonic()
        self._previous = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Decide together whether to save now; after the last step the Trainer does so anyway.

        Several processes act on what they wanted one step earlier, so that none waits for the current step.
        """
        is_old = args.process_index == 0 and time.monotonic() - self._saved_s > CHECKPOINT_EVERY_S
        wanted = [float(self._request.is_made), float(is_old)]
        if args.world_size > 1:
            wanted = self._agreed(wanted, args.device)
        self._is_stopping = wanted[0] > 0
        if any(wanted) and not control.should_training_stop:
            control.should_save = True

    def _agreed(self, wanted: list[float], device: torch.device) -> list[float]:
        """The sum over all processes of what was `wanted` in the previous call."""
        previous = self._previous
        own = torch.tensor(wanted, pin_memory=device.type == "cuda").to(device, non_blocking=True)
        self._previous = HostCopy(accelerate.utils.reduce(own, "sum"))
        return [0.0] * len(wanted) if previous is None else previous.numpy().tolist()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Stop once the checkpoint is written.

        Raises:
            Interrupted: a stop was requested.
        """
        self._saved_s = time.monotonic()
        self._previous = None  # It asks for the checkpoint that was just written.
        if self._is_stopping:
            raise Interrupted(self._request.signal or signal.SIGTERM, step=state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """From now on, a signal takes effect at once: the rest takes little time and is repeated after a stop.

        Raises:
            Interrupted: a stop was requested in the last step.
        """
        self._request.is_deferred = False
        if self._request.is_made:
            raise Interrupted(self._request.signal or signal.SIGTERM, step=state.global_step)
