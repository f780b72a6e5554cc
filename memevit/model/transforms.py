"""From files to `pixel_values`, all by the image processor that is saved with the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.utils.data import Dataset
from transformers.image_processing_utils import BaseImageProcessor

from memevit import pixels


@dataclass(frozen=True)
class Augmentation:
    """How a training picture is varied. Nothing is mirrored, for memes carry text.

    `min_area` is the smallest share of the picture that a crop keeps, `max_stretch` the largest change of its
    proportions, `colour` the largest relative change of brightness, contrast and saturation, `erasing` the probability
    that a patch is erased.
    """

    min_area: float = 0.6
    max_stretch: float = 1.2
    colour: float = 0.2
    erasing: float = 0.0

    def __call__(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """A varied copy of an RGB picture."""
        image = image.crop(self._box(image.size, random))
        for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            if self.colour:
                image = enhancer(image).enhance(1.0 + float(random.uniform(-self.colour, self.colour)))
        return image

    def _box(self, size: tuple[int, int], random: np.random.Generator) -> tuple[int, int, int, int]:
        area = float(random.uniform(self.min_area, 1.0))
        stretch = float(np.exp(random.uniform(-1.0, 1.0) * np.log(self.max_stretch)))
        width = max(1, min(size[0], round(size[0] * (area * stretch) ** 0.5)))
        height = max(1, min(size[1], round(size[1] * (area / stretch) ** 0.5)))
        left = int(random.integers(0, size[0] - width + 1))
        top = int(random.integers(0, size[1] - height + 1))
        return left, top, left + width, top + height


@dataclass(frozen=True)
class Mixing:
    """How training pictures are mixed: parameters of the Beta distributions of mixup and cutmix, 0 for never."""

    mixup: float = 0.0
    cutmix: float = 0.0


class PictureDataset(Dataset):
    """Pictures and labels of one split; `augmentation` None gives the pixels of evaluation."""

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int],
        image_processor: BaseImageProcessor,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.paths = list(paths)
        self.labels = list(labels)
        self._image_processor = image_processor
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """`pixel_values` [3, H, W] and the label of one picture."""
        image = pixels.load_image(self.paths[position])
        if self._augmentation is not None:
            # Torch's generator is the one that the loader seeds, per epoch and worker.
            random = np.random.default_rng(int(torch.randint(2**62, (1,))))
            image = self._augmentation(image, random)
        return {"pixel_values": pixel_values([image], self._image_processor)[0], "labels": self.labels[position]}


def pixel_values(images: list[Image.Image], image_processor: BaseImageProcessor) -> torch.Tensor:
    """[B, 3, H, W] what the model sees of RGB pictures; the same as in `pipeline("image-classification")`."""
    return image_processor(images=images, return_tensors="pt")["pixel_values"]
