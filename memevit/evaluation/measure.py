"""From predictions and baselines to the sections of results.json, and to the table that is printed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memevit.evaluation import baselines, calibration, file_cues, metrics, significance, spread
from memevit.evaluation.predictions import Predictions, concatenate, softmax, write
from memevit.results import MODEL, PROBE, SAVED_PROBE, Measurement

if TYPE_CHECKING:
    import datasets

MAJORITY = "majority class"
COLOUR = "colour histogram"
FOLD_MODELS = "models of the folds"
OUT_OF_FOLD = "out_of_fold"  # In predictions.csv: by a model that was not trained on the image.


# Known score of each image of a split, and whether it is accepted.
Decided = tuple[Sequence[float], Sequence[bool]]


@dataclass(frozen=True)
class Fold:
    """One fold: its splits, and [n, C] logits on its test images of the model and of the linear probe, if any."""

    splits: "Mapping[str, datasets.Dataset]"
    logits: np.ndarray
    probe_logits: np.ndarray | None = None


def record(
    model_dir: Path,
    splits: "Mapping[str, datasets.Dataset]",
    logits: Mapping[str, np.ndarray],
    *,
    seed: int,
    probe_logits: np.ndarray | None = None,
    seeds: Mapping[str, np.ndarray] | None = None,
    folds: Mapping[str, Fold] | None = None,
    decided: Mapping[str, Decided] | None = None,
) -> dict[str, Any]:
    """Write predictions.csv and return what it comes to, with baselines, as sections of results.json.

    Args:
        model_dir: where predictions.csv goes.
        splits: the dataset; the baselines learn from `train`.
        logits: [n, C] of each split that was evaluated.
        seed: of the training.
        probe_logits: [n_test, C] of a linear probe of the same backbone.
        seeds: [n_test, C] logits on the test split by seed, the model's own included.
        folds: of the cross-validation, by name.
        decided: whether the images of a split are known, by split.
    """
    names = splits["train"].features["label"].names
    options = {"n_classes": len(names), "seed": seed}
    histograms: dict[Path, np.ndarray] = {}
    own = _predictions({name: (splits[name], found) for name, found in logits.items()}, decided)
    sections = model_sections(own, seed=seed)
    test = np.asarray(splits["test"]["label"][:])
    others = baseline_predictions(splits["train"], splits["test"], seed=seed, histograms=histograms)
    others |= _probe(probe_logits)
    _add_baselines(sections, logits["test"].argmax(axis=1), others, test, split="test", subject=MODEL, **options)
    if seeds:
        predicted = {name: found.argmax(axis=1) for name, found in seeds.items()}
        sections["seeds"] = spread.summary(predicted, dict.fromkeys(seeds, test), n_classes=len(names))
    if folds:
        by_fold = {
            name: _predictions({OUT_OF_FOLD: (fold.splits["test"], fold.logits)}) for name, fold in folds.items()
        }
        sections["folds"] = spread.summary(
            {name: found.predicted for name, found in by_fold.items()},
            {name: found.labels for name, found in by_fold.items()},
            n_classes=len(names),
        )
        everything = concatenate(list(by_fold.values()))
        where = {"split": OUT_OF_FOLD, "subject": FOLD_MODELS}
        sections["measurements"] += [
            asdict(one) for one in measurements_of(everything.predicted, everything.labels, **where, **options)
        ]
        others = _out_of_fold_baselines(list(folds.values()), seed=seed, histograms=histograms)
        _add_baselines(sections, everything.predicted, others, everything.labels, **where, **options)
        own = concatenate([everything, own])
    write(model_dir, own)
    return sections


def _predictions(
    parts: "Mapping[str, tuple[datasets.Dataset, np.ndarray]]", decided: Mapping[str, Decided] | None = None
) -> Predictions:
    decided = decided or {}
    return concatenate(
        [
            Predictions(
                class_names=split.features["label"].names,
                paths=split["file"][:],
                splits=[name] * len(split),
                labels=np.asarray(split["label"][:], dtype=np.int64),
                probabilities=softmax(logits),
                known_scores=decided.get(name, ((), ()))[0],
                accepted=decided.get(name, ((), ()))[1],
            )
            for name, (split, logits) in parts.items()
        ]
    )


def _probe(logits: np.ndarray | None) -> dict[str, np.ndarray]:
    return {} if logits is None else {PROBE: logits.argmax(axis=1)}


def _out_of_fold_baselines(
    folds: Sequence[Fold], *, seed: int, histograms: dict[Path, np.ndarray]
) -> dict[str, np.ndarray]:
    """[n] class ids by baseline, each from what the models of the fold were trained on."""
    by_fold = [
        baseline_predictions(fold.splits["train"], fold.splits["test"], seed=seed, histograms=histograms)
        | _probe(fold.probe_logits)
        for fold in folds
    ]
    return {name: np.concatenate([own[name] for own in by_fold]) for name in by_fold[0]}


def _add_baselines(
    sections: dict[str, Any],
    predicted: np.ndarray,
    others: Mapping[str, np.ndarray],
    true: np.ndarray,
    *,
    split: str,
    subject: str,
    n_classes: int,
    seed: int,
) -> None:
    """Add the measurements of the baselines, and how the model compares with each, to `sections`."""
    comparisons = sections.setdefault("comparisons", [])
    for name, own in others.items():
        rows = measurements_of(own, true, n_classes=n_classes, split=split, subject=name, seed=seed)
        sections["measurements"] += [asdict(one) for one in rows]
        comparisons.append(comparison(predicted, own, true, subject=subject, baseline=name, split=split))


def of_logits(logits: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """The metrics by which a checkpoint is chosen, those of `metrics.compute` and the calibrated loss.

    Args:
        logits: [n, C].
        true: [n] class ids.
    """
    values = metrics.compute(logits.argmax(axis=1), true, n_classes=logits.shape[1])
    return values | {"calibrated_loss": float(calibration.calibrated_losses(logits, true).mean())}


def comparison(
    predicted: np.ndarray, other: np.ndarray, true: np.ndarray, *, subject: str, baseline: str, split: str
) -> dict[str, Any]:
    """How often a model and a baseline are right on the same images, with a paired test.

    Args:
        predicted: [n] class ids of the model.
        other: [n] class ids of the baseline.
        true: [n] class ids.
        subject: name of the model.
        baseline: name of the baseline.
        split: where the images come from.
    """
    is_right, is_other_right = predicted == true, other == true
    p_value = significance.mcnemar(is_right, is_other_right)
    difference = float(is_right.mean() - is_other_right.mean())
    return {
        "subject": subject,
        "baseline": baseline,
        "split": split,
        "n": len(true),
        "n_only_subject_right": int((is_right & ~is_other_right).sum()),
        "n_only_baseline_right": int((~is_right & is_other_right).sum()),
        "difference": difference,
        "p_value": p_value,
        "method": significance.MCNEMAR,
        "is_better": difference > 0 and p_value < significance.ALPHA,
    }


def measurements_of(
    predicted: np.ndarray, true: np.ndarray, *, n_classes: int, split: str, subject: str, seed: int
) -> list[Measurement]:
    """Accuracy with its interval, balanced accuracy and macro F1 of one subject on one split.

    Args:
        predicted: [n] class ids.
        true: [n] class ids.
        n_classes: number of classes.
        split: where the images come from.
        subject: what predicted.
        seed: of what predicted.
    """
    values = metrics.compute(predicted, true, n_classes=n_classes)
    n = len(true)
    low, high = significance.wilson_interval(int((predicted == true).sum()), n)
    found = []
    for name, value in values.items():
        interval = {"ci_low": low, "ci_high": high, "ci_method": significance.WILSON} if name == "accuracy" else {}
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


def baseline_predictions(
    train: "datasets.Dataset", test: "datasets.Dataset", *, seed: int, histograms: dict[Path, np.ndarray]
) -> dict[str, np.ndarray]:
    """[n_test] class ids that the majority class and a regression on colour histograms predict.

    Args:
        train: images to learn from; the regression takes at most about `baselines.MAX_TRAIN` of them.
        test: images to predict.
        seed: of the regression.
        histograms: those computed before, by path; new ones are added.
    """
    train_labels = np.asarray(train["label"][:])
    taken = baselines.some_of(train_labels, baselines.MAX_TRAIN, seed=seed)
    paths = [Path(image["path"]) for image in train["image"][:]]
    seen = np.concatenate(list(baselines.colour_batches([paths[position] for position in taken], histograms)))
    predict = file_cues.fit_values(seen, train_labels[taken], seed=seed)
    evaluated = baselines.colour_batches([Path(image["path"]) for image in test["image"][:]], histograms)
    return {
        MAJORITY: baselines.predict_majority(train_labels, len(test)),
        COLOUR: np.concatenate([predict(batch) for batch in evaluated]),
    }


def table(sections: Mapping[str, Any]) -> str:
    """The measurements as text: a line per subject and split, then mean and spread of several trainings."""
    measurements, compared = sections["measurements"], sections["comparisons"]
    is_probe = sections.get("training", {}).get("method") == PROBE
    p_values = {(one["baseline"], one["split"]): one["p_value"] for one in compared}
    lines = [f"{'what':<20} {'split':<12} {'n':>5}  {'accuracy (95 %)':<20}  balanced  macro F1  p (McNemar)"]
    for subject, split in dict.fromkeys((m["subject"], m["split"]) for m in measurements):
        own = {m["name"]: m for m in measurements if (m["subject"], m["split"]) == (subject, split)}
        accuracy = own["accuracy"]
        share = f"{accuracy['value']:.3f} ({accuracy['ci_low']:.3f}-{accuracy['ci_high']:.3f})"
        p_value = p_values.get((subject, split))
        shown = SAVED_PROBE if is_probe and subject == MODEL else subject
        lines.append(
            f"{shown:<20} {split:<12} {accuracy['n']:>5}  {share:<20}  "
            f"{own['balanced_accuracy']['value']:<8.3f}  {own['macro_f1']['value']:<8.3f}"
            f"{'' if p_value is None else f'  {p_value:.2g}'}".rstrip()
        )
    if choice := (sections.get("training") or {}).get("choice"):
        lines.append(choice["summary"])
    lines += not_beaten(compared)
    for name in ("seeds", "folds"):
        if name in sections:
            lines += spread.lines(f"{len(sections[name]['n'])} {name}", sections[name])
    return "\n".join(lines)


def not_beaten(compared: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence per split about the baselines that the paired test does not show to be worse than the model."""
    found = []
    places = {"test": "The model does not beat", OUT_OF_FOLD: "The models of the folds do not beat"}
    where = {"test": "on the test split", OUT_OF_FOLD: "out of fold"}
    for split, start in places.items():
        stronger = [f"the {one['baseline']}" for one in compared if one["split"] == split and not one["is_better"]]
        if stronger:
            found.append(f"{start} {' and '.join(stronger)} {where[split]}.")
    return found
