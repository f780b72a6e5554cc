"""Decoders in processes of their own: order, crashes, hanging files, and an end."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memevit import decoding
from memevit.model.geometry import Geometry
from tests.conftest import draw_image

pytestmark = pytest.mark.usefixtures("decoder_processes")
SQUARE = Geometry(resample=Image.Resampling.BILINEAR, size=(16, 16))


class Dangerous:
    """Ends its process at images 13 pixels wide, and never answers at those 14 pixels wide."""

    def __call__(self, image):
        if image.width == 13:
            os.kill(os.getpid(), signal.SIGSEGV)
        if image.width == 14:
            time.sleep(600)
        return SQUARE(image)


def drawn(folder, n):
    paths = [folder / f"{number:03}.png" for number in range(n)]
    for number, path in enumerate(paths):
        draw_image(number).save(path)
    return paths


def test_levels_come_in_input_order_and_a_bad_file_has_its_reason(tmp_path):
    paths = drawn(tmp_path, 40)
    paths[7].write_text("no image")
    found = list(decoding.decoded(paths, SQUARE, n_processes=2))
    here = list(decoding.decoded(paths, SQUARE, n_processes=0))
    assert [path for path, _ in found] == paths
    assert found[7][1] == here[7][1] == "not an image"
    for (_, one), (_, other) in zip(found[:7] + found[8:], here[:7] + here[8:], strict=True):
        assert one.shape == (3, 16, 16)
        assert np.array_equal(one, other)


def test_a_file_that_crashes_its_decoder_is_a_problem_and_the_others_are_decoded(tmp_path):
    paths = drawn(tmp_path, 9)
    Image.new("RGB", (13, 20)).save(paths[4])
    found = [levels for _, levels in decoding.decoded(paths, Dangerous(), n_processes=2)]
    assert found[4] == decoding.CRASHED
    assert [isinstance(levels, str) for levels in found].count(True) == 1


def test_a_file_that_takes_for_ever_is_given_up(tmp_path, monkeypatch):
    paths = drawn(tmp_path, 3)
    Image.new("RGB", (14, 20)).save(paths[0])
    assert len(list(decoding.decoded(paths[1:2], Dangerous(), n_processes=1))) == 1
    ask = decoding._Decoder.ask

    def impatient(self, path):
        monkeypatch.setattr(decoding, "TIMEOUT_S", 1.0 if path == paths[0] else 60.0)
        return ask(self, path)

    monkeypatch.setattr(decoding._Decoder, "ask", impatient)
    found = [levels for _, levels in decoding.decoded(paths, Dangerous(), n_processes=1)]
    assert found[0] == decoding.TOO_SLOW
    assert not any(isinstance(levels, str) for levels in found[1:])


def test_a_decoder_that_can_not_start_is_no_fault_of_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="could not be started"):
        list(decoding.decoded(drawn(tmp_path, 2), SQUARE, n_processes=1))


def test_paths_are_read_only_a_little_ahead_of_the_results(tmp_path):
    (path,) = drawn(tmp_path, 1)
    n_read = 0

    def endless():
        nonlocal n_read
        while True:
            n_read += 1
            yield path

    found = decoding.decoded(endless(), SQUARE, n_processes=1)
    for n_taken in range(1, 100):
        next(found)
        assert n_read <= n_taken + decoding._AHEAD_PER_PROCESS
    found.close()


def counted(monkeypatch):
    started = []
    popen = decoding.subprocess.Popen
    monkeypatch.setattr(decoding.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    return started


def test_an_end_in_the_middle_leaves_no_process(tmp_path, monkeypatch):
    started = counted(monkeypatch)
    found = decoding.decoded(drawn(tmp_path, 20), SQUARE, n_processes=2)
    next(found)
    found.close()
    assert 1 <= len(started) <= 2
    assert all(process.poll() is not None for process in started)


@pytest.mark.parametrize("forbidden", ["torch", "transformers", "scipy"])
def test_a_decoder_starts_without_heavy_packages(forbidden):
    code = f"import sys, memevit.decoding; sys.exit({forbidden!r} in sys.modules)"
    import subprocess
    import sys

    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_a_process_that_was_started_early_is_the_first_of_the_pool(tmp_path, monkeypatch):
    started = counted(monkeypatch)
    with decoding.early():
        assert len(started) == 1
        found = [levels for _, levels in decoding.decoded(drawn(tmp_path, 3), SQUARE, n_processes=1)]
        assert not any(isinstance(levels, str) for levels in found)
    assert len(started) == 1
    assert started[0].poll() is not None


def test_a_process_that_was_started_early_and_not_needed_ends(monkeypatch):
    started = counted(monkeypatch)
    with decoding.early():
        assert started[0].poll() is None
    assert started[0].poll() is not None
    assert decoding._early == []
