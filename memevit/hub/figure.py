"""The confusion matrix as a picture, the same bytes for the same counts."""

import io
import warnings
from typing import Any

CONFUSION_FILE = "confusion_matrix.png"
MAX_LABELLED_CLASSES = 40
MAX_NUMBERED_CLASSES = 15
DPI = 100


def confusion_png(confusion: dict[str, Any]) -> bytes:
    """A PNG with true classes in rows, predicted classes in columns, coloured by the share of the row.

    Args:
        confusion: `class_names`, `counts` [C, C] and `split`, as in results.json.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name.replace("$", r"\$") for name in confusion["class_names"]]  # No formulas.
    counts = np.asarray(confusion["counts"], dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(12.0, 3.0 + 0.45 * len(names))
    picture = Figure(figsize=(side + 1, side), layout="constrained", dpi=DPI)
    canvas = FigureCanvasAgg(picture)
    axes = picture.add_subplot()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    picture.colorbar(drawn, ax=axes, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true", title=f"{confusion['split'].capitalize()} pictures")
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
