"""Baselines that cannot see what an image shows: a 16-pixel thumbnail, and the properties of the file alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from memevit.manifest import Row

THUMBNAIL_PX = 16
_MAX_ITERATIONS = 500
_PENALTY = 100.0  # Pull to zero, per standardised value.
_MAX_IMAGES, MAX_CLASSES = 5000, 50  # For a logistic regression.
_N_COMPONENTS = 64
_N_TREES = 200
_MIN_LEAF = 2


def thumbnail_values(image: Image.Image) -> np.ndarray:
    """[THUMBNAIL_PX ** 2 * 3] levels in [0, 1] of an RGB image shrunk to 16x16 pixels: layout and colour, no detail."""
    small = image.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel() / 255


def fit_values(train: np.ndarray, train_labels: np.ndarray, *, seed: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """A linear classifier of values: a function from [n, D] to [n] class ids.

    A logistic regression; for more than 50 classes or 5,000 images, where it takes too long, the nearest class mean in
    whitened principal components, which is linear discriminant analysis with one covariance.

    Args:
        train: [n_train, D] values of training images, such as colour histograms, thumbnails or features.
        train_labels: [n_train] class ids.
        seed: of the solver and the components.
    """
    if len(train) > _MAX_IMAGES or len(np.unique(train_labels)) > MAX_CLASSES:
        components = Whitened.fit(train, seed=seed)
        return lambda evaluated: nearest_mean(components(train), train_labels, components(evaluated))
    regression = LogisticRegression(
        C=1.0 / _PENALTY, max_iter=_MAX_ITERATIONS, class_weight="balanced", random_state=seed
    )
    return make_pipeline(StandardScaler(), regression).fit(train, train_labels).predict


def predict_by_values(
    train: np.ndarray, train_labels: np.ndarray, evaluated: np.ndarray, *, seed: int = 0
) -> np.ndarray:
    """[n] class ids that `fit_values` predicts for `evaluated` [n, D]."""
    return fit_values(train, train_labels, seed=seed)(evaluated)


@dataclass(frozen=True)
class Whitened:
    """The first 64 principal components, each scaled to variance 1; fitted without looking at the classes."""

    components: PCA

    @classmethod
    def fit(cls, values: np.ndarray, *, seed: int = 0) -> "Whitened":
        """Components of values [n, D]."""
        n_components = min(_N_COMPONENTS, values.shape[1], len(values))
        return cls(PCA(n_components, whiten=True, random_state=seed).fit(values))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """[n, 64] of values [n, D]."""
        return self.components.transform(values)


def nearest_mean(train: np.ndarray, train_labels: np.ndarray, evaluated: np.ndarray) -> np.ndarray:
    """[n] ids of the classes whose mean lies nearest.

    Args:
        train: [n_train, D] whitened values.
        train_labels: [n_train] class ids.
        evaluated: [n, D] whitened values.

    Example:
        >>> nearest_mean(np.array([[0.0], [1.0], [5.0]]), np.array([3, 3, 8]), np.array([[0.9], [4.0]])).tolist()
        [3, 8]
    """
    order = np.argsort(train_labels, kind="stable")
    classes, starts, counts = np.unique(train_labels[order], return_index=True, return_counts=True)
    means = np.add.reduceat(train[order], starts, axis=0) / counts[:, None]
    scores = evaluated @ means.T - np.square(means).sum(axis=1) / 2
    return classes[scores.argmax(axis=1)]


def file_properties(rows: Sequence[Row]) -> np.ndarray:
    """[n, 6 + formats and modes] what is known of the source files without decoding them, from the manifest.

    Width, height, aspect ratio, bytes, bytes per pixel, and whether the file is square; then one column per file format
    and colour mode. On scraped data these can give the class away: one site saves WebP, another PNG.
    """
    kinds = sorted({row.image_format for row in rows} | {f"mode {row.mode}" for row in rows})
    values = np.zeros((len(rows), 6 + len(kinds)))
    for position, row in enumerate(rows):
        width, height = max(1, row.width_px), max(1, row.height_px)
        n_pixels = width * height
        values[position, :6] = (width, height, width / height, row.n_bytes, row.n_bytes / n_pixels, width == height)
        values[position, 6 + kinds.index(row.image_format)] = 1
        values[position, 6 + kinds.index(f"mode {row.mode}")] = 1
    return values


def predict_by_properties(
    train: np.ndarray, train_labels: np.ndarray, evaluated: np.ndarray, *, seed: int = 0
) -> np.ndarray:
    """[n] class ids that a random forest on file properties predicts for `evaluated`, see `file_properties`."""
    forest = RandomForestClassifier(
        _N_TREES, min_samples_leaf=_MIN_LEAF, class_weight="balanced", random_state=seed, n_jobs=1
    )
    return forest.fit(train, train_labels).predict(evaluated)
