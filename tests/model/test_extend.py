"""New heads on a frozen backbone."""

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from memevit.model import extend, open_set
from memevit.model.extend import Observed


def test_a_head_from_statistics_decides_as_discriminant_analysis_of_the_images_does():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 150)
    rows = random.normal(size=(450, 10)) + 3 * np.eye(10)[labels]
    rows *= 7 / np.linalg.norm(rows, axis=1, keepdims=True)  # Of one length, as after a layer normalisation.
    train = slice(0, None, 2)
    statistics = open_set.Statistics.of({"final": rows[train]}, labels[train], n_classes=3)
    head = extend.head_from_statistics(statistics, Observed({"final": rows[train]}, labels[train]))
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(rows[train], labels[train])
    predicted = head.logits(rows[1::2]).argmax(axis=1)
    assert (predicted == reference.predict(rows[1::2])).mean() > 0.98
    assert (predicted == labels[1::2]).mean() > 0.9
