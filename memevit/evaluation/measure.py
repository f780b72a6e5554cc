"""From predictions and baselines to the sections of results.json, and to the table that is printed."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from memevit.evaluation import baselines, metrics, spread
from memevit.evaluation.predictions import Predictions, concatenate, softmax, write
from memevit.evaluation.significance import WILSON, wilson_interval
from memevit.results import MODEL, Measurement


class Pictures(Protocol):
    """One split: where its pictures are, what predictions.csv calls them, and their class ids."""

    paths: list[Path]
    files: list[str]
    labels: list[int]


MAJORITY = "majority class"
COLOUR = "colour histogram"
FOLD_MODELS = "models of the folds"
OUT_OF_FOLD = "out_of_fold"  # In predictions.csv: by a model that was not trained on the picture.


def record(
    model_dir: Path,
    class_names: list[str],
    splits: Mapping[str, Pictures],
    logits: Mapping[str, np.ndarray],
    *,
    seed: int,
    seeds: Mapping[str, np.ndarray] | None = None,
    folds: Mapping[str, tuple[Pictures, np.ndarray]] | None = None,
) -> dict[str, Any]:
    """Write predictions.csv and return what it comes to, with baselines, as sections of results.json.

    Args:
        model_dir: where predictions.csv goes.
        class_names: position is the label.
        splits: pictures by split; the baselines learn from `train`.
        logits: [n, C] of each split that was evaluated.
        seed: of the training.
        seeds: [n_test, C] logits on the test split by seed, the model's own included.
        folds: test pictures of each fold, and their logits [n, C] from the model that has not seen them.
    """
    own = _predictions(class_names, {name: (splits[name], found) for name, found in logits.items()})
    sections = model_sections(own, seed=seed)
    sections["measurements"] += baseline_measurements(
        splits["train"], splits["test"], n_classes=len(class_names), seed=seed
    )
    if seeds:
        test = np.asarray(splits["test"].labels)
        predicted = {name: found.argmax(axis=1) for name, found in seeds.items()}
        sections["seeds"] = spread.summary(predicted, dict.fromkeys(seeds, test), n_classes=len(class_names))
    if folds:
        by_fold = {name: _predictions(class_names, {OUT_OF_FOLD: pair}) for name, pair in folds.items()}
        sections["folds"] = spread.summary(
            {name: found.predicted for name, found in by_fold.items()},
            {name: found.labels for name, found in by_fold.items()},
            n_classes=len(class_names),
        )
        everything = concatenate(list(by_fold.values()))
        sections["measurements"] += [
            asdict(measurement)
            for measurement in measurements_of(
                everything.predicted,
                everything.labels,
                n_classes=len(class_names),
                split=OUT_OF_FOLD,
                subject=FOLD_MODELS,
                seed=seed,
            )
        ]
        own = concatenate([everything, own])
    write(model_dir, own)
    return sections


def _predictions(class_names: list[str], parts: Mapping[str, tuple[Pictures, np.ndarray]]) -> Predictions:
    return concatenate(
        [
            Predictions(
                class_names=class_names,
                paths=pictures.files,
                splits=[name] * len(pictures.files),
                labels=np.asarray(pictures.labels, dtype=np.int64),
                probabilities=softmax(logits),
            )
            for name, (pictures, logits) in parts.items()
        ]
    )


def measurements_of(
    predicted: np.ndarray, true: np.ndarray, *, n_classes: int, split: str, subject: str, seed: int
) -> list[Measurement]:
    """Accuracy with its interval, balanced accuracy and macro F1 of one subject on one split.

    Args:
        predicted: [n] class ids.
        true: [n] class ids.
        n_classes: number of classes.
        split: where the pictures come from.
        subject: what predicted.
        seed: of what predicted.
    """
    values = metrics.compute(predicted, true, n_classes=n_classes)
    n = len(true)
    low, high = wilson_interval(int((predicted == true).sum()), n)
    found = []
    for name, value in values.items():
        interval = {"ci_low": low, "ci_high": high, "ci_method": WILSON} if name == "accuracy" else {}
        found.append(Measurement(name, value, split, n, subject, seed=seed, **interval))
    return found


def model_sections(predictions: Predictions, *, seed: int) -> dict[str, Any]:
    """The sections `measurements`, `per_class` and `confusion_matrix` of results.json."""
    names = predictions.class_names
    splits = np.array(predictions.splits)
    measurements: list[Measurement] = []
    for split in dict.fromkeys(predictions.splits):
        chosen = splits == split
        measurements += measurements_of(
            predictions.predicted[chosen],
            predictions.labels[chosen],
            n_classes=len(names),
            split=split,
            subject=MODEL,
            seed=seed,
        )
    test = splits == "test"
    detailed = metrics.compute(
        predictions.predicted[test],
        predictions.labels[test],
        n_classes=len(names),
        metrics=(metrics.PerClass, metrics.ConfusionMatrix),
    )
    per_class = [
        {
            "class_name": name,
            "split": "test",
            "n": int(detailed["support"][label]),
            **{key: detailed[key][label] for key in ("precision", "recall", "f1")},
        }
        for label, name in enumerate(names)
    ]
    confusion = {"split": "test", "class_names": names, "counts": detailed["confusion_matrix"]}
    return {"measurements": [asdict(m) for m in measurements], "per_class": per_class, "confusion_matrix": confusion}


def baseline_measurements(train: Pictures, test: Pictures, *, n_classes: int, seed: int) -> list[dict[str, Any]]:
    """What the majority class and a regression on colour histograms reach on the test split.

    Args:
        train: pictures to learn from; the regression takes at most about `baselines.MAX_TRAIN` of them.
        test: pictures to predict.
        n_classes: number of classes.
        seed: of the regression.
    """
    train_labels, test_labels = np.asarray(train.labels), np.asarray(test.labels)
    taken = baselines.some_of(train_labels, baselines.MAX_TRAIN, seed=seed)
    seen = baselines.colour_histograms([train.paths[position] for position in taken])
    predicted = {
        MAJORITY: baselines.predict_majority(train_labels, len(test_labels)),
        COLOUR: baselines.predict_by_colour(seen, train_labels[taken], baselines.colour_batches(test.paths), seed=seed),
    }
    return [
        asdict(measurement)
        for subject, classes in predicted.items()
        for measurement in measurements_of(
            classes, test_labels, n_classes=n_classes, split="test", subject=subject, seed=seed
        )
    ]


def table(sections: Mapping[str, Any]) -> str:
    """The measurements as text: a line per subject and split, then mean and spread of several trainings."""
    measurements = sections["measurements"]
    lines = [f"{'what':<20} {'split':<12} {'n':>5}  {'accuracy (95 %)':<20}  balanced  macro F1"]
    for subject, split in dict.fromkeys((m["subject"], m["split"]) for m in measurements):
        own = {m["name"]: m for m in measurements if (m["subject"], m["split"]) == (subject, split)}
        accuracy = own["accuracy"]
        share = f"{accuracy['value']:.3f} ({accuracy['ci_low']:.3f}-{accuracy['ci_high']:.3f})"
        lines.append(
            f"{subject:<20} {split:<12} {accuracy['n']:>5}  {share:<20}  "
            f"{own['balanced_accuracy']['value']:<8.3f}  {own['macro_f1']['value']:.3f}"
        )
    tested = {m["subject"]: m["value"] for m in measurements if (m["split"], m["name"]) == ("test", "accuracy")}
    own = tested.pop(MODEL, None)
    if own is not None and (stronger := [subject for subject, value in tested.items() if value >= own]):
        lines.append(f"The model does not beat the {' and the '.join(stronger)} on the test split.")
    for name in ("seeds", "folds"):
        if name in sections:
            lines += spread.lines(f"{len(sections[name]['n'])} {name}", sections[name])
    return "\n".join(lines)
