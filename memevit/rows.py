"""What is said about one image, alike in predictions.csv and in the rows of sort_memes.py."""

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

from memevit import escape

PROBABILITY = "p_"  # Prefix of the column of a class.
MAX_CLASS_COLUMNS = 20  # With more classes a row holds the most probable ones only, unless asked for all.
DEFAULT_TOP_K = 5
_DIGITS = 6


def prediction(
    class_names: Sequence[str],
    probabilities: Sequence[float] | None,
    *,
    known_score: float | None = None,
    accepted: bool | None = None,
    top_k: int | None = None,
) -> dict[str, Any]:
    """The columns `predicted`, `confidence`, `known_score`, `accepted` and those of the probabilities, in this order.

    Args:
        class_names: position is the label.
        probabilities: [C], or None for an image that can't be read; all columns are None then.
        known_score: higher means more like the training classes; None without an unknown decision.
        accepted: whether the image belongs to one of the classes; None without an unknown decision.
        top_k: how many probabilities. With all of them (the default up to 20 classes) there is a column `p_<class>`
            per class in the model's order; with fewer (5 by default) there are `top1_class`, `top1_probability`,
            `top2_class` and so on, the most probable first.

    Example:
        >>> prediction(["a", "b"], [0.25, 0.75])
        {'predicted': 'b', 'confidence': 0.75, 'known_score': None, 'accepted': None, 'p_a': 0.25, 'p_b': 0.75}
        >>> prediction(["a", "b"], [0.25, 0.75], top_k=1)["top1_class"]
        'b'
    """
    n_shown = n_probabilities(len(class_names), top_k)
    if probabilities is None:
        row = dict.fromkeys(("predicted", "confidence", "known_score", "accepted"))
        return row | dict.fromkeys(probability_columns(class_names, top_k))
    values = [round(float(value), _DIGITS) for value in probabilities]
    if len(values) != len(class_names):
        raise ValueError(f"{len(values)} probabilities for {len(class_names)} classes")
    n_ordered = 1 if n_shown == len(values) else max(n_shown, 1)
    order = heapq.nsmallest(n_ordered, range(len(values)), key=lambda label: -probabilities[label])
    row = {
        "predicted": class_names[order[0]],
        "confidence": values[order[0]],
        "known_score": None if known_score is None else round(float(known_score), _DIGITS),
        "accepted": None if accepted is None else bool(accepted),
    }
    if n_shown == len(class_names):
        shown = values
    else:
        shown = [part for label in order[:n_shown] for part in (class_names[label], values[label])]
    return row | dict(zip(probability_columns(class_names, top_k), shown, strict=True))


def n_probabilities(n_classes: int, top_k: int | None) -> int:
    """How many probabilities a row holds, see `prediction`.

    Example:
        >>> n_probabilities(2, None), n_probabilities(1000, None), n_probabilities(1000, 3), n_probabilities(2, 3)
        (2, 5, 3, 2)
    """
    if top_k is None:
        top_k = n_classes if n_classes <= MAX_CLASS_COLUMNS else DEFAULT_TOP_K
    return min(top_k, n_classes)


def probability_columns(class_names: Sequence[str], top_k: int | None = None) -> list[str]:
    """Names of the columns of the probabilities, see `prediction`.

    Example:
        >>> probability_columns(["a", "b"]), probability_columns(["a", "b"], 1)
        (['p_a', 'p_b'], ['top1_class', 'top1_probability'])
    """
    n_shown = n_probabilities(len(class_names), top_k)
    if n_shown == len(class_names):
        return [PROBABILITY + name for name in class_names]
    return [f"top{rank}_{part}" for rank in range(1, n_shown + 1) for part in ("class", "probability")]


def csv_cells(row: Mapping[str, Any]) -> list[Any]:
    r"""The values of `row` as cells: nothing a terminal or a spreadsheet would execute, one line each.

    None is empty and a boolean `true` or `false`. Control characters are written as in Python (`\n`, `\x1b`).

    Example:
        >>> csv_cells({"file": "=a\nb.png", "accepted": True, "known_score": None, "confidence": 0.5})
        ["'=a\\nb.png", 'true', '', 0.5]
    """
    return [_cell(value) for value in row.values()]


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return escape.csv_cell(escape.terminal(value)) if isinstance(value, str) else value
