"""Linear heads on frozen features."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from memevit.model import heads
from memevit.portable.open_set import balanced_weights


def blobs(counts, *, n_features=6, apart=4.0, seed=0):
    """Gaussian classes around corners of a cube, `counts[c]` images of class c."""
    random = np.random.default_rng(seed)
    centres = np.eye(n_features)[: len(counts)] * apart
    labels = np.repeat(np.arange(len(counts)), counts)
    return heads.Labelled(random.normal(size=(len(labels), n_features)) + centres[labels], labels)


@pytest.mark.parametrize("method", heads.METHODS)
@pytest.mark.parametrize("counts", [(60, 60), (300, 300, 30)])
def test_every_method_separates_classes_of_unequal_size(method, counts):
    for head in heads.METHODS[method](blobs(counts), blobs([40] * len(counts), seed=2), len(counts))[:1]:
        assert head.weight.shape == (len(counts), 6)
        assert heads.balanced_accuracy(head, blobs([200] * len(counts), seed=1)) > 0.95


def test_lda_decides_as_scikit_learn_does_with_equal_priors():
    train, test = blobs((200, 200, 200), apart=1.5), blobs((50, 50, 50), apart=1.5, seed=1)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[1 / 3] * 3)
    expected = reference.fit(train.features, train.labels).predict(test.features)
    [head] = heads.METHODS["lda"](train, test, 3)
    assert (head.logits(test.features).argmax(axis=1) == expected).mean() > 0.97


def test_ridge_is_that_of_scikit_learn():
    train = blobs((80, 20))
    reference = Ridge(alpha=1.0).fit(
        train.features, np.eye(2)[train.labels], sample_weight=balanced_weights(train.labels)
    )
    head = heads.METHODS["ridge"](train, train, 2)[heads.RIDGE_PENALTIES.index(1.0)]
    np.testing.assert_allclose(head.weight, reference.coef_, atol=1e-8)
    np.testing.assert_allclose(head.bias, reference.intercept_, atol=1e-8)


def test_the_logistic_head_of_two_classes_has_a_row_for_each():
    for head in heads.METHODS["logistic"](blobs((40, 40)), blobs((20, 20), seed=1), 2):
        np.testing.assert_allclose(head.weight[0], -head.weight[1])


def test_a_few_images_of_a_new_class_do_not_swallow_the_old_ones():
    train, test = blobs((200, 200, 10), apart=3.0), blobs((100, 100, 100), apart=3.0, seed=1)
    validation = blobs((40, 40, 5), apart=3.0, seed=2)
    head, value = heads.best(heads.candidates(train, validation, n_classes=3), validation)
    right = head.logits(test.features).argmax(axis=1) == test.labels
    assert value > 0.9
    assert all(right[test.labels == label].mean() > 0.85 for label in range(3))
