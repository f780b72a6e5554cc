"""What the known score does to images of the known classes, and to images of none of them: numbers and a histogram."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from memevit.evaluation import rejection
from memevit.evaluation.significance import WILSON, wilson_interval
from memevit.results import Measurement

DPI = 100
KNOWN, NEAR, FAR = "known", "near", "far"
_COLOURS = {KNOWN: "tab:blue", NEAR: "tab:orange", FAR: "tab:red"}
_MAX_NAMED = 2
N_RESAMPLES = 500
BOOTSTRAP = f"bootstrap, {N_RESAMPLES} draws, percentiles, 95 %"
_N_BINS = 40
_CLIPPED_BELOW = 3.0  # Standard ranges below the lowest known score, which are shown in the first bin.


@dataclass(frozen=True)
class Known:
    """Images of the known classes in one split.

    `scores` [n], `accepted` [n], `is_correct` [n] whether the most probable class is the true one, `labels` [n].
    """

    split: str
    scores: np.ndarray
    accepted: np.ndarray
    is_correct: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Unknown:
    """Images of none of the classes from one source: `scores` [n] and `accepted` [n]; `is_near` if they are similar."""

    name: str
    scores: np.ndarray
    accepted: np.ndarray
    is_near: bool = False


def section(
    settings: Mapping[str, Any], known: Known, unknown: Sequence[Unknown], class_names: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """The section `open_set` of results.json.

    Args:
        settings: the object `open_set` of config.json.
        known: images of the known classes that neither training nor threshold has seen.
        unknown: images of none of the classes, for measuring alone.
        class_names: position is the label.
        seed: of the draws for intervals.
    """
    n_validation = sum(settings["n_calibration"].values())
    per_class = [
        {"class_name": name, "split": known.split, **_rate(~known.accepted[known.labels == label])}
        for label, name in enumerate(class_names)
        if (known.labels == label).any()
    ]
    rejected = _rate(~known.accepted)
    measurements = [
        Measurement(
            "false_rejection", rejected["rate"], known.split, rejected["n"], ci_low=rejected["ci_low"],
            ci_high=rejected["ci_high"], ci_method=WILSON,
        )
    ]  # fmt: skip
    sources = []
    for own in unknown:
        found = _against(known, own, seed=seed)
        sources.append({"name": own.name, "is_near": own.is_near, **found})
        low, high = found["auroc_interval"]
        measurements.append(
            Measurement(
                "auroc_known_against_unknown", found["auroc"], f"{known.split}, {own.name}", found["n"], ci_low=low,
                ci_high=high, ci_method=BOOTSTRAP,
            )
        )  # fmt: skip
    return {
        "title": "Unknown images",
        "reject_label": settings["reject_label"],
        "score": list(settings["score"]),
        "threshold": settings["threshold"],
        "false_rejection_asked_for": settings["false_rejection"],
        "expected_false_rejection": settings["expected_false_rejection"],
        "expected_interval": list(settings["false_rejection_interval"]),
        "n_validation": n_validation,
        "statistics_only": settings["statistics_only"],
        "measurements": [asdict(one) for one in measurements],
        "per_class": per_class,
        "sources": sources,
        "histogram": _histogram(known, unknown, settings["threshold"]),
    }


def unknown_class_section(
    logits: np.ndarray, labels: np.ndarray, logits_of_unknown: np.ndarray, *, threshold: float
) -> dict[str, Any]:
    """What a checkpoint with one more class, whose logit is always `threshold`, does to test and to unknown images.

    Args:
        logits: [n, C] of test images.
        labels: [n] their class ids.
        logits_of_unknown: [m, C] of images of none of the classes.
        threshold: the additional logit.
    """
    is_correct, rejected = logits.argmax(axis=1) == labels, logits.max(axis=1) < threshold
    return {
        "threshold": threshold,
        "accuracy_without": float(is_correct.mean()),
        "accuracy_with": float((is_correct & ~rejected).mean()),
        "known": _rate(rejected),
        "unknown": _rate(logits_of_unknown.max(axis=1) < threshold),
    }


def _rate(flags: np.ndarray) -> dict[str, Any]:
    n, hits = len(flags), int(flags.sum())
    low, high = wilson_interval(hits, n)
    return {"n": n, "n_rejected": hits, "rate": hits / n, "ci_low": low, "ci_high": high}


def _against(known: Known, unknown: Unknown, *, seed: int) -> dict[str, Any]:
    rows = np.arange(len(known.scores)), np.arange(len(unknown.scores))
    interval = rejection.bootstrap_interval(
        lambda a, b: rejection.auroc(known.scores[a], unknown.scores[b]), *rows, n_resamples=N_RESAMPLES, seed=seed
    )
    accepted = int(unknown.accepted.sum())
    low, high = wilson_interval(accepted, len(unknown.scores))
    return {
        "n": len(unknown.scores),
        "n_accepted": accepted,
        "accepted": accepted / len(unknown.scores),
        "accepted_interval": [low, high],
        "auroc_interval": list(interval),
        **rejection.summary(known.scores, unknown.scores, known.is_correct),
    }


def line(found: Mapping[str, Any]) -> str:
    """A section in one line.

    Example:
        >>> per_class = [{"n": 86, "n_rejected": 4}]
        >>> line({"per_class": per_class, "sources": [{"name": "drawn images", "n": 120, "n_accepted": 23}]})
        '120 drawn images: 97 unknown, 23 taken for one of the classes; of 86 test images 4 called unknown'
    """
    parts = [
        f"{own['n']} {own['name']}: {own['n'] - own['n_accepted']} unknown, {own['n_accepted']} taken for one of the "
        "classes"
        for own in found["sources"]
    ]
    n, n_rejected = (sum(row[key] for row in found["per_class"]) for key in ("n", "n_rejected"))
    return "; ".join([*parts, f"of {n} test images {n_rejected} called unknown"])


def _histogram(known: Known, unknown: Sequence[Unknown], threshold: float) -> dict[str, Any]:
    """Edges of bins, and the share of images in each for the known and for each kind of unknown images."""
    groups = [(f"known classes ({known.split}, n = {len(known.scores)})", KNOWN, known.scores)]
    for kind, title in ((NEAR, "similar unknown images"), (FAR, "other unknown images")):
        own = [one for one in unknown if one.is_near == (kind == NEAR)]
        if own:
            names = ", ".join(one.name for one in own) if len(own) <= _MAX_NAMED else f"{len(own)} sources"
            scores = np.concatenate([one.scores for one in own])
            groups.append((f"{title}: {names} (n = {len(scores)})", kind, scores))
    lowest = min(known.scores.min(), threshold)
    shown_from = lowest - _CLIPPED_BELOW * max(1.0, known.scores.max() - lowest)
    shown_from = max(shown_from, min(scores.min() for *_, scores in groups))
    edges = np.linspace(shown_from, max(scores.max() for *_, scores in groups) + 1e-9, _N_BINS + 1)
    rows = []
    for title, kind, scores in groups:
        counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
        rows.append({"title": title, "kind": kind, "shares": (counts / len(scores)).round(6).tolist()})
    return {"edges": edges.round(6).tolist(), "threshold": threshold, "groups": rows}


def histogram_png(histogram: Mapping[str, Any]) -> bytes:
    """A PNG with a histogram of known scores: known images above, unknown ones below, and the threshold.

    Args:
        histogram: the object of this name in the section `open_set` of results.json.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups, edges = histogram["groups"], np.asarray(histogram["edges"], dtype=float)
    figure = Figure(figsize=(9, 1.2 + 1.5 * len(groups)), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    rows = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    for axes, group in zip(rows, groups, strict=True):
        axes.bar(edges[:-1], group["shares"], np.diff(edges), align="edge", color=_COLOURS[group["kind"]])
        axes.axvline(histogram["threshold"], color="black", linestyle="--", linewidth=1.2, label="threshold")
        axes.set_ylabel("share")
        axes.set_title(group["title"].replace("$", r"\$"), loc="left", fontsize="medium")
        axes.margins(x=0.01)
    rows[0].legend(loc="upper left", frameon=False)
    rows[-1].set_xlabel("known score (higher: more like the training images; the first bin holds all lower scores)")
    content = io.BytesIO()
    canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()
