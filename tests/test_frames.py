"""Animated images are judged by several frames."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memevit import frames
from tests.sorting.stub import Said

COLOURS = ["red", "lime", "blue", "white"]


def render(image):
    return np.asarray(image.resize((2, 2))).transpose(2, 0, 1)


def animation(path, colours=COLOURS, **more):
    images = [Image.new("RGB", (16, 12), colour) for colour in colours]
    images[0].save(path, save_all=True, append_images=images[1:], **more)
    return path


def colours_of(found):
    return [tuple(int(level) for level in frame[:, 0, 0]) for frame in found]


@pytest.mark.parametrize(("suffix", "more"), [("gif", {}), ("webp", {"lossless": True}), ("png", {})])
def test_evenly_spaced_frames_are_decoded(tmp_path, suffix, more):
    path = animation(tmp_path / f"a.{suffix}", **more)
    assert colours_of(frames.decode(path, render, n_frames=2)) == [(255, 0, 0), (0, 0, 255)]
    assert len(frames.decode(path, render, n_frames=9)) == 4
    assert len(frames.decode(path, render)) == 1


def test_the_pages_of_a_tiff_and_a_still_image_are_one_frame(tmp_path):
    assert len(frames.decode(animation(tmp_path / "a.tiff"), render, n_frames=3)) == 1
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    assert len(frames.decode(tmp_path / "a.jpg", render, n_frames=3)) == 1


def test_a_damaged_animation_is_judged_by_the_frames_before(tmp_path):
    path = animation(tmp_path / "a.gif")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 1 <= len(frames.decode(path, render, n_frames=4)) < 4
    path.write_bytes(b"GIF89a")
    assert isinstance(frames.decode(path, render, n_frames=4), str)


def test_transparent_frames_are_composited_on_white(tmp_path):
    images = [Image.new("RGBA", (4, 4), colour) for colour in ((255, 0, 0, 255), (0, 0, 0, 0))]
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], lossless=True)
    assert colours_of(frames.decode(tmp_path / "a.webp", render, n_frames=2))[1] == (255, 255, 255)


def test_a_large_jpeg_is_decoded_at_the_smallest_scale_that_is_allowed(tmp_path):
    seen = []
    Image.new("RGB", (400, 200)).save(tmp_path / "a.jpg")
    for least in (None, 25, 26, 100, 101):
        frames.decode(
            tmp_path / "a.jpg", lambda image: seen.append(image.size) or render(image), shorter_at_least_px=least
        )
    assert seen == [(400, 200), (50, 25), (100, 50), (200, 100), (400, 200)]


def test_what_is_said_about_frames_is_joined_by_file():
    pixels = np.zeros((1, 3, 2, 2), np.uint8)
    decoded = [(Path("a"), np.repeat(pixels, 2, axis=0)), (Path("b"), "broken"), (Path("c"), pixels)]
    split = frames.Split(decoded)
    values = iter([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])

    def say(given):  # Reads ahead, as a model does.
        for path, frame in list(given):
            yield Said(path, None, frame) if isinstance(frame, str) else Said(path, np.array(next(values)))

    first, second, third = split.joined(say(iter(split)))
    assert (first.path, second.path, third.path) == (Path("a"), Path("b"), Path("c"))
    assert first.probabilities.tolist() == pytest.approx([0.4, 0.6])
    assert (second.problem, third.probabilities.tolist()) == ("broken", [0.5, 0.5])


@pytest.mark.parametrize(("accepted", "expected"), [((True, False), True), ((True, False, False), False)])
def test_an_animation_is_accepted_if_half_of_its_frames_are(accepted, expected):
    even = np.array([0.5, 0.5])
    said = [Said(Path("a"), even, known_score=float(yes), accepted=yes, reason="" if yes else "no") for yes in accepted]
    found = frames.joined(said)
    assert (found.accepted, found.reason) == (expected, "" if expected else "no")
    assert found.known_score == pytest.approx(sum(accepted) / len(accepted))
