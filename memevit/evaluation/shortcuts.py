"""Simple classifiers that see no shapes: what a model must beat before it can be said to have looked at the picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from memevit import pixels

N_BINS = 8  # Per colour channel.
_THUMBNAIL_PX = 128
_MAX_ITERATIONS = 2000


def colour_histogram(path: Path) -> np.ndarray:
    """[N_BINS ** 3] square roots of the shares of a picture's colours, whatever their place.

    The square root makes distances those of Hellinger, so that a large plain background does not drown the rest.
    """
    image = pixels.load_image(path)
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    levels = np.asarray(image, dtype=np.int64).reshape(-1, 3) * N_BINS // 256
    codes = (levels[:, 0] * N_BINS + levels[:, 1]) * N_BINS + levels[:, 2]
    return np.sqrt(np.bincount(codes, minlength=N_BINS**3) / len(codes))


def colour_histograms(paths: Sequence[Path]) -> np.ndarray:
    """[n, N_BINS ** 3] histograms of the pictures at `paths`."""
    return np.stack([colour_histogram(path) for path in paths])


def predict_by_colour(
    train: np.ndarray, train_labels: np.ndarray, evaluated: np.ndarray, *, seed: int = 0
) -> np.ndarray:
    """[n] class ids that a logistic regression on colour histograms predicts for `evaluated`.

    Args:
        train: [n_train, D] histograms.
        train_labels: [n_train] class ids.
        evaluated: [n, D] histograms.
        seed: of the regression's solver.
    """
    regression = LogisticRegression(max_iter=_MAX_ITERATIONS, class_weight="balanced", random_state=seed)
    return (
        make_pipeline(StandardScaler(with_std=False), regression)
        .fit(train * 10.0, train_labels)
        .predict(evaluated * 10.0)
    )


def predict_majority(train_labels: np.ndarray, n: int) -> np.ndarray:
    """[n] times the class that has most training pictures.

    Example:
        >>> predict_majority(np.array([0, 1, 1]), 2).tolist()
        [1, 1]
    """
    return np.full(n, np.bincount(train_labels).argmax())
