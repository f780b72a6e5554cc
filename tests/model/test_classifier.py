"""Batches of images, classified by several threads."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from memevit import cores
from memevit.model import classifier
from memevit.model.classifier import Classifier
from memevit.model.host_copy import HostCopy


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
def test_a_batch_that_two_threads_share_keeps_its_order(tmp_path, trained, two_threads, batch_size):
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(7)]
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    paths[1].write_bytes(b"no image")
    paths[6].write_bytes(b"")
    classifier = Classifier.load(trained)
    found = list(classifier.classify(paths, batch_size=batch_size))
    assert [one.path for one in found] == paths
    assert [bool(one.problem) for one in found] == [number in (1, 6) for number in range(7)]
    for one, image in zip(found, images, strict=True):
        if not one.problem:
            np.testing.assert_allclose(one.probabilities, classifier.probabilities([image])[0], atol=1e-6)
    assert torch.get_num_threads() == 2


def test_results_are_copied_to_the_host_before_the_next_batch_is_launched(trained, monkeypatch):
    """Otherwise reading them on a GPU would wait for that batch as well."""
    threads = []

    class Copy(HostCopy):
        def __init__(self, values):
            threads.append(threading.current_thread().name)
            super().__init__(values)

    monkeypatch.setattr(classifier, "HostCopy", Copy)
    pixels = np.zeros((3, 32, 32), dtype=np.uint8)
    found = Classifier.load(trained, answers_unknown=False).classify_pixels(
        ((None, pixels) for _ in range(4)), batch_size=2
    )
    assert len(list(found)) == 4
    assert len(threads) >= 2
    assert all(name.startswith("model") for name in threads)


def test_a_process_that_accelerate_launched_classifies_with_its_share_of_the_cores(trained, two_threads, monkeypatch):
    for name, value in {"ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cores, "n_cores", lambda: 6)
    Classifier.load(trained, device=torch.device("cpu"))
    assert torch.get_num_threads() == 3
