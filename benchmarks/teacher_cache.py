"""Crops of free images, and what teachers say of them: made once, then read in any order (distil_backbone.py)."""

import functools
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

from benchmarks.captioned_images import CAPTIONS, HELD_OUT_CAPTIONS
from benchmarks.pretrain_backbone import half_precision, quicker_attention
from memevit import decoding, pixels
from memevit.errors import UserError

logger = logging.getLogger(__name__)

PATCH_TARGETS = {"transformer_patches", "start_patches"}
BATCH_SIZE = 64
N_MEASURED = 4096  # Crops whose targets tell mean and standard deviation.
_CAPTIONED_PX = (160, 224)  # Longest side of a crop that is written on.
_MIN_CONTRAST = 9.0  # Grey levels; a part of an image that has less shows nothing.
_STRETCH = 4 / 3


@dataclass(frozen=True)
class CropSettings:
    """Which crops are cut.

    At most `n`, of `size_px` pixels a side; `captioned` is the share with words on them. A kind of images is a folder
    below that of the images: each image gives as many crops as `pixels_per_crop` go into it, between `fewest` and
    `most`, the first of the whole image and the others of parts of at least `smallest_px` pixels a side.
    """

    n: int
    size_px: int
    transformer_px: int
    captioned: float
    kinds: dict[str, dict[str, float]]


class Teachers(NamedTuple):
    """Checkpoint folders."""

    convolutional: Path
    transformer: Path
    start: Path


class _Job(NamedTuple):
    path: Path
    n: int
    smallest_px: float
    seed: int


class Cache:
    """The crops and targets of a folder that `prepare` has filled."""

    def __init__(self, folder: Path) -> None:
        self._images = np.load(folder / "student.npy")
        paths = sorted(path for path in folder.glob("*.npy") if path.stem not in ("crops", "student"))
        self._targets = {path.stem: np.load(path) for path in paths}
        self._scales = {name: _scale(values) for name, values in self._targets.items() if name != "logits"}
        self.n = len(self._images)
        self.sizes = {name: values.shape[-1] for name, values in self._targets.items()}

    def read(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The crops [B, S, S, 3] of `rows` as uint8, and their targets, all but the logits standardised."""
        index = rows.numpy()
        targets = {name: torch.from_numpy(values[index]).float() for name, values in self._targets.items()}
        for name, (mean, std) in self._scales.items():
            targets[name] = (targets[name] - mean) / std
        return torch.from_numpy(self._images[index]), targets


def _scale(values: np.ndarray) -> tuple[Tensor, Tensor]:
    known = torch.from_numpy(values[:N_MEASURED]).float().flatten(0, -2)
    return known.mean(0), known.std(0) + 1e-4


def prepare(
    folder: Path, images: Path, settings: CropSettings, *, student_size: int, teachers: Teachers, seed: int
) -> Cache:
    """Cut the crops and ask the teachers, as far as that is not done."""
    if not (folder / "crops.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_crops(folder, images, settings, seed=seed)
    crops = np.load(folder / "crops.npy", mmap_mode="r")
    if not (folder / "student.npy").exists():
        _write_student(folder, crops, student_size)
    if not (folder / "logits.npy").exists():
        _ask(folder, crops, settings, teachers)
    return Cache(folder)


def _write_student(folder: Path, crops: np.ndarray, size: int) -> None:
    resized = [
        np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))
        for crop in tqdm(crops, desc="For the student", mininterval=10)
    ]
    np.save(folder / "partial.npy", np.stack(resized))
    (folder / "partial.npy").replace(folder / "student.npy")


def _write_crops(folder: Path, images: Path, settings: CropSettings, *, seed: int) -> None:
    jobs = _jobs(images, settings, seed=seed)
    cut = functools.partial(_cut, settings=settings)
    found = decoding.map_ordered(cut, jobs, n_processes=2, description="Cutting crops", failed=lambda *_: [])
    crops = [crop for own in found for crop in own]
    if not crops:
        raise UserError(f"No image in {images} can be used; its folders are kinds: {', '.join(settings.kinds)}.")
    shape = (len(crops), *crops[0].shape)
    written = np.lib.format.open_memmap(folder / "partial.npy", "w+", np.uint8, shape)
    for place, position in enumerate(np.random.default_rng(seed).permutation(len(crops))):
        written[place] = crops[position]
    written.flush()
    (folder / "partial.npy").replace(folder / "crops.npy")
    logger.info("%d crops of %d images", len(crops), len(jobs))


def _jobs(images: Path, settings: CropSettings, *, seed: int) -> list[_Job]:
    """What is cut from which image; fewer crops of each where all would be too many."""
    wanted = []
    for kind, rule in settings.kinds.items():
        for path in sorted(path for path in (images / kind).rglob("*.*") if path.suffix in (".jpg", ".png")):
            with Image.open(path) as image:
                n = rule["fewest"] + image.width * image.height / rule["pixels_per_crop"]
            wanted.append((path, min(rule["most"], n), rule["smallest_px"]))
    share = min(1.0, settings.n / max(1.0, sum(n for _, n, _ in wanted)))
    rng = random.Random(seed)
    jobs = [
        _Job(path, max(1, int(n * share + rng.random())), smallest_px, number)
        for number, (path, n, smallest_px) in enumerate(wanted)
    ]
    rng.shuffle(jobs)
    return jobs


def _cut(job: _Job, *, settings: CropSettings) -> list[np.ndarray]:
    rng = random.Random(job.seed)
    try:
        image = pixels.load_image(job.path)
    except pixels.UnreadableImageError:
        return []
    crops = []
    for number in range(job.n):
        crop = _part(image, job.smallest_px, rng) if number else image
        if rng.random() < settings.captioned:
            crop = _captioned(crop, rng)
        size = (settings.size_px, settings.size_px)
        values = np.asarray(crop.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))
        if number == 0 or values.std() >= _MIN_CONTRAST:
            crops.append(values)
    return crops


def _part(image: Image.Image, smallest_px: float, rng: random.Random) -> Image.Image:
    """A part anywhere, its area evenly spread in logarithms, at most _STRETCH times as wide as high or the reverse."""
    area = image.width * image.height
    area *= min(1.0, smallest_px**2 / area) ** rng.random()
    stretch = _STRETCH ** rng.uniform(-1, 1)
    width = min(image.width, max(24, round((area * stretch) ** 0.5)))
    height = min(image.height, max(24, round((area / stretch) ** 0.5)))
    x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((x, y, x + width, y + height))


def _captioned(crop: Image.Image, rng: random.Random) -> Image.Image:
    """`crop` with words as memes have them."""
    longest = max(crop.size)
    factor = min(max(longest, _CAPTIONED_PX[0]), _CAPTIONED_PX[1]) / longest
    size = (max(48, round(crop.width * factor)), max(48, round(crop.height * factor)))
    write = rng.choice([*CAPTIONS.values(), *HELD_OUT_CAPTIONS.values()])
    return write(crop.resize(size, Image.Resampling.BICUBIC), rng).convert("RGB")


Ask = Callable[[Tensor], dict[str, Tensor]]  # From images [B, 3, S, S] in [0, 1] to targets by name.


def _ask(folder: Path, crops: np.ndarray, settings: CropSettings, teachers: Teachers) -> None:
    """Write what the teachers say, in half precision; the file of the logits is complete last."""
    asks = [
        _tokens_of(teachers.transformer, "transformer", size=settings.transformer_px),
        _tokens_of(teachers.start, "start"),
        _features_and_logits_of(teachers.convolutional),
    ]
    files: dict[str, np.memmap] = {}
    with torch.inference_mode(), half_precision(torch.device("cpu")):
        for first in tqdm(range(0, len(crops), BATCH_SIZE), desc="Asking the teachers", mininterval=10):
            images = torch.tensor(crops[first : first + BATCH_SIZE]).permute(0, 3, 1, 2).float() / 255
            for name, values in (item for ask in asks for item in ask(images).items()):
                if name not in files:
                    path, shape = folder / f"{name}.partial", (len(crops), *values.shape[1:])
                    files[name] = np.lib.format.open_memmap(path, "w+", np.float16, shape)
                files[name][first : first + BATCH_SIZE] = values.half().numpy()
    for name in sorted(files, key="logits".__eq__):
        files[name].flush()
        (folder / f"{name}.partial").replace(folder / f"{name}.npy")


def _resized(images: Tensor, size: int) -> Tensor:
    return functional.interpolate(images, size, mode="bilinear", antialias=True)


def _normalise(checkpoint: Path) -> Callable[[Tensor], Tensor]:
    processor = AutoImageProcessor.from_pretrained(checkpoint)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    return lambda images: (images - mean) / std


def _tokens_of(checkpoint: Path, name: str, *, size: int | None = None) -> Ask:
    """CLS and patch tokens of a ViT, which sees `size` pixels a side, or as many as it was trained with."""
    model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation=quicker_attention()).eval()
    normalise, size = _normalise(checkpoint), size or model.config.image_size

    def ask(images: Tensor) -> dict[str, Tensor]:
        hidden = model(normalise(_resized(images, size))).last_hidden_state
        return {f"{name}_cls": hidden[:, 0], f"{name}_patches": hidden[:, 1:]}

    return ask


def _features_and_logits_of(checkpoint: Path) -> Ask:
    """Pooled features and logits of a convolutional classifier, which sees the crops as they are."""
    model = AutoModelForImageClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    normalise = _normalise(checkpoint)

    def ask(images: Tensor) -> dict[str, Tensor]:
        features = model.base_model(normalise(images)).pooler_output.flatten(1)
        return {"features": features, "logits": model.classifier(features)}

    return ask
