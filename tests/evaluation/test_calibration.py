import numpy as np
import pytest

from memevit.evaluation import calibration
from memevit.evaluation.predictions import softmax


def sampled(n=4000, *, n_classes=3, overconfidence=1.0, seed=0):
    """Logits, and labels drawn from their softmax; the logits are then multiplied by `overconfidence`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (n, n_classes))
    labels = np.array([random.choice(n_classes, p=own) for own in softmax(logits)])
    return logits * overconfidence, labels


@pytest.mark.parametrize("overconfidence", [0.5, 1.0, 3.0])
def test_the_temperature_is_the_factor_by_which_logits_are_too_large(overconfidence):
    logits, labels = sampled(overconfidence=overconfidence)
    assert calibration.fit_temperature(logits, labels) == pytest.approx(overconfidence, rel=0.1)


def test_a_validation_split_without_mistakes_gives_no_infinite_confidence():
    logits = 20 * np.eye(2)[[0, 1] * 20]
    temperature = calibration.fit_temperature(logits, np.array([0, 1] * 20))
    # The best constant log-odds for 42 trials of which one fails are log(41 / 1).
    assert 20 / temperature == pytest.approx(np.log(41), rel=1e-3)


def test_classes_count_the_same_in_the_temperature():
    logits, labels = sampled(600, n_classes=2, overconfidence=2.0)
    rare = labels == 1
    repeated = np.concatenate([logits, *[logits[rare]] * 9])
    once = calibration.fit_temperature(logits, labels)
    again = calibration.fit_temperature(repeated, np.concatenate([labels, *[labels[rare]] * 9]))
    assert again == pytest.approx(once, rel=0.02)  # Only the smoothing knows of the repetition.


def test_logits_as_large_as_a_network_can_give_still_have_a_temperature():
    assert np.isfinite(calibration.fit_temperature(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 1])))


def test_a_class_that_can_never_win_does_not_change_the_temperature():
    logits, labels = sampled(300)
    with_another = np.concatenate([logits, np.full((300, 1), -1e4)], axis=1)
    expected = calibration.fit_temperature(logits, labels)
    assert calibration.fit_temperature(with_another, labels) == pytest.approx(expected, rel=1e-3)


def test_ece_of_two_bins_by_hand():
    confidence, is_correct = np.array([0.55, 0.55, 0.95, 0.95]), np.array([True, False, True, True])
    # Two images at 0.55 with accuracy 0.5, two at 0.95 with accuracy 1: both are off by 0.05.
    assert calibration.ece(confidence, is_correct, n_bins=2, equal_mass=True) == pytest.approx(0.05)
    assert calibration.ece(confidence, is_correct) == pytest.approx(0.05)


def test_a_calibrated_model_has_the_ece_that_is_simulated_and_an_overconfident_one_has_more():
    for overconfidence, is_more in ((1.0, False), (3.0, True)):
        found = calibration.measures(*sampled(300, overconfidence=overconfidence))
        for name in ("ece_15_bins", "ece_15_equal_mass"):
            assert (found[name] > found[f"{name}_if_calibrated"]["quantile_95"]) == is_more


def test_brier_and_loss_by_hand():
    found = calibration.measures(np.log([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0]))
    assert found["brier"] == pytest.approx((2 * 0.2**2 + 2 * 0.6**2) / 2)
    assert found["nll"] == pytest.approx(-(np.log(0.8) + np.log(0.4)) / 2)
