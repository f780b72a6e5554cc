"""Altered images: what each alteration takes away, and what the table says."""

import numpy as np
import pytest
from PIL import Image

from memevit.evaluation import shortcuts
from tests.conftest import draw_image


def tiles(n):
    """An image of n x n tiles, each with its own number as grey level."""
    numbers = np.arange(n * n, dtype=np.uint8).reshape(n, n) * 7 + 10
    return Image.fromarray(np.kron(numbers, np.ones((12, 12), dtype=np.uint8))).convert("RGB")


@pytest.mark.parametrize("n", [2, 4])
def test_shuffling_moves_every_part_and_loses_none(n):
    before = np.asarray(tiles(n))[6::12, 6::12, 0]
    after = np.asarray(shortcuts.shuffled(tiles(n), n))[6::12, 6::12, 0]
    assert sorted(before.ravel()) == sorted(after.ravel())
    assert (before != after).all()


def test_border_and_centre_make_the_whole_between_them():
    image = draw_image(3, size=(100, 80))
    whole = np.asarray(image)
    border, centre = np.asarray(shortcuts.border_only(image)), np.asarray(shortcuts.centre_only(image))
    inside = np.zeros((80, 100), dtype=bool)
    inside[16:64, 20:80] = True
    assert (border[inside] == 128).all()
    assert (centre[~inside] == 128).all()
    assert np.array_equal(np.where(inside[..., None], centre, border), whole)


def test_captions_are_hidden_at_top_and_bottom_only():
    image = draw_image(3, size=(60, 100))
    hidden = np.asarray(shortcuts.captions_hidden(image))
    assert (hidden[:22] == 128).all()
    assert (hidden[78:] == 128).all()
    assert np.array_equal(hidden[22:78], np.asarray(image)[22:78])


def test_every_variant_keeps_size_and_mode_of_odd_images():
    for size in ((1, 1), (3, 200), (33, 17)):
        image = Image.new("RGB", size, "red")
        for name, alter in shortcuts.VARIANTS.items():
            assert alter(image).mode == "RGB", name


def test_a_model_of_colour_alone_is_found_out():
    labels = np.array([0, 1] * 30)
    predicted = {shortcuts.ORIGINAL: labels, shortcuts.GREY: np.zeros(60, dtype=int), shortcuts.BLUR: labels}
    rows = {row["subject"]: row for row in shortcuts.table(predicted, labels, split="test")}
    assert rows["greyscale"]["drop"] == 0.5
    assert rows["greyscale"]["is_clear"]
    assert not rows["blurred"]["is_clear"]
    assert "colour (-50 points)" in shortcuts.summary(list(rows.values()), 0.5)
