"""Classifiers that see no shapes: what they look at, and how much of it."""

import numpy as np

from memevit.evaluation import baselines, file_cues
from tests.conftest import draw_image


def test_a_histogram_counts_colours_whatever_their_place(tmp_path):
    image = draw_image(1)
    image.save(tmp_path / "a.png")
    image.rotate(180).save(tmp_path / "b.png")
    draw_image(2, colour=(200, 40, 90)).save(tmp_path / "c.png")
    found = baselines.colour_histograms([tmp_path / name for name in ("a.png", "b.png", "c.png")])
    assert found.shape == (3, 512)
    assert np.allclose((found**2).sum(axis=1), 1.0)
    assert np.array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2], atol=0.1)


def test_colours_are_predicted_the_same_a_few_at_a_time(tmp_path, monkeypatch):
    for seed in range(10):
        draw_image(seed, colour=(200, 40, 90) if seed % 2 else (40, 90, 200)).save(tmp_path / f"{seed}.png")
    paths, labels = sorted(tmp_path.iterdir()), np.arange(10) % 2
    histograms = baselines.colour_histograms(paths)
    monkeypatch.setattr(baselines, "_AT_ONCE", 3)
    batches = list(baselines.colour_batches(paths))
    assert [len(batch) for batch in batches] == [3, 3, 3, 1]
    assert np.array_equal(np.concatenate(batches), histograms)
    predict = file_cues.fit_values(histograms, labels)
    assert np.concatenate([predict(batch) for batch in batches]).tolist() == labels.tolist()


def test_of_many_images_some_are_taken_of_every_class_in_proportion():
    labels = np.repeat([0, 1, 2], [6000, 3000, 2])
    taken = baselines.some_of(labels, 900, seed=0)
    assert np.bincount(labels[taken]).tolist() == [599, 299, 1]
    assert len(set(taken.tolist())) == len(taken)
    assert np.array_equal(taken, baselines.some_of(labels, 900, seed=0))
    assert not np.array_equal(taken, baselines.some_of(labels, 900, seed=1))


def test_of_few_images_all_are_taken():
    assert baselines.some_of(np.array([1, 0, 1]), 3, seed=0).tolist() == [0, 1, 2]
