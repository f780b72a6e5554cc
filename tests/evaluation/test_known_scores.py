import io

import numpy as np
import pytest
from PIL import Image

from memevit.evaluation import known_scores
from memevit.evaluation.known_scores import Known, Unknown

SETTINGS = {
    "reject_label": "unknown", "score": ["log_odds"], "threshold": -1.0, "false_rejection": 0.05,
    "expected_false_rejection": 0.05, "false_rejection_interval": [0.02, 0.1], "statistics_only": False,
    "n_calibration": {"doom": 40, "zelda": 60},
}  # fmt: skip


def known(n=40):
    scores = np.linspace(-2, 2, n)
    return Known("test", scores, scores >= -1, np.ones(n, dtype=bool), np.arange(n) % 2)


def unknown(shift=-6.0, name="drawn images", **options):
    scores = np.linspace(-2, 2, 30) + shift
    return Unknown(name, scores, scores >= -1, **options)


def png(sources):
    found = known_scores.section(SETTINGS, known(), sources, ["doom", "zelda"])
    return known_scores.histogram_png(found["histogram"])


def test_the_section_counts_rejected_test_images_by_class_and_accepted_unknown_ones():
    found = known_scores.section(SETTINGS, known(), [unknown(), unknown(0.0, "other games")], ["doom", "zelda"])
    assert [(row["class_name"], row["n"], row["n_rejected"]) for row in found["per_class"]] == [
        ("doom", 20, 5), ("zelda", 20, 5),
    ]  # fmt: skip
    assert [(own["name"], own["auroc"], own["n_accepted"]) for own in found["sources"]] == [
        ("drawn images", 1.0, 0), ("other games", pytest.approx(0.5, abs=0.01), 22),
    ]  # fmt: skip
    rejection, *aurocs = found["measurements"]
    assert (rejection["name"], rejection["value"], rejection["n"]) == ("false_rejection", 0.25, 40)
    assert rejection["ci_low"] < 0.25 < rejection["ci_high"]
    assert [one["split"] for one in aurocs] == ["test, drawn images", "test, other games"]
    assert found["n_validation"] == 100


def test_the_line_says_what_became_of_unknown_and_of_known_images():
    found = known_scores.section(SETTINGS, known(), [unknown()], ["doom", "zelda"])
    assert known_scores.line(found) == (
        "30 drawn images: 30 unknown, 0 taken for one of the classes; of 40 test images 10 called unknown"
    )


@pytest.mark.parametrize("sources", [[], [unknown()], [unknown(), unknown(-1.0, "other games", is_near=True)]])
def test_the_histogram_has_a_row_for_each_kind_of_image(sources):
    image = Image.open(io.BytesIO(png(sources)))
    assert image.size == (900, int(100 * (1.2 + 1.5 * (1 + len(sources)))))


def test_scores_that_are_extremely_low_do_not_squeeze_the_others_into_one_bin():
    content = png([unknown(-1e6)])
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    is_blue = (abs(pixels - (31, 119, 180)).sum(axis=2) < 30)[:, 90:]
    assert is_blue.any(axis=0).sum() > 100  # Columns of the image with bars of known images.
