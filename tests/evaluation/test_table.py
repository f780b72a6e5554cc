"""What finetune_vit.py prints at the end."""

import numpy as np
import pytest

from memevit.evaluation import measure


def measured(**accuracies):
    """Rows of results.json for 100 pictures of two classes, by subject, with so many right."""
    true = np.arange(100) % 2
    rows = []
    for subject, n_right in accuracies.items():
        predicted = np.where(np.arange(100) < n_right, true, 1 - true)
        options = {"n_classes": 2, "split": "test", "subject": subject.replace("_", " "), "seed": 0}
        rows += [vars(one) for one in measure.measurements_of(predicted, true, **options)]
    return {"measurements": rows}


@pytest.mark.parametrize(
    ("n_right", "expected"),
    [
        (90, None),
        (80, "The model does not beat the colour histogram on the test split."),
        (40, "The model does not beat the majority class and the colour histogram on the test split."),
    ],
)
def test_a_model_that_does_not_beat_a_baseline_is_told_so(n_right, expected):
    sections = measured(**{"fine-tuned_model": n_right, "majority_class": 50, "colour_histogram": 80})
    lines = measure.table(sections).splitlines()
    assert len(lines) == 4 + bool(expected)
    assert f"0.{n_right // 10}00 (" in lines[1]
    assert expected is None or lines[-1] == expected
