"""The usual way: the Trainer on full-size files, Pillow transforms in loader workers, everything in every epoch.

It does what the image classification example of Transformers does, with Pillow in the place of torchvision: a random
resized crop, a tensor, normalised, by one image at a time. It mirrors nothing, as nothing here does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers.image_processing_utils import BaseImageProcessor

_AREA, _ASPECT = (0.6, 1.0), (3 / 4, 4 / 3)


class PlainDataset(Dataset):
    """Images of full size and their labels; varied for training, by the image processor alone for evaluation."""

    def __init__(
        self, paths: Sequence[Path], labels: Sequence[int], image_processor: BaseImageProcessor, *, is_train: bool
    ) -> None:
        self.paths, self.labels = list(paths), list(labels)
        self._processor = image_processor
        self._is_train = is_train

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """`pixel_values` [3, H, W] and the label of one image."""
        image = Image.open(self.paths[position]).convert("RGB")
        if self._is_train:
            image = image.crop(_random_box(image.size))
        values = self._processor(images=[image], return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": values, "labels": self.labels[position]}


def _random_box(size: tuple[int, int]) -> tuple[int, int, int, int]:
    random = np.random.default_rng(int(torch.randint(2**62, (1,))))
    area = size[0] * size[1] * random.uniform(*_AREA)
    aspect = float(np.exp(random.uniform(*np.log(_ASPECT))))
    width, height = min(size[0], round((area * aspect) ** 0.5)), min(size[1], round((area / aspect) ** 0.5))
    left, top = int(random.integers(0, size[0] - width + 1)), int(random.integers(0, size[1] - height + 1))
    return left, top, left + width, top + height
