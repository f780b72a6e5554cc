"""What a change of classes did to a model: accuracy before and after on the same images, and what it calls unknown."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memevit.evaluation.significance import MCNEMAR, WILSON, mcnemar, wilson_interval

_DPI = 100


@dataclass(frozen=True)
class Answers:
    """What one model says about the n test images.

    `predicted` [n] are class names, `accepted` [n] whether each is taken for a known class, None if it does not decide.
    """

    predicted: np.ndarray
    accepted: np.ndarray | None


def section(
    true: np.ndarray, before: Answers, after: Answers, *, old_names: Sequence[str], new_names: Sequence[str]
) -> dict[str, Any]:
    """The section `growth` of results.json.

    Args:
        true: [n] class names of the test images of the extended dataset, under the names of the new model.
        before: of the old model, its answers under the names of the new one.
        after: of the new model.
        old_names: classes that both models know.
        new_names: classes that only the new one knows.
    """
    was_right, is_right = before.predicted == true, after.predicted == true
    old, new = np.isin(true, old_names), np.isin(true, new_names)
    found: dict[str, Any] = {
        "split": "test",
        "test": MCNEMAR,
        "ci_method": WILSON,
        "old_classes": [_compared(was_right, is_right, true == name, class_name=name) for name in old_names],
        "old": _compared(was_right, is_right, old),
        "new_classes": [{"class_name": name, **_share(is_right[true == name])} for name in new_names],
    }
    if new_names:
        value = _share(is_right[new])
        found["new"] = value
        found["harmonic_mean"] = harmonic_mean(found["old"]["after"], value["value"])
        found["new_called_unknown"] = {
            "before": None if before.accepted is None else _share(~before.accepted[new]),
            "after": None if after.accepted is None else _share(~after.accepted[new]),
        }
    found["old_called_unknown"] = {
        "before": None if before.accepted is None else _share(~before.accepted[old]),
        "after": None if after.accepted is None else _share(~after.accepted[old]),
    }
    return found


def _compared(was_right: np.ndarray, is_right: np.ndarray, chosen: np.ndarray, **named: str) -> dict[str, Any]:
    n = int(chosen.sum())
    return {
        **named, "n": n, "before": float(was_right[chosen].mean()), "after": float(is_right[chosen].mean()),
        "before_interval": list(wilson_interval(int(was_right[chosen].sum()), n)),
        "after_interval": list(wilson_interval(int(is_right[chosen].sum()), n)),
        "p_value": mcnemar(was_right[chosen], is_right[chosen]),
    }  # fmt: skip


def _share(flags: np.ndarray) -> dict[str, Any]:
    low, high = wilson_interval(int(flags.sum()), len(flags))
    return {"n": len(flags), "value": float(flags.mean()), "ci_low": low, "ci_high": high}


def harmonic_mean(old: float, new: float) -> float:
    """2 old new / (old + new): high only if both accuracies are.

    Example:
        >>> harmonic_mean(0.9, 0.9), harmonic_mean(1.0, 0.0), harmonic_mean(0.0, 0.0)
        (0.9, 0.0, 0.0)
    """
    return 2 * old * new / (old + new) if old + new else 0.0


def table(found: Mapping[str, Any]) -> str:
    """The section as text: a line per class, then what is called unknown."""
    width = max(len(row["class_name"]) for row in [*found["old_classes"], *found["new_classes"], {"class_name": "all"}])
    width = max(width, len("old classes"))
    lines = [f"{'class':<{width}} {'n':>5}  before  after (95 %)           p"]
    for row in [*found["old_classes"], {"class_name": "old classes", **found["old"]}]:
        low, high = row["after_interval"]
        lines.append(
            f"{row['class_name']:<{width}} {row['n']:>5}  {row['before']:.3f}   "
            f"{row['after']:.3f} ({low:.3f}-{high:.3f})   {row['p_value']:.2g}"
        )
    for row in found["new_classes"]:
        lines.append(
            f"{row['class_name']:<{width}} {row['n']:>5}  new     {row['value']:.3f} ({row['ci_low']:.3f}-"
            f"{row['ci_high']:.3f})"
        )
    if "harmonic_mean" in found:
        lines.append(f"Harmonic mean of old and new accuracy: {found['harmonic_mean']:.3f}")
        lines += _called_unknown("Images of new classes", found["new_called_unknown"])
    lines += _called_unknown("Images of old classes", found["old_called_unknown"])
    for row in found.get("auroc", ()):
        lines.append(
            f"AUROC, known against {row['name']} (n {row['n']}): {row['before']:.3f} before, {row['after']:.3f} after"
        )
        if called := row.get("called_unknown"):
            lines.append(f"Of these called unknown: {called['before']:.0%} before, {called['after']:.0%} after")
    if joint := found.get("joint"):
        lines.append(
            f"Trained from the start on all classes: old {joint['old']:.3f}, new {_number(joint['new'])}, harmonic "
            f"mean {_number(joint['harmonic_mean'])} in {joint['seconds']:.0f} s; here {found['seconds']:.0f} s"
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _called_unknown(who: str, found: Mapping[str, Any]) -> list[str]:
    if found["after"] is None:
        return []
    before = f"{found['before']['value']:.0%} before, " if found["before"] else ""
    return [f"{who} called unknown: {before}{found['after']['value']:.0%} after (n {found['after']['n']})"]


def bars_png(found: Mapping[str, Any]) -> bytes:
    """A PNG with the accuracy of each class before and after; a new class has one bar."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [(row["class_name"], row["before"], row["after"], row["after_interval"]) for row in found["old_classes"]]
    rows += [(row["class_name"], None, row["value"], (row["ci_low"], row["ci_high"])) for row in found["new_classes"]]
    rows = rows[-40:]
    figure = Figure(figsize=(7, 1 + 0.45 * len(rows)), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    for position, (_, before, after, (low, high)) in enumerate(rows):
        if before is not None:
            axes.barh(position - 0.2, before, 0.38, color="#9aa4b2", label="before" if position == 0 else None)
        label = "new class" if before is None else "after"
        known = axes.get_legend_handles_labels()[1]
        error = [[max(after - low, 0)], [max(high - after, 0)]]
        axes.barh(
            position + (0 if before is None else 0.2), after, 0.38, xerr=error, color="#d98a1f" if before is None else
            "#2f5fd0", label=None if label in known else label,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row[0].replace("$", r"\$") for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy on test images, with 95 % intervals")
    figure.legend(loc="outside lower center", ncols=3)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content, metadata={"Software": None})
    return content.getvalue()
