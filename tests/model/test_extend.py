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


def images(counts, *, seed):
    """Gaussian classes, and a group for each two images."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = random.normal(size=(len(labels), 12)) + 2 * np.eye(12)[labels]
    return Observed({"final": rows.astype(np.float32)}, labels), [
        f"g{position // 2}" for position in range(len(labels))
    ]


def test_images_of_a_new_class_are_judged_once_by_statistics_that_have_not_seen_their_group():
    (train, groups), (validation, _) = images((40, 40, 12), seed=0), images((20, 20, 3), seed=1)
    head, parts = extend.fitted_head(train, validation, n_classes=3), []

    def made(part):
        parts.append(part)
        statistics = open_set.Statistics.of(part.features, part.labels, n_classes=3)
        return extend.fitted_head(part, validation, n_classes=3, like=head), statistics

    found = extend.held_out(train, groups[80:], made, n_old=2)
    rows = [tuple(row) for own, _ in found for row in own.features["final"]]
    assert sorted(rows) == sorted(map(tuple, train.features["final"][80:]))
    assert all((own.labels == 2).all() for own, _ in found)
    group_of = dict(zip(map(tuple, train.features["final"]), groups, strict=True))
    for (own, statistics), part in zip(found, parts, strict=True):
        seen, judged = (
            {group_of[tuple(row)] for row in rows} for rows in (part.features["final"], own.features["final"])
        )
        assert not seen & judged
        assert statistics.counts.tolist() == [40, 40, 12 - len(own.labels)]


def test_a_new_class_whose_images_belong_together_has_nothing_to_hold_out():
    train, _ = images((20, 20, 8), seed=0)
    assert extend.held_out(train, ["one"] * 8, lambda part: None, n_old=2) == []


def test_new_classes_of_two_images_each_are_held_out_by_turns():
    train, _ = images((20, 20, 2, 2), seed=0)
    validation, _ = images((9, 9, 3, 3), seed=1)

    def made(part):
        statistics = open_set.Statistics.of(part.features, part.labels, n_classes=4)
        return extend.fitted_head(part, validation, n_classes=4), statistics

    found = extend.held_out(train, ["a", "b", "c", "d"], made, n_old=2)
    assert sum(len(own.labels) for own, _ in found) == 4


def test_images_that_are_held_out_count_as_validation_images_do():
    (train, groups), (validation, _) = images((60, 60, 30), seed=0), images((20, 20, 3), seed=1)
    head = extend.fitted_head(train, validation, n_classes=3)

    def made(part):
        statistics = open_set.Statistics.of(part.features, part.labels, n_classes=3)
        return extend.fitted_head(part, validation, n_classes=3, like=head), statistics

    held_out = extend.held_out(train, groups[120:], made, n_old=2)
    seen = [own.with_head(head) for own in (train, validation)]
    alone, more = (
        open_set.fit(*seen, class_names=["a", "b", "new"], held_out=extra).settings for extra in ((), held_out)
    )
    assert (alone["n_calibration"]["new"], more["n_calibration"]["new"]) == (3, 33)
    assert (alone["n_calibration"]["a"], more["n_calibration"]["a"]) == (20, 20)
    width = [own["false_rejection_interval"][1] - own["false_rejection_interval"][0] for own in (alone, more)]
    assert width[1] < width[0]
