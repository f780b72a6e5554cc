"""Losses and accuracy over the steps, as a picture."""

import io
from collections.abc import Sequence
from pathlib import Path

from memevit import files

CURVES_FILE = "learning_curves.png"
DPI = 100


def draw(model_dir: Path, history: Sequence[dict[str, float]], *, best_step: int) -> None:
    """Write learning_curves.png, see `curves_png`."""
    files.write_bytes(model_dir / CURVES_FILE, curves_png(history, best_step=best_step))


def curves_png(history: Sequence[dict[str, float]], *, best_step: int) -> bytes:
    """A PNG with the losses on the left, accuracy and learning rate on the right, and a line at the chosen checkpoint.

    Args:
        history: the section of results.json: rows with `step` and some of `train_loss`, `eval_loss`, `eval_accuracy`,
            `eval_macro_f1` and `learning_rate`.
        best_step: step of the checkpoint that became the model.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=(11, 4), dpi=DPI)
    canvas = FigureCanvasAgg(picture)
    left, right = picture.subplots(1, 2)
    picture.subplots_adjust(left=0.06, right=0.92, bottom=0.13, top=0.92, wspace=0.18)
    _draw(left, history, {"train_loss": "training", "eval_loss": "validation"})
    left.set(xlabel="step", ylabel="loss", title="Loss")
    _draw(right, history, {"eval_accuracy": "accuracy", "eval_macro_f1": "macro F1"})
    right.set(xlabel="step", ylabel="share", title="Validation", ylim=(0.0, 1.02))
    rate = right.twinx()
    _draw(rate, history, {"learning_rate": "learning rate"}, color="tab:gray", linewidth=1, marker="")
    rate.set_ylabel("learning rate", color="tab:gray")
    right.set_zorder(rate.get_zorder() + 1)  # With its legend in front of the line of the rate.
    right.patch.set_visible(False)
    for axes in (left, right):
        axes.axvline(best_step, color="black", linestyle=":", linewidth=1, label=f"chosen: step {best_step}")
        axes.grid(alpha=0.3)
        axes.legend(loc="best" if axes is left else "lower right")
    content = io.BytesIO()
    canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()


def _draw(axes, history: Sequence[dict[str, float]], titles: dict[str, str], **style: object) -> None:
    for name, title in titles.items():
        points = [(row["step"], row[name]) for row in history if name in row]
        if points:
            steps, values = zip(*points, strict=True)
            # A mark for each point, so that a single one is seen as well.
            axes.plot(steps, values, **{"marker": "o", "markersize": 3, "label": title} | style)
