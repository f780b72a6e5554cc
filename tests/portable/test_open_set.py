import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from memevit.files import sha256_of
from memevit.portable.open_set import (
    FILE,
    OpenSet,
    StaleStatisticsError,
    log_odds,
    probe_image,
    raw_terms,
)

SETTINGS = {
    "version": 1, "layers": ["final"], "score": ["mahalanobis.final"], "threshold": -1.0, "reject_label": "unknown",
    "dtype": "float32", "threshold_per_predicted_class": None,
}  # fmt: skip


def arrays(**own):
    """Two classes whose features lie along the axes; validation scores from 0 to -8."""
    return {
        "mean.final": np.eye(2, dtype=np.float32),
        "whitening.final": 2 * np.eye(2, dtype=np.float32),
        "standard.median": np.zeros(1),
        "standard.scale": np.ones(1),
        "validation.score": -np.arange(9.0),
        "validation.label": np.array([0, 1] * 4 + [0], dtype=np.int32),
        "validation.predicted": np.array([0, 1] * 4 + [0], dtype=np.int32),
        "probe.logits": np.array([1.0, 0.0], dtype=np.float32),
        "probe.final": np.array([3.0, 4.0], dtype=np.float32),
        **own,
    }


def known(**settings):
    return OpenSet(SETTINGS | settings, arrays(), ["doom", "zelda"])


def test_log_odds_keep_the_order_where_the_softmax_is_one():
    logits = np.array([[40.0, 0.0, 0.0], [80.0, 0.0, 0.0]])
    np.testing.assert_allclose(log_odds(logits), [40 - np.log(2), 80 - np.log(2)])


def test_distance_is_to_the_nearest_class_after_normalisation_and_skips_a_class_without_images():
    means = np.array([[1.0, 0.0], [0.0, 1.0], [np.nan, np.nan]])
    stored = {"mean.final": means, "whitening.final": 2 * np.eye(2)}
    features = {"final": np.array([[5.0, 0.0], [-7.0, 0.0]])}
    found = raw_terms(np.zeros((2, 2)), features, stored, ["mahalanobis.final"])
    # (-1, 0) is sqrt(2) from (0, 1); the whitening doubles lengths.
    np.testing.assert_allclose(found[:, 0], [0.0, -8.0], atol=1e-12)


def test_an_image_below_the_threshold_is_unknown_and_the_reason_counts_validation_images():
    near, far = known().decide(np.array([[3.0, 0.0], [3.0, 0.0]]), {"final": np.array([[9.0, 0.1], [-1.0, 0.0]])})
    assert (near.label, near.accepted, near.reason) == ("doom", True, "")
    assert (far.label, far.class_name, far.accepted) == ("unknown", "doom", False)
    assert far.known_score == pytest.approx(-8.0)
    # Its score equals the lowest of 9 validation images, whose class, doom, weighs 0.9 each.
    assert far.p_value == pytest.approx((9 * 0.1 + 1) / 10)
    assert far.reason == "less like the training images than 90 % of the validation images"


def test_a_class_with_a_threshold_of_its_own_is_judged_by_it():
    own = known(threshold_per_predicted_class={"zelda": -9.0})
    logits = np.array([[3.0, 0.0], [0.0, 3.0]])
    doom, zelda = own.decide(logits, {"final": np.array([[-1.0, 0.0], [-1.0, 0.0]])})
    assert (doom.accepted, zelda.accepted) == (False, True)


@pytest.mark.parametrize(
    ("logits", "final", "dtype", "words"),
    [
        ([1.0, 0.0], [3.0, 4.1], "float32", "final of the probe image"),
        ([1.1, 0.0], [3.0, 4.0], "float32", "logits of the probe image"),
        ([1.0, 0.0], [3.0, float("nan")], "float32", "stale"),
        ([1.0, 0.0], [3.0, 4.0], "bfloat16", "runs in bfloat16"),
        ([1.0, 0.0, 0.0], [3.0, 4.0], "float32", "stale"),
    ],
)
def test_statistics_of_another_model_are_refused_with_the_command_that_renews_them(logits, final, dtype, words):
    with pytest.raises(StaleStatisticsError, match=words) as raised:
        known().require_current(np.array([logits]), {"final": np.array([final])}, dtype=dtype)
    assert "finetune_vit.py --calibrate_only" in str(raised.value)


def test_rounding_of_another_machine_is_no_change():
    known().require_current(np.array([[1.0003, 0.0]]), {"final": np.array([[3.0, 4.001]])}, dtype="float32")


def write_model(folder, **settings):
    save_file(arrays(), folder / FILE)
    config = {"id2label": {"1": "zelda", "0": "doom"}, "open_set": SETTINGS | {"sha256": sha256_of(folder / FILE)}}
    config["open_set"] |= settings
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_statistics_are_read_from_a_folder_with_the_classes_in_order(tmp_path):
    found = OpenSet.load(write_model(tmp_path))
    assert list(found.class_names) == ["doom", "zelda"]
    assert found.thresholds().tolist() == [-1.0, -1.0]


def test_a_model_without_statistics_has_none(tmp_path):
    (tmp_path / "config.json").write_text('{"id2label": {}}')
    assert OpenSet.load(tmp_path) is None


@pytest.mark.parametrize(
    ("settings", "words"), [({"sha256": "0"}, "is not the file"), ({"version": 2}, "version 2"), ({"file": "no"}, "no")]
)
def test_a_file_that_does_not_belong_to_the_model_is_refused(tmp_path, settings, words):
    with pytest.raises(StaleStatisticsError, match=words):
        OpenSet.load(write_model(tmp_path, **settings))


def test_the_probe_image_is_the_same_everywhere():
    image = probe_image()
    assert image.shape == (120, 160, 3)
    assert image.dtype == np.uint8
    # The first mixing steps of splitmix64 for 0, done by hand with Python's integers.
    value = 0
    for factor in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9):
        value = (value + 1) * factor % 2**64
        value ^= value >> 29
    assert image[0, 0, 0] == (value >> 32) % 256
    assert image.std() > 60
