"""The statistics that let a model answer `unknown`, made from images of its own classes alone."""

import copy
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save
from scipy.linalg import cholesky, solve_triangular
from scipy.stats import beta
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from memevit import files, labels
from memevit.model import backbone
from memevit.model.forward import default_blocks, forward_dataset
from memevit.model.image_dataset import ImageDataset, as_batch
from memevit.portable import features, open_set
from memevit.portable.open_set import MAHALANOBIS, MAX_LOGIT, OTHERS, balanced_weights

logger = logging.getLogger(__name__)

FALSE_REJECTION = 0.05
MIN_PER_PREDICTED_CLASS = 60  # Validation images for a threshold of its own.
MAX_TRAINING_IMAGES = 20_000  # That statistics are made from: more change nothing but the size of the file.
_MIN_WEIGHTED_AS = 20  # A class with fewer training images weighs less than the others in the covariance.
_OTHERS_PENALTY = 1e-2  # Inverse strength of the regression against labelled others, whose features are whitened.
_POOLING = "class token and mean of the patch tokens"
_OTHER_LABELS = ("none_of_the_classes", "not_one_of_the_classes")


@dataclass(frozen=True)
class Seen:
    """What a model computed for n images: `logits` [n, C], `features` [n, d] by layer, and their `labels` [n]."""

    logits: np.ndarray
    features: Mapping[str, np.ndarray]
    labels: np.ndarray

    def cooled(self, temperature: float) -> "Seen":
        """The same with logits divided by `temperature`."""
        return replace(self, logits=self.logits / temperature)


def layers_of(model: PreTrainedModel) -> tuple[str, ...]:
    """Layers whose features tell known images from unknown ones: what the head sees, and the block in the middle.

    Chosen with benchmarks/open_set.py among one and three blocks, with and without the last layer.
    """
    blocks = default_blocks(model)
    return (features.FINAL, *blocks[(len(blocks) - 1) // 2 :][:1])


def observe(
    model: PreTrainedModel, images: ImageDataset, layers: Sequence[str], *, batch_size: int = 64, n_workers: int = 0,
    title: str | None = None,
) -> Seen:  # fmt: skip
    """What `model` computes for `images`, seen as in evaluation.

    Args:
        model: on its device.
        images: of one split.
        layers: whose features are wanted.
        batch_size: images that the model sees at once.
        n_workers: processes that load images.
        title: of the progress bar; None shows none.
    """
    found = forward_dataset(
        model, images.plain, layers=layers, normalise=images.normalise, collate=as_batch, batch_size=batch_size,
        n_workers=n_workers, title=title,
    )  # fmt: skip
    return Seen(found.logits, found.features, np.asarray(images.labels, dtype=np.int64))


def some_of(labels: Sequence[int], n: int, *, seed: int = 0) -> np.ndarray:
    """Positions of about `n` images, as many of each class as there are if that is less than its share.

    Example:
        >>> some_of([0] * 8 + [1], 4).tolist()[-1], len(some_of([0] * 8 + [1], 4))
        (8, 3)
    """
    labels = np.asarray(labels, dtype=np.int64)
    if len(labels) <= n:
        return np.arange(len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    share = max(1, n // len(np.unique(labels)))
    by_class = [shuffled[labels[shuffled] == label][:share] for label in np.unique(labels)]
    return np.sort(np.concatenate(by_class))


def default_score(layers: Sequence[str]) -> list[str]:
    """Terms of the known score for a model with these layers: the highest logit, and a distance in each layer.

    Chosen with benchmarks/open_set.py, on games and images other than those that it reports on.
    """
    return [MAX_LOGIT, *(MAHALANOBIS + layer for layer in layers)]


@dataclass(frozen=True)
class Statistics:
    """Of the training images of C classes: how many there are of each, and by layer mean and whitening in `arrays`."""

    counts: np.ndarray
    arrays: dict[str, np.ndarray]

    @classmethod
    def of(cls, features: Mapping[str, np.ndarray], labels: np.ndarray, *, n_classes: int) -> "Statistics":
        """Statistics of n images with `features` [n, d] by layer and `labels` [n]."""
        arrays = {}
        for layer, own in _as_stored(features).items():
            mean, whitening = class_statistics(own, labels, n_classes=n_classes)
            arrays |= {f"mean.{layer}": mean, f"whitening.{layer}": whitening}
        return cls(np.bincount(labels, minlength=n_classes), arrays)

    @classmethod
    def extended(
        cls, known: open_set.OpenSet, label_of: Sequence[int], features: Mapping[str, np.ndarray], labels: np.ndarray
    ) -> "Statistics":
        """Statistics of a model with other classes, without images of the old ones.

        The scatter of the old classes is what their whitening stands for; that of a class that is left out is still
        part of it.

        Args:
            known: of the old model.
            label_of: the new label of each old class in the same order; -1 leaves it out.
            features: [n, d] by layer of the training images of the classes that are added.
            labels: [n], which go on after those of the old classes.
        """
        kept = np.flatnonzero(np.asarray(label_of) >= 0)
        old = np.array([known.settings["n_training"][known.class_names[label]] for label in kept])
        new, arrays = np.bincount(labels, minlength=len(kept))[len(kept) :], {}
        for layer, own in _as_stored(features).items():
            means, whitening = known.arrays[f"mean.{layer}"][kept], known.arrays[f"whitening.{layer}"]
            if len(new):
                new_means, residuals, weights = _around_means(own, labels - len(kept), n_classes=len(new))
                scatter = (residuals * weights[:, None]).T @ residuals / len(residuals)
                shares = [(counts / np.maximum(counts, _MIN_WEIGHTED_AS)).sum() for counts in (old, new)]
                whitening = _whitening(np.average([covariance_of(whitening), scatter], axis=0, weights=shares))
                means = np.concatenate([means, new_means.astype(np.float32)])
            arrays |= {f"mean.{layer}": means, f"whitening.{layer}": whitening}
        return cls(np.concatenate([old, new]), arrays)


def fit(
    train: Seen,
    validation: Seen,
    *,
    class_names: Sequence[str],
    false_rejection: float = FALSE_REJECTION,
    score: Sequence[str] | None = None,
    statistics_only: bool = False,
    statistics: Statistics | None = None,
    others: Seen | None = None,
    held_out: Sequence[tuple[Seen, Statistics]] = (),
) -> open_set.OpenSet:
    """Statistics, standardisation and threshold.

    Args:
        train: images that the model was trained on.
        validation: other images of the same classes; scale and threshold come from them, because the model knows
            training images too well.
        class_names: position is the label.
        false_rejection: share of images of the known classes that may be called unknown.
        score: terms of the known score; `default_score` if None.
        statistics_only: leave out the features of single images.
        statistics: of the training images, where `train` does not hold them all; made of `train` when None.
        others: images of none of the classes, which the score learns to tell apart; their labels mean nothing.
        held_out: more images that count as validation images do, each lot with statistics that don't contain it.

    Returns:
        What goes into config.json and open_set.safetensors, still without a probe.
    """
    layers = list(validation.features)
    score = list(default_score(layers) if score is None else score)
    stored = [_as_stored(seen.features) for seen in (train, validation)]
    made = statistics or Statistics.of(train.features, train.labels, n_classes=len(class_names))
    arrays = dict(made.arrays)
    if others is not None:
        known = (stored[0], train.labels) if statistics is None else (stored[1], validation.labels)
        arrays["others.weight"] = _away_from(_as_stored(others.features), *known, arrays)
        score.append(OTHERS)
    judged = [(validation.logits, stored[1], arrays)]
    judged += [(own.logits, _as_stored(own.features), arrays | without.arrays) for own, without in held_out]
    terms = np.concatenate([open_set.raw_terms(*own, score) for own in judged])
    logits = np.concatenate([own for own, *_ in judged])
    labels = np.concatenate([validation.labels, *(own.labels for own, _ in held_out)])
    arrays["standard.median"], arrays["standard.scale"] = standard(terms, labels)
    scores = open_set.standardised(terms, arrays["standard.median"], arrays["standard.scale"])
    predicted = logits.argmax(axis=1)
    arrays |= {
        "validation.score": scores,
        "validation.predicted": predicted.astype(np.int32),
        "validation.label": labels.astype(np.int32),
    }
    if not statistics_only:
        arrays |= _bank(stored, train, validation)
    weights = balanced_weights(labels)
    threshold, expected, interval = conformal_threshold(scores, weights, false_rejection)
    settings = {
        "version": open_set.VERSION,
        "file": open_set.FILE,
        "layers": layers,
        "pooling": _POOLING,
        "score": score,
        "false_rejection": false_rejection,
        "expected_false_rejection": expected,
        "false_rejection_interval": list(interval),
        "threshold": threshold,
        "threshold_per_predicted_class": _per_class(scores, predicted, class_names, false_rejection),
        "n_training": dict(zip(class_names, made.counts.tolist(), strict=True)),
        "n_calibration": _counts(labels, class_names),
        "reject_label": reject_label(class_names),
        "statistics_only": statistics_only,
    }
    return open_set.OpenSet(settings, arrays, list(class_names))


def _as_stored(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features as the bank keeps them, so that statistics which are made from the bank are the same."""
    largest = np.finfo(np.float16).max
    return {layer: np.clip(own, -largest, largest).astype(np.float16) for layer, own in features.items()}


def _bank(stored: list[dict[str, np.ndarray]], train: Seen, validation: Seen) -> dict[str, np.ndarray]:
    bank = {f"bank.{layer}": np.concatenate([own[layer] for own in stored]) for layer in stored[0]}
    bank["bank.label"] = np.concatenate([train.labels, validation.labels]).astype(np.int32)
    bank["bank.logits"] = np.concatenate([train.logits, validation.logits]).astype(np.float32)
    # 0: training, 1: validation.
    bank["bank.split"] = np.repeat([0, 1], [len(train.labels), len(validation.labels)]).astype(np.uint8)
    return bank


def class_statistics(features: np.ndarray, labels: np.ndarray, *, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean [C, d] of the normalised features of each class, and the whitening [d, d] of the scatter around them.

    Args:
        features: [n, d].
        labels: [n] class ids; a class without images gets a mean of NaN.
        n_classes: C.

    Source:
        Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004.
    """
    means, residuals, weights = _around_means(features, labels, n_classes=n_classes)
    covariance, _ = ledoit_wolf(residuals * np.sqrt(weights)[:, None], assume_centered=True)
    return means.astype(np.float32), _whitening(covariance)


def _around_means(
    features: np.ndarray, labels: np.ndarray, *, n_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class means [C, d] of the normalised features, what is left of each image [n, d], and its weight [n], mean 1."""
    rows, labels = open_set.normalised(features), np.asarray(labels, dtype=np.int64)
    counts = np.bincount(labels, minlength=n_classes)
    sums = np.zeros((n_classes, rows.shape[1]))
    np.add.at(sums, labels, rows)
    means = np.full_like(sums, np.nan)
    np.divide(sums, counts[:, None], out=means, where=counts[:, None] > 0)
    weights = 1 / np.maximum(counts[labels], _MIN_WEIGHTED_AS)
    return means, rows - means[labels], weights * len(weights) / weights.sum()


def _whitening(covariance: np.ndarray) -> np.ndarray:
    floor = 1e-10 * max(np.trace(covariance) / len(covariance), 1e-10)
    lower = cholesky(covariance + floor * np.eye(len(covariance)), lower=True)
    return solve_triangular(lower, np.eye(len(covariance)), lower=True).astype(np.float32)


def covariance_of(whitening: np.ndarray) -> np.ndarray:
    """The covariance [d, d] for which a lower triangular `whitening` was made."""
    lower = solve_triangular(whitening.astype(np.float64), np.eye(len(whitening)), lower=True)
    return lower @ lower.T


def _away_from(
    others: Mapping[str, np.ndarray],
    known: Mapping[str, np.ndarray],
    labels: np.ndarray,
    arrays: Mapping[str, np.ndarray],
) -> np.ndarray:
    """[D] direction in the whitened features that leads from images of none of the classes to the known ones."""
    rows = np.concatenate([open_set.whitened(own, arrays) for own in (others, known)])
    n_others = len(rows) - len(labels)
    weights = np.concatenate([np.full(n_others, len(labels) / n_others), balanced_weights(labels)])
    regression = LogisticRegression(C=_OTHERS_PENALTY, max_iter=1000)
    regression.fit(rows, np.arange(len(rows)) >= n_others, sample_weight=weights)
    return regression.coef_[0].astype(np.float32)


def standard(terms: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[T] median of each term over validation images [n, T], and [T] how far its lowest tenth lies below that."""
    weights = balanced_weights(labels)
    median, low = (np.array([weighted_quantile(own, weights, q) for own in terms.T]) for q in (0.5, 0.1))
    scale = median - low
    return median, np.where(scale > 0, scale, np.maximum(terms.std(axis=0), 1e-6))


def weighted_quantile(values: np.ndarray, weights: np.ndarray, q: float) -> float:
    """The smallest value at or below which lies a share of at least `q` of the weight.

    Example:
        >>> weighted_quantile(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 4.0]), 0.5)
        3.0
    """
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(np.searchsorted(reached, q - 1e-12), len(values) - 1)])


def conformal_threshold(
    scores: np.ndarray, weights: np.ndarray, false_rejection: float
) -> tuple[float, float, tuple[float, float]]:
    """The score below which an image is rejected, the share of known images that this rejects, and its 95 % interval.

    With equal weights and images that are exchangeable the expected share is at most `false_rejection`. Where there are
    too few images for that, the threshold is the lowest score, and the expected share is larger.

    Args:
        scores: [n] of validation images.
        weights: [n] with mean 1.
        false_rejection: wanted share.

    Source:
        Vovk, Conditional validity of inductive conformal predictors, 2012 (arXiv:1209.2673), for the interval. With
        unequal weights both are approximate, with the effective number of images in place of n.

    Example:
        >>> threshold, expected, interval = conformal_threshold(np.arange(99.0), np.ones(99), 0.05)
        >>> threshold, expected, [round(end, 3) for end in interval]
        (4.0, 0.05, [0.017, 0.1])
    """
    order, n = np.argsort(scores), len(scores)
    reached = np.cumsum(weights[order])
    position = int(np.searchsorted(reached, false_rejection * (n + 1) + 1e-9, side="right")) - 1
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    rank = max(1.0, float(np.floor(false_rejection * (effective + 1) + 1e-9)))
    low, high = beta.ppf([0.025, 0.975], rank, effective + 1 - rank)
    return float(scores[order][max(position, 0)]), rank / (effective + 1), (float(low), float(high))


def _per_class(
    scores: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], false_rejection: float
) -> dict[str, float] | None:
    """A threshold for each predicted class with enough validation images; None if there is none."""
    found = {}
    for label, name in enumerate(class_names):
        own = scores[predicted == label]
        if len(own) >= max(MIN_PER_PREDICTED_CLASS, 1 / false_rejection - 1):
            found[name] = conformal_threshold(own, np.ones(len(own)), false_rejection)[0]
    return found or None


def _counts(labels: np.ndarray, class_names: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=len(class_names))
    return dict(zip(class_names, counts.tolist(), strict=True))


def reject_label(class_names: Sequence[str]) -> str:
    """What an image of none of the classes is called: `unknown`, unless a class has that name."""
    return next(name for name in (labels.UNKNOWN, *_OTHER_LABELS) if name not in class_names)


def fold_temperature(model: PreTrainedModel, temperature: float) -> None:
    """Divide the logits of `model` by `temperature`, by changing the weights of its head alone.

    The predicted classes stay the same. `1 / temperature` undoes it.

    Raises:
        ValueError: the temperature is not a positive number.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"a temperature is a positive number, got {temperature}")
    with torch.no_grad():
        for name in features.head_names(model):
            head = model.get_submodule(name)
            head.weight.div_(temperature)
            if head.bias is not None:
                head.bias.div_(temperature)


@features.exact()
@torch.no_grad()
def probe(model: PreTrainedModel, image_processor: BaseImageProcessor, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """`logits` [C] and features [d] by layer of the fixed probe image, as the published pipeline computes them."""
    inputs = image_processor(images=Image.fromarray(open_set.probe_image()), return_tensors="pt")
    pixel_values = inputs["pixel_values"].to(model.device, model.dtype)
    with features.FeatureTap(model.eval(), layers) as tap:
        logits = model(pixel_values=pixel_values).logits
        found = {"logits": logits, **tap.take()}
    return {name: own.float().cpu().numpy().ravel() for name, own in found.items()}


def write(
    model_dir: Path,
    fitted: open_set.OpenSet,
    model: PreTrainedModel,
    image_processor: BaseImageProcessor,
    *,
    temperature: float,
) -> open_set.OpenSet:
    """Write open_set.safetensors and the section `open_set` of config.json, and return them complete with the probe.

    Args:
        model_dir: with the saved weights of `model`.
        fitted: from `fit`.
        model: after its temperature was folded.
        image_processor: of the model.
        temperature: by which its logits were divided since it was trained.
    """
    own_probe = probe(model, image_processor, fitted.layers)
    arrays = dict(fitted.arrays) | {f"probe.{name}": own for name, own in own_probe.items()}
    content = save({name: np.ascontiguousarray(own) for name, own in arrays.items()})
    settings = dict(fitted.settings) | {
        "sha256": hashlib.sha256(content).hexdigest(),
        "temperature_folded": temperature,
        "image_processor": type(image_processor).__name__,
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    files.write_bytes(model_dir / open_set.FILE, content)
    set_in_config(model_dir, open_set.KEY, settings)
    return open_set.OpenSet(settings, arrays, fitted.class_names)


def set_in_config(model_dir: Path, key: str, value: Any) -> None:
    """Set one entry of config.json; None removes it."""
    path = model_dir / open_set.CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop(key, None)
    if value is not None:
        config[key] = value
    files.write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_with_unknown_class(
    folder: Path, model: PreTrainedModel, image_processor: BaseImageProcessor, *, threshold: float, label: str
) -> None:
    """Write a checkpoint with one more class, which wins where no logit of the others reaches `threshold`.

    The additional logit is the same for every image, so the plain pipeline answers `label` with no other code, and the
    probabilities of the other classes keep their ratios. It is a weaker decision than that of the statistics.

    Args:
        folder: a new folder.
        model: calibrated; it is not changed.
        image_processor: of the model.
        threshold: the additional logit.
        label: name of the class.
    """
    larger, n_classes = copy.deepcopy(model), model.config.num_labels
    for name in features.head_names(model):  # Of several the logits are averaged.
        head = model.get_submodule(name)
        extended = torch.nn.Linear(head.in_features, n_classes + 1, dtype=head.weight.dtype, device=head.weight.device)
        with torch.no_grad():
            extended.weight.zero_()[:n_classes] = head.weight
            extended.bias.fill_(threshold)[:n_classes] = 0.0 if head.bias is None else head.bias
        larger.set_submodule(name, extended)
    names = [*(model.config.id2label[position] for position in range(n_classes)), label]
    larger.config.num_labels = len(names)
    larger.config.id2label, larger.config.label2id = labels.label_maps(names)
    for key in (open_set.KEY, "custom_pipelines"):
        vars(larger.config).pop(key, None)
    backbone.save_checkpoint(larger, image_processor, folder)


def logit_threshold(validation: Seen, false_rejection: float) -> float:
    """The highest logit that rejects no more than `false_rejection` of other images of the known classes."""
    weights = balanced_weights(validation.labels)
    return conformal_threshold(validation.logits.max(axis=1), weights, false_rejection)[0]
