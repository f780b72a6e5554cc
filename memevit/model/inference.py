"""Probabilities for pictures, the same as those of `pipeline("image-classification")`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from memevit import pixels
from memevit.errors import UserError
from memevit.model.transforms import pixel_values


def best_device() -> torch.device:
    """The accelerator that torch finds, else the processor."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


@dataclass(frozen=True)
class Classification:
    """What the model says about one file: `probabilities` [C], or None and the reason why it can't be read."""

    path: Path
    probabilities: np.ndarray | None
    problem: str = ""


class Classifier:
    """A trained model, ready to classify."""

    def __init__(self, model: PreTrainedModel, image_processor: BaseImageProcessor) -> None:
        self._model = model.eval()
        self._image_processor = image_processor
        self.class_names = [model.config.id2label[label] for label in range(model.config.num_labels)]

    @classmethod
    def load(cls, model_dir: str | Path, *, device: torch.device | None = None) -> "Classifier":
        """Load a model folder.

        Args:
            model_dir: a folder that finetune_vit.py wrote, or any image classification checkpoint.
            device: where to compute; the best there is when None.

        Raises:
            UserError: `model_dir` is no such folder.
        """
        path = Path(model_dir)
        if not (path / "config.json").is_file():
            raise UserError(f"{path} holds no model (no config.json). finetune_vit.py --output_dir writes one.")
        try:
            model = AutoModelForImageClassification.from_pretrained(path, local_files_only=True)
            image_processor = AutoImageProcessor.from_pretrained(path, local_files_only=True)
        except Exception as error:  # A damaged checkpoint can raise anything, from OSError to SafetensorError.
            raise UserError(
                f"The model in {path} can't be loaded: {error}. Train again or restore the files."
            ) from error
        return cls(model.to(device or best_device()), image_processor)

    @torch.inference_mode()
    def probabilities(self, images: list[Image.Image]) -> np.ndarray:
        """[n, C] probabilities in float64 of RGB pictures."""
        inputs = pixel_values(images, self._image_processor).to(self._model.device, self._model.dtype)
        logits = self._model(pixel_values=inputs).logits
        return torch.softmax(logits.double(), dim=-1).cpu().numpy()

    def classify(self, paths: Iterable[Path], *, batch_size: int = 32) -> Iterator[Classification]:
        """One result per file, in order; a file that can't be decoded gives one with a `problem`."""
        remaining = iter(paths)
        while batch := list(islice(remaining, batch_size)):
            loaded = [_load(path) for path in batch]
            images = [image for image in loaded if isinstance(image, Image.Image)]
            rows = iter(self.probabilities(images) if images else ())
            for path, image in zip(batch, loaded, strict=True):
                if isinstance(image, Image.Image):
                    yield Classification(path, next(rows))
                else:
                    yield Classification(path, None, image)


def _load(path: Path) -> Image.Image | str:
    try:
        return pixels.load_image(path)
    except pixels.UnreadableImageError as error:
        return str(error)
