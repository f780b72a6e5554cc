"""Causes on images made to have them, with models made to fall for them."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from memevit.evaluation import causes, text_share
from memevit.manifest import Row
from tests.conftest import draw_image

NAMES = ["red", "blue"]
ROW = Row(width_px=400, height_px=300)


def by_colour(images):
    """Logits of a model that sees only whether an image is more red than blue."""
    means = np.array([np.asarray(image, dtype=float).mean(axis=(0, 1)) for image in images])
    return np.stack([means[:, 0] - means[:, 2], means[:, 2] - means[:, 0]], axis=1)


def keys(image, true, predicted, predict=by_colour, row=ROW, sure=0.9):
    return [one.key for one in causes.seen_in_image(image, row, true, predicted, NAMES, predict, sure=sure)]


def test_an_image_of_both_classes_is_recognised_by_its_halves():
    image = Image.new("RGB", (400, 300), "blue")
    image.paste("red", (0, 0, 180, 300))
    assert causes.BOTH in keys(image, true=0, predicted=1)
    assert causes.BOTH not in keys(Image.new("RGB", (400, 300), "blue"), true=0, predicted=1)


def test_halves_count_only_as_far_as_correct_images_do_not_show_the_same():
    plain = [Image.new("RGB", (40, 40), "red")] * 20
    assert causes.sure_enough(plain, [0] * 20, by_colour) == 0.9
    mixed = Image.new("RGB", (40, 40), "red")
    mixed.paste("blue", (24, 0, 40, 40))
    assert causes.sure_enough([mixed] * 20, [0] * 20, by_colour) is None


def test_an_image_misled_by_its_caption_is_right_without_it():
    image = Image.new("RGB", (400, 300), (150, 100, 100))
    image.paste("black", (0, 61, 400, 66))  # Within 22 % of the height, but not within 20 %.

    def afraid_of_black(images):
        return np.array([[0.0, 5.0] if np.asarray(one).max(axis=2).min() < 9 else [5.0, 0.0] for one in images])

    assert keys(image, true=0, predicted=1, predict=afraid_of_black, sure=None) == [causes.CAPTION]


def test_an_image_that_several_changes_correct_is_called_fragile():
    def afraid_of_blue_corners(images):
        return np.array([[0.0, 5.0] if np.asarray(image)[0, 0, 2] > 200 else [5.0, 0.0] for image in images])

    image = Image.new("RGB", (400, 300), (0, 0, 255))
    assert keys(image, 0, 1, predict=afraid_of_blue_corners) == [causes.FRAGILE]


def test_few_pixels_are_those_of_the_file_not_of_the_stored_copy():
    assert causes.SMALL in keys(draw_image(1), 0, 0, row=Row(width_px=60, height_px=40))
    assert causes.SMALL not in keys(draw_image(1), 0, 0, row=Row(width_px=600, height_px=400))


@pytest.mark.parametrize(("ink", "paper"), [("black", "white"), ("#e8e8e8", "#15202b")])
def test_a_page_of_text_is_mostly_text_and_a_drawing_is_not(ink, paper):
    image = Image.new("RGB", (500, 400), paper)
    pen = ImageDraw.Draw(image)
    for line in range(12):
        pen.text(
            (20, 20 + 30 * line), "the quick brown fox jumps over a lazy dog", ink, ImageFont.load_default(size=20)
        )
    assert text_share.is_mostly_text(image)
    assert not text_share.is_mostly_text(draw_image(4, size=(500, 400)))
    assert not text_share.is_mostly_text(Image.new("RGB", (500, 400), paper))


def test_causes_come_in_the_order_of_what_can_be_corrected():
    found = causes.in_order([causes.Cause(causes.CLOSE, ""), causes.Cause(causes.LABEL, "")])
    assert [one.key for one in found] == [causes.LABEL, causes.CLOSE]
    assert causes.in_order([])[0].key == causes.NONE


def test_a_template_counts_only_if_the_true_class_lacks_it():
    from memevit.evaluation.mistakes import Mistake, _twin_causes

    one = Mistake("test", 0, true=0, predicted=1, p_predicted=0.9, p_true=0.1, title="")

    def found(*twins):
        return [cause.key for cause in _twin_causes(one, twins, NAMES)]

    assert found(("blue", True)) == [causes.TWIN]
    assert found(("blue", False)) == [causes.TEMPLATE]
    assert found(("blue", False), ("red", False)) == []
    assert found(("red", True)) == []
