"""Captions are found and painted over; other bright or dark things are left alone."""

import random

import numpy as np
from PIL import Image, ImageDraw

from benchmarks import captioned_images
from memevit.data import lettering


def slope():
    """Grey levels 80 to 150 from left to right."""
    return np.tile(np.linspace(80, 150, 256), (256, 1)).astype(np.uint8)


def test_outlined_capitals_are_covered_and_painted_over():
    captioned = captioned_images.outlined_capitals(Image.fromarray(slope()).convert("RGB"), random.Random(0))
    grey = np.asarray(captioned.convert("L"))
    is_letter = np.abs(grey.astype(int) - slope()) > 40
    is_covered = lettering.covered(grey) > 0
    assert is_letter.sum() > 2000
    assert is_covered[is_letter].mean() > 0.97
    away = np.abs(lettering.filled(grey, lettering.covered(grey)).astype(int) - slope())
    assert np.percentile(away, 99) < 20


def test_a_pale_disc_a_dark_line_and_a_plain_image_are_no_captions():
    image = Image.fromarray(slope())
    pen = ImageDraw.Draw(image)
    pen.ellipse((40, 40, 120, 120), fill=250)
    pen.line((150, 20, 150, 200), fill=10, width=4)
    assert not lettering.covered(np.asarray(image)).any()


def test_stars_in_the_night_are_no_captions():
    image = Image.fromarray(slope() // 3)
    pen = ImageDraw.Draw(image)
    for x in range(20, 240, 30):
        pen.rectangle((x, 300 - x, x + 3, 303 - x), fill=250)
    assert not lettering.covered(np.asarray(image)).any()


def test_what_is_covered_wholly_stays():
    grey = np.full((20, 20), 200, dtype=np.uint8)
    assert np.array_equal(lettering.filled(grey, np.ones_like(grey)), grey)
