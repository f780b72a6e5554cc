"""Where an image processor puts the pixels of a picture, without the processor itself: needs Pillow and numpy only.

A process that decodes pictures can start with this in a tenth of a second; with Transformers it would take seconds.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

_CONVNEXT_SQUEEZES_FROM_PX = 384  # Below this its processor crops, from there on it squeezes.


class Render(Protocol):
    """From an RGB picture to [3, H, W] uint8 levels. Picklable, since other processes do it."""

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Levels of `image`."""


@dataclass(frozen=True)
class Geometry:
    """Resize, then perhaps a centre crop.

    Either `size` (height, width) is set, to which any picture is squeezed, or `shortest_edge`, which keeps proportions.
    `crop` is (height, width). `resample` is Pillow's number of a filter.
    """

    resample: int
    size: tuple[int, int] | None = None
    shortest_edge: int | None = None
    crop: tuple[int, int] | None = None

    @classmethod
    def of(cls, image_processor: Any) -> "Geometry | None":
        """The geometry of an image processor; None where this class has no words for it."""
        resample = getattr(image_processor, "resample", None)
        size = getattr(image_processor, "size", None)
        if not getattr(image_processor, "do_resize", False) or resample is None or size is None:
            return None
        size, crop = _plain(size), None
        if getattr(image_processor, "do_center_crop", False):
            crop = _pair(_plain(image_processor.crop_size))
        if set(size) == {"height", "width"}:
            return cls(int(resample), size=_pair(size), crop=crop)
        if set(size) != {"shortest_edge"}:
            return None
        side = int(size["shortest_edge"])
        crop_share = getattr(image_processor, "crop_pct", None)
        if crop_share is None:
            return cls(int(resample), shortest_edge=side, crop=crop)
        if side >= _CONVNEXT_SQUEEZES_FROM_PX:
            return cls(int(resample), size=(side, side), crop=crop)
        return cls(int(resample), shortest_edge=int(side / crop_share), crop=(side, side))

    def __call__(self, image: Image.Image) -> np.ndarray:
        """[3, H, W] uint8 levels of an RGB picture, those of the image processor before it rescales and normalises."""
        resized = image.resize(self.resized_size(image.size), Image.Resampling(self.resample))
        if self.crop:
            resized = resized.crop(self.crop_box(resized.size))
        return levels(resized)

    def crop_box(self, resized: tuple[int, int]) -> tuple[int, int, int, int]:
        """The box (left, top, right, bottom) that the crop leaves of a picture of `resized` (width, height)."""
        left, top = (resized[0] - self.crop[1]) // 2, (resized[1] - self.crop[0]) // 2
        return left, top, left + self.crop[1], top + self.crop[0]

    def resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height that a picture of `size` (width, height) is resized to."""
        if self.size:
            return self.size[1], self.size[0]
        short, long = min(size), max(size)
        other = int(self.shortest_edge * long / short)
        return (self.shortest_edge, other) if size[0] <= size[1] else (other, self.shortest_edge)

    def seen(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The box (left, top, right, bottom) of a picture of `size` (width, height) that a crop leaves."""
        if not self.crop:
            return 0.0, 0.0, float(size[0]), float(size[1])
        resized = self.resized_size(size)
        scale = (size[0] / resized[0], size[1] / resized[1]) * 2
        box = (edge * by for edge, by in zip(self.crop_box(resized), scale, strict=True))
        # A crop that is larger than the resized picture has an edge of black, which is nothing to look at.
        return tuple(min(max(edge, 0.0), float(side)) for edge, side in zip(box, size * 2, strict=True))


@dataclass(frozen=True)
class Enlarged:
    """What `geometry` shows of a picture, squeezed to `size` (height, width): room for crops.

    A crop of this is resized once more, by the filter of `geometry`. `resample`, the number of the filter here, is
    therefore the one of Pillow that blurs least: two bilinear ones take a sixth of the contrast of neighbouring pixels.
    """

    geometry: Geometry
    size: tuple[int, int]
    resample: int = int(Image.Resampling.LANCZOS)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """[3, H, W] uint8 levels of an RGB picture."""
        box = self.geometry.seen(image.size)
        return levels(image.resize((self.size[1], self.size[0]), Image.Resampling(self.resample), box=box))


def levels(image: Image.Image) -> np.ndarray:
    """[3, H, W] uint8 levels of an RGB picture."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _plain(size: Any) -> dict[str, int]:
    return {name: value for name, value in dict(size).items() if value is not None}


def _pair(size: dict[str, int]) -> tuple[int, int]:
    return int(size["height"]), int(size["width"])
