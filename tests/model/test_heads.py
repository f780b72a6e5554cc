"""Linear heads on frozen features."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from memevit.model import heads


def blobs(counts, *, n_features=6, apart=4.0, seed=0):
    """Gaussian classes around corners of a cube, `counts[c]` images of class c."""
    random = np.random.default_rng(seed)
    centres = np.eye(n_features)[: len(counts)] * apart
    labels = np.repeat(np.arange(len(counts)), counts)
    return heads.Labelled(random.normal(size=(len(labels), n_features)) + centres[labels], labels)


def is_right(head, data):
    return head.logits(data.features).argmax(axis=1) == data.labels


@pytest.mark.parametrize("counts", [(60, 60), (300, 300, 30)])
def test_logistic_regression_separates_classes_of_unequal_size(counts):
    head = heads.logistic(blobs(counts), blobs([40] * len(counts), seed=2), n_classes=len(counts))
    assert head.weight.shape == (len(counts), 6)
    assert is_right(head, blobs([200] * len(counts), seed=1)).mean() > 0.95


def test_lda_decides_as_scikit_learn_does_with_equal_priors():
    train, test = blobs((200, 200, 200), apart=1.5), blobs((50, 50, 50), apart=1.5, seed=1)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[1 / 3] * 3)
    expected = reference.fit(train.features, train.labels).predict(test.features)
    means = np.stack([train.features[train.labels == label].mean(axis=0) for label in range(3)])
    residuals = train.features - means[train.labels]
    head = heads.lda_from_statistics(means, LedoitWolf(assume_centered=True).fit(residuals).covariance_)
    assert (head.logits(test.features).argmax(axis=1) == expected).mean() > 0.97


def test_the_logistic_head_of_two_classes_has_a_row_for_each():
    head = heads.logistic(blobs((40, 40)), blobs((20, 20), seed=1), n_classes=2)
    np.testing.assert_allclose(head.weight[0], -head.weight[1])


def test_a_few_images_of_a_new_class_do_not_swallow_the_old_ones():
    train, test = blobs((200, 200, 10), apart=3.0), blobs((100, 100, 100), apart=3.0, seed=1)
    right = is_right(heads.logistic(train, blobs((40, 40, 5), apart=3.0, seed=2), n_classes=3), test)
    assert all(right[test.labels == label].mean() > 0.85 for label in range(3))
