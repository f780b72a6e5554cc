"""Figures of a model folder: learning curves and confusion matrix, the same bytes for the same numbers."""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memevit import escape, files
from memevit.evaluation import growth, known_scores
from memevit.results import CONFUSION_FILE, CURVES_FILE, GROWTH_FILE, KNOWN_SCORES_FILE

MAX_LABELLED_CLASSES = 40
MAX_NUMBERED_CLASSES = 15
DPI = 100
_MAX_LABEL_LETTERS = 40


def figures(found: Mapping[str, Any]) -> dict[str, bytes]:
    """The figures of a model card by file name, drawn from the content of results.json."""
    drawn = {}
    if history := found.get("history"):
        drawn[CURVES_FILE] = curves_png(history, best_step=(found.get("training") or {}).get("best_step"))
    if confusion := found.get("confusion_matrix"):
        drawn[CONFUSION_FILE] = confusion_png(confusion)
    if histogram := (found.get("open_set") or {}).get("histogram"):
        drawn[KNOWN_SCORES_FILE] = known_scores.histogram_png(histogram)
    if found.get("growth"):
        drawn[GROWTH_FILE] = growth.bars_png(found["growth"])
    return drawn


def draw_figures(model_dir: Path, found: Mapping[str, Any]) -> None:
    """Write the figures of a model card into `model_dir`, see `figures`."""
    for name, content in figures(found).items():
        files.write_bytes(model_dir / name, content)


def curves_png(history: Sequence[dict[str, float]], *, best_step: int | None) -> bytes:
    """A PNG with the losses on the left, accuracy and learning rate on the right, and a line at the chosen checkpoint.

    Args:
        history: the section of results.json: rows with `step` and some of `train_loss`, `eval_loss`, `eval_accuracy`,
            `eval_macro_f1` and `learning_rate`.
        best_step: step of the checkpoint that became the model, if it is known.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.06, right=0.92, bottom=0.21, top=0.92, wspace=0.18)
    _draw(left, history, {"train_loss": "training", "eval_loss": "validation"})
    left.set(xlabel="step", ylabel="loss", title="Loss")
    _draw(right, history, {"eval_accuracy": "accuracy", "eval_macro_f1": "macro F1"})
    right.set(xlabel="step", ylabel="share", title="Validation", ylim=(0.0, 1.02))
    rate = right.twinx()
    _draw(rate, history, {"learning_rate": "learning rate"}, color="tab:gray", linewidth=1, marker="")
    rate.set_ylabel("learning rate", color="tab:gray")
    right.set_zorder(rate.get_zorder() + 1)
    right.patch.set_visible(False)
    for axes in (left, right):
        if best_step is not None:
            axes.axvline(best_step, color="black", linestyle=":", linewidth=1, label=f"chosen: step {best_step}")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)  # It covers no line there.
    content = io.BytesIO()
    canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()


def confusion_png(confusion: dict[str, Any]) -> bytes:
    """A PNG with true classes in rows, predicted classes in columns, coloured by the share of the row.

    Args:
        confusion: `class_names`, `counts` [C, C] and `split`, as in results.json.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [_label(name) for name in confusion["class_names"]]
    counts = np.asarray(confusion["counts"], dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(12.0, 3.0 + 0.45 * len(names))
    figure = Figure(figsize=(side + 1, side), layout="constrained", dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(drawn, ax=axes, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true", title=f"{confusion['split'].capitalize()} images")
    if len(names) <= MAX_LABELLED_CLASSES:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
    if len(names) <= MAX_NUMBERED_CLASSES:
        for row, column in np.ndindex(counts.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=colour)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Scripts that the font lacks are drawn as boxes.
        canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()


def _label(class_name: str) -> str:
    """A class name as plain text on one short line: matplotlib reads `$` as the start of a formula."""
    flat = escape.terminal(class_name)
    short = flat if len(flat) <= _MAX_LABEL_LETTERS else f"{flat[: _MAX_LABEL_LETTERS - 1]}…"
    return short.replace("$", r"\$")


def _draw(axes, history: Sequence[dict[str, float]], titles: dict[str, str], **style: object) -> None:
    for (name, title), line in zip(titles.items(), ("-", "--"), strict=False):  # Two that agree are both seen.
        points = [(row["step"], row[name]) for row in history if name in row]
        if points:
            steps, values = zip(*points, strict=True)
            # A mark for each point, so that a single one is seen as well.
            axes.plot(steps, values, **{"marker": "o", "markersize": 3, "linestyle": line, "label": title} | style)
