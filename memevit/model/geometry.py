"""How an image processor resizes, without the processor itself: needs only Pillow and numpy.

A process that decodes images can start with this in a tenth of a second; with Transformers it would take seconds.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image


class Render(Protocol):
    """From an RGB image to [3, H, W] uint8 pixels. Picklable, since other processes do it."""

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Pixels of `image`."""


@dataclass(frozen=True)
class Geometry:
    """Resizes any image to `size` (height, width) with Pillow's filter number `resample`."""

    resample: int
    size: tuple[int, int]

    @classmethod
    def of(cls, image_processor: Any) -> "Geometry | None":
        """The geometry of an image processor; None if it does not resize to one size, or crops."""
        resample = getattr(image_processor, "resample", None)
        size = {name: side for name, side in dict(getattr(image_processor, "size", None) or {}).items() if side}
        is_plain = getattr(image_processor, "do_resize", False) and not getattr(image_processor, "do_center_crop", None)
        if not is_plain or resample is None or set(size) != {"height", "width"}:
            return None
        return cls(int(resample), (int(size["height"]), int(size["width"])))

    def __call__(self, image: Image.Image) -> np.ndarray:
        """[3, H, W] uint8 pixels of an RGB image, those of the image processor before it rescales and normalises."""
        height, width = self.size
        resized = image.resize((width, height), Image.Resampling(self.resample))
        return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


@dataclass(frozen=True)
class Renders:
    """Several renders of one decoded image, as one flat array: what one decoding gives to several caches."""

    renders: tuple[Render, ...]

    def __call__(self, image: Image.Image) -> np.ndarray:
        """[n bytes] uint8, the pixels of each render one after the other."""
        return np.concatenate([render(image).reshape(-1) for render in self.renders])
