"""The images of a dataset as torch sees them: uint8 pixels from the pixel cache or from files, and their labels.

An image travels as uint8 pixels [3, H, W], the output of the image processor before it rescales and normalises.
`AugmentAndNormalise` does the rest for a whole batch, on the device of the model.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, get_worker_info

from memevit import pixels
from memevit.model import augment, pixel_cache
from memevit.model.augment import Augmentation, Mixing
from memevit.model.geometry import Geometry, Render
from memevit.model.processor import Normalise, Processor

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

_TRAIN = "train"
_FOLDS = "folds"


def paths_of(split: "datasets.Dataset") -> list[Path]:
    """Paths of the images of one split, in its order."""
    return [Path(image["path"]) for image in split["image"][:]]


def image_datasets(
    splits: "Mapping[str, datasets.Dataset]",
    processor: Processor,
    augmentation: Augmentation | None,
    *,
    seed: int,
    cache_dir: Path | None = None,
    for_folds: bool = False,
    n_processes: int | None = None,
) -> dict[str, "ImageDataset"]:
    """An `ImageDataset` for each split, augmented in `train`, as in evaluation in the others.

    Args:
        splits: by name, with the columns `image` (not decoded) and `label`.
        processor: of the model.
        augmentation: of the training images; None shows them as in evaluation.
        seed: of the augmentation.
        cache_dir: where decoded pixels are kept; None decodes every image in every epoch.
        for_folds: keep the pixels of all splits together, because other folds divide the same images in another way.
        n_processes: that decode; one per core by default.
    """
    found = {}
    for name, split in splits.items():
        own = augmentation if name == _TRAIN else None
        found[name] = ImageDataset(paths_of(split), split["label"][:], processor, own, seed=seed)
    if cache_dir is None:
        return found
    if for_folds:
        pool = sorted(path for dataset in found.values() for path in dataset.paths)
        keep_decoded(list(found.values()), _FOLDS, cache_dir, pool=pool, n_processes=n_processes)
    else:
        for name, dataset in found.items():
            keep_decoded([dataset], name, cache_dir, n_processes=n_processes)
    return found


def keep_decoded(
    datasets: "Sequence[ImageDataset]",
    name: str,
    cache_dir: Path,
    *,
    pool: Sequence[Path] | None = None,
    n_processes: int | None = None,
) -> None:
    """Read the pixels of `datasets` from a cache, made if it is missing; nothing changes if the disk is full.

    Args:
        datasets: of the same processor.
        name: of the cache.
        cache_dir: where it is.
        pool: images that are cached together, those of `datasets` among them; those of the only dataset by default.
        n_processes: that decode.
    """
    paths = list(datasets[0].paths if pool is None else pool)
    views = [view for dataset in datasets for view in dataset.views]
    requests = {view.render: view.cache_request(name, paths) for view in views}
    found = pixel_cache.open_or_build_all(
        [request for request in requests.values() if request is not None], cache_dir, n_processes=n_processes
    )
    for view in views:
        request = requests[view.render]
        if request is not None:
            view.use_cache(found[request.name], paths)


class ImageDataset(Dataset):
    """Images and labels of one split; without `augmentation` as the model sees them in evaluation.

    Args:
        paths: of the images.
        labels: their class ids.
        processor: of the model.
        augmentation: of training images.
        seed: of the augmentation.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int],
        processor: Processor,
        augmentation: Augmentation | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.paths = list(paths)
        self.labels = list(labels)
        self.is_pinned = False  # Whether batches are made in memory from which a GPU copies by itself.
        self._processor = processor
        self._augmentation = augmentation
        self._seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # Workers of the loader see it change.
        self._cached: np.ndarray | None = None
        self._rows = np.arange(len(self.paths))  # Row of each image in `_cached`.
        # The same images without augmentation, for features.
        self.plain = self if augmentation is None else ImageDataset(self.paths, self.labels, processor)

    def __len__(self) -> int:
        return len(self.paths)

    def __getstate__(self) -> dict[str, Any]:
        """Pickled for a loader process that was not forked: mapped pixels would be copied; their file is enough."""
        is_mapped = self._cached is not None
        return self.__dict__ | {"_cached": Path(self._cached.filename) if is_mapped else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        if self._cached is not None:
            self._cached = np.load(self._cached, mmap_mode="r")

    def set_epoch(self, epoch: int) -> None:
        """Augment differently from now on."""
        self._epoch.fill_(epoch)

    @property
    def normalise(self) -> Normalise:
        """Makes values of the pixels of this dataset."""
        return self._processor.normalise

    @property
    def views(self) -> "list[ImageDataset]":
        """This dataset and, if it augments, the same without augmentation."""
        return [self] if self.plain is self else [self, self.plain]

    @property
    def render(self) -> Render:
        """What is cached of an image: with augmentation larger, so that a crop still has all pixels of the model.

        A crop is resized once more. The filter here is therefore the one of Pillow that blurs least: two bilinear ones
        take a sixth of the contrast of neighbouring pixels.
        """
        if self._augmentation is None or self._processor.geometry is None:
            return self._processor.render
        size = tuple(round(side * self._augmentation.margin) for side in self._processor.size)
        return Geometry(int(Image.Resampling.LANCZOS), size)

    def cache_request(self, name: str, paths: list[Path]) -> pixel_cache.Request | None:
        """What the pixel cache is asked for; None if this dataset can't use one."""
        if self._augmentation is None:
            kept_as, size = f"{name}-plain" if name in (_TRAIN, _FOLDS) else name, self._processor.size
        elif self._processor.geometry is None:
            logger.warning("The pixels of this image processor can't be cached: images are decoded in every epoch.")
            return None
        else:
            kept_as, size = name, self.render.size
        settings = f"{self._processor.settings} {self.render}"
        return pixel_cache.Request(kept_as, paths, self.render, (3, *size), settings)

    def use_cache(self, cached: np.ndarray | None, paths: Sequence[Path]) -> None:
        """Take pixels from `cached` [n, 3, H, W], whose rows are the images at `paths`, instead of files."""
        self._cached = cached
        row_of = {path: row for row, path in enumerate(paths)}
        self._rows = np.array([row_of[path] for path in self.paths], dtype=np.int64)

    def hold_decoded(self, n: int) -> None:
        """Decode the first `n` images into memory, so that timing them is like timing a cache on the disk."""
        if self._processor.geometry is not None and self._augmentation is not None:
            self._cached = np.stack([self.render(pixels.load_image(path)) for path in self.paths[:n]])

    def __getitem__(self, position: int) -> dict[str, Any]:
        """`pixel_values` [3, H, W] uint8 and the label of one image, with what `__getitems__` adds for training."""
        return {name: values[0] for name, values in self.__getitems__([position]).items()}

    def __getitems__(self, positions: list[int]) -> dict[str, torch.Tensor]:
        """A whole batch: `pixel_values` [B, 3, H, W] uint8 and `labels` [B].

        For training also the augmentation's `parameters` and, if the pixels are not yet cropped, `crops`. A position
        beyond the last one is the same image again, augmented differently.
        """
        parameters = None
        if self._augmentation is not None:
            parameters = augment.draw(self._seed, int(self._epoch.numpy()), np.asarray(positions))
        positions = [position % len(self) for position in positions]
        batch = {"labels": torch.tensor([self.labels[position] for position in positions])}
        crops = None
        if parameters is not None:
            crops = self._augmentation.crops(parameters)
            batch["parameters"] = torch.from_numpy(parameters)
        if self._cached is None:
            chosen = [None] * len(positions) if crops is None else crops
            decoded = [self._decode(position, crop) for position, crop in zip(positions, chosen, strict=True)]
            return {"pixel_values": torch.from_numpy(np.stack(decoded)), **batch}
        if crops is not None:
            batch["crops"] = torch.from_numpy(crops.astype(np.float32))
        return {"pixel_values": self._from_cache(self._rows[positions]), **batch}

    def _from_cache(self, rows: np.ndarray) -> torch.Tensor:
        """[B, 3, H, W] uint8 pixels."""
        if not self.is_pinned or get_worker_info() is not None:  # A loader process has no pinned memory to give.
            return torch.from_numpy(self._cached[rows])
        found = torch.empty((len(rows), *self._cached.shape[1:]), dtype=torch.uint8, pin_memory=True)
        np.take(self._cached, rows, axis=0, out=found.numpy(), mode="clip")  # Other modes make another copy.
        return found

    def _decode(self, position: int, crop: np.ndarray | None) -> np.ndarray:
        image = pixels.load_image(self.paths[position])
        if crop is not None:
            image = image.crop(_box(crop, image.size))
        return self._processor.render(image)


def _box(crop: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = max(1, round(crop[2] * size[0])), max(1, round(crop[3] * size[1]))
    left, top = min(round(crop[0] * size[0]), size[0] - width), min(round(crop[1] * size[1]), size[1] - height)
    return left, top, left + width, top + height


class AugmentAndNormalise:
    """From a batch of uint8 pixels to the arguments of the model, on the device where the batch is.

    Args:
        processor: of the model.
        augmentation: as in the dataset.
        mixing: how images of a batch are mixed with one another.
        n_classes: of the model.
    """

    def __init__(
        self,
        processor: Processor,
        augmentation: Augmentation | None = None,
        mixing: Mixing | None = None,
        *,
        n_classes: int = 0,
    ) -> None:
        self._processor = processor
        self._augmentation = augmentation or Augmentation(colour=0.0)
        self._mixer = augment.Mixer(mixing, n_classes) if mixing and mixing.is_on else None

    @torch.no_grad()
    def __call__(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch of `ImageDataset` as arguments of the model; one that holds values already is returned unchanged."""
        found = batch["pixel_values"]
        if found.dtype != torch.uint8:
            return batch
        rest = {name: value for name, value in batch.items() if name not in ("pixel_values", "parameters", "crops")}
        parameters = batch.get("parameters")
        if parameters is None:
            return {"pixel_values": self._processor.normalise(found), **rest}
        if "crops" in batch:
            found = augment.cropped(found, batch["crops"], self._processor.size, self._processor.resample)
        if self._augmentation.colour:
            found = augment.recoloured(found.float(), parameters, self._augmentation.colour)
        values = self._processor.normalise(found.clamp(0, 255))
        if self._augmentation.erasing:
            values = augment.erased(values, parameters, self._augmentation.erasing)
        if self._mixer is not None:
            values, rest["labels"] = self._mixer(values, rest["labels"], parameters)
        return {"pixel_values": values, **rest}


def as_batch(batch: dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Collate items of `ImageDataset`, which are a batch already if the loader asks for many at once."""
    return batch if isinstance(batch, dict) else torch.utils.data.default_collate(batch)
