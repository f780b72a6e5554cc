"""Planted label errors are found by probes that did not see the image."""

import numpy as np

from memevit.evaluation import label_errors


def blobs(n=150, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, n)
    return random.normal(size=(n, 10)) + 4.0 * np.eye(10)[labels], labels


def test_planted_errors_are_suspected_and_hardly_anything_else():
    features, labels = blobs()
    given = labels.copy()
    planted = np.arange(0, 150, 15)
    given[planted] = (labels[planted] + 1) % 3
    shares = label_errors.out_of_fold_probabilities(features, given, [str(i) for i in range(150)], n_classes=3)
    found = label_errors.suspected(shares, given)
    suspected = np.flatnonzero(found.is_suspect)
    hits = np.intersect1d(suspected, planted)
    assert len(hits) >= 8
    assert len(suspected) <= len(hits) + 3
    assert (found.better[hits] == labels[hits]).all()
    assert set(np.argsort(-found.margin)[:5]) <= set(planted)


def test_a_duplicate_in_the_same_group_does_not_vouch_for_a_wrong_label():
    features, labels = blobs()
    wrong = labels.copy()
    wrong[0] = (labels[0] + 1) % 3
    copies = 40
    features = np.concatenate([features, np.repeat(features[:1], copies, axis=0)])
    given = np.concatenate([wrong, np.repeat(wrong[:1], copies)])
    groups = [str(i) for i in range(150)] + ["0"] * copies
    shares = label_errors.out_of_fold_probabilities(features, given, groups, n_classes=3)
    assert shares[0].argmax() == labels[0]


def test_a_class_with_a_single_group_is_left_alone():
    features, labels = blobs(30)
    shares = label_errors.out_of_fold_probabilities(features, labels, ["one"] * 30, n_classes=3)
    assert np.allclose(shares, 1 / 3)
    assert not label_errors.suspected(shares, labels).is_suspect.any()
