"""Probabilities for images, the same as those of `pipeline("image-classification")`."""

import contextlib
import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from memevit import decoding, frames
from memevit.errors import UserError
from memevit.model import backbone
from memevit.model.forward import ForwardPass, Outputs, forward, use_cores
from memevit.model.host_copy import HostCopy
from memevit.model.processor import Processor
from memevit.portable.open_set import OpenSet, StaleStatisticsError, probe_image

_N_AHEAD = 1  # Batches that wait for the device while another one is on it.


def best_device() -> torch.device:
    """The accelerator that torch finds, else the processor."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


@dataclass(frozen=True)
class Classification:
    """What the model says about one file.

    `probabilities` is [C], or None for a file that can't be read; `problem` says why then. `accepted` says whether the
    image shows one of the classes, `known_score`, `p_value` and `reason` how that was decided (see
    `memevit.portable.open_set.Decision`); all are None or empty if the model does not decide.
    """

    path: Path
    probabilities: np.ndarray | None
    problem: str = ""
    accepted: bool | None = None
    known_score: float | None = None
    p_value: float | None = None
    reason: str = ""


class Classifier:
    """A trained model, ready to classify.

    Args:
        model: on its device.
        image_processor: of the model.
        statistics: by which it tells images of none of the classes; None if it does not.

    Raises:
        StaleStatisticsError: the statistics are not of this model.
    """

    def __init__(
        self, model: PreTrainedModel, image_processor: BaseImageProcessor, statistics: OpenSet | None = None
    ) -> None:
        self._model = model.eval()
        self._processor = Processor.of(image_processor)
        self.open_set = statistics
        layers = statistics.layers if statistics else ()
        self._run = ForwardPass(self._model, normalise=self._processor.normalise, layers=layers)
        self.class_names = [model.config.id2label[label] for label in range(model.config.num_labels)]
        if statistics:
            found = self.outputs([Image.fromarray(probe_image())], layers=layers)
            statistics.require_current(found.logits, found.features, dtype=str(model.dtype).removeprefix("torch."))

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the model sees."""
        return self._processor.size

    @classmethod
    def load(
        cls, model_dir: str | Path, *, device: torch.device | None = None, answers_unknown: bool = True
    ) -> "Classifier":
        """Load a model folder.

        Args:
            model_dir: a folder that finetune_vit.py wrote, or any image classification checkpoint.
            device: where to compute; the accelerator of this machine, if it has one, when None.
            answers_unknown: decide whether an image shows one of the classes, if the model has statistics for it.

        Raises:
            UserError: `model_dir` holds no trained model, or its statistics are stale.
        """
        model, image_processor = backbone.load_trained(Path(model_dir))
        try:
            statistics = OpenSet.load(model_dir) if answers_unknown else None
            device = device or best_device()
            use_cores(device)
            return cls(model.to(device), image_processor, statistics)
        except StaleStatisticsError as error:
            raise UserError(f"{model_dir} can't tell unknown images: {error} --no_unknown works without.") from error

    def probabilities(self, images: list[Image.Image]) -> np.ndarray:
        """[n, C] probabilities in float64 of RGB images."""
        logits, _ = self._launched([self._processor.render(image) for image in images])
        return _softmax(logits.numpy())

    def classify_images(self, images: list[Image.Image]) -> list[Classification]:
        """One result per RGB image, with an empty path."""
        rows = self._rows(*self._launched([self._processor.render(image) for image in images]))
        return [Classification(Path(), **row) for row in rows]

    def outputs(self, images: list[Image.Image], *, layers: Sequence[str] = ()) -> Outputs:
        """Logits and features of RGB images, see `memevit.model.forward`."""
        pixels = torch.from_numpy(np.stack([self._processor.render(image) for image in images]))
        return forward(self._model, [pixels], layers=layers, normalise=self._processor.normalise)

    def classify(
        self,
        paths: Iterable[Path],
        *,
        batch_size: int = 32,
        n_processes: int = 0,
        n_frames: int = 1,
        is_fast: bool = False,
    ) -> Iterator[Classification]:
        """One result per file, in order; a file that can't be decoded gives one with a `problem`.

        Args:
            paths: read as results are taken.
            batch_size: images that the model sees at once.
            n_processes: that decode, so that a file which crashes its decoder is only a problem; 0 decodes here.
            n_frames: frames that are classified of an animated image; the result is their mean.
            is_fast: decode a JPEG at reduced scale where both sides keep twice the size that the model sees. The
                probabilities are no longer exactly those of the plain pipeline.
        """
        if n_frames > 1 or is_fast:
            least = 2 * max(self._processor.size) if is_fast else None
            decode = functools.partial(
                frames.decode, render=self._processor.render, n_frames=n_frames, shorter_at_least_px=least
            )
            with contextlib.closing(decoding.mapped(decode, paths, n_processes=n_processes)) as decoded:
                split = frames.Split(decoded)
                yield from split.joined(self.classify_pixels(iter(split), batch_size=batch_size))
            return
        with contextlib.closing(decoding.decoded(paths, self._processor.render, n_processes=n_processes)) as found:
            yield from self.classify_pixels(found, batch_size=batch_size)

    def classify_pixels(
        self, found: Iterator[tuple[Path, np.ndarray | str]], *, batch_size: int
    ) -> Iterator[Classification]:
        """One result per file of `found`, which gives its uint8 pixels [3, H, W] or why there are none."""
        with _launchers(self._model.device) as (pool, n_parts):
            waiting: deque[tuple[list, list[Future]]] = deque()
            while batch := list(islice(found, batch_size)):
                pixels = [one for _, one in batch if not isinstance(one, str)]
                part = -(-len(pixels) // n_parts) or 1
                parts = [pixels[start : start + part] for start in range(0, len(pixels), part)]
                waiting.append((batch, [pool.submit(self._launched, one) for one in parts]))
                if len(waiting) > _N_AHEAD:
                    yield from self._results(*waiting.popleft())
            while waiting:
                yield from self._results(*waiting.popleft())

    def _launched(self, pixels: list[np.ndarray]) -> tuple[HostCopy, dict[str, HostCopy]]:
        """[n, C] logits and [n, D] features by layer, on their way and perhaps not yet computed."""
        batch = torch.from_numpy(np.stack(pixels))
        if self._model.device.type == "cuda":
            batch = batch.pin_memory()
        logits, features = self._run(batch)
        return HostCopy(logits), {layer: HostCopy(own) for layer, own in features.items()}

    def _rows(self, logits: HostCopy, features: dict[str, HostCopy]) -> Iterator[dict[str, Any]]:
        """For each image what a `Classification` holds."""
        own_logits = logits.numpy()
        probabilities = _softmax(own_logits)
        if self.open_set is None:
            yield from ({"probabilities": own} for own in probabilities)
            return
        found = {layer: own.numpy() for layer, own in features.items()}
        for own, decision in zip(probabilities, self.open_set.decide(own_logits, found), strict=True):
            names = ("accepted", "known_score", "p_value", "reason")
            yield {"probabilities": own} | {name: getattr(decision, name) for name in names}

    def _results(self, batch: list[tuple[Path, np.ndarray | str]], parts: list[Future]) -> Iterator[Classification]:
        rows = (row for part in parts for row in self._rows(*part.result()))
        for path, pixels in batch:
            if isinstance(pixels, str):
                yield Classification(path, None, pixels)
            else:
                yield Classification(path, **next(rows))


def _softmax(logits: np.ndarray) -> np.ndarray:
    """[n, C] probabilities in float64; on the CPU, because Apple's accelerator has no float64."""
    return torch.softmax(torch.from_numpy(logits).double(), dim=-1).numpy()


@contextlib.contextmanager
def _launchers(device: torch.device) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Threads that run the model, and the number of parts into which a batch is divided for them.

    On a CPU two threads take half of the cores each: cores that wait for one another at the end of every layer
    would be lost to the decoding that goes on meanwhile.
    """
    n_threads = torch.get_num_threads()
    n_parts = 2 if device.type == "cpu" and n_threads > 1 else 1
    with ThreadPoolExecutor(n_parts, "model", torch.set_num_threads, (n_threads // n_parts,)) as pool:
        yield pool, n_parts
