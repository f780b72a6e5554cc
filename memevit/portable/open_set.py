"""Whether an image shows one of the classes that a model knows, decided from its logits and features.

It imports nothing of this project, for it is published beside a model and runs there. The statistics lie next to the
weights: settings in config.json under `open_set`, arrays in open_set.safetensors.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

FILE = "open_set.safetensors"
CONFIG_FILE = "config.json"
KEY = "open_set"
PIPELINE_TASK = "open-set-image-classification"
# For config.json, so that `pipeline` finds the class; with the name of a usual task nobody could use the model without
# running its code.
CUSTOM_PIPELINES = {
    PIPELINE_TASK: {
        "impl": "pipeline.OpenSetImageClassificationPipeline",
        "pt": ["AutoModelForImageClassification"],
        "type": "image",
    }
}
VERSION = 1
UNKNOWN = "unknown"
MAX_LOGIT = "max_logit"
LOG_ODDS = "log_odds"
MAHALANOBIS = "mahalanobis."  # Followed by the name of a layer.
OTHERS = "others"  # Of models that have seen labelled images of none of the classes.
TOLERANCE = 2e-3  # Relative, of the probe: other weights, precision or pixels change it by far more.
PROBE_SIZE = (160, 120)
RENEW = "finetune_vit.py --calibrate_only"


class StaleStatisticsError(ValueError):
    """The statistics belong to other weights, another precision or other preprocessing."""


@dataclass(frozen=True)
class Decision:
    """The answer for one image.

    `label` is the name of a class or, if the image is not accepted, `unknown`; `class_name` is the most probable class
    in any case. `known_score` is higher for images that are more like the training images: 0 for a typical image of a
    known class, -1 for one that is stranger than nine in ten of them. `p_value` is the share of validation images that
    are at least as strange. `reason` says in words why an image is not accepted, and is empty if it is.
    """

    label: str
    class_name: str
    accepted: bool
    known_score: float
    threshold: float
    p_value: float
    reason: str


@dataclass(frozen=True)
class OpenSet:
    """Settings and arrays of one model, ready to decide.

    `settings` is the object in config.json, `arrays` the content of the safetensors file, `class_names` are in the
    order of the logits.
    """

    settings: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    class_names: Sequence[str]

    @classmethod
    def load(cls, model_dir: str | Path) -> "OpenSet | None":
        """The statistics in a model folder; None if it has none.

        Raises:
            StaleStatisticsError: the file is missing, or it is not the one that config.json names.
        """
        folder = Path(model_dir)
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        settings = config.get(KEY)
        if not settings or "score" not in settings:
            return None
        if settings.get("version", 0) > VERSION:
            raise StaleStatisticsError(
                f"{FILE} has version {settings['version']} and this code reads up to {VERSION}; update the code."
            )
        path = folder / settings.get("file", FILE)
        if not path.is_file():
            raise StaleStatisticsError(f"config.json names {path.name}, which is missing. {renewal()}")
        if hashlib.sha256(path.read_bytes()).hexdigest() != settings["sha256"]:
            raise StaleStatisticsError(f"{path.name} is not the file that config.json was written with. {renewal()}")
        names = {int(label): name for label, name in config["id2label"].items()}
        found = cls(settings, load_file(path), [names[label] for label in range(len(names))])
        if missing := [name for name in found.required_arrays() if name not in found.arrays]:
            raise StaleStatisticsError(f"{path.name} lacks {missing[0]}. {renewal()}")
        return found

    def required_arrays(self) -> list[str]:
        """Names of the arrays without which nothing can be decided."""
        terms = [term for term in self.settings["score"] if term.startswith(MAHALANOBIS)]
        layers = [term.removeprefix(MAHALANOBIS) for term in terms]
        names = [f"{kind}.{layer}" for layer in layers for kind in ("mean", "whitening")]
        names += [f"probe.{name}" for name in ("logits", *self.settings["layers"])]
        names += ["others.weight"] if OTHERS in self.settings["score"] else []
        return [*names, "standard.median", "standard.scale", "validation.score", "validation.label",
                "validation.predicted"]  # fmt: skip

    @property
    def layers(self) -> list[str]:
        """Layers whose features are needed, see `features.FeatureTap`."""
        return list(self.settings["layers"])

    def require_current(self, logits: np.ndarray, features: Mapping[str, np.ndarray], *, dtype: str) -> None:
        """See that the model still computes what it did when the statistics were made.

        Args:
            logits: [1, C] of the model on `probe_image`.
            features: [1, d] by layer on the same image.
            dtype: of the weights, such as `float32`.

        Raises:
            StaleStatisticsError: it does not.
        """
        if dtype != self.settings["dtype"]:
            raise StaleStatisticsError(
                f"The statistics in {FILE} were made in {self.settings['dtype']} and the model runs in {dtype}. Load "
                f"it with dtype={self.settings['dtype']!r}, or renew them with {RENEW}."
            )
        for name, own in [("logits", logits), *((layer, features[layer]) for layer in self.layers)]:
            then, now = self.arrays[f"probe.{name}"].astype(np.float64), np.asarray(own, dtype=np.float64).ravel()
            change = np.linalg.norm(now - then) / max(np.linalg.norm(then), 1e-12) if now.shape == then.shape else 1.0
            if not change <= TOLERANCE:  # Also if it is not a number.
                raise StaleStatisticsError(
                    f"The statistics in {FILE} are stale: weights or preprocessing have changed since they were made "
                    f"({name} of the probe image differ by {change:.2%}). {renewal()}"
                )

    def known_scores(self, logits: np.ndarray, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """[n] known scores; higher is more like the training images.

        Args:
            logits: [n, C].
            features: [n, d] by layer.
        """
        terms = raw_terms(logits, features, self._ready, self.settings["score"])  # [n, T]
        return standardised(terms, self.arrays["standard.median"], self.arrays["standard.scale"])

    @cached_property
    def _ready(self) -> dict[str, np.ndarray]:
        """The arrays, with what every batch would compute anew."""
        ready = {}
        for layer in self.layers:
            if f"whitening.{layer}" in self.arrays:
                ready[f"across.{layer}"], ready[f"centres.{layer}"] = whitened_means(self.arrays, layer)
        return dict(self.arrays) | ready

    @cached_property
    def _references(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Ordered scores and cumulative weights of `reference` by class, where every image would sort them anew."""
        own_thresholds = self.settings.get("threshold_per_predicted_class") or {}
        found, common = {}, None
        for label, name in enumerate(self.class_names):
            if name in own_thresholds or common is None:
                scores, weights = self.reference(label)
                order = np.argsort(scores)
                own = scores[order], np.cumsum(weights[order])
                common = common if name in own_thresholds else own
            found[label] = own if name in own_thresholds else common
        return found

    def thresholds(self) -> np.ndarray:
        """[C] threshold by predicted class."""
        by_class = self.settings.get("threshold_per_predicted_class") or {}
        common = self.settings["threshold"]
        return np.array([by_class.get(name, common) for name in self.class_names], dtype=np.float64)

    def decide(self, logits: np.ndarray, features: Mapping[str, np.ndarray]) -> list[Decision]:
        """One answer per image.

        Args:
            logits: [n, C].
            features: [n, d] by layer.
        """
        logits = np.asarray(logits, dtype=np.float64)
        scores, predicted = self.known_scores(logits, features), logits.argmax(axis=1)
        thresholds = self.thresholds()[predicted]
        return [
            self._decision(score, threshold, label)
            for score, threshold, label in zip(scores.tolist(), thresholds.tolist(), predicted.tolist(), strict=True)
        ]

    def _decision(self, score: float, threshold: float, label: int) -> Decision:
        name, accepted = self.class_names[label], score >= threshold
        scores, reached = self._references[label]
        n, n_at_most = len(scores), int(np.searchsorted(scores, score, side="right"))
        at_most = float(reached[n_at_most - 1] / reached[-1]) if n_at_most else 0.0
        p_value = (n * at_most + 1) / (n + 1)
        return Decision(
            label=name if accepted else self.settings["reject_label"],
            class_name=name,
            accepted=accepted,
            known_score=score,
            threshold=threshold,
            p_value=float(p_value),
            reason="" if accepted else in_words(1 - at_most, n),
        )

    def reference(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the validation images that the threshold comes from, and their weights."""
        scores, labels = self.arrays["validation.score"], self.arrays["validation.label"]
        if self.class_names[label] in (self.settings.get("threshold_per_predicted_class") or {}):
            own = self.arrays["validation.predicted"] == label
            return scores[own], np.ones(own.sum())
        return scores, balanced_weights(labels)


def renewal() -> str:
    """The sentence that says how statistics are renewed."""
    return f"Renew them with {RENEW}."


def in_words(share: float, n: int) -> str:
    """Why an image is rejected.

    Args:
        share: of the validation images that are more like the training images than this one is.
        n: number of validation images.

    Example:
        >>> in_words(0.987, 300)
        'less like the training images than 98 % of the validation images'
        >>> in_words(1.0, 300)
        'less like the training images than all 300 validation images'
    """
    amount = f"all {n}" if share >= 1 - 1e-12 else f"{int(100 * share)} % of the"
    return f"less like the training images than {amount} validation images"


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """[n] weights with mean 1 that make every class that occurs count the same.

    Example:
        >>> balanced_weights(np.array([0, 0, 0, 1])).round(3).tolist()
        [0.667, 0.667, 0.667, 2.0]
    """
    labels = np.asarray(labels, dtype=np.int64)
    counts = np.bincount(labels)
    return len(labels) / ((counts > 0).sum() * counts[labels].astype(np.float64))


def log_odds(logits: np.ndarray) -> np.ndarray:
    """[n] log-odds of the most probable class against all others: the order of the highest softmax, without saturation.

    Args:
        logits: [n, C], C at least 2.

    Example:
        >>> log_odds(np.array([[1.0, 3.0], [1000.0, 0.0]])).tolist()
        [2.0, 1000.0]
    """
    ordered = np.sort(np.asarray(logits, dtype=np.float64), axis=1)
    top, others = ordered[:, -1], ordered[:, :-1]
    largest = others[:, -1]
    return top - largest - np.log(np.exp(others - largest[:, None]).sum(axis=1))


def normalised(features: np.ndarray) -> np.ndarray:
    """[n, d] in float64, each row divided by its length."""
    rows = np.asarray(features, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def mahalanobis(features: np.ndarray, centres: np.ndarray, across: np.ndarray) -> np.ndarray:
    """[n] negative squared Mahalanobis distance of the normalised features to the nearest class mean.

    Args:
        features: [n, d].
        centres: [C, d] whitened means of the normalised features of the classes.
        across: [d, d] matrix A', where A'A is the inverse of the covariance within the classes.

    Source:
        Mueller and Hein, Mahalanobis++, ICML 2025 (arXiv:2505.18032).
    """
    rows = normalised(features) @ across
    squared = (rows**2).sum(axis=1)[:, None] - 2 * rows @ centres.T + (centres**2).sum(axis=1)
    return -np.maximum(squared, 0.0).min(axis=1)


def whitened_means(arrays: Mapping[str, np.ndarray], layer: str) -> tuple[np.ndarray, np.ndarray]:
    """`across` [d, d] and `centres` [C, d] of a layer, see `mahalanobis`; without classes that had no images."""
    means = arrays[f"mean.{layer}"]
    across = np.ascontiguousarray(arrays[f"whitening.{layer}"].astype(np.float64).T)
    return across, means[np.isfinite(means).all(axis=1)].astype(np.float64) @ across


def whitened(features: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """[n, D] normalised features of all layers with a whitening, side by side, each whitened.

    Args:
        features: [n, d] by layer.
        arrays: with `whitening.LAYER`.
    """
    layers = sorted(name.removeprefix("whitening.") for name in arrays if name.startswith("whitening."))
    rows = [normalised(features[layer]) @ arrays[f"whitening.{layer}"].astype(np.float64).T for layer in layers]
    return np.concatenate(rows, axis=1)


def raw_terms(
    logits: np.ndarray, features: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray], score: Sequence[str]
) -> np.ndarray:
    """[n, T] the terms of the known score, each on a scale of its own; higher is more known.

    Args:
        logits: [n, C].
        features: [n, d] by layer.
        arrays: with `mean.LAYER` and `whitening.LAYER` for each layer that is needed.
        score: names of the T terms: `max_logit`, `log_odds`, `others` or `mahalanobis.LAYER`.

    Raises:
        ValueError: there is no such term.
    """
    columns = []
    for term in score:
        if term == MAX_LOGIT:
            columns.append(np.asarray(logits, dtype=np.float64).max(axis=1))
        elif term == LOG_ODDS:
            columns.append(log_odds(logits))
        elif term == OTHERS:
            columns.append(whitened(features, arrays) @ arrays["others.weight"].astype(np.float64))
        elif term.startswith(MAHALANOBIS):
            layer = term.removeprefix(MAHALANOBIS)
            if f"across.{layer}" in arrays:
                across, centres = arrays[f"across.{layer}"], arrays[f"centres.{layer}"]
            else:
                across, centres = whitened_means(arrays, layer)
            columns.append(mahalanobis(features[layer], centres, across))
        else:
            raise ValueError(f"no term {term!r}")
    return np.stack(columns, axis=1)


def standardised(terms: np.ndarray, median: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """[n] mean of the terms [n, T] after each is centred and scaled by what it is on validation images."""
    return ((terms - median.astype(np.float64)) / scale.astype(np.float64)).mean(axis=1)


def probe_image() -> np.ndarray:
    """[H, W, 3] levels of a fixed image of coarse and fine noise.

    What a model computes for it tells whether the weights or the preprocessing have changed. It does not depend on the
    random generator of a library version.
    """
    width, height = PROBE_SIZE
    n = height * width * 3
    values = np.arange(n, dtype=np.uint64)
    for factor in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9):  # The mixing steps of splitmix64.
        values = (values + np.uint64(1)) * np.uint64(factor)
        values ^= values >> np.uint64(29)
    fine = (values >> np.uint64(32)).astype(np.uint8).reshape(height, width, 3)
    coarse = np.repeat(np.repeat(fine[::20, ::20], 20, axis=0), 20, axis=1)
    return np.where(np.arange(width)[None, :, None] < width // 2, fine, coarse)
