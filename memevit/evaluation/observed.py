"""What a model makes of one split of a dataset: the input of every diagnosis."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from memevit import files
from memevit.escape import csv_value
from memevit.evaluation.predictions import softmax
from memevit.manifest import Row
from memevit.results import PREDICTIONS_FILE

_MANY_VALUES = 10_000_000
_VALUES_AT_ONCE = 1_000_000
_TITLE_COLUMNS = ("title", "caption", "text", "name")


@dataclass(frozen=True)
class Observed:
    """One split: files, manifest rows, true classes, and what the model says.

    `labels` [n] are class ids of the model, `logits` [n, C], `features` [n, D] what the classifier sees. `known_scores`
    [n] (higher is more like the training images, NaN where not known) and `accepted` [n] are None unless the model can
    say "unknown".
    """

    split: str
    paths: list[Path]
    rows: list[Row]
    labels: np.ndarray
    logits: np.ndarray
    features: np.ndarray
    known_scores: np.ndarray | None = None
    accepted: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """[n, C], see `probabilities_of`."""
        return probabilities_of(self.logits)

    @cached_property
    def predicted(self) -> np.ndarray:
        """[n] ids of the most probable classes."""
        return self.logits.argmax(axis=1)

    @cached_property
    def is_correct(self) -> np.ndarray:
        """[n] whether the most probable class is the true one."""
        return self.predicted == self.labels

    @cached_property
    def confidence(self) -> np.ndarray:
        """[n] probability of the predicted class."""
        return self.probabilities.max(axis=1)

    @property
    def groups(self) -> list[str]:
        """Of each image, or its file where it has none."""
        return [row.group or row.file for row in self.rows]


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """[n, C] in float64 from logits [n, C]; in float32 where there are very many, to save memory."""
    if logits.size <= _MANY_VALUES:
        return softmax(logits)
    found = np.empty(logits.shape, dtype=np.float32)
    step = max(1, _VALUES_AT_ONCE // logits.shape[1])
    for start in range(0, len(found), step):
        found[start : start + step] = softmax(logits[start : start + step])
    return found


def title_of(row: Row) -> str:
    """What the CSV beside the images calls this one; empty where there is none."""
    by_name = {name.lower().removeprefix("csv_"): value for name, value in row.extra.items()}
    return next((by_name[name].strip() for name in _TITLE_COLUMNS if by_name.get(name, "").strip()), "")


def nearest(
    features: np.ndarray, among: np.ndarray, *, k: int = 1, at_once: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """Positions [n, k] of the most similar rows of `among`, nearest first, and their cosine distances [n, k].

    Args:
        features: [n, D].
        among: [m, D].
        k: neighbours, at most m.
        at_once: rows compared in one product, which bounds the memory.

    Example:
        >>> positions, distances = nearest(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [2.0, 0.0]]))
        >>> positions.tolist(), distances.tolist()
        ([[1]], [[0.0]])
    """
    k = min(k, len(among))
    bank = _unit(among)
    positions = np.empty((len(features), k), dtype=np.int64)
    distances = np.empty((len(features), k), dtype=np.float32)
    for start in range(0, len(features), at_once):
        similarity = _unit(features[start : start + at_once]) @ bank.T
        top = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        rows = np.arange(len(top))[:, None]
        order = np.argsort(-similarity[rows, top], axis=1, kind="stable")
        positions[start : start + at_once] = top[rows, order]
        distances[start : start + at_once] = 1.0 - similarity[rows, top[rows, order]]
    return positions, distances


def _unit(features: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(norms, 1e-12)).astype(np.float32)


def count(n: int, noun: str) -> str:
    """A number and its noun.

    Example:
        >>> count(1, "image"), count(2, "image")
        ('1 image', '2 images')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def known_by_file(model_dir: Path) -> dict[str, tuple[float, bool | None]]:
    """Known score and whether it was accepted, of the files in predictions.csv; empty for a model without them."""
    path = model_dir / PREDICTIONS_FILE
    if not path.is_file():
        return {}
    found: dict[str, tuple[float, bool | None]] = {}
    with files.explained_csv_errors(path), path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row.get("known_score"):
                accepted = row.get("accepted", "").strip().lower()
                is_accepted = accepted in ("true", "1", "yes") if accepted else None
                found[csv_value(row["file"])] = (float(row["known_score"]), is_accepted)
    return found
