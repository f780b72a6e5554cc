"""How training images are varied: repeatable, never mirrored, and as Pillow would do it."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from memevit.model import augment
from memevit.model.augment import Augmentation, Mixer, Mixing
from tests.conftest import draw_image


def levels_of(*images):
    return torch.from_numpy(np.stack([np.asarray(image).transpose(2, 0, 1) for image in images]))


def draws_with(n=1, **columns):
    draws = torch.full((n, augment.N_DRAWS), 0.5)
    for name, value in columns.items():
        draws[:, getattr(augment, f"_{name}")] = value
    return draws


def test_draws_depend_on_seed_epoch_and_position_alone():
    together = augment.draw(7, 3, np.array([5, 900, 0]))
    assert np.array_equal(augment.draw(7, 3, np.array([900]))[0], together[1])
    others = [augment.draw(8, 3, np.array([5])), augment.draw(7, 4, np.array([5])), augment.draw(7, 3, np.array([6]))]
    assert not any(np.isclose(other[0], together[0]).any() for other in others)


def test_draws_are_uniform_and_independent():
    draws = augment.draw(0, 0, np.arange(20_000))
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 0.01  # Five standard errors.
    assert np.abs(draws.var(axis=0) - 1 / 12).max() < 0.003
    assert np.abs(np.corrcoef(draws.T) - np.eye(augment.N_DRAWS)).max() < 0.04
    neighbours = np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]
    assert abs(neighbours) < 0.04


def test_crops_keep_to_the_image_and_to_what_was_asked_for():
    asked = Augmentation(min_area=0.5, max_stretch=1.5)
    left, top, width, height = asked.crops(augment.draw(0, 0, np.arange(5000))).T
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 1 + 1e-6
    assert (width * height).min() >= 0.5 - 0.09  # A side that is cut at the edge takes a little of the area.
    assert 1 / 1.5 - 1e-4 <= (width / height).min() < 0.75
    assert 1.4 < (width / height).max() <= 1.5 + 1e-4


def test_without_variation_the_whole_image_is_taken():
    crops = Augmentation(min_area=1.0, max_stretch=1.0).crops(augment.draw(0, 0, np.arange(10)))
    assert np.allclose(crops, [0, 0, 1, 1])


@pytest.mark.parametrize(("resample", "tolerance"), [(Image.Resampling.BILINEAR, 1.5), (Image.Resampling.BICUBIC, 12)])
def test_a_batch_is_cropped_and_resized_as_pillow_does_it(resample, tolerance):
    images = [draw_image(seed, size=(60, 48)) for seed in range(3)]
    boxes = [(6, 4, 48, 40), (0, 0, 60, 48), (20, 10, 45, 30)]
    crops = torch.tensor([[x / 60, y / 48, (right - x) / 60, (lower - y) / 48] for x, y, right, lower in boxes])
    found = augment.cropped(levels_of(*images), crops, (24, 32), resample).clamp(0, 255)
    for image, box, levels in zip(images, boxes, found, strict=True):
        expected = np.asarray(image.crop(box).resize((32, 24), resample)).transpose(2, 0, 1)
        difference = np.abs(levels.numpy() - expected)
        assert difference.max() <= tolerance  # Pillow rounds, and clips overshoot, between its two passes.
        assert difference.mean() < 0.5


def test_nothing_is_mirrored():
    image = Image.new("RGB", (64, 64), "white")
    image.paste("black", (0, 0, 32, 32))  # Top left.
    draws = augment.draw(1, 2, np.arange(64))
    crops = torch.from_numpy(Augmentation().crops(draws)).float()
    found = augment.cropped(levels_of(*[image] * 64), crops, (32, 32), Image.Resampling.BILINEAR)
    corners = found.mean(dim=1)[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners[:, 0] < 1).all()
    assert (corners[:, 1:] > 254).all()


@pytest.mark.parametrize(
    ("name", "enhancer"),
    [("BRIGHTNESS", ImageEnhance.Brightness), ("CONTRAST", ImageEnhance.Contrast), ("SATURATION", ImageEnhance.Color)],
)
@pytest.mark.parametrize("share", [0.0, 0.999])
def test_colours_change_as_in_pillow(name, enhancer, share):
    image = draw_image(3)
    found = augment.recoloured(levels_of(image).float(), draws_with(**{name: share}), 0.4)
    expected = np.asarray(enhancer(image).enhance(1 + 0.4 * (2 * share - 1))).transpose(2, 0, 1)
    assert np.abs(found[0].numpy() - expected).max() <= 2


def test_erasing_hides_a_rectangle_of_as_many_images_as_asked_for():
    draws = torch.from_numpy(augment.draw(0, 0, np.arange(2000)))
    hidden = augment.erased(torch.ones(2000, 3, 20, 20), draws, 0.3) == 0
    assert hidden.flatten(1).any(dim=1).float().mean() == pytest.approx(0.3, abs=0.04)
    assert 0.02 < hidden.flatten(1).float().mean(dim=1)[hidden.flatten(1).any(dim=1)].mean() < 0.25
    assert torch.equal(hidden[:, 0], hidden[:, 2])
    assert not (augment.erased(torch.ones(9, 3, 8, 8), draws[:9], 0.0) == 0).any()


def test_mixup_blends_an_image_with_the_next_and_its_label_in_the_same_shares():
    values = torch.stack([torch.full((3, 4, 4), float(level)) for level in (0, 10, 20)])
    mixed, shares = Mixer(Mixing(mixup=1.0), 3)(values, torch.tensor([0, 1, 2]), draws_with(3, SHARE=0.25))
    # Beta(1, 1) is uniform: a draw of 0.25 keeps a quarter of the image itself.
    assert torch.allclose(mixed[:, 0, 0, 0], torch.tensor([7.5, 17.5, 5.0]), atol=0.02)
    assert torch.allclose(shares, torch.tensor([[0.25, 0.75, 0], [0, 0.25, 0.75], [0.75, 0, 0.25]]), atol=1e-3)


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels_in_the_label():
    values = torch.stack([torch.zeros(3, 12, 12), torch.ones(3, 12, 12)])
    mixed, shares = Mixer(Mixing(cutmix=1.0), 2)(values, torch.tensor([0, 1]), draws_with(2, SHARE=0.75))
    pasted = mixed[0].mean()  # A quarter of the area: 6 by 6 pixels, in the middle.
    assert pasted == pytest.approx(0.25)
    assert set(mixed.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(shares[0], torch.stack([1 - pasted, pasted]))
    assert torch.allclose(shares.sum(dim=1), torch.ones(2))


def test_with_both_each_image_takes_one_of_them():
    mixer = Mixer(Mixing(mixup=1.0, cutmix=1.0), 2)
    values = torch.stack([torch.zeros(3, 10, 10), torch.ones(3, 10, 10)])
    for kind, n_levels in ((0.2, 2), (0.8, 1)):
        mixed, _ = mixer(values, torch.tensor([0, 1]), draws_with(2, SHARE=0.6, KIND=kind))
        assert len(mixed[0].unique()) == n_levels


def test_strong_mixing_parameters_keep_shares_near_a_half():
    draws = torch.from_numpy(augment.draw(0, 0, np.arange(4000)))
    values, labels = torch.zeros(4000, 3, 2, 2), torch.zeros(4000, dtype=torch.long)
    labels[::2] = 1
    for parameter in (0.2, 1.0, 8.0):
        _, shares = Mixer(Mixing(mixup=parameter), 2)(values, labels, draws)
        # Variance of Beta(a, a).
        assert shares[:, 0].sub(0.5).square().mean() == pytest.approx(1 / (4 * (2 * parameter + 1)), rel=0.06)
