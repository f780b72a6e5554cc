"""Every misclassified image of the held-out splits, worst first, with its causes, neighbours and a suggestion."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from memevit import pixels
from memevit.evaluation import causes, label_errors
from memevit.evaluation.causes import Cause, Predict
from memevit.evaluation.observed import Observed, count, listed, nearest, title_of
from memevit.evaluation.significance import WILSON, wilson_interval

MAX_SHOWN = 200
MAX_SUSPECTS = 60  # Training images whose label is doubted.
N_UNCERTAIN = 24
_N_NEIGHBOURS = 10
_N_CORRECT = 60  # Images on which it is learned how sure halves of one class can be of another.
# Probabilities of a classifier of other features: at least of the predicted class, at most of the given label. On
# images of seven games with 5 % of the labels changed at random, these two found 40 to 60 % of the changed held-out
# images, and 91 to 94 % of what they found had been changed (three draws).
_SECOND_OPINION, _MAX_OWN = 0.5, 0.02
# Likewise for training images by linear probes: of those with this margin, 41 to 48 % had been changed; of those with
# the larger one, 60 to 69 %, and only these are suggestions.
_DOUBTFUL_MARGIN, _SUGGESTED_MARGIN = 0.7, 0.9
_FAR_QUANTILE = 0.95
_MIN_FOR_QUANTILE = 20
_MIN_GROUP = 5
_MAX_VALUES = 30  # Distinct values of a column by which images are grouped.
_PATIENCE_S = 2.0


@dataclass
class Mistake:
    """One image: where it is, what it was taken for and why.

    `position` is that in its split; `nearest_true` and `nearest_predicted` are positions in the training split, None if
    it has no image of the class. `suggestion` is (action, class name, reason), with an empty action for none.
    """

    split: str
    position: int
    true: int
    predicted: int
    p_predicted: float
    p_true: float
    title: str
    known_score: float | None = None
    accepted: bool | None = None
    causes: list[Cause] = field(default_factory=list)
    nearest_true: int | None = None
    nearest_predicted: int | None = None
    distance_true: float | None = None
    distance_predicted: float | None = None
    suggestion: tuple[str, str, str] = ("", "", "")


@dataclass
class Found:
    """All mistakes that are shown, the counts behind them, and what else deserves a look.

    `n_by_split` are (mistakes, images) by split. `suspects` are training images, `uncertain` correct ones.
    """

    shown: list[Mistake]
    uncertain: list[Mistake]
    suspects: list[Mistake]
    worst_groups: list[dict[str, Any]]
    n_by_split: dict[str, tuple[int, int]]
    n_by_cause: dict[str, int]
    far_distance: float | None


def find(
    train: Observed,
    held_out: Sequence[Observed],
    class_names: Sequence[str],
    predict: Predict,
    *,
    twins: Mapping[str, Sequence[tuple[str, str]]],
    fold_probabilities: Mapping[str, np.ndarray],
    doubted: tuple[np.ndarray, np.ndarray],
    second_opinion: Mapping[str, np.ndarray],
    max_shown: int = MAX_SHOWN,
) -> Found:
    """Look for mistakes and measure their causes.

    Args:
        train: training split.
        held_out: the splits whose mistakes are shown.
        class_names: by id.
        predict: logits of RGB images.
        twins: near-duplicates in the training split by file: (class name, file).
        fold_probabilities: [C] by file, from a model of a cross-validation that had not seen the image.
        doubted: positions [m] of training images and their probabilities [m, C] by models that had not seen them.
        second_opinion: [n, C] by held-out split, from a classifier of features that know nothing of the labels; a
            split may be missing.
        max_shown: mistakes that are looked at; the worst ones.
    """
    wrong = [_mistake(part, int(position)) for part in held_out for position in np.flatnonzero(~part.is_correct)]
    wrong.sort(key=lambda one: (one.p_true - one.p_predicted, one.split, one.position))
    shown = wrong[:max_shown]
    by_split = {part.split: part for part in held_out}
    far = far_distance(train, held_out)
    sure = causes.sure_enough(*_some_correct(held_out), predict) if shown else None
    suspicion = {}
    for part in held_out:
        found = label_errors.suspected(part.probabilities, part.labels)
        suspicion |= {(part.split, int(position)): found for position in np.flatnonzero(found.is_suspect)}
    for one in tqdm(shown, desc="Causes", unit="image", delay=_PATIENCE_S, leave=False):
        part = by_split[one.split]
        agreeing = _place_among(one, part, train)
        one.causes = causes.in_order(
            [
                *_label_causes(
                    one, (one.split, one.position) in suspicion, agreeing,
                    second_opinion[one.split][one.position] if one.split in second_opinion else None, class_names,
                ),
                *_twin_causes(one, twins.get(part.rows[one.position].file, ()), class_names),
                *causes.seen_in_image(
                    pixels.load_image(part.paths[one.position]), part.rows[one.position], one.true, one.predicted,
                    class_names, predict, sure=sure,
                ),
                *_distance_causes(one, far),
                *_fold_causes(one, fold_probabilities.get(part.rows[one.position].file), class_names),
                *causes.close_call(one.p_predicted, one.p_true),
            ]
        )  # fmt: skip
        one.suggestion = _suggestion(one, class_names)
    uncertain = _uncertain(held_out)
    for one in uncertain:
        _place_among(one, by_split[one.split], train)
    return Found(
        shown,
        uncertain,
        _suspects(train, *doubted, class_names),
        worst_groups(held_out, class_names),
        {part.split: (int((~part.is_correct).sum()), len(part)) for part in held_out},
        dict(Counter(cause.key for one in shown for cause in one.causes).most_common()),
        far,
    )


def _some_correct(held_out: Sequence[Observed]) -> tuple[list[Image.Image], list[int]]:
    """A few correctly classified images and their class ids, evenly from the last split."""
    part = held_out[-1]
    correct = np.flatnonzero(part.is_correct)
    chosen = correct[np.unique(np.linspace(0, len(correct) - 1, _N_CORRECT).astype(int))] if len(correct) else []
    return [pixels.load_image(part.paths[position]) for position in chosen], [int(part.labels[p]) for p in chosen]


def _mistake(part: Observed, position: int) -> Mistake:
    true, predicted = int(part.labels[position]), int(part.predicted[position])
    score = None if part.known_scores is None or np.isnan(part.known_scores[position]) else part.known_scores[position]
    return Mistake(
        part.split,
        position,
        true,
        predicted,
        float(part.probabilities[position, predicted]),
        float(part.probabilities[position, true]),
        title_of(part.rows[position]),
        known_score=None if score is None else float(score),
        accepted=None if part.accepted is None else bool(part.accepted[position]),
    )


def far_distance(train: Observed, held_out: Sequence[Observed]) -> float | None:
    """The cosine distance to the nearest training image that 95 % of the correct held-out images stay below.

    None where fewer than 20 are correct. Training images themselves are no measure: each lies unusually close to the
    others once the model has been fitted to them.
    """
    parts = [part.features[part.is_correct] for part in held_out]
    features = np.concatenate(parts) if parts else np.empty((0, 1))
    if len(features) < _MIN_FOR_QUANTILE:
        return None
    if len(features) > 2000:
        features = features[:: len(features) // 2000]
    _, distances = nearest(features, train.features)
    return float(np.quantile(distances[:, 0], _FAR_QUANTILE))


def _place_among(one: Mistake, part: Observed, train: Observed) -> float:
    """Fill in the nearest training images; the share of the nearest ones that have the predicted class."""
    own = part.features[one.position : one.position + 1]
    for label, names in ((one.true, ("nearest_true", "distance_true")),
                         (one.predicted, ("nearest_predicted", "distance_predicted"))):  # fmt: skip
        members = np.flatnonzero(train.labels == label)
        if len(members):
            positions, distances = nearest(own, train.features[members])
            setattr(one, names[0], int(members[positions[0, 0]]))
            setattr(one, names[1], float(distances[0, 0]))
    positions, _ = nearest(own, train.features, k=_N_NEIGHBOURS)
    return float((train.labels[positions[0]] == one.predicted).mean())


def _label_causes(
    one: Mistake, is_suspect: bool, agreeing: float, second: np.ndarray | None, class_names: Sequence[str]
) -> list[Cause]:
    """Doubt about the label, where the model and a second opinion agree.

    Fine-tuning moves images of one class close together, so that neighbours agree with every confident mistake. Only
    features from before that are a second opinion.
    """
    name = class_names[one.predicted]
    if not is_suspect:
        return []
    if second is None:
        if agreeing < 1.0:
            return []
        opinion = "all of its most similar training images belong to it"
    else:
        if second[one.predicted] < _SECOND_OPINION or second[one.true] > _MAX_OWN:
            return []
        opinion = (
            f"a classifier of the backbone's features before fine-tuning agrees ({100 * second[one.predicted]:.0f} %)"
        )
    return [
        Cause(
            causes.LABEL,
            f"The model is as sure of {name} ({100 * one.p_predicted:.0f} %) as for images of that class, and "
            f"{opinion}.",
        )
    ]


def _twin_causes(one: Mistake, twins: Sequence[tuple[str, str]], class_names: Sequence[str]) -> list[Cause]:
    others = sorted({name for name, _ in twins if name != class_names[one.true]})
    return [Cause(causes.TWIN, f"The same image is a training image of {listed(others)}.")] if others else []


def _distance_causes(one: Mistake, far: float | None) -> list[Cause]:
    found = []
    distance = min((d for d in (one.distance_true, one.distance_predicted) if d is not None), default=None)
    if far is not None and distance is not None and distance > far:
        found.append(
            f"Its nearest training image is {distance:.2f} away; 95 % of the correct images have one within {far:.2f}."
        )
    if one.accepted is False:
        found.append('The model would call it "unknown".')
    return [Cause(causes.UNLIKE, " ".join(found))] if found else []


def _fold_causes(one: Mistake, others: np.ndarray | None, class_names: Sequence[str]) -> list[Cause]:
    if others is None or int(others.argmax()) == one.predicted:
        return []
    other = int(others.argmax())
    return [
        Cause(
            causes.UNSTABLE,
            f"The model of a cross-validation fold says {class_names[other]} ({100 * others[other]:.0f} %).",
        )
    ]


def _suggestion(one: Mistake, class_names: Sequence[str]) -> tuple[str, str, str]:
    keys = {cause.key for cause in one.causes}
    if causes.LABEL in keys:
        return ("relabel", class_names[one.predicted], causes.TITLES[causes.LABEL])
    for key in (causes.BOTH, causes.TEXT):
        if key in keys:
            return ("drop", "", causes.TITLES[key])
    return ("", "", "")


def _uncertain(held_out: Sequence[Observed]) -> list[Mistake]:
    """The correct images of which the model is least certain."""
    found = []
    for part in held_out:
        correct = np.flatnonzero(part.is_correct)
        found += [
            _mistake(part, int(position)) for position in correct[np.argsort(part.confidence[correct])[:N_UNCERTAIN]]
        ]
    for one in found:
        others = next(part for part in held_out if part.split == one.split).probabilities[one.position].copy()
        others[one.true] = -1
        one.predicted, one.p_predicted = int(others.argmax()), float(others.max())  # The runner-up.
    return sorted(found, key=lambda one: one.p_true)[:N_UNCERTAIN]


def _suspects(
    train: Observed, positions: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> list[Mistake]:
    """Training images whose label is probably wrong, the clearest first."""
    found = label_errors.suspected(probabilities, train.labels[positions])
    n = min(MAX_SUSPECTS, int((found.margin >= _DOUBTFUL_MARGIN).sum()))
    chosen = np.argsort(-found.margin, kind="stable")[:n]
    suspects = []
    for row in chosen.tolist():
        position, better = int(positions[row]), int(found.better[row])
        label = int(train.labels[position])
        one = Mistake(
            train.split, position, label, better, float(probabilities[row, better]),
            float(probabilities[row, label]), title_of(train.rows[position]),
        )  # fmt: skip
        one.causes = [
            Cause(
                causes.LABEL,
                f"Linear probes that had not seen it say {class_names[better]} ({100 * one.p_predicted:.0f} %).",
            )
        ]
        if found.margin[row] >= _SUGGESTED_MARGIN:
            one.suggestion = ("relabel", class_names[better], causes.TITLES[causes.LABEL])
        suspects.append(one)
    return suspects


def worst_groups(parts: Sequence[Observed], class_names: Sequence[str], *, max_rows: int = 10) -> list[dict[str, Any]]:
    """Properties whose images are misclassified most often, by the lower end of the interval of their error rate.

    Compared are classes, file formats, shapes, sizes, and columns of the CSV with few values; at least 5 images each.

    Args:
        parts: held-out splits, counted together.
        class_names: by id.
        max_rows: at most so many are returned.
    """
    rows = [row for part in parts for row in part.rows]
    if not rows:
        return []
    is_wrong = ~np.concatenate([part.is_correct for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    areas = np.array([row.width_px * row.height_px for row in rows])
    edges = np.quantile(areas, [0.25, 0.75])
    columns: dict[str, list[str]] = {
        "class": [class_names[label] for label in labels],
        "file format": [row.image_format for row in rows],
        "shape": [_shape(row.width_px, row.height_px) for row in rows],
        "size": ["smallest quarter" if a <= edges[0] else "largest quarter" if a > edges[1] else "" for a in areas],
    }
    for name in dict.fromkeys(name for row in rows for name in row.extra):
        values = [row.extra.get(name, "") for row in rows]
        if 2 <= len(set(values)) <= _MAX_VALUES:
            columns[name] = values
    overall = float(is_wrong.mean())
    found = []
    for column, values in columns.items():
        distinct, code = np.unique(values, return_inverse=True)
        counts, wrong = np.bincount(code), np.bincount(code, weights=is_wrong)
        for value, n, n_wrong in zip(distinct.tolist(), counts.tolist(), wrong.astype(int).tolist(), strict=True):
            if value and n >= _MIN_GROUP and n < len(rows) and n_wrong / n > overall:
                low, high = wilson_interval(n_wrong, n)
                found.append(
                    {"name": "error rate", "subject": f"{column}: {value}", "value": n_wrong / n, "n": n,
                     "n_wrong": n_wrong, "split": listed([part.split for part in parts]), "ci_low": low,
                     "ci_high": high, "ci_method": WILSON}
                )  # fmt: skip
    return sorted(found, key=lambda row: -row["ci_low"])[:max_rows]


def _shape(width: int, height: int) -> str:
    if width == height:
        return "square"
    return "wide" if width > height else "tall"


def section(found: Found, class_names: Sequence[str]) -> dict[str, Any]:
    """The section `mistakes` of results.json."""
    measurements = []
    for split, (n_wrong, n) in found.n_by_split.items():
        low, high = wilson_interval(n_wrong, n)
        measurements.append(
            {"name": "error rate", "value": n_wrong / n, "split": split, "n": n, "n_wrong": n_wrong, "ci_low": low,
             "ci_high": high, "ci_method": WILSON}
        )  # fmt: skip
    return {
        "title": "Mistakes",
        "summary": summary(found),
        "measurements": measurements,
        "causes": [
            {"cause": causes.TITLES[key], "n": n, "remedy": causes.REMEDIES[key]} for key, n in found.n_by_cause.items()
        ],
        "n_examined": len(found.shown),
        "worst_groups": found.worst_groups,
        "n_suspected_training_labels": len(found.suspects),
        "class_names": list(class_names),
    }


def summary(found: Found) -> str:
    """How many images are wrong and what that is due to, in two sentences."""
    parts = [f"{n_wrong} of {count(n, f'{split} image')}" for split, (n_wrong, n) in found.n_by_split.items()]
    text = f"Misclassified: {listed(parts)}."
    named = [(key, n) for key, n in found.n_by_cause.items() if key != causes.NONE]
    if named:
        text += " Most frequent causes: " + listed([f"{causes.TITLES[key]} ({n})" for key, n in named[:3]]) + "."
    return text
