"""New heads on a frozen backbone."""

import numpy as np

from memevit.model import extend, heads, open_set
from memevit.model.extend import Observed
from memevit.model.heads import Labelled


def test_a_head_from_statistics_decides_as_discriminant_analysis_of_the_images_does():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 150)
    rows = random.normal(size=(450, 10)) + 3 * np.eye(10)[labels]
    rows *= 7 / np.linalg.norm(rows, axis=1, keepdims=True)  # Of one length, as after a layer normalisation.
    train = slice(0, None, 2)
    statistics = open_set.Statistics.of({"final": rows[train]}, labels[train], n_classes=3)
    head = extend.head_from_statistics(statistics, Observed({"final": rows[train]}, labels[train]))
    [reference] = heads.METHODS["lda"](Labelled(rows[train], labels[train]), Labelled(rows, labels), 3)
    same = head.logits(rows[1::2]).argmax(axis=1) == reference.logits(rows[1::2]).argmax(axis=1)
    assert same.mean() > 0.98
    assert heads.balanced_accuracy(head, Labelled(rows[1::2], labels[1::2])) > 0.9
