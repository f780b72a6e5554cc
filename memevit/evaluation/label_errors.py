"""Images whose label is probably wrong, by confident learning, and probabilities by models that did not see them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

N_FOLDS = 5
MAX_IMAGES = 20_000  # A linear probe gains nothing from more.
_MAX_COMPONENTS = 64
_AT_ONCE = 4096  # Images; bounds the memory where there are many classes.
_MAX_ITERATIONS = 300


def out_of_fold_probabilities(
    features: np.ndarray, labels: np.ndarray, groups: Sequence[object], *, n_classes: int, seed: int = 0
) -> np.ndarray:
    """[n, C] probabilities from linear probes that saw no image of the same group.

    Args:
        features: [n, D].
        labels: [n] class ids.
        groups: n names; images of one group are held out together.
        n_classes: number of classes, also those that do not occur.
        seed: of the folds and components.
    """
    found = np.full((len(labels), n_classes), 1.0 / n_classes)
    _, of_group = np.unique([str(group) for group in groups], return_inverse=True)
    n_folds = min(N_FOLDS, of_group.max() + 1)
    if n_folds < 2:
        return found
    for train, held_out in GroupKFold(n_folds, shuffle=True, random_state=seed).split(features, groups=of_group):
        found[held_out] = probe_probabilities(
            features[train], labels[train], features[held_out], n_classes=n_classes, seed=seed
        )
    return found


def probe_probabilities(
    train: np.ndarray, train_labels: np.ndarray, evaluated: np.ndarray, *, n_classes: int, seed: int = 0
) -> np.ndarray:
    """[n, C] probabilities of a linear probe for `evaluated` [n, D], learned from features [n_train, D] and labels.

    It sees the first 64 principal components; equal probabilities where there is only one class to learn from.
    """
    classes = np.unique(train_labels)
    found = np.zeros((len(evaluated), n_classes), dtype=np.float32)
    if len(classes) < 2:
        return found + 1.0 / n_classes
    n_components = min(_MAX_COMPONENTS, train.shape[1], len(train))
    probe = make_pipeline(
        StandardScaler(), PCA(n_components, random_state=seed), LogisticRegression(C=0.1, max_iter=_MAX_ITERATIONS)
    )
    probe.fit(train, train_labels)
    for start in range(0, len(evaluated), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found[part, classes] = probe.predict_proba(evaluated[part])
    return found


@dataclass(frozen=True)
class Suspicion:
    """Label errors suspected among n images: `is_suspect` [n], `better` [n] the class that fits, `margin` [n].

    `margin` is the probability of the better class minus that of the given one; -inf where nothing is suspected.
    """

    is_suspect: np.ndarray
    better: np.ndarray
    margin: np.ndarray


def suspected(probabilities: np.ndarray, labels: np.ndarray) -> Suspicion:
    """Images whose out-of-sample probabilities say with confidence that they belong to another class.

    A class is confident about an image if its probability reaches the mean probability that images labelled with this
    class get for it. An image is suspected if its most probable confident class is not its label.

    Args:
        probabilities: [n, C] by a model that has not seen the image.
        labels: [n] given class ids.

    Source:
        Northcutt et al., Confident learning: estimating uncertainty in dataset labels, JAIR 70 (2021); the off-diagonal
        of the confident joint.

    Example:
        >>> shares = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.05, 0.95]])
        >>> suspected(shares, np.array([0, 0, 1, 1, 0])).is_suspect.tolist()
        [False, False, False, False, True]
    """
    n, n_classes = probabilities.shape
    counts = np.bincount(labels, minlength=n_classes)
    own = probabilities[np.arange(n), labels]
    thresholds = np.full(n_classes, np.inf)
    present = counts > 0
    thresholds[present] = np.bincount(labels, weights=own, minlength=n_classes)[present] / counts[present]
    confident = np.where(probabilities >= thresholds - 1e-12, probabilities, -1.0)
    better = confident.argmax(axis=1)
    is_suspect = (confident.max(axis=1) >= 0) & (better != labels) & (confident.max(axis=1) > own)
    is_suspect &= probabilities.argmax(axis=1) == better
    margin = np.where(is_suspect, probabilities[np.arange(n), better] - own, -np.inf)
    return Suspicion(is_suspect, better, margin)
