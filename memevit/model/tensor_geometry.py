"""How an image processor resizes that works on tensors, as those of torchvision do.

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
    """`geometry`, resized by torch: some pixels differ by 1 from what Pillow gives.

    Source:
        torchvision.transforms.v2.functional.resize, for uint8 on a CPU.
    """

    geometry: Geometry

    @classmethod
    def of(cls, geometry: Geometry | None) -> "TensorGeometry | None":
        """None if torch lacks the filter, or there is no geometry."""
        return cls(geometry) if geometry and geometry.resample in _MODES else None

    def __call__(self, image: Image.Image) -> np.ndarray:
        """[3, H, W] uint8 pixels of an RGB image."""
        mode = _MODES[Image.Resampling(self.geometry.resample)]
        given = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        resized = torch.nn.functional.interpolate(given, self.geometry.size, mode=mode, antialias=True)
        return np.ascontiguousarray(resized[0].numpy())
