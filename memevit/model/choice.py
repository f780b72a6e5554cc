"""Fine-tuned model or linear probe: which of the two is better on validation."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from memevit.results import MODEL, PROBE

_TIE = 1e-6  # Nats.


def between(
    fine_tuned: np.ndarray,
    probe: np.ndarray,
    labels: Sequence[int],
    *,
    compute_metrics: Callable[[np.ndarray, np.ndarray], dict[str, float]],
    compute_losses: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> dict[str, Any]:
    """Which of the two is `kept`, with the values that decide: the section `choice` of a training.

    The one with the lower mean loss is kept, and at a tie the probe, which is the simpler of the two. The standard
    error of the difference says how sure that is.

    Args:
        fine_tuned: [n, C] logits of the fine-tuned model on validation images.
        probe: [n, C] logits of the linear probe.
        labels: their n class ids.
        compute_metrics: from logits [n, C] and class ids [n] to values by name, for the record.
        compute_losses: from logits [n, C] and class ids [n] to the calibrated loss of each image.
    """
    true = np.asarray(labels)
    gains = compute_losses(probe, true) - compute_losses(fine_tuned, true)
    error = float(gains.std() / len(gains) ** 0.5)
    values = {name: compute_metrics(logits, true) for name, logits in ((MODEL, fine_tuned), (PROBE, probe))}
    is_better = bool(gains.mean() > _TIE)
    kept = MODEL if is_better else PROBE
    loss, accuracy = (
        f"{values[MODEL][name]:.3f} against {values[PROBE][name]:.3f}" for name in ("calibrated_loss", "accuracy")
    )
    return {
        "kept": kept, "split": "validation", "n": len(true), "standard_error": error, "values": values,
        "summary": f"The {MODEL} was {'' if is_better else 'not '}better on validation than the {PROBE} "
        f"(calibrated loss {loss}, standard error of the difference {error:.3f}; accuracy {accuracy}), so the {kept} "
        "was saved.",
    }  # fmt: skip
