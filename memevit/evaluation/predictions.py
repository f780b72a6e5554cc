"""predictions.csv: what the model said about every validation and test image."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.special

from memevit import escape, files, rows
from memevit.errors import UserError
from memevit.results import PREDICTIONS_FILE


@dataclass(frozen=True)
class Predictions:
    """Probabilities for the images of some splits.

    `probabilities` is [n, C] with rows that sum to 1, `labels` [n] true class ids, `splits` and `paths` have n entries.
    `known_scores` and `accepted` have n entries too, None where it was not decided whether the image is known.
    """

    class_names: list[str]
    paths: list[str]
    splits: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    known_scores: Sequence[float | None] = ()
    accepted: Sequence[bool | None] = ()

    def __post_init__(self) -> None:
        for name in ("known_scores", "accepted"):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, [None] * len(self.paths))

    @property
    def predicted(self) -> np.ndarray:
        """[n] ids of the most probable classes."""
        return self.probabilities.argmax(axis=1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [n, C] in float64 from logits [n, C].

    Example:
        >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]])).tolist()
        [[0.5, 0.5], [1.0, 0.0]]
    """
    return scipy.special.softmax(logits.astype(np.float64), axis=1)


def concatenate(parts: list[Predictions]) -> Predictions:
    """All images of `parts`, which know the same classes, one after the other."""
    return Predictions(
        class_names=parts[0].class_names,
        paths=[path for part in parts for path in part.paths],
        splits=[split for part in parts for split in part.splits],
        labels=np.concatenate([part.labels for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        known_scores=[score for part in parts for score in part.known_scores],
        accepted=[accepted for part in parts for accepted in part.accepted],
    )


def write(model_dir: Path, predictions: Predictions) -> None:
    """Write predictions.csv: a row per image with its true and predicted class, whether it is known, probabilities."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = predictions.class_names
    writer.writerow(["file", "split", "class_name", *rows.prediction(names, None, top_k=len(names))])
    for row, (path, split) in enumerate(zip(predictions.paths, predictions.splits, strict=True)):
        said = rows.prediction(
            names,
            predictions.probabilities[row],
            known_score=predictions.known_scores[row],
            accepted=predictions.accepted[row],
            top_k=len(names),
        )
        asked = {"file": path, "split": split, "class_name": names[predictions.labels[row]]}
        writer.writerow(rows.csv_cells(asked | said))
    files.write_text(model_dir / PREDICTIONS_FILE, text.getvalue())


def read(model_dir: Path) -> Predictions:
    """The predictions of a model folder.

    Raises:
        UserError: `model_dir` has no predictions.csv.
    """
    path = model_dir / PREDICTIONS_FILE
    if not path.is_file():
        raise UserError(f"{path} does not exist. finetune_vit.py writes it; is {model_dir} a model folder?")
    with files.explained_csv_errors(path), path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = [name for name in reader.fieldnames or [] if name.startswith(rows.PROBABILITY)]
        found = list(reader)
    names = [column.removeprefix(rows.PROBABILITY) for column in columns]
    labels = [names.index(escape.csv_value(row["class_name"])) for row in found]
    return Predictions(
        class_names=names,
        paths=[escape.csv_value(row["file"]) for row in found],
        splits=[row["split"] for row in found],
        labels=np.array(labels, dtype=np.int64),
        probabilities=np.array([[float(row[column]) for column in columns] for row in found]).reshape(-1, len(names)),
        known_scores=[float(row["known_score"]) if row.get("known_score") else None for row in found],
        accepted=[row["accepted"].lower() == "true" if row.get("accepted") else None for row in found],
    )
