"""results.json and run.json of a model folder: every number that is shown anywhere, and how it came about."""

import dataclasses
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from memevit import files
from memevit.errors import UserError

RESULTS_FILE = "results.json"
RUN_FILE = "run.json"
PREDICTIONS_FILE = "predictions.csv"
CARD_FILE = "README.md"  # Of a model, a dataset or a Space.
CONFUSION_FILE = "confusion_matrix.png"
CURVES_FILE = "learning_curves.png"
KNOWN_SCORES_FILE = "known_scores.png"
GROWTH_FILE = "growth.png"
FORMAT = 1
MODEL, PROBE = "fine-tuned model", "linear probe"
SAVED_PROBE = "linear probe, saved"  # How `MODEL` is called where it is a probe.

_PACKAGES = (
    *("torch", "transformers", "datasets", "evaluate", "accelerate", "huggingface_hub", "safetensors"),
    *("pillow", "numpy", "scikit-learn", "scipy"),
)


@dataclass(frozen=True)
class Measurement:
    """One number about one subject on one split.

    `ci_low` and `ci_high` are the ends of a 95 % interval made by `ci_method`; None where there is none.
    """

    name: str
    value: float
    split: str
    n: int
    subject: str = MODEL
    ci_low: float | None = None
    ci_high: float | None = None
    ci_method: str | None = None
    seed: int | None = None


def read(model_dir: Path) -> dict[str, Any]:
    """The content of results.json.

    Raises:
        UserError: `model_dir` has none, so it was not made by finetune_vit.py.
    """
    return _read(model_dir / RESULTS_FILE)


def read_run(model_dir: Path) -> dict[str, Any]:
    """The content of run.json, see `read`."""
    return _read(model_dir / RUN_FILE)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} does not exist. finetune_vit.py writes it; is {path.parent} a model folder?") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}). Train again, or restore the file.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged (no object). Train again, or restore the file.")
    return content


def update(model_dir: Path, **sections: Any) -> None:
    """Put `sections` into results.json and keep what else it holds; dataclasses become dictionaries."""
    path = model_dir / RESULTS_FILE
    content = read(model_dir) if path.exists() else {"format": FORMAT}
    files.write_text(path, _dumps(content | sections))


def write_run(model_dir: Path, run: dict[str, Any]) -> None:
    """Write run.json: arguments, versions, commit, seeds, data fingerprint."""
    files.write_text(model_dir / RUN_FILE, _dumps(run))


def _dumps(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, default=_plain, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return value.as_posix()
    return value.tolist() if hasattr(value, "tolist") else str(value)


def environment() -> dict[str, Any]:
    """Versions of what computes the numbers, and the machine."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "packages": versions, "commit": _commit(), "system": platform.system()}


def _commit() -> str | None:
    """The commit of this checkout, with `-dirty` when files differ from it; None outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def processor_name() -> str:
    """The processor and its number of cores, as a reader would name them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"
