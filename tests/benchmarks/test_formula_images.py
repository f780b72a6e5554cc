import math

import pytest
import torch

from benchmarks.formula_images import NO_LABEL, BankSizes, Renderer, make_bank
from benchmarks.image_descriptors import N_COLOUR_BINS, N_DIRECTIONS, N_LOCAL, describe

SIZES = BankSizes(palette=6, texture=5, contour=4, style=3, fractal=2)


@pytest.fixture(scope="module")
def renderer():
    return Renderer(make_bank(SIZES, seed=0), image_size=32)


def drawn(renderer, *, seed, n=24):
    return renderer.render(n, torch.Generator().manual_seed(seed))


def test_the_same_seed_draws_the_same_images_and_another_one_others(renderer):
    images, labels = drawn(renderer, seed=1)
    again, labels_again = drawn(renderer, seed=1)
    other, _ = drawn(renderer, seed=2)
    assert torch.equal(images, again)
    assert all(torch.equal(labels[name], labels_again[name]) for name in labels)
    assert not torch.equal(images, other)


def test_images_are_finite_colours_between_0_and_1(renderer):
    images, _ = drawn(renderer, seed=1, n=64)
    assert images.shape == (64, 3, 32, 32)
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images.std((1, 2, 3)) > 0.005).float().mean() > 0.9  # A few are one plain colour.


def test_every_label_lies_in_its_bank_and_half_of_the_images_carry_a_fractal(renderer):
    _, labels = drawn(renderer, seed=1, n=400)
    for name in ("palette", "texture", "contour", "style"):
        assert set(labels[name].tolist()) == set(range(getattr(SIZES, name)))
    assert set(labels["fractal"].tolist()) == {NO_LABEL, 0, 1}
    assert 0.4 < (labels["fractal"] == NO_LABEL).float().mean() < 0.6


def test_no_bank_tells_the_label_of_another(renderer):
    _, labels = drawn(renderer, seed=1, n=2000)
    pairs = torch.zeros(SIZES.palette, SIZES.texture).index_put_(
        (labels["palette"], labels["texture"]), torch.ones(2000), accumulate=True
    )
    expected = 2000 / pairs.numel()
    assert (pairs - expected).abs().max() < 5 * math.sqrt(expected)


def test_a_fractal_fills_the_square_that_it_is_scaled_to():
    bank = make_bank(BankSizes(1, 1, 1, 1, fractal=30), seed=3)
    fixed_points = torch.linalg.solve(torch.eye(2) - bank.fractal_maps[..., :2], bank.fractal_maps[..., 2])
    assert fixed_points.abs().median() < 1.5
    assert bank.fractal_maps.isfinite().all()


def test_descriptors_of_a_plain_image_have_its_colour_and_no_edges():
    image = torch.tensor([0.9, 0.5, 0.1]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    found = describe(image, patch_size=8)
    assert found.local.shape == (1, 16, 2 * N_LOCAL)
    torch.testing.assert_close(found.local[0, 5, :3], torch.tensor([0.5, 0.4, 0.6]))
    torch.testing.assert_close(found.local[0, 5, 6:N_LOCAL], torch.full((N_LOCAL - 6,), 0.01))
    assert found.colours[0].argmax() == (5 * N_COLOUR_BINS + 3) * N_COLOUR_BINS + 0
    torch.testing.assert_close(found.colours.sum(), torch.tensor(1.0))


def test_vertical_stripes_change_along_the_horizontal_only():
    stripes = (torch.arange(32) // 2 % 2).float().expand(1, 3, 32, 32)
    directions = describe(stripes, patch_size=8).local[0, 5, 6 : 6 + N_DIRECTIONS]
    assert directions.argmax() == 0
    torch.testing.assert_close(directions[2], torch.tensor(0.01), atol=1e-3, rtol=0)
