"""Tests and intervals against values by hand and by scipy."""

import numpy as np
import pytest
import scipy.stats

from memevit.evaluation import significance
from memevit.evaluation.significance import Paired


def answers(n_both, n_only_first, n_only_second, n_none):
    first = [True] * (n_both + n_only_first) + [False] * (n_only_second + n_none)
    second = [True] * n_both + [False] * n_only_first + [True] * n_only_second + [False] * n_none
    return np.array(first), np.array(second)


def test_two_classifiers_are_compared_on_the_images_on_which_one_of_them_is_right():
    found = Paired.of(*answers(70, 10, 2, 18))
    assert (found.n, found.n_only_first, found.n_only_second, found.difference) == (100, 10, 2, 0.08)
    # Twice the chance of at most 2 heads in 12 tosses: 2 * (1 + 12 + 66) / 4096.
    assert found.p == pytest.approx(2 * 79 / 4096)


def test_the_interval_of_a_paired_difference_holds_the_difference_and_excludes_zero_when_it_is_large():
    low, high = significance.paired_interval(Paired(100, 30, 2, 1e-6))
    assert 0 < low < 0.28 < high


def test_the_interval_of_a_paired_difference_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        cells = random.multinomial(80, [0.7, 0.15, 0.05, 0.1])
        low, high = significance.paired_interval(Paired(80, int(cells[1]), int(cells[2]), 1.0))
        covered += low <= 0.1 <= high
    assert 930 <= covered <= 975


def test_a_bootstrap_of_groups_is_wider_than_that_of_single_images():
    is_correct = np.repeat(np.arange(20) < 14, 10)
    low, high = significance.group_bootstrap_interval(is_correct, [str(i) for i in range(200)])
    group_low, group_high = significance.group_bootstrap_interval(is_correct, [str(i // 10) for i in range(200)])
    assert group_high - group_low > 2 * (high - low)
    assert group_low < 0.7 < group_high


def test_the_binomial_test_is_that_of_scipy():
    expected = scipy.stats.binom.sf(54, 86, 0.5)
    assert significance.binomial_p(55, 86, 0.5) == pytest.approx(expected)


def test_permuted_accuracies_of_a_guesser_are_those_of_its_margins():
    predicted, true = np.array([0] * 60 + [1] * 40), np.array([0] * 30 + [1] * 70)
    found = significance.permuted_accuracies(predicted, true, n_permutations=400)
    assert found.mean() == pytest.approx(0.6 * 0.3 + 0.4 * 0.7, abs=0.01)


def test_the_permutation_p_of_answers_without_information_is_uniform():
    random = np.random.default_rng(1)
    values = []
    for seed in range(200):
        predicted, true = random.integers(0, 2, 40), random.integers(0, 2, 40)
        permuted = significance.permuted_accuracies(predicted, true, n_permutations=99, seed=seed)
        values.append(significance.permutation_p((predicted == true).mean(), permuted))
    assert np.mean(np.array(values) <= 0.05) <= 0.09  # Never more often than it says, but for chance.
    assert 0.4 < np.mean(values) < 0.7
