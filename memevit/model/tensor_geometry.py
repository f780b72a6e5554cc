"""Where an image processor that resizes tensors, as those of torchvision do, puts the pixels of a picture.

It is apart from `geometry`, so that a process which decodes for the other kind need not import torch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from memevit.model.geometry import Geometry

_MODES = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}


@dataclass(frozen=True)
class TensorGeometry:
    """What `geometry` says, resized by torch: a level here and there is one off what Pillow gives.

    Source:
        torchvision.transforms.v2.functional.resize and center_crop, for uint8 on a processor.
    """

    geometry: Geometry

    @classmethod
    def of(cls, geometry: Geometry | None) -> "TensorGeometry | None":
        """None where torch lacks the filter, or there is no geometry."""
        return cls(geometry) if geometry and geometry.resample in _MODES else None

    def __call__(self, image: Image.Image) -> np.ndarray:
        """[3, H, W] uint8 levels of an RGB picture."""
        width, height = self.geometry.resized_size(image.size)
        mode = _MODES[Image.Resampling(self.geometry.resample)]
        given = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        resized = torch.nn.functional.interpolate(given, (height, width), mode=mode, antialias=True)[0].numpy()
        if crop := self.geometry.crop:
            top, left = round((height - crop[0]) / 2), round((width - crop[1]) / 2)
            resized = resized[:, top : top + crop[0], left : left + crop[1]]
        return np.ascontiguousarray(resized)
