"""From files to `pixel_values`: which pixels the saved image processor shows, and how training varies them.

A picture travels as uint8 levels [3, H, W], the pixels of the image processor before it rescales and normalises. The
rest is done in batches on the device of the model by `Finish`.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from torch.utils.data import Dataset, get_worker_info
from transformers.image_processing_utils import BaseImageProcessor

from memevit import pixels
from memevit.errors import UserError
from memevit.model import augment, pixel_cache
from memevit.model.augment import Augmentation, Mixing
from memevit.model.geometry import Enlarged, Geometry, Render
from memevit.model.tensor_geometry import TensorGeometry

__all__ = ["Augmentation", "Finish", "Mixing", "PictureDataset", "Pixels", "datasets", "pixel_values"]

logger = logging.getLogger(__name__)

_PROBE_SIZES = ((640, 480), (97, 233), (333, 333), (1200, 90))
_MAX_DEVIATION = 1e-5  # Of normalised values, which are about 1; the float32 sums of two libraries differ by 1e-7.
_MAX_LEVELS_APART = 3.0  # Mean over a picture, between what is seen and what a cached picture shows of it.


@dataclass(frozen=True)
class ByProcessor:
    """Levels by the image processor itself, where `Geometry` has no words for what it does."""

    image_processor: BaseImageProcessor

    def __call__(self, image: Image.Image) -> np.ndarray:
        """[3, H, W] uint8 levels of an RGB picture."""
        given = self.image_processor(images=[image], do_rescale=False, do_normalize=False, return_tensors="np")
        levels = np.asarray(given["pixel_values"][0])
        if not np.array_equal(levels, levels.astype(np.uint8)):
            raise ValueError("the image processor gives no whole levels from 0 to 255")
        return np.ascontiguousarray(levels.astype(np.uint8))


@dataclass(frozen=True)
class Pixels:
    """An image processor taken apart: which levels it shows, and the linear function that makes values of them.

    `scale` and `offset` are one number per channel. `geometry` is None where only the processor knows what it shows.
    """

    render: Render
    geometry: Geometry | None
    size: tuple[int, int]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    resample: int
    settings: str

    @classmethod
    def of(cls, image_processor: BaseImageProcessor) -> "Pixels":
        """Take `image_processor` apart and see on drawn pictures that the parts do the same.

        Raises:
            UserError: it does more than resize, crop, rescale and normalise.
        """
        probes = [_probe(size) for size in _PROBE_SIZES]
        expected = [_values(probe, image_processor) for probe in probes]
        geometry = Geometry.of(image_processor)
        for render in filter(None, (geometry, TensorGeometry.of(geometry), ByProcessor(image_processor))):
            try:
                levels = [render(probe) for probe in probes]
                scale, offset = _line(levels, expected)
            except (ValueError, TypeError, MemoryError) as error:
                logger.debug("%s is not what the image processor does: %s", render, error)
                continue
            return cls(
                render=render,
                geometry=geometry if _enlarges_well(geometry, probes, levels) else None,
                size=levels[0].shape[1:],
                scale=scale,
                offset=offset,
                resample=int(getattr(image_processor, "resample", None) or Image.Resampling.BILINEAR),
                settings=_settings(render),
            )
        raise UserError(
            f"{type(image_processor).__name__} does more than resize, crop, rescale and normalise pictures to one "
            "size, so its model can't be used here. Choose another backbone."
        )


def _probe(size: tuple[int, int]) -> Image.Image:
    """A picture of smooth and of sharp parts in all levels."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)).copy()
    image[: size[1] // 3] = random.integers(0, 256, (size[1] // 3, size[0], 3), dtype=np.uint8)
    return Image.fromarray(image)


def _values(image: Image.Image, image_processor: BaseImageProcessor) -> np.ndarray:
    return pixel_values([image], image_processor)[0].double().numpy()


def _line(levels: list[np.ndarray], expected: list[np.ndarray]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and offset per channel that make `expected` of `levels`, each a list of [3, H, W]."""
    if len({one.shape for one in [*levels, *expected]}) != 1:
        raise ValueError("pictures of different shapes")
    seen = np.stack(levels).astype(np.float64).transpose(1, 0, 2, 3).reshape(3, -1)
    wanted = np.stack(expected).transpose(1, 0, 2, 3).reshape(3, -1)
    lines = np.array([np.polyfit(x, y, 1) for x, y in zip(seen, wanted, strict=True)])
    deviation = np.abs(lines[:, :1] * seen + lines[:, 1:] - wanted).max()
    if deviation > _MAX_DEVIATION * max(1.0, np.abs(wanted).max()):
        raise ValueError(f"values differ by {deviation:.2g}")
    return tuple(lines[:, 0].tolist()), tuple(lines[:, 1].tolist())


def _enlarges_well(geometry: Geometry | None, probes: list[Image.Image], levels: list[np.ndarray]) -> bool:
    """Whether `Enlarged` shows the part of each probe that `levels` show, apart from rounding."""
    if geometry is None:
        return False
    again = [
        Enlarged(geometry, one.shape[1:], geometry.resample)(probe) for probe, one in zip(probes, levels, strict=True)
    ]
    return all(np.abs(a.astype(float) - b).mean() <= _MAX_LEVELS_APART for a, b in zip(again, levels, strict=True))


def _settings(render: Render) -> str:
    """What the levels depend on, for the key of a cache."""
    decoded = f"Pillow {PIL.__version__}"  # Whatever resizes it then.
    if isinstance(render, ByProcessor):
        return f"{decoded} Transformers {transformers.__version__} {render.image_processor.to_json_string()}"
    return (
        f"{decoded} torch {torch.__version__} {render}" if isinstance(render, TensorGeometry) else f"{decoded} {render}"
    )


class Split(Protocol):
    """One split: where its pictures are and their class ids."""

    paths: list[Path]
    labels: list[int]


def datasets(
    splits: Mapping[str, Split],
    shown: Pixels,
    augmentation: Augmentation,
    *,
    seed: int,
    cache_dir: Path | None = None,
    for_folds: bool = False,
    n_processes: int | None = None,
) -> dict[str, "PictureDataset"]:
    """A dataset per split, varied in `train`, as in evaluation in the others.

    Args:
        splits: by name.
        shown: the image processor, taken apart.
        augmentation: how training pictures are varied.
        seed: of that.
        cache_dir: where decoded pixels are kept; None decodes every picture in every epoch.
        for_folds: keep the pixels of all splits together, for other folds divide the same pictures in another way.
        n_processes: that decode them; one per core by default.
    """
    made = {}
    pool = sorted(path for split in splits.values() for path in split.paths) if for_folds else None
    for name, split in splits.items():
        varied = augmentation if name == "train" else None
        made[name] = PictureDataset(split.paths, split.labels, shown, varied, seed=seed)
        if cache_dir is not None:
            kept_as = name if pool is None else "folds-varied" if varied else "folds-plain"
            made[name].keep_decoded(kept_as, cache_dir, pool=pool, n_processes=n_processes)
    return made


class PictureDataset(Dataset):
    """Pictures and labels of one split; `augmentation` None gives the pixels of evaluation."""

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int],
        shown: Pixels,
        augmentation: Augmentation | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.paths = list(paths)
        self.labels = list(labels)
        self._shown = shown
        self._augmentation = augmentation
        self._seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # Workers of the loader see it change.
        self.is_pinned = False  # Whether batches are made in memory from which a GPU copies by itself.
        self._cached: np.ndarray | None = None
        self._rows = np.arange(len(self.paths))  # Where each picture lies in `_cached`.

    def __len__(self) -> int:
        return len(self.paths)

    def __getstate__(self) -> dict[str, Any]:
        """Pickled for a loader process that was not forked, mapped pixels would be copied; their file is enough."""
        mapped = self._cached is not None
        return self.__dict__ | {"_cached": Path(self._cached.filename) if mapped else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        if self._cached is not None:
            self._cached = np.load(self._cached, mmap_mode="r")

    def set_epoch(self, epoch: int) -> None:
        """Vary the pictures in another way from now on."""
        self._epoch.fill_(epoch)

    def keep_decoded(
        self, name: str, cache_dir: Path, *, pool: Sequence[Path] | None = None, n_processes: int | None = None
    ) -> None:
        """Decode all pictures into `cache_dir`, or find them there; without room on the disk nothing changes.

        Args:
            name: of the cache.
            cache_dir: where it lies.
            pool: pictures that are kept together, these among them; these alone by default.
            n_processes: that decode.
        """
        render, size = self._shown.render, self._shown.size
        if self._augmentation is not None:
            if self._shown.geometry is None:
                logger.warning("This image processor has no known geometry: pictures are decoded in every epoch.")
                return
            render = self._enlarged()
            size = render.size
        kept = self.paths if pool is None else list(pool)
        request = pixel_cache.Request(name, kept, render, (3, *size), f"{self._shown.settings} {render}")
        self._cached = pixel_cache.open_or_build(request, cache_dir, n_processes=n_processes)
        row_of = {path: row for row, path in enumerate(kept)}
        self._rows = np.array([row_of[path] for path in self.paths])

    def hold_decoded(self, n: int) -> None:
        """Decode the first `n` pictures into memory: what is timed on them is as quick as with a cache on the disk."""
        if self._shown.geometry is not None and self._augmentation is not None:
            render = self._enlarged()
            self._cached = np.stack([render(pixels.load_image(path)) for path in self.paths[:n]])

    def _enlarged(self) -> Enlarged:
        """What is stored of a picture that is to be varied."""
        return Enlarged(
            self._shown.geometry, tuple(round(side * self._augmentation.margin) for side in self._shown.size)
        )

    def __getitem__(self, position: int) -> dict[str, Any]:
        """`pixel_values` [3, H, W] uint8, the label, and draws and crop for training, of one picture."""
        return {name: values[0] for name, values in self.__getitems__([position]).items()}

    def __getitems__(self, positions: list[int]) -> dict[str, torch.Tensor]:
        """A batch, made at once: `pixel_values` [B, 3, H, W] uint8, `labels` [B], `draws` and `crops` for training.

        A position beyond the last one means the same picture again, varied in another way.
        """
        draws = None
        if self._augmentation is not None:
            draws = augment.draw(self._seed, int(self._epoch.numpy()), np.asarray(positions))
        positions = [position % len(self) for position in positions]
        batch = {"labels": torch.tensor([self.labels[position] for position in positions])}
        crops = None
        if draws is not None:
            crops = self._augmentation.crops(draws)
            batch["draws"] = torch.from_numpy(draws)
        if self._cached is None:
            chosen = [None] * len(positions) if crops is None else crops
            levels = [self._decode(position, crop) for position, crop in zip(positions, chosen, strict=True)]
            return {"pixel_values": torch.from_numpy(np.stack(levels)), **batch}
        if crops is not None:
            batch["crops"] = torch.from_numpy(crops.astype(np.float32))
        return {"pixel_values": self._levels(self._rows[positions]), **batch}

    def _levels(self, rows: np.ndarray) -> torch.Tensor:
        """[B, 3, H, W] uint8 of rows of the cache."""
        if not self.is_pinned or get_worker_info() is not None:  # A loader process has no pinned memory to give.
            return torch.from_numpy(self._cached[rows])
        levels = torch.empty((len(rows), *self._cached.shape[1:]), dtype=torch.uint8, pin_memory=True)
        np.take(self._cached, rows, axis=0, out=levels.numpy(), mode="clip")  # Other modes take a copy on the way.
        return levels

    def _decode(self, position: int, crop: np.ndarray | None) -> np.ndarray:
        image = pixels.load_image(self.paths[position])
        if crop is not None:
            image = image.crop(_box(crop, image.size))
        return self._shown.render(image)


def _box(crop: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = max(1, round(crop[2] * size[0])), max(1, round(crop[3] * size[1]))
    left, top = min(round(crop[0] * size[0]), size[0] - width), min(round(crop[1] * size[1]), size[1] - height)
    return left, top, left + width, top + height


class Finish:
    """From a batch of levels to what the model sees, on the device where the batch is."""

    def __init__(
        self,
        shown: Pixels,
        augmentation: Augmentation | None = None,
        mixing: Mixing | None = None,
        *,
        n_classes: int = 0,
    ) -> None:
        self._shown = shown
        self._augmentation = augmentation or Augmentation(colour=0.0)
        self._mixer = augment.Mixer(mixing, n_classes) if mixing and mixing.is_on else None
        self._lines: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def values(self, levels: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] float32 values of levels."""
        if levels.device not in self._lines:  # Once per device: a copy in every step would make the host wait.
            line = torch.tensor([self._shown.scale, self._shown.offset], device=levels.device)
            self._lines[levels.device] = tuple(line[:, :, None, None].unbind())
        scale, offset = self._lines[levels.device]
        return levels.float() * scale + offset

    @torch.no_grad()
    def __call__(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch of `PictureDataset` as arguments of the model; one of other origin passes unchanged."""
        levels = batch["pixel_values"]
        if levels.dtype != torch.uint8:
            return batch
        rest = {name: value for name, value in batch.items() if name not in ("pixel_values", "draws", "crops")}
        draws = batch.get("draws")
        if draws is None:
            return {"pixel_values": self.values(levels), **rest}
        if "crops" in batch:
            levels = augment.cropped(levels, batch["crops"], self._shown.size, self._shown.resample)
        if self._augmentation.colour:
            levels = augment.recoloured(levels.float(), draws, self._augmentation.colour)
        values = self.values(levels.clamp(0, 255))
        if self._augmentation.erasing:
            values = augment.erased(values, draws, self._augmentation.erasing)
        if self._mixer is not None:
            values, rest["labels"] = self._mixer(values, rest["labels"], draws)
        return {"pixel_values": values, **rest}


def as_batch(batch: dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Collate what `PictureDataset` gives, which is a batch already when the loader asks for many at once."""
    return batch if isinstance(batch, dict) else torch.utils.data.default_collate(batch)


def pixel_values(images: list[Image.Image], image_processor: BaseImageProcessor) -> torch.Tensor:
    """[B, 3, H, W] what the model sees of RGB pictures; the same as in `pipeline("image-classification")`."""
    return image_processor(images=images, return_tensors="pt")["pixel_values"]
