"""The pipeline `open-set-image-classification`: the classes of an image, or that it shows none of them.

    from transformers import pipeline
    classifier = pipeline("open-set-image-classification", model="USER/NAME", trust_remote_code=True)
    classifier("meme.jpg")
    # {"label": "unknown", "accepted": False, "known_score": -3.1, "threshold": -1.4, "p_value": 0.003,
    #  "reason": "less like the training images than 99 % of the validation images",
    #  "scores": [{"label": "doom", "score": 0.9}, ...]}

It imports nothing of this project, for it is published beside a model and runs there.
"""

import importlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers import ImageClassificationPipeline
from transformers.image_utils import load_image
from transformers.utils import ModelOutput, cached_file

from .features import FeatureTap, exact
from .open_set import CONFIG_FILE, FILE, KEY, OpenSet, probe_image, renewal

try:
    from .pixels import load_image as read_file
    from .pixels import to_rgb
except ImportError:  # In the project it lies one folder above, because the other tools read files with it too.
    _pixels = importlib.import_module("..pixels", __package__)
    read_file, to_rgb = _pixels.load_image, _pixels.to_rgb

_FEATURE = "feature_"


class OpenSetImageClassificationPipeline(ImageClassificationPipeline):
    """Image classification with the answer `unknown`, by the statistics that lie beside the weights.

    Args:
        statistics: folder with config.json and open_set.safetensors; where the model came from if None.
    """

    def __init__(self, *args: Any, statistics: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.open_set = OpenSet.load(statistics or self._folder())
        if self.open_set is None:
            raise ValueError(f"This model has no statistics of its training images. {renewal()}")
        self._tap = FeatureTap(self.model, self.open_set.layers)
        self._require_current()

    def _folder(self) -> Path:
        """The folder of the model, fetched from the Hub unless it is a local one."""
        name = self.model.name_or_path
        if os.path.isdir(name):
            return Path(name)
        revision = getattr(self.model.config, "_commit_hash", None)
        if not getattr(self.model.config, KEY, None):
            raise ValueError(f"{name} has no statistics of its training images. {renewal()}")
        for file in (FILE, CONFIG_FILE):
            path = cached_file(name, file, revision=revision)
        return Path(path).parent

    @exact()
    @torch.inference_mode()
    def _require_current(self) -> None:
        inputs = self.image_processor(images=Image.fromarray(probe_image()), return_tensors="pt")
        pixel_values = inputs["pixel_values"].to(self.model.device, self.model.dtype)
        logits = self.model(pixel_values=pixel_values).logits
        features = {layer: own.cpu().numpy() for layer, own in self._tap.take().items()}
        dtype = str(self.model.dtype).removeprefix("torch.")
        self.open_set.require_current(logits.float().cpu().numpy(), features, dtype=dtype)

    def preprocess(self, image: Any, timeout: float | None = None) -> Any:
        """Pixels of an image; transparency is composited on white, which the plain pipeline does not do."""
        if isinstance(image, (str, os.PathLike)) and os.path.isfile(image):
            image = read_file(Path(image))
        elif isinstance(image, Image.Image):
            image = to_rgb(ImageOps.exif_transpose(image))
        elif isinstance(image, (str, os.PathLike)):
            image = load_image(str(image), timeout=timeout)
        return super().preprocess(image, timeout=timeout)

    @exact()
    def _forward(self, model_inputs: Any) -> ModelOutput:
        logits = self.model(**model_inputs).logits
        return ModelOutput(logits=logits, **{f"{_FEATURE}{layer}": own for layer, own in self._tap.take().items()})

    def postprocess(self, model_outputs: Any, function_to_apply: Any = None, top_k: int = 5) -> dict[str, Any]:
        """The decision for one image, with the scores of the plain pipeline under `scores`."""
        plain = super().postprocess(model_outputs, function_to_apply=function_to_apply, top_k=top_k)
        logits = model_outputs["logits"].float().numpy()
        features = {layer: np.asarray(model_outputs[f"{_FEATURE}{layer}"]) for layer in self.open_set.layers}
        (decision,) = self.open_set.decide(logits, features)
        return asdict(decision) | {"scores": plain}
