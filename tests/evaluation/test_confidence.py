"""Calibration, and accuracy of the answers that are left when it may pass."""

import numpy as np
import pytest

from memevit.evaluation import confidence


def calibrated(n, seed=0):
    random = np.random.default_rng(seed)
    p = random.uniform(0.5, 1.0, n)
    labels = np.where(random.random(n) < p, 0, 1)
    return np.stack([p, 1 - p], axis=1), labels


def test_a_calibrated_model_lies_within_its_null_and_a_sharpened_one_does_not():
    shares, labels = calibrated(2000)
    values = confidence.values_of(shares, labels)
    assert values["ece"] <= values["ece_null_high"]
    sharp = shares**3 / (shares**3).sum(axis=1, keepdims=True)
    assert (found := confidence.values_of(sharp, labels))["ece"] > 2 * found["ece_null_high"]


def test_brier_score_and_log_loss_of_a_uniform_guess_among_four():
    shares, labels = np.full((5, 4), 0.25), np.array([0, 1, 2, 3, 0])
    assert confidence.brier_score(shares, labels) == pytest.approx(0.75**2 + 3 * 0.25**2)
    assert confidence.log_loss(shares, labels) == pytest.approx(np.log(4))


def test_the_reliability_bins_hold_every_image_once():
    shares, labels = calibrated(300)
    bins = confidence.reliability(shares.max(axis=1), shares.argmax(axis=1) == labels)
    assert sum(one.n for one in bins) == 300
    assert all(one.ci_low <= one.accuracy <= one.ci_high for one in bins)


def test_temperature_in_the_configuration_gives_the_values_before_it():
    logits = np.log(calibrated(200)[0])
    labels = calibrated(200)[1]
    section = confidence.section("test", logits / 2, labels, temperature=2.0)
    before = [one for one in section["measurements"] if "before" in one["subject"]]
    assert [one["name"] for one in before] == ["ece", "log_loss", "brier_score"]
    assert before[1]["value"] == pytest.approx(confidence.log_loss(calibrated(200)[0], labels))


def test_passing_on_the_least_certain_leaves_the_right_ones():
    sure = np.linspace(0.5, 1, 100)
    coverage, risk = confidence.risk_coverage(sure, sure > 0.549)
    assert confidence.at_coverage(coverage, risk, 0.9) == (0.9, 0.0)
    assert risk[-1] == pytest.approx(0.1)
