"""A linear probe: a head fitted to features that the frozen backbone computes once for each image."""

import hashlib
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from torch.utils.data import Subset
from transformers import PreTrainedModel, Trainer
from transformers.image_processing_utils import BaseImageProcessor

from memevit import files
from memevit.model import layers
from memevit.model.balance import class_weights
from memevit.model.forward import FINAL, forward_dataset
from memevit.model.image_dataset import ImageDataset, as_batch

logger = logging.getLogger(__name__)

# Strengths of the L2 penalty, per image; the one with the lowest loss on validation is taken.
PENALTIES = (1.0, 0.1, 0.01, 0.001, 0.0001)
_MAX_ITERATIONS = 500
_NEVER = -100.0  # Bias of a class that no training image shows.


@dataclass(frozen=True)
class Store:
    """Features that were computed before, one file for each backbone and state of the data.

    `folder` is beside the dataset, `fingerprint` is that of the dataset.
    """

    folder: Path
    fingerprint: str

    @classmethod
    def beside(cls, dataset_dir: Path, fingerprint: str) -> "Store":
        """The store of a dataset folder."""
        whole = dataset_dir.resolve()
        return cls(whole.with_name(f"{whole.name}.features"), fingerprint)

    def path(self, model: PreTrainedModel, image_processor: BaseImageProcessor) -> Path:
        """The file for one backbone, named after its weights, its image processor and the data."""
        digest = hashlib.sha256(self.fingerprint.encode())
        # Type and processor, since two networks can have equal weights and see another size.
        digest.update(
            json.dumps([type(model).__name__, image_processor.to_dict()], sort_keys=True, default=str).encode()
        )
        head = f"{layers.head_name(model)}."
        for name, tensor in sorted(model.state_dict().items()):
            if not name.startswith(head):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"


def read(path: Path) -> dict[str, np.ndarray]:
    """[D] features by image from a file of the store; empty if there is no such file or it is damaged."""
    try:
        with safe_open(path, framework="np") as file:
            names = json.loads(file.metadata()["images"])
            rows = file.get_tensor("features")
    except FileNotFoundError:
        return {}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        logger.warning("%s can't be read (%s); the features are computed again", path, error)
        return {}
    return dict(zip(names, rows, strict=True))


def write(path: Path, features: Mapping[str, np.ndarray]) -> None:
    """Keep features for the next run; a folder that can't be written only costs time."""
    content = save({"features": np.stack(list(features.values()))}, {"images": json.dumps(list(features))})
    try:
        path.parent.mkdir(exist_ok=True)
        files.write_bytes(path, content)
    except OSError as error:
        logger.warning("Features are not kept for the next run: %s can't be written (%s)", path, error.strerror)


def features_of(trainer: Trainer, datasets: Sequence[ImageDataset], store: Store) -> list[np.ndarray]:
    """[n, D] what the head sees of each image of each dataset, without augmentation; called by all processes.

    Args:
        trainer: its model has the backbone as it will stay; its device and processes do the work.
        datasets: parts of a prepared dataset.
        store: where features of earlier runs are.
    """
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    kept_in = store.path(model, trainer.processing_class)
    known = read(kept_in)
    names = [["/".join(path.parts[-3:]) for path in dataset.paths] for dataset in datasets]  # split/class/file
    n_computed = 0
    for dataset, own in zip(datasets, names, strict=True):
        missing = [position for position, name in enumerate(own) if name not in known]
        if trainer.args.world_size > 1:  # Processes on several machines may have different stores.
            missing = sorted(set(gather_object(missing)))
        if missing:
            outputs = forward_dataset(
                model.to(trainer.args.device), Subset(dataset.plain, missing), layers=(FINAL,),
                normalise=dataset.normalise, accelerator=trainer.accelerator, collate=as_batch,
                title=None if trainer.args.disable_tqdm else "Features",
                batch_size=trainer.args.per_device_eval_batch_size, n_workers=trainer.args.dataloader_num_workers,
            )  # fmt: skip
            known |= {own[position]: row for position, row in zip(missing, outputs.features[FINAL], strict=True)}
            n_computed += len(missing)
    if n_computed and trainer.args.process_index == 0:
        write(kept_in, known)
    n_all = sum(map(len, names))
    logger.info("Features of %d images: %d computed, %d from %s", n_all, n_computed, n_all - n_computed, kept_in.parent)
    return [np.stack([known[name] for name in own]) for own in names]


def fit_head(trainer: Trainer, store: Store, *, weighted: bool) -> None:
    """Fit the head of the trainer's model to frozen features of its training images, without augmentation.

    Args:
        trainer: its model is changed; datasets and device are its own.
        store: where features of earlier runs are.
        weighted: whether every class counts the same.
    """
    train, validation = trainer.train_dataset, trainer.eval_dataset
    features = features_of(trainer, [train, validation], store)
    model = trainer.accelerator.unwrap_model(trainer.model)
    labels = (train.labels, validation.labels)
    put_into_head(model, *fitted(features, labels, model.config.num_labels, weighted=weighted))


@dataclass(frozen=True)
class Probe:
    """A linear probe: `weight` [C, D] and `bias` [C] of its head, and its [n, C] logits by split."""

    weight: np.ndarray
    bias: np.ndarray
    logits: dict[str, np.ndarray]


def baseline(trainer: Trainer, evaluated: Mapping[str, ImageDataset], store: Store, *, weighted: bool) -> Probe:
    """A linear probe on the backbone as it is before training; called by all processes.

    Args:
        trainer: before it trains; its model is not changed.
        evaluated: the splits to predict.
        store: where features of earlier runs are.
        weighted: whether every class counts the same.
    """
    train, validation = trainer.train_dataset, trainer.eval_dataset
    features = features_of(trainer, [train, validation, *evaluated.values()], store)
    n_classes = trainer.accelerator.unwrap_model(trainer.model).config.num_labels
    weight, bias = fitted(features, (train.labels, validation.labels), n_classes, weighted=weighted)
    logits = {name: own @ weight.T + bias for name, own in zip(evaluated, features[2:], strict=True)}
    return Probe(weight, bias, logits)


def fitted(
    features: Sequence[np.ndarray], labels: Sequence[Sequence[int]], n_classes: int, *, weighted: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Weight [C, D] and bias [C] of the probe, see `fit`.

    Args:
        features: [n, D] of training images, then [m, D] of validation images; more are not looked at.
        labels: the n and m class ids of these.
        n_classes: number of classes.
        weighted: whether every class counts the same.
    """
    weights = class_weights(labels[0], n_classes=n_classes).numpy() if weighted else None
    found = fit(features[0], labels[0], features[1], labels[1], n_classes=n_classes, weights=weights)
    return found.weight, found.bias


class Fit(NamedTuple):
    """Weight [C, D] and bias [C] of a logistic regression, and the strength of its penalty."""

    weight: np.ndarray
    bias: np.ndarray
    penalty: float


def fit(
    features: np.ndarray, labels: Sequence[int], validation_features: np.ndarray,
    validation_labels: Sequence[int], *, n_classes: int, weights: np.ndarray | None = None, like: Fit | None = None,
) -> Fit:  # fmt: skip
    """A logistic regression whose penalty is chosen on validation.

    Args:
        features: [n, D] of training images.
        labels: their n class ids.
        validation_features: [m, D].
        validation_labels: their m class ids.
        n_classes: number of classes; one without a training image gets a logit that is never the largest.
        weights: [C] of each class in the loss.
        like: a fit to nearly the same images, whose penalty is taken without a choice and which saves most of the time.
    """
    labels, validation_labels = np.asarray(labels), np.asarray(validation_labels)
    scaler = StandardScaler().fit(features.astype(np.float64))
    scale = np.maximum(scaler.scale_, 1e-6)
    inputs, validation = ((given - scaler.mean_) / scale for given in (features, validation_features))
    present = np.unique(labels)
    is_seen = np.isin(validation_labels, present)
    class_weight = None if weights is None else {label: float(weights[label]) for label in present.tolist()}
    regression = LogisticRegression(max_iter=_MAX_ITERATIONS, tol=1e-6, warm_start=True, class_weight=class_weight)
    weight, bias = np.zeros((n_classes, features.shape[1])), np.full(n_classes, _NEVER)
    if len(present) == 1:
        bias[present] = 0.0
        return Fit(weight.astype(np.float32), bias.astype(np.float32), PENALTIES[0])
    if like is not None:
        rows = like.weight[present].astype(np.float64) * scale
        regression.coef_ = rows if len(present) > 2 else rows[1:] - rows[:1]
        offsets = like.bias[present] + like.weight[present] @ scaler.mean_
        regression.intercept_ = offsets if len(present) > 2 else offsets[1:] - offsets[:1]
    best_loss, best = np.inf, None
    for penalty in PENALTIES if like is None else (like.penalty,):  # From strong to weak, each from the one before.
        # Two classes share one row of weights, whose penalty is then half of that of two opposite rows.
        regression.set_params(C=(2.0 if len(present) == 2 else 1.0) / (len(labels) * penalty))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            regression.fit(inputs, labels)
        loss = log_loss(
            validation_labels[is_seen], regression.predict_proba(validation[is_seen]), labels=present,
            sample_weight=None if weights is None else weights[validation_labels[is_seen]],
        )  # fmt: skip
        if best is None or loss < best_loss:
            best_loss, best = loss, (regression.coef_.copy(), regression.intercept_.copy(), penalty)
    coefficients, intercepts, penalty = best
    if len(present) == 2:
        coefficients, intercepts = (np.concatenate([-one / 2, one / 2]) for one in (coefficients, intercepts))
    weight[present] = coefficients / scale  # The head of the checkpoint sees features as they are.
    bias[present] = intercepts - weight[present] @ scaler.mean_
    return Fit(weight.astype(np.float32), bias.astype(np.float32), penalty)


def put_into_head(model: PreTrainedModel, weight: np.ndarray, bias: np.ndarray) -> None:
    """Make [C, D] `weight` and [C] `bias` those of the head."""
    head = layers.head_of(model)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        if head.bias is not None:
            head.bias.copy_(torch.from_numpy(bias))
