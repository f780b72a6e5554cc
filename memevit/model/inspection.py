"""One trained model, asked whatever a diagnosis needs: logits and features of files, altered images, heat maps."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm
from transformers import AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from memevit import decoding, quiet
from memevit.errors import UserError
from memevit.model import explain, layers
from memevit.model.classifier import best_device
from memevit.model.forward import FINAL, ForwardPass
from memevit.model.processor import Processor

_PATIENCE_S = 2.0  # Before progress is shown.
Method = Literal["occlusion", "gradients"]


class Inspection:
    """A model in evaluation mode, with its image processor; `class_names` by label, `size_px` (height, width)."""

    def __init__(self, model: PreTrainedModel, image_processor: BaseImageProcessor) -> None:
        self._model = model.eval()
        self._processor = Processor.of(image_processor)
        self._normalise = self._processor.normalise
        self.class_names = [model.config.id2label[label] for label in range(model.config.num_labels)]
        self.size_px = self._processor.size
        self.visible_box = explain.visible_box(self._processor.render)

    @classmethod
    def load(cls, model_dir: Path, *, device: torch.device | None = None) -> "Inspection":
        """Load any image classification checkpoint from a folder.

        Raises:
            UserError: `model_dir` is no such folder.
        """
        if not (model_dir / "config.json").is_file():
            raise UserError(f"{model_dir} holds no model (no config.json). finetune_vit.py --output_dir writes one.")
        try:
            with quiet.loading():
                model, found = AutoModelForImageClassification.from_pretrained(
                    model_dir, local_files_only=True, output_loading_info=True
                )
            image_processor = AutoImageProcessor.from_pretrained(model_dir, local_files_only=True)
        except Exception as error:  # A damaged checkpoint can raise anything, from OSError to SafetensorError.
            raise UserError(
                f"The model in {model_dir} can't be loaded: {error}. Train again or restore the files."
            ) from error
        if f"{layers.head_name(model)}.weight" in found["missing_keys"]:
            raise UserError(f"{model_dir} holds a backbone without a classifier. Train it with finetune_vit.py first.")
        return cls(model.to(device or best_device()), image_processor)

    @classmethod
    def of_backbone(cls, model_dir: Path) -> "Inspection | None":
        """The backbone in a local folder, whose features are those before fine-tuning; None if it cannot be loaded."""
        try:
            with quiet.loading():
                model = AutoModelForImageClassification.from_pretrained(model_dir, local_files_only=True)
            return cls(model.to(best_device()), AutoImageProcessor.from_pretrained(model_dir, local_files_only=True))
        except Exception:  # It is optional, and what a foreign folder raises is not known.
            return None

    def observe(
        self,
        paths: Sequence[Path],
        *,
        title: str,
        batch_size: int = 32,
        n_processes: int = 0,
        on_problem: Callable[[Path, str], None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits [n, C] and features [n, D], what the classifier sees, of the files that can be decoded.

        Args:
            paths: images.
            title: of the progress bar.
            batch_size: images that the model sees at once.
            n_processes: that decode; 0 decodes here.
            on_problem: called with a file that cannot be decoded and the reason, instead of raising.

        Raises:
            UserError: a file cannot be decoded, and there is no `on_problem`.
        """
        logits, features = [], []
        decoder = decoding.decoded(iter(paths), self._processor.render, n_processes=n_processes)
        progress = tqdm(total=len(paths), desc=title, unit="image", delay=_PATIENCE_S, leave=False)
        with self._running() as run, contextlib.closing(decoder) as found, progress:
            while batch := list(islice(found, batch_size)):
                progress.update(len(batch))
                for path, problem in (one for one in batch if isinstance(one[1], str)):
                    if on_problem is None:
                        raise UserError(f"{path} can't be read ({problem}). Run data_prep.py again.")
                    on_problem(path, problem)
                decoded = [pixels for _, pixels in batch if not isinstance(pixels, str)]
                if not decoded:
                    continue
                own, recorded = run(torch.from_numpy(np.stack(decoded)))
                logits.append(own.cpu().numpy())
                features.append(recorded[FINAL].cpu().numpy())
        if not logits:
            return np.empty((0, len(self.class_names))), np.empty((0, 1))
        return np.concatenate(logits), np.concatenate(features)

    @contextlib.contextmanager
    def _running(self) -> Iterator[ForwardPass]:
        run = ForwardPass(self._model, normalise=self._normalise, layers=(FINAL,))
        try:
            yield run
        finally:
            run.close()

    def logits(self, images: Iterable[Image.Image], *, batch_size: int = 32) -> np.ndarray:
        """[n, C] logits of RGB images, taken one by one."""
        found = [np.empty((0, len(self.class_names)), dtype=np.float32)]
        waiting = iter(images)
        with self._running() as run:
            while batch := list(islice(waiting, batch_size)):
                own, _ = run(torch.from_numpy(np.stack([self._processor.render(image) for image in batch])))
                found.append(own.cpu().numpy())
        return np.concatenate(found)

    def heat_map(self, image: Image.Image, label: int, *, method: Method = "occlusion") -> np.ndarray:
        """[grid, grid] how much each part of what the model sees of an RGB image spoke for class `label`."""
        levels = torch.from_numpy(self._processor.render(image)[None]).to(self._model.device)
        values = self._normalise(levels)[0]
        explained = explain.occlusion if method == "occlusion" else explain.integrated_gradients
        return explained(self._model, values, label)
