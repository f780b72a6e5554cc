"""A trained model with other classes: a new head on the frozen backbone, fitted to features of all images."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn
from transformers import PreTrainedModel

from memevit.errors import UserError
from memevit.labels import label_maps
from memevit.model import heads
from memevit.model.heads import Head, Labelled
from memevit.model.open_set import Seen, Statistics, covariance_of
from memevit.portable import features
from memevit.portable.open_set import OpenSet

_TRAIN = 0  # In `bank.split`.
_N_FOLDS = 3  # Of `held_out`; with 5 it takes longer and tells no more.


@dataclass(frozen=True)
class Observed:
    """What was computed for n images: `features` [n, d] by layer, and their `labels` [n]."""

    features: Mapping[str, np.ndarray]
    labels: np.ndarray

    def with_head(self, head: Head) -> Seen:
        """The same with the logits of `head`."""
        logits = head.logits(np.asarray(self.features[features.FINAL], dtype=np.float64))
        return Seen(logits.astype(np.float32), self.features, self.labels)

    def at(self, rows: np.ndarray) -> "Observed":
        """The images at `rows`, positions or a mask."""
        return Observed({layer: own[rows] for layer, own in self.features.items()}, self.labels[rows])

    def relabelled(self, label_of: Sequence[int]) -> "Observed":
        """The images whose class has a new label, with that label; -1 leaves a class out."""
        labels = np.asarray(label_of)[self.labels]
        return Observed(self.features, labels).at(labels >= 0)

    @property
    def none(self) -> "Observed":
        """No images, with features of the same layers."""
        return self.relabelled([-1] * (int(self.labels.max()) + 1))

    def joined(self, other: "Observed") -> "Observed":
        """These images, then those of `other`."""
        joined = {layer: np.concatenate([own, other.features[layer]]) for layer, own in self.features.items()}
        return Observed(joined, np.concatenate([self.labels, other.labels]))


def training_features(known: OpenSet) -> Observed | None:
    """Features of the images that a model was trained on; None if they were not kept."""
    if "bank.label" not in known.arrays:
        return None
    rows = known.arrays["bank.split"] == _TRAIN
    own = {layer: known.arrays[f"bank.{layer}"][rows].astype(np.float32) for layer in known.layers}
    return Observed(own, known.arrays["bank.label"][rows].astype(np.int64))


def fitted_head(train: Observed, validation: Observed, *, n_classes: int, like: Head | None = None) -> Head:
    """A head for all classes on the features that the old head saw; `like` is one of nearly the same images.

    Raises:
        UserError: a class has no training or no validation image.
    """
    final = [Labelled(own.features[features.FINAL].astype(np.float64), own.labels) for own in (train, validation)]
    for own, name in zip(final, ("training", "validation"), strict=True):
        if missing := n_classes - len(np.unique(own.labels)):
            raise UserError(f"{missing} of {n_classes} classes have no {name} images. Add images of them.")
    return heads.logistic(*final, n_classes=n_classes, like=like)


def head_from_statistics(statistics: Statistics, validation: Observed) -> Head:
    """The head of a discriminant analysis that needs no training image.

    The statistics are of features of length 1; a linear head divides by the mean length instead of by that of each
    image, which is nearly the same after the last layer normalisation.
    """
    means, whitening = (statistics.arrays[f"{name}.{features.FINAL}"] for name in ("mean", "whitening"))
    head = heads.lda_from_statistics(means.astype(np.float64), covariance_of(whitening))
    length = np.linalg.norm(validation.features[features.FINAL].astype(np.float64), axis=1).mean()
    return replace(head, weight=head.weight / length)


def held_out(
    train: Observed, groups: Sequence[str], made: Callable[[Observed], tuple[Head, Statistics]], *, n_old: int
) -> list[tuple[Seen, Statistics]]:
    """Training images of new classes as heads and statistics that were made without them see them.

    The backbone was not trained on them, so that they count as validation images do: of a new class there are few, and
    a threshold that rests on two or three images is an accident.

    Args:
        train: of all classes, or of the new ones alone.
        groups: of the images of new classes in `train`, in their order; what belongs together is held out together.
        made: head and statistics from what is left of `train`.
        n_old: labels below this are old classes.
    """
    new, found = np.flatnonzero(train.labels >= n_old), []
    largest = np.bincount(train.labels[new]).max(initial=0)
    if (n_folds := min(_N_FOLDS, len(set(groups)), int(largest))) < 2:
        return found
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # A class has fewer images than there are folds.
        parts = list(folds.split(new, train.labels[new], groups=groups))
    for kept, own in parts:
        if len(np.unique(train.labels[new[kept]])) == len(np.unique(train.labels[new])):
            head, statistics = made(train.at(np.delete(np.arange(len(train.labels)), new[own])))
            found.append((train.at(new[own]).with_head(head), statistics))
    return found


def refit(head: Head, validation: Observed, *, n_classes: int) -> Callable[[Observed], tuple[Head, Statistics]]:
    """What `held_out` needs where training images are there: a head like `head`, and statistics."""

    def made(train: Observed) -> tuple[Head, Statistics]:
        statistics = Statistics.of(train.features, train.labels, n_classes=n_classes)
        return fitted_head(train, validation, n_classes=n_classes, like=head), statistics

    return made


def head_of(model: PreTrainedModel) -> Head:
    """The head of a model.

    Raises:
        UserError: it has none that can be replaced, or several.
    """
    layer = model.get_submodule(_head_name(model))
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    return Head(layer.weight.detach().cpu().double().numpy(), bias.detach().cpu().double().numpy(), "as before")


def _head_name(model: PreTrainedModel) -> str:
    names = features.head_names(model)
    if len(names) != 1:
        raise UserError(
            f"{type(model).__name__} has {len(names)} heads, and classes can be added only to a model with one linear "
            "head. Train it with finetune_vit.py first."
        )
    return names[0]


def with_classes(model: PreTrainedModel, head: Head, class_names: list[str]) -> PreTrainedModel:
    """A copy of `model` with `head` in place of its own, for `class_names` in the order of the rows of `head`."""
    grown = copy.deepcopy(model)
    name = _head_name(grown)
    old = grown.get_submodule(name)
    layer = nn.Linear(old.in_features, len(class_names), device=old.weight.device, dtype=old.weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight))
        layer.bias.copy_(torch.from_numpy(head.bias))
    grown.set_submodule(name, layer)
    grown.config.id2label, grown.config.label2id = label_maps(class_names)
    grown.num_labels = grown.config.num_labels
    return grown
