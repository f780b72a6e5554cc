"""What finetune_vit.py prints at the end."""

import numpy as np
import pytest

from memevit.evaluation import measure


def measured(**accuracies):
    """Rows of results.json for 100 images of two classes, by subject, with so many right."""
    true = np.arange(100) % 2
    rows, compared = [], []
    predicted = {name: np.where(np.arange(100) < n_right, true, 1 - true) for name, n_right in accuracies.items()}
    for name, own in predicted.items():
        subject = name.replace("_", " ")
        options = {"n_classes": 2, "split": "test", "subject": subject, "seed": 0}
        rows += [vars(one) for one in measure.measurements_of(own, true, **options)]
        if name != "fine-tuned_model":
            names = {"subject": "fine-tuned model", "baseline": subject, "split": "test"}
            compared.append(measure.comparison(predicted["fine-tuned_model"], own, true, **names))
    return {"measurements": rows, "comparisons": compared}


@pytest.mark.parametrize(
    ("n_right", "expected"),
    [
        (90, None),
        # Right on four images more, which happens by chance one time in eight: (1/2)^4 on either side.
        (84, "The model does not beat the colour histogram on the test split."),
        (80, "The model does not beat the colour histogram on the test split."),
        (40, "The model does not beat the majority class and the colour histogram on the test split."),
    ],
)
def test_a_model_that_does_not_beat_a_baseline_is_told_so(n_right, expected):
    sections = measured(**{"fine-tuned_model": n_right, "majority_class": 50, "colour_histogram": 80})
    lines = measure.table(sections).splitlines()
    assert len(lines) == 4 + bool(expected)
    assert f"{n_right / 100:.3f} (" in lines[1]
    assert expected is None or lines[-1] == expected


def test_the_paired_test_is_in_the_line_of_the_baseline():
    sections = measured(**{"fine-tuned_model": 84, "majority_class": 50, "colour_histogram": 80})
    lines = measure.table(sections).splitlines()
    assert lines[3].endswith(" 0.12")
    (colour,) = (one for one in sections["comparisons"] if one["baseline"] == "colour histogram")
    assert (colour["n_only_subject_right"], colour["n_only_baseline_right"]) == (4, 0)
    assert (colour["p_value"], colour["is_better"]) == (0.125, False)


def test_models_of_folds_that_do_not_beat_a_baseline_are_told_so_too():
    compared = [{"baseline": "linear probe", "split": "out_of_fold", "is_better": False}]
    assert measure.not_beaten(compared) == ["The models of the folds do not beat the linear probe out of fold."]
