"""Augmentation of training images in batches on the device; deterministic for a seed, epoch and image.

Images are never mirrored, because memes contain text.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

N_DRAWS = 16
(_AREA, _STRETCH, _LEFT, _TOP, _BRIGHTNESS, _CONTRAST, _SATURATION, _ERASE, _ERASED_AREA, _ERASED_STRETCH) = range(10)
(_ERASED_LEFT, _ERASED_TOP, _SHARE, _KIND, _CUT_LEFT, _CUT_TOP) = range(10, N_DRAWS)

_ERASED_AREAS = (0.02, 0.25)
_MAX_ERASED_STRETCH = 3.0
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode L.
_BETA_STEPS = 4096


@dataclass(frozen=True)
class Augmentation:
    """How one training image is augmented.

    `min_area` is the smallest fraction of the image that a crop keeps, `max_stretch` the largest change of its aspect
    ratio, `colour` the largest relative change of brightness, contrast and saturation, `erasing` the probability that a
    rectangle of it is erased.
    """

    min_area: float = 0.6
    max_stretch: float = 1.2
    colour: float = 0.2
    erasing: float = 0.0

    def crops(self, parameters: np.ndarray) -> np.ndarray:
        """[B, 4] left, top, width and height of crops as fractions of the image, from parameters [B, N_DRAWS]."""
        area = self.min_area + (1.0 - self.min_area) * parameters[:, _AREA]
        stretch = self.max_stretch ** (2.0 * parameters[:, _STRETCH] - 1.0)
        width = np.minimum(1.0, np.sqrt(area * stretch))
        height = np.minimum(1.0, np.sqrt(area / stretch))
        return np.stack([(1 - width) * parameters[:, _LEFT], (1 - height) * parameters[:, _TOP], width, height], axis=1)

    @property
    def margin(self) -> float:
        """Factor by which a cached image must be larger so that its smallest crop still has the model's resolution."""
        return 1.0 / math.sqrt(self.min_area)


@dataclass(frozen=True)
class Mixing:
    """How images of a batch are mixed in pairs, with their labels: parameters of Beta(a, a), 0 is off.

    `mixup` blends two images (Zhang et al. 2018), `cutmix` pastes a rectangle (Yun et al. 2019); with both, one of them
    is chosen at random for each image.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether anything is mixed."""
        return self.mixup > 0 or self.cutmix > 0


def draw(seed: int, epoch: int, positions: np.ndarray) -> np.ndarray:
    """[B, N_DRAWS] augmentation parameters, float32 in [0, 1): a function of seed, epoch and position in the dataset.

    There is no generator state, so a resumed run, or another number of processes, gets the same parameters.

    Source:
        Steele et al., Fast splittable pseudorandom number generators, 2014 (SplitMix64 as a hash of a counter).
    """
    with np.errstate(over="ignore"):
        state = _scrambled(_scrambled(np.full(1, seed, dtype=np.uint64)) + np.uint64(epoch))
        state = _scrambled(state + np.asarray(positions, dtype=np.uint64))  # [B]
        numbers = _scrambled(state[:, None] + np.arange(1, N_DRAWS + 1, dtype=np.uint64))
    return ((numbers >> np.uint64(40)) * 2.0**-24).astype(np.float32)


def _scrambled(number: np.ndarray) -> np.ndarray:
    number = number + np.uint64(0x9E3779B97F4A7C15)
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))


def cropped(pixels: torch.Tensor, crops: torch.Tensor, size: tuple[int, int], resample: int) -> torch.Tensor:
    """[B, 3, H, W] float pixels from 0 to 255 of crops, resized as Pillow does, with antialiasing.

    Args:
        pixels: [B, 3, H', W'] uint8 pixels.
        crops: [B, 4] left, top, width and height as fractions.
        size: H and W.
        resample: Pillow's number of a filter; Lanczos is approximated by bicubic.
    """
    n, channels, height, width = pixels.shape
    left, top, crop_width, crop_height = (
        column * side for column, side in zip(crops.T, (width, height) * 2, strict=True)
    )
    rows = _weights(top, crop_height, height, size[0], resample)  # [B, H, H']
    columns = _weights(left, crop_width, width, size[1], resample)  # [B, W, W']
    narrow = pixels.to(rows.dtype).reshape(n, channels * height, width) @ columns.transpose(1, 2)
    return rows[:, None] @ narrow.reshape(n, channels, height, size[1])


def _weights(start: torch.Tensor, length: torch.Tensor, n_in: int, n_out: int, resample: int) -> torch.Tensor:
    """[B, n_out, n_in] weights of the input pixels for each output pixel, for boxes [B] in input pixels."""
    scale = length / n_out
    places = torch.arange(n_out, device=start.device, dtype=start.dtype) + 0.5
    centres = start[:, None] + places * scale[:, None]  # [B, n_out]
    centres_in = torch.arange(n_in, device=start.device, dtype=start.dtype) + 0.5
    widening = scale.clamp(min=1.0)[:, None, None]
    distance = ((centres_in - centres[:, :, None]) / widening).abs()
    if resample == Image.Resampling.BILINEAR:
        weights = (1.0 - distance).clamp(min=0.0)
    else:
        near = (1.5 * distance - 2.5) * distance**2 + 1.0
        far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
        weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    inside = (centres_in > start[:, None, None]) & (centres_in < (start + length)[:, None, None])
    weights = weights * inside  # Nothing from outside the box, as after a crop.
    return weights / weights.sum(dim=-1, keepdim=True)


def recoloured(pixels: torch.Tensor, parameters: torch.Tensor, colour: float) -> torch.Tensor:
    """[B, 3, H, W] pixels with changed brightness, contrast and saturation, in this order, clipped once at the end."""
    brightness, contrast, saturation = (  # Each [B, 1, 1, 1]; indexing with a list would make the host wait.
        1.0 + colour * (2.0 * parameters[:, column, None, None, None] - 1.0)
        for column in (_BRIGHTNESS, _CONTRAST, _SATURATION)
    )
    grey = sum(share * channel for share, channel in zip(_GREY, pixels.unbind(1), strict=True))[:, None]
    mean = grey.mean(dim=(2, 3), keepdim=True)
    constant = (1.0 - contrast) * brightness * mean
    mixed = saturation * contrast * brightness * pixels + (1.0 - saturation) * contrast * brightness * grey + constant
    return mixed.clamp(0.0, 255.0)


def erased(values: torch.Tensor, parameters: torch.Tensor, probability: float) -> torch.Tensor:
    """[B, 3, H, W] normalised values, a rectangle of some images set to 0 (Zhong et al. 2017)."""
    low, high = _ERASED_AREAS
    area = low + (high - low) * parameters[:, _ERASED_AREA]
    stretch = _MAX_ERASED_STRETCH ** (2.0 * parameters[:, _ERASED_STRETCH] - 1.0)
    width, height = (area * stretch).sqrt(), (area / stretch).sqrt()
    left, top = (1.0 - width) * parameters[:, _ERASED_LEFT], (1.0 - height) * parameters[:, _ERASED_TOP]
    is_hidden = (
        _rectangles(left, top, width, height, values) & (parameters[:, _ERASE] < probability)[:, None, None, None]
    )
    return values.masked_fill(is_hidden, 0.0)


def _rectangles(
    left: torch.Tensor, top: torch.Tensor, width: torch.Tensor, height: torch.Tensor, like: torch.Tensor
) -> torch.Tensor:
    """[B, 1, H, W] whether a pixel lies in the rectangle of its image, given in fractions [B]."""
    rows = (torch.arange(like.shape[2], device=like.device) + 0.5) / like.shape[2]
    columns = (torch.arange(like.shape[3], device=like.device) + 0.5) / like.shape[3]
    in_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


class Mixer:
    """Mixes every image of a batch with the next one, as `Mixing` says."""

    def __init__(self, mixing: Mixing, n_classes: int) -> None:
        from scipy.special import betaincinv  # Slow to import, and rarely needed.

        self._mixing = mixing
        self._n_classes = n_classes
        steps = (np.arange(_BETA_STEPS) + 0.5) / _BETA_STEPS
        shapes = [mixing.mixup or mixing.cutmix, mixing.cutmix or mixing.mixup]
        # [2, steps] quantiles of Beta(a, a), which turn a uniform parameter into one from Beta.
        self._quantiles = torch.tensor(np.array([betaincinv(a, a, steps) for a in shapes]), dtype=torch.float32)

    def __call__(
        self, values: torch.Tensor, labels: torch.Tensor, parameters: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixed values [B, 3, H, W] and class shares [B, C], from values and class ids [B]."""
        if self._quantiles.device != values.device:
            self._quantiles = self._quantiles.to(values.device)
        n_cutmix = 1.0 if not self._mixing.mixup else 0.5 if self._mixing.cutmix else 0.0
        is_cut = parameters[:, _KIND] < n_cutmix  # [B]
        step = (parameters[:, _SHARE] * _BETA_STEPS).long()
        share = torch.where(is_cut, self._quantiles[1][step], self._quantiles[0][step])  # of the image itself
        side = (1.0 - share).sqrt()
        left, top = (1.0 - side) * parameters[:, _CUT_LEFT], (1.0 - side) * parameters[:, _CUT_TOP]
        is_pasted = _rectangles(left, top, side, side, values).to(values.dtype)  # [B, 1, H, W]
        share = torch.where(is_cut, 1.0 - is_pasted.mean(dim=(1, 2, 3)), share)
        own = torch.where(is_cut[:, None, None, None], 1.0 - is_pasted, share[:, None, None, None])
        mixed = own * values + (1.0 - own) * values.roll(-1, dims=0)
        one_hot = torch.nn.functional.one_hot(labels, self._n_classes).to(values.dtype)
        return mixed, share[:, None] * one_hot + (1.0 - share[:, None]) * one_hot.roll(-1, dims=0)
