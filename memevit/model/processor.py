"""What an image processor does, in two parts: from an image to uint8 pixels, and from those to `pixel_values`.

Decoder processes and the pixel cache do the first part, which takes time and room; the second is a multiplication that
the device of the model does for a whole batch.
"""

import logging
from dataclasses import dataclass

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor

from memevit.errors import UserError
from memevit.model.geometry import Geometry, Render
from memevit.model.tensor_geometry import TensorGeometry

logger = logging.getLogger(__name__)

_PROBE_SIZES = ((640, 480), (97, 233), (333, 333), (1200, 90))
_MAX_DEVIATION = 1e-5  # Of normalised values, which are about 1; the float32 sums of two libraries differ by 1e-7.
_MAX_PIXEL_DIFFERENCE = 3.0  # Mean over an image, between the image processor's pixels and the cache's.


def pixel_values(images: list[Image.Image], image_processor: BaseImageProcessor) -> torch.Tensor:
    """[B, 3, H, W] what the model sees of RGB images; the same as in `pipeline("image-classification")`."""
    return image_processor(images=images, return_tensors="pt")["pixel_values"]


class Normalise:
    """From uint8 pixels [B, 3, H, W] to float32 values, on the device of the pixels.

    Args:
        scale: by which each channel is multiplied.
        offset: added to it then.
    """

    def __init__(self, scale: tuple[float, ...], offset: tuple[float, ...]) -> None:
        self.scale, self.offset = scale, offset
        self._on_device: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] float32 values."""
        if pixels.device not in self._on_device:  # Once per device: a copy in every step would make the host wait.
            line = torch.tensor([self.scale, self.offset], device=pixels.device)
            self._on_device[pixels.device] = tuple(line[:, :, None, None].unbind())
        scale, offset = self._on_device[pixels.device]
        return pixels.float() * scale + offset

    def __reduce__(self) -> tuple:
        """Pickled for a loader process, which has no use for what lies on the device."""
        return type(self), (self.scale, self.offset)


@dataclass(frozen=True)
class ByProcessor:
    """Pixels by the image processor itself, for one that is more than a `Geometry`."""

    image_processor: BaseImageProcessor

    def __call__(self, image: Image.Image) -> np.ndarray:
        """[3, H, W] uint8 pixels of an RGB image."""
        given = self.image_processor(images=[image], do_rescale=False, do_normalize=False, return_tensors="np")
        pixels = np.asarray(given["pixel_values"][0])
        if not np.array_equal(pixels, pixels.astype(np.uint8)):
            raise ValueError("the image processor gives no whole numbers from 0 to 255")
        return np.ascontiguousarray(pixels.astype(np.uint8))


@dataclass(frozen=True)
class Processor:
    """An image processor in two parts.

    `render` makes [3, H, W] uint8 pixels of an RGB image, `normalise` values of these. `size` is (height, width).
    `geometry` is how it resizes, None if only the processor knows; `settings` says in words what the pixels depend on.
    """

    render: Render
    normalise: Normalise
    geometry: Geometry | None
    size: tuple[int, int]
    resample: int
    settings: str

    @classmethod
    def of(cls, image_processor: BaseImageProcessor) -> "Processor":
        """Take `image_processor` apart, and check on drawn images that the parts do the same.

        Raises:
            UserError: it does more than resize, crop, rescale and normalise.
        """
        probes = [_probe(size) for size in _PROBE_SIZES]
        expected = [pixel_values([probe], image_processor)[0].double().numpy() for probe in probes]
        geometry = Geometry.of(image_processor)
        for render in filter(None, (geometry, TensorGeometry.of(geometry), ByProcessor(image_processor))):
            try:
                pixels = [render(probe) for probe in probes]
                normalise = _fitted(pixels, expected)
            except (ValueError, TypeError, MemoryError) as error:
                logger.debug("%s is not what the image processor does: %s", render, error)
                continue
            return cls(
                render=render,
                normalise=normalise,
                geometry=geometry if _is_close(geometry, probes, pixels) else None,
                size=pixels[0].shape[1:],
                resample=int(getattr(image_processor, "resample", None) or Image.Resampling.BILINEAR),
                settings=_settings(render),
            )
        raise UserError(
            f"{type(image_processor).__name__} does more than resize, crop, rescale and normalise images to one size, "
            "so its model can't be used here. Choose another backbone."
        )


def _probe(size: tuple[int, int]) -> Image.Image:
    """An image with smooth and sharp parts, with pixels of all values."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)).copy()
    image[: size[1] // 3] = random.integers(0, 256, (size[1] // 3, size[0], 3), dtype=np.uint8)
    return Image.fromarray(image)


def _fitted(pixels: list[np.ndarray], expected: list[np.ndarray]) -> Normalise:
    """The scale and offset per channel that make `expected` of `pixels`, each a list of [3, H, W]."""
    if len({one.shape for one in [*pixels, *expected]}) != 1:
        raise ValueError("images of different shapes")
    given = np.stack(pixels).astype(np.float64).transpose(1, 0, 2, 3).reshape(3, -1)
    wanted = np.stack(expected).transpose(1, 0, 2, 3).reshape(3, -1)
    lines = np.array([np.polyfit(x, y, 1) for x, y in zip(given, wanted, strict=True)])
    deviation = np.abs(lines[:, :1] * given + lines[:, 1:] - wanted).max()
    if deviation > _MAX_DEVIATION * max(1.0, np.abs(wanted).max()):
        raise ValueError(f"values differ by {deviation:.2g}")
    return Normalise(tuple(lines[:, 0].tolist()), tuple(lines[:, 1].tolist()))


def _is_close(geometry: Geometry | None, probes: list[Image.Image], pixels: list[np.ndarray]) -> bool:
    """Whether `geometry` shows of each probe what `pixels` show, apart from rounding."""
    return geometry is not None and all(
        np.abs(geometry(probe).astype(float) - own).mean() <= _MAX_PIXEL_DIFFERENCE
        for probe, own in zip(probes, pixels, strict=True)
    )


def _settings(render: Render) -> str:
    """What the pixels depend on, for the key of a cache."""
    versions = f"Pillow {PIL.__version__}"  # Decodes, whatever resizes.
    if isinstance(render, ByProcessor):
        return f"{versions} Transformers {transformers.__version__} {render.image_processor.to_json_string()}"
    if isinstance(render, TensorGeometry):
        versions += f" torch {torch.__version__}"
    return f"{versions} {render}"
