"""report/index.html: one self-contained page about a model's mistakes and evidence, and corrections.csv beside it."""

import base64
import csv
import functools
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image
from tqdm import tqdm

from memevit import files, pixels
from memevit.escape import csv_cell, csv_value
from memevit.evaluation import causes, evidence, per_class, shortcuts
from memevit.evaluation.charts import Chart
from memevit.evaluation.mistakes import Found, Mistake
from memevit.evaluation.observed import Observed, count
from memevit.evaluation.report_images import LARGE_PX, Gallery, data_uri, heat_uri

FOLDER, PAGE, CORRECTIONS = "report", "index.html", "corrections.csv"
COLUMNS = ("file", "action", "class", "reason", "sha256")
_HERE = Path(__file__).parent
_PATIENCE_S = 2.0
N_VARIANT_EXAMPLES = 3
_MAX_MATRIX = 15  # Classes.

Box = tuple[float, float, float, float]


@dataclass
class Content:
    """What the page shows; a section that was not measured is None.

    `heat_maps` are, by method, cells [grid, grid] of each shown mistake by (split, position). `visible_box` gives the
    part of an image of some size that the model sees.
    """

    model_name: str
    dataset_name: str
    fingerprint: str
    class_names: list[str]
    parts: dict[str, Observed]
    n_corrections: int = 0
    found: Found | None = None
    heat_maps: Mapping[str, Mapping[tuple[str, int], np.ndarray]] = field(default_factory=dict)
    visible_box: Callable[[tuple[int, int]], Box] = lambda size: (0.0, 0.0, 1.0, 1.0)
    evidence: dict[str, Any] | None = None
    shortcuts: dict[str, Any] | None = None
    shortcut_examples: Sequence[int] = ()
    confidence: dict[str, Any] | None = None
    classes: dict[str, Any] | None = None
    learning_curve: dict[str, Any] | None = None
    comparison: dict[str, Any] | None = None
    notes: Sequence[str] = ()


def write(model_dir: Path, content: Content) -> Path:
    """Write the page and corrections.csv into the folder `report` of the model, and return the page's path."""
    folder = model_dir / FOLDER
    folder.mkdir(exist_ok=True)
    files.write_text(folder / PAGE, render(content))
    write_corrections(folder / CORRECTIONS, content)
    return folder / PAGE


def render(content: Content) -> str:
    """The page as HTML; everything in it is escaped, and its script is named by its checksum in its policy."""
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    gallery = Gallery()
    context = _context(content, gallery)
    return _template().render(
        **context,
        c=content,
        script=script,
        script_hash=digest,
        style=(_HERE / "report.css").read_text(encoding="utf-8"),
        tiles=gallery.css,
        causes_by_key=causes.TITLES,
        remedies=causes.REMEDIES,
        columns=list(COLUMNS),
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"percent": percent, "interval": interval, "p": p_text, "points": points, "count": count}
    return environment.get_template("report.html.j2")


def percent(share: float | None, digits: int = 0) -> str:
    """A share in percent.

    Example:
        >>> percent(0.937), percent(None)
        ('94 %', '-')
    """
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def interval(low: float | None, high: float | None) -> str:
    """A 95 % interval of a share.

    Example:
        >>> interval(0.841, 0.96)
        '84 to 96 %'
    """
    return "" if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f} %"


def points(difference: float) -> str:
    """A difference of two shares in percentage points.

    Example:
        >>> points(0.12), points(-0.034)
        ('+12', '-3')
    """
    whole = round(100 * difference)
    return f"{whole:+d}" if whole else "0"


def p_text(p: float) -> str:
    """A p value.

    Example:
        >>> p_text(0.0421), p_text(0.00001)
        ('0.042', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _context(content: Content, gallery: Gallery) -> dict[str, Any]:
    found = content.found
    cards = [_card(one, content, gallery) for one in _shown(found.shown if found else [])]
    charts = {}
    if content.confidence:
        charts |= _confidence_charts(content.confidence)
    return {
        "cards": cards,
        "suspects": [_card(one, content, gallery) for one in (found.suspects if found else [])],
        "uncertain": [_small_card(one, content, gallery) for one in (found.uncertain if found else [])],
        "advice": advice(content),
        "headline": headline(content),
        "variants": _variants(content),
        "charts": charts,
        "curves": _class_curves(content),
        "cells": _cells(content, gallery),
        "matrix": _matrix(content),
        "filters": _filters(cards),
        "learning_chart": _learning_chart(content.learning_curve),
        "comparison_cards": _comparison_cards(content, gallery),
        "method_names": {"occlusion": "covering parts", "gradients": "gradients"},
    }


def _shown(mistakes: Sequence[Mistake]) -> Sequence[Mistake]:
    return tqdm(mistakes, desc="Page", unit="image", delay=_PATIENCE_S, leave=False)


def _card(one: Mistake, content: Content, gallery: Gallery) -> dict[str, Any]:
    part, train = content.parts[one.split], content.parts.get("train")
    row = part.rows[one.position]
    image = pixels.load_image(part.paths[one.position])
    small = _small_card(one, content, gallery, with_tile=False)
    neighbours = []
    for position, distance, label in (
        (one.nearest_true, one.distance_true, one.true),
        (one.nearest_predicted, one.distance_predicted, one.predicted),
    ):
        if position is not None and train is not None:
            neighbours.append(
                {"tile": gallery.tile(train.paths[position]), "class_name": content.class_names[label],
                 "distance": distance, "file": train.rows[position].source or train.rows[position].file}
            )  # fmt: skip
    return small | {
        "uri": data_uri(image, LARGE_PX),
        "width": image.width,
        "height": image.height,
        "neighbours": neighbours,
        "causes": [{"key": c.key, "title": causes.TITLES[c.key], "measured": c.measured} for c in one.causes],
        "suggestion": one.suggestion,
        "sha256": row.sha256,
        "heats": _heats(one, content),
    }


def _small_card(one: Mistake, content: Content, gallery: Gallery, *, with_tile: bool = True) -> dict[str, Any]:
    part = content.parts[one.split]
    row = part.rows[one.position]
    return {
        "id": f"{one.split}-{one.position}",
        "split": one.split,
        "true": content.class_names[one.true],
        "predicted": content.class_names[one.predicted],
        "p_predicted": one.p_predicted,
        "p_true": one.p_true,
        "title": one.title,
        "file": row.source or row.file,
        "known_score": one.known_score,
        "accepted": one.accepted,
        "tile": gallery.tile(part.paths[one.position]) if with_tile else "",
    }


def _heats(one: Mistake, content: Content) -> dict[str, Any]:
    part = content.parts[one.split]
    heats = {}
    for method, by_image in content.heat_maps.items():
        cells = by_image.get((one.split, one.position))
        if cells is not None:
            with Image.open(part.paths[one.position]) as opened:
                left, top, right, bottom = content.visible_box(opened.size)
            heats[method] = {
                "uri": heat_uri(cells),
                "style": f"left:{100 * left:.1f}%;top:{100 * top:.1f}%;width:{100 * (right - left):.1f}%;"
                f"height:{100 * (bottom - top):.1f}%",
            }
    return heats


def headline(content: Content) -> dict[str, Any]:
    """Verdict and the few numbers of the first screen."""
    tiles = []
    judged = next((content.parts[name] for name in ("test", "validation") if name in content.parts), None)
    kind, sentence, detail = "none", "What the model gets wrong, and why", ""
    if content.evidence:
        kind, sentence, detail = (content.evidence[name] for name in ("verdict", "headline", "detail"))
        accuracy = content.evidence["measurements"][0]
        tiles.append(
            {"value": percent(accuracy["value"]), "label": f"of {accuracy['n']:,} {accuracy['split']} images right",
             "detail": f"95 % interval {interval(accuracy['ci_low'], accuracy['ci_high'])}", "link": "#evidence"}
        )  # fmt: skip
    elif judged is not None:
        tiles.append(
            {"value": percent(float(judged.is_correct.mean())), "label": f"of {len(judged):,} {judged.split} images",
             "detail": "are right", "link": "#mistakes"}
        )  # fmt: skip
    if content.found:
        n_wrong = sum(n for n, _ in content.found.n_by_split.values())
        split_list = ", ".join(f"{n} {split}" for split, (n, _) in content.found.n_by_split.items())
        tiles.append({"value": f"{n_wrong:,}", "label": "images wrong", "detail": split_list, "link": "#mistakes"})
        named = [(key, n) for key, n in content.found.n_by_cause.items() if key not in causes.VAGUE]
        if named:
            key, n = named[0]
            tiles.append({"value": f"{n} x", "label": causes.TITLES[key], "link": "#mistakes",
                          "detail": "most frequent cause that can be named"})  # fmt: skip
    if content.shortcuts:
        altered = [row for row in content.shortcuts["measurements"] if row.get("is_clear")]
        if altered:
            most = max(altered, key=lambda row: row["drop"])
            tiles.append({"value": f"-{100 * most['drop']:.0f}", "label": f"points without {most['without']}",
                          "detail": "what it depends on most", "link": "#shortcuts"})  # fmt: skip
    return {"kind": kind, "sentence": sentence, "detail": detail, "tiles": tiles}


def advice(content: Content) -> list[dict[str, str]]:
    """What to do first: at most three sentences, each with a link to where the images are."""
    found: list[dict[str, str]] = []
    kind = content.evidence["verdict"] if content.evidence else ""
    if kind == evidence.LEAKED:
        found.append({"text": "Prepare the data again, so that near-duplicates are on one side of the split.",
                      "link": "#evidence"})  # fmt: skip
    if kind in (evidence.NOTHING, evidence.TOO_FEW):
        found.append({"text": "Add images of every class, then train again.", "link": "#evidence"})
    if content.found:
        n = sum(1 for one in content.found.suspects if one.suggestion[0])
        n_held_out = content.found.n_by_cause.get(causes.LABEL, 0)
        if n + n_held_out:
            found.append(
                {"text": f"Check {count(n + n_held_out, 'image')} whose label is possibly wrong "
                 f"({n} in training, {n_held_out} elsewhere), and correct them on this page.",
                 "link": "#suspects" if n else "#mistakes"}
            )  # fmt: skip
        for key, n_images in content.found.n_by_cause.items():
            if key not in (causes.LABEL, *causes.VAGUE) and len(found) < 2:
                found.append(
                    {"text": f"{count(n_images, 'mistake')}: {causes.TITLES[key]}. {causes.REMEDIES[key]}",
                     "link": "#mistakes"}
                )  # fmt: skip
    if content.learning_curve and content.learning_curve.get("advice"):
        found.append({"text": content.learning_curve["advice"], "link": "#learning-curve"})
    if content.classes and len(found) < 3:
        rows = [row for row in content.classes["rows"] if row["n"] >= 5]
        if len(rows) > 1:
            worst = min(rows, key=lambda row: row["recall_ci_high"])
            if worst["recall_ci_high"] < max(row["recall_ci_low"] for row in rows):  # Else it may be chance.
                found.append({"text": f"Add images of {worst['class_name']}: it is found least often "
                              f"({percent(worst['recall'])}).", "link": "#classes"})  # fmt: skip
    return found[:3]


def _variants(content: Content) -> list[dict[str, Any]]:
    """Rows of the shortcut table, each with a few altered images."""
    if not content.shortcuts:
        return []
    test = content.parts[content.shortcuts["split"]]
    shown = [pixels.load_image(test.paths[position]) for position in content.shortcut_examples[:N_VARIANT_EXAMPLES]]
    rows = []
    for row in content.shortcuts["measurements"]:
        alter = shortcuts.VARIANTS.get(row["subject"], lambda image: image)
        rows.append(row | {"uris": [data_uri(alter(image), 96) for image in shown]})
    return rows


def _confidence_charts(found: Mapping[str, Any]) -> dict[str, Any]:
    chart = Chart("Reliability diagram", "claimed probability", "share that is right")
    chart.line([(0, 0), (1, 1)], "guide")
    for one in found["reliability"]:
        hint = f"{count(one['n'], 'image')}: {percent(one['confidence'])} claimed, {percent(one['accuracy'])} right"
        chart.dot((one["confidence"], one["accuracy"]), low=one["ci_low"], high=one["ci_high"], hint=hint)
    curve = found["risk_coverage"]
    highest = max(0.05, *curve["risk"])
    rounded = next(limit for limit in (0.05, 0.1, 0.2, 0.4, 0.6, 1.0) if highest <= limit)
    risk = Chart("Risk against coverage", "share of images it answers", "share of those that is wrong",
                 y_range=(0.0, rounded))  # fmt: skip
    risk.line(list(zip(curve["coverage"], curve["risk"], strict=True)))
    return {"reliability": chart.svg(), "risk": risk.svg()}


def _class_curves(content: Content) -> list[dict[str, Any]]:
    if not content.classes:
        return []
    test = content.parts[content.classes["split"]]
    rows = [row for row in content.classes["rows"] if 0 < row["n"] < len(test)]
    rows = sorted(rows, key=lambda row: row.get("f1", 0))[: per_class.MAX_CURVES]
    if len(content.class_names) == 2:
        rows = rows[:1]  # The other class is its mirror image.
    found = []
    for row in rows:
        own = per_class.curves(test, row["label"])
        roc = Chart(f"ROC curve of {row['class_name']}", "false positive rate", "true positive rate")
        pr = Chart(f"Precision-recall curve of {row['class_name']}", "recall", "precision")
        roc.line([(0, 0), (1, 1)], "guide")
        found.append(
            {"class_name": row["class_name"], "auroc": own["auroc"], "average_precision": own["average_precision"],
             "roc": roc.line(own["roc"]).svg(), "pr": pr.line(own["precision_recall"]).svg()}
        )  # fmt: skip
    return found


def _cells(content: Content, gallery: Gallery) -> list[dict[str, Any]]:
    if not content.classes:
        return []
    test = content.parts[content.classes["split"]]
    return [
        cell
        | {
            "true_name": content.class_names[cell["true"]],
            "predicted_name": content.class_names[cell["predicted"]],
            "tiles": [(gallery.tile(test.paths[position]), test.rows[position].file) for position in cell["examples"]],
        }
        for cell in content.classes["cells"]
    ]


def _matrix(content: Content) -> dict[str, Any] | None:
    """Counts of a confusion matrix that is small enough to be read."""
    n_classes = len(content.class_names)
    if not content.classes or n_classes > _MAX_MATRIX:
        return None
    test = content.parts[content.classes["split"]]
    counts = np.bincount(test.labels * n_classes + test.predicted, minlength=n_classes**2).reshape(n_classes, -1)
    rows = []
    for label, own in enumerate(counts):
        total = max(int(own.sum()), 1)
        cells = [(int(n), n / total, guess == label) for guess, n in enumerate(own)]
        rows.append({"name": content.class_names[label], "cells": cells})
    return {"names": content.class_names, "rows": rows}


def _filters(cards: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[str, str]]]:
    """(value, text) of every filter that fits some card."""
    found = {name: sorted({card[name] for card in cards}) for name in ("true", "predicted", "split")}
    options = {name: [(value, value) for value in values] for name, values in found.items()}
    present = {cause["key"] for card in cards for cause in card["causes"]}
    return options | {"cause": [(key, title) for key, title in causes.TITLES.items() if key in present]}


def _learning_chart(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    rows = found["measurements"]
    lowest = min(row["ci_low"] for row in rows)
    floor = min(0.9, np.floor(lowest * 10) / 10)
    chart = Chart("Accuracy against training images", "training images", "accuracy",
                  x_range=(0.0, float(rows[-1]["n_train"])), y_range=(float(floor), 1.0))  # fmt: skip
    chart.band([(row["n_train"], row["ci_low"]) for row in rows], [(row["n_train"], row["ci_high"]) for row in rows])
    chart.line([(row["n_train"], row["value"]) for row in rows])
    for row in rows:
        chart.dot((row["n_train"], row["value"]), hint=f"{row['n_train']} images: {percent(row['value'], 1)}")
    return chart.svg()


def _comparison_cards(content: Content, gallery: Gallery) -> list[dict[str, Any]]:
    if not content.comparison:
        return []
    test = content.parts[content.comparison["split"]]
    return [
        one
        | {
            "tile": gallery.tile(test.paths[one["position"]]),
            "file": test.rows[one["position"]].source or test.rows[one["position"]].file,
        }
        for one in content.comparison["images"]
    ]


def write_corrections(path: Path, content: Content) -> None:
    """Write suggestions as rows that change nothing: action `keep`, and what is suggested in `reason`.

    Rows of an earlier file in which somebody has decided to relabel or drop stay as they are.
    """
    decided = {(row["file"], row["sha256"]): row for row in _rows_of(path) if row["action"] in ("relabel", "drop")}
    rows = list(decided.values())
    for one in [*content.found.shown, *content.found.suspects] if content.found else []:
        action, class_name, reason = one.suggestion
        row = content.parts[one.split].rows[one.position]
        key = (row.source or row.file, row.sha256)
        if action and key not in decided:
            target = f" to {class_name}" if class_name else ""
            rows.append(dict(zip(COLUMNS, (key[0], "keep", "", f"suggested: {action}{target} ({reason})", key[1]),
                                 strict=True)))  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    files.write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))


def _rows_of(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with files.explained_csv_errors(path), path.open(encoding="utf-8-sig", newline="") as file:
        return [
            {name: csv_value((record.get(name) or "").strip()) for name in COLUMNS} for record in csv.DictReader(file)
        ]
