import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from memevit.errors import UserError
from memevit.evaluation import rejection


def scores(seed=0):
    random = np.random.default_rng(seed)
    return random.normal(1, 1, 70).round(1), random.normal(0, 1, 50).round(1)  # Rounded, so that some are tied.


def test_auroc_is_that_of_scikit_learn_with_known_images_as_positives():
    known, unknown = scores()
    expected = roc_auc_score([1] * 70 + [0] * 50, np.concatenate([known, unknown]))
    assert rejection.auroc(known, unknown) == pytest.approx(expected)


def test_aupr_is_that_of_scikit_learn_where_both_sides_have_equally_many_images():
    known, unknown = scores()
    found = rejection.aupr(known[:50], unknown)
    both = np.concatenate([known[:50], unknown])
    assert found["aupr_in"] == pytest.approx(average_precision_score([1] * 50 + [0] * 50, both))
    assert found["aupr_out"] == pytest.approx(average_precision_score([0] * 50 + [1] * 50, -both))


def test_aupr_does_not_depend_on_how_many_unknown_images_there_are():
    known, unknown = scores()
    assert rejection.aupr(known, np.tile(unknown, 7)) == pytest.approx(rejection.aupr(known, unknown))


@pytest.mark.parametrize(("tpr", "expected"), [(0.5, 0.0), (0.75, 0.5), (1.0, 0.5)])
def test_fpr_counts_unknown_images_at_or_above_the_threshold(tpr, expected):
    known, unknown = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.75, 0.1])
    assert rejection.fpr_at_tpr(known, unknown, tpr=tpr) == expected


def test_oscr_is_the_accuracy_where_unknown_images_have_the_lowest_scores():
    correct = np.array([True, True, False, True])
    assert rejection.oscr(np.arange(4.0), correct, np.array([-1.0, -2.0])) == 0.75
    assert rejection.oscr(np.arange(4.0), correct, np.array([8.0, 9.0])) == 0.0


def test_an_interval_by_groups_is_wider_than_one_by_images():
    random = np.random.default_rng(0)
    known = np.repeat(random.normal(1, 1, 20), 10)  # Twenty images, ten copies each.
    unknown = random.normal(0, 1, 200)

    def width(groups):
        low, high = rejection.bootstrap_interval(
            lambda a, b: rejection.auroc(known[a], unknown[b]), groups, np.arange(200), n_resamples=200
        )
        return high - low

    assert width(np.repeat(np.arange(20), 10)) > 1.5 * width(np.arange(200))


def test_no_unknown_images_and_a_score_that_is_no_number_are_told_apart():
    with pytest.raises(UserError, match="got 4 and 0"):
        rejection.auroc(np.ones(4), np.empty(0))
    with pytest.raises(ValueError, match="NaN"):
        rejection.fpr_at_tpr(np.array([1.0, np.nan]), np.ones(2))
