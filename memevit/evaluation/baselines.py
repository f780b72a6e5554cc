"""Simple classifiers that see no shapes: a model must beat them before it can be said to have looked at the image."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from memevit import pixels

N_BINS = 8  # Per colour channel.
_THUMBNAIL_PX = 128
_PATIENCE_S = 2.0  # Before progress is shown.
_AT_ONCE = 1000  # Images whose histograms are held.
MAX_TRAIN = 5000  # Images that baselines learn from.


def colour_histogram(path: Path) -> np.ndarray:
    """[N_BINS ** 3] square roots of the shares of an image's colours, whatever their place.

    The square root makes distances those of Hellinger, so that a large plain background does not drown the rest.
    """
    return histogram_of(pixels.load_image(path))


def histogram_of(image: Image.Image) -> np.ndarray:
    """The same of an RGB image."""
    image = image.copy()
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    bins = np.asarray(image, dtype=np.int64).reshape(-1, 3) * N_BINS // 256
    codes = (bins[:, 0] * N_BINS + bins[:, 1]) * N_BINS + bins[:, 2]
    return np.sqrt(np.bincount(codes, minlength=N_BINS**3) / len(codes))


def colour_histograms(paths: Sequence[Path]) -> np.ndarray:
    """[n, N_BINS ** 3] float32 histograms of the images at `paths`."""
    return np.concatenate([np.empty((0, N_BINS**3), dtype=np.float32), *colour_batches(paths)])


def colour_batches(paths: Sequence[Path], known: dict[Path, np.ndarray] | None = None) -> Iterator[np.ndarray]:
    """The same, at most `_AT_ONCE` images at a time, so that many of them need no more memory than few.

    Args:
        paths: of the images.
        known: histograms computed before; new ones are added as long as there are fewer than `MAX_TRAIN`.
    """
    known = {} if known is None else known
    with tqdm(total=len(paths), desc="Colour histograms", unit="image", delay=_PATIENCE_S, leave=False) as progress:
        for start in range(0, len(paths), _AT_ONCE):
            histograms = []
            for path in paths[start : start + _AT_ONCE]:
                if (own := known.get(path)) is None:
                    own = colour_histogram(path).astype(np.float32)
                    if len(known) < MAX_TRAIN:
                        known[path] = own
                histograms.append(own)
                progress.update()
            yield np.stack(histograms)


def some_of(labels: np.ndarray, n: int, *, seed: int) -> np.ndarray:
    """[about n] positions of images, of every class in proportion and at least one; all where there are fewer.

    Args:
        labels: [m] class ids.
        n: how many are wanted.
        seed: of the choice.
    """
    if len(labels) <= n:
        return np.arange(len(labels))
    random = np.random.default_rng(seed)
    of_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.sort(
        np.concatenate([random.choice(own, max(1, len(own) * n // len(labels)), replace=False) for own in of_class])
    )


def predict_majority(train_labels: np.ndarray, n: int) -> np.ndarray:
    """[n] times the class that has most training images.

    Example:
        >>> predict_majority(np.array([0, 1, 1]), 2).tolist()
        [1, 1]
    """
    return np.full(n, np.bincount(train_labels).argmax())
