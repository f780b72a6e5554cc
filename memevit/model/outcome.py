"""What a training has come to, kept on the disk until all trainings of a command are done."""

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memevit import files

_LOGITS_FILE = "logits.npz"
_RECORD_FILE = "record.json"  # Written last: with it the outcome is complete.


@dataclass(frozen=True)
class Outcome:
    """`logits` [n, C] by split, and the sections `training` and `history` of results.json."""

    logits: dict[str, np.ndarray]
    training: dict[str, Any]
    history: list[dict[str, float]]


def read(outcome_dir: Path) -> Outcome | None:
    """The outcome in a folder, None where there is none yet."""
    if not (outcome_dir / _RECORD_FILE).is_file():
        return None
    record = json.loads((outcome_dir / _RECORD_FILE).read_text(encoding="utf-8"))
    with np.load(outcome_dir / _LOGITS_FILE, allow_pickle=False) as arrays:
        return Outcome(dict(arrays), record["training"], record["history"])


def write(outcome_dir: Path, outcome: Outcome) -> None:
    """Write `outcome`; when the process is killed here, there is none."""
    shutil.rmtree(outcome_dir, ignore_errors=True)
    outcome_dir.mkdir(parents=True)
    arrays = io.BytesIO()
    np.savez(arrays, **outcome.logits)
    files.write_bytes(outcome_dir / _LOGITS_FILE, arrays.getvalue())
    record = {"training": outcome.training, "history": outcome.history}
    files.write_text(outcome_dir / _RECORD_FILE, json.dumps(record))
