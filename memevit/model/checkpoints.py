"""Checkpoints with checksums: incomplete and damaged ones are not used."""

import json
import logging
import os
import shutil
import time
from pathlib import Path

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from memevit import files

logger = logging.getLogger(__name__)

SEAL_FILE = "complete.json"
STATE_FILE = "trainer_state.json"


def step_of(checkpoint: Path) -> int:
    """The step after which it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def all_in(run_dir: Path) -> list[Path]:
    """Checkpoints, newest first, complete or not."""
    found = run_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    return sorted((path for path in found if path.name.rpartition("-")[2].isdigit()), key=step_of, reverse=True)


def seal(checkpoint: Path, *, seconds: float) -> None:
    """Flush all files to the disk, then write their checksums, which make the checkpoint valid.

    Args:
        checkpoint: folder written by the Trainer.
        seconds: training time so far, including that before an interruption.
    """
    paths = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != SEAL_FILE)
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    digests = {path.relative_to(checkpoint).as_posix(): files.sha256_of(path) for path in paths}
    files.write_text(checkpoint / SEAL_FILE, json.dumps({"seconds": round(seconds, 1), "sha256": digests}, indent=1))


def is_intact(checkpoint: Path) -> bool:
    """Whether it was sealed and every file still has its checksum."""
    try:
        digests = json.loads((checkpoint / SEAL_FILE).read_text(encoding="utf-8"))["sha256"]
        return all(files.sha256_of(checkpoint / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def seconds_until(checkpoint: Path | None) -> float:
    """Training time in seconds up to a sealed checkpoint."""
    if checkpoint is None:
        return 0.0
    return float(json.loads((checkpoint / SEAL_FILE).read_text(encoding="utf-8"))["seconds"])


def newest_intact(run_dir: Path) -> Path | None:
    """The checkpoint to resume from, None to start from the beginning. Damaged ones are removed with a warning."""
    intact = None
    for checkpoint in all_in(run_dir):
        if is_intact(checkpoint):
            intact = intact or checkpoint
            continue
        is_complete = (checkpoint / SEAL_FILE).is_file()
        what = "is damaged" if is_complete else "was not finished when the command was stopped"
        logger.warning("%s %s; it is removed and not used.", checkpoint, what)
        shutil.rmtree(checkpoint)
    return intact


def is_last(checkpoint: Path) -> bool:
    """Whether training was finished when it was written: all steps done, or stopped early."""
    state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    return bool(
        state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {}).get("should_training_stop")
    )


def best_in(run_dir: Path, state: TrainerState) -> Path | None:
    """The checkpoint with the best validation metric, None if it no longer exists."""
    best = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}"
    return best if state.best_global_step and best.is_dir() else None


def remove_unfinished(run_dir: Path) -> None:
    """Remove what a failed save has left behind, to make room on a full disk."""
    for checkpoint in all_in(run_dir):
        if not (checkpoint / SEAL_FILE).is_file():
            shutil.rmtree(checkpoint, ignore_errors=True)


class CheckpointKeeper(TrainerCallback):
    """Seals each checkpoint and only then removes older ones; the Trainer's own rotation must be off.

    Args:
        n_newest: how many to keep in addition to the best one; None keeps all.
        seconds_before: training time before this process.
    """

    def __init__(self, *, n_newest: int | None, seconds_before: float) -> None:
        self._n_newest = n_newest
        self._seconds_before = seconds_before
        self._start_s = time.monotonic()

    @property
    def seconds(self) -> float:
        """Training time, including that before an interruption."""
        return self._seconds_before + time.monotonic() - self._start_s

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Find the best checkpoint again, in case the folder was moved; if it is lost, choose among later ones."""
        self._start_s = time.monotonic()
        best = best_in(Path(args.output_dir), state)
        state.best_model_checkpoint = str(best) if best else None
        if state.best_global_step and not best:
            logger.warning("The best checkpoint so far, that of step %d, is missing.", state.best_global_step)
            state.best_global_step = state.best_metric = None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Seal the newest checkpoint once every process has written its part, and find the best one.

        The Trainer looks for the best one itself, but with FSDP before the folder exists, so that processes disagree.
        """
        PartialState().wait_for_everyone()
        run_dir = Path(args.output_dir)
        best = best_in(run_dir, state)
        state.best_model_checkpoint = str(best) if best else None
        if not args.should_save:
            return
        seal(run_dir / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}", seconds=self.seconds)
        if self._n_newest is not None:
            for checkpoint in all_in(run_dir)[self._n_newest :]:
                if checkpoint != best:
                    shutil.rmtree(checkpoint)
