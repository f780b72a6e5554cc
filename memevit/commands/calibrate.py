"""Calibrate a trained model, and give it the statistics by which it answers `unknown`."""

import logging
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel, TrainingArguments
from transformers.image_processing_utils import BaseImageProcessor

from memevit import pixels, results
from memevit.arguments import ModelArguments, OpenSetArguments
from memevit.data import dataset as prepared
from memevit.data.sample import unrelated
from memevit.errors import UserError
from memevit.evaluation import calibration, known_scores, measure, plots
from memevit.evaluation.known_scores import Known, Unknown
from memevit.hub import model_page
from memevit.model import backbone, folder, forward, open_set, pixel_cache
from memevit.model.classifier import Classification, Classifier, best_device
from memevit.model.image_dataset import ImageDataset, image_datasets, paths_of
from memevit.model.open_set import Seen
from memevit.model.processor import Processor
from memevit.portable.open_set import KEY, Decision

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

DRAWN = "drawn images of no game"
UNKNOWN_CLASS = "unknown_class"  # Folder of the checkpoint with one more class.
N_DRAWN = 120
_DRAWN_SIZE = (320, 240)
_MIN_UNKNOWN = 2
_MAX_NAMED = 5
_ROUNDING = 1e-3  # Of logits that were computed in another way.


@dataclass(frozen=True)
class Evaluated:
    """A finished model: its folder, the sections of its results.json, and the table that is printed."""

    output_dir: Path
    sections: dict[str, Any]
    table: str

    def __str__(self) -> str:
        return self.table


@dataclass(frozen=True)
class Calibrated:
    """What came of it: calibrated `logits` [n, C] and `decisions` by split, and the sections of results.json.

    `class_names` are in the order of the logits.
    """

    class_names: list[str]
    logits: dict[str, np.ndarray]
    decisions: dict[str, list[Decision]]
    sections: dict[str, Any]

    @property
    def decided(self) -> dict[str, tuple[list[float], list[bool]]]:
        """Known scores, and whether each image is accepted, by split."""
        return {
            split: ([one.known_score for one in own], [one.accepted for one in own])
            for split, own in self.decisions.items()
        }


def finish(
    model_dir: Path,
    model: PreTrainedModel,
    image_processor: BaseImageProcessor,
    splits: "Mapping[str, datasets.Dataset]",
    settings: OpenSetArguments,
    *,
    seen: Mapping[str, Seen] | None = None,
    statistics: open_set.Statistics | None = None,
    held_out: Sequence[tuple[Seen, open_set.Statistics]] = (),
    before: np.ndarray | None = None,
    cache_dir: Path | None = None,
    batch_size: int = 64,
    n_workers: int = 0,
    device: torch.device | None = None,
) -> Calibrated:
    """Calibrate a model, which is changed, and write it to `model_dir` with its statistics.

    Done again after an interruption it gives the same: the temperature of a calibrated model is 1.

    Args:
        model_dir: where the model goes, or already is.
        model: trained.
        image_processor: of the model.
        splits: train, validation and test, with the classes of the model in any order.
        settings: of the calibration.
        seen: what the model computes for each split, in the labels of the model; computed here when None.
        statistics: of the training images; made of those in `seen` when None.
        held_out: see `open_set.fit`.
        before: [n, C] validation logits of the model as it was trained, if an interrupted call may have calibrated it.
        cache_dir: where decoded pixels are kept.
        batch_size: images that the model sees at once.
        n_workers: processes that load images.
        device: where to compute; the accelerator of this machine, if it has one, when None.
    """
    model = model.float().to(device or best_device())
    class_names = [model.config.id2label[label] for label in range(model.config.num_labels)]
    if seen is None:
        seen = _observe(model, image_processor, splits, class_names, cache_dir, batch_size, n_workers)
    validation = seen["validation"]
    folded = _folded_before(model) if before is None else _folded_since(before, validation.logits)
    temperature = (
        calibration.fit_temperature(validation.logits, validation.labels) if settings.temperature else 1 / folded
    )
    raw = seen["test"].logits * (1.0 if before is None else folded)
    open_set.fold_temperature(model, temperature)
    seen = {name: own.cooled(temperature) for name, own in seen.items()}
    for key in (KEY, "custom_pipelines"):  # Of the model that this one was made of.
        vars(model.config).pop(key, None)
    backbone.save_checkpoint(model, image_processor, model_dir)
    others = _others(settings)
    fitted = open_set.fit(
        seen["train"], validation=seen["validation"], class_names=class_names,
        false_rejection=settings.false_rejection, statistics_only=settings.statistics_only, statistics=statistics,
        held_out=[(own.cooled(temperature), without) for own, without in held_out],
        others=_features_of(others[::2], model, image_processor, batch_size=batch_size) if others else None,
    )  # fmt: skip
    written = open_set.write(model_dir, fitted, model, image_processor, temperature=temperature * folded)
    decisions = {
        name: written.decide(seen[name].logits, seen[name].features) for name in ("validation", "test") if name in seen
    }
    classifier = Classifier(model, image_processor, written)
    unknown = unknown_images(classifier, settings, batch_size=batch_size)
    test = _known("test", seen["test"], decisions["test"])
    sections = {
        "calibration": calibration.section(
            raw, seen["test"].logits, seen["test"].labels, temperature=temperature,
            n_validation=len(validation.labels), split="test",
        ),
        "open_set": known_scores.section(written.settings, test, unknown, class_names),
    }  # fmt: skip
    if settings.unknown_class:
        label = written.settings["reject_label"]
        threshold = open_set.logit_threshold(seen["validation"], settings.false_rejection)
        open_set.write_with_unknown_class(
            model_dir / UNKNOWN_CLASS, model, image_processor, threshold=threshold, label=label
        )
        sections["open_set"]["unknown_class"] = known_scores.unknown_class_section(
            seen["test"].logits, seen["test"].labels, classifier.outputs(_drawn()).logits, threshold=threshold
        )
    logger.info("%s", known_scores.line(sections["open_set"]))
    logits = {name: seen[name].logits for name in decisions}
    return Calibrated(class_names, logits, decisions, sections)


def run(model_args: ModelArguments, settings: OpenSetArguments, args: TrainingArguments) -> Evaluated | None:
    """Calibrate the trained model at `--model_name_or_path` without training; the result goes to `--output_dir`.

    It is called by all processes, of which the first does the work and returns the results.

    Args:
        model_args: which model, and the dataset that it was trained on.
        settings: of the calibration.
        args: of the Trainer: where the result goes, and sizes of batches.

    Raises:
        UserError: there is no such model, or the dataset has other classes.
    """
    if not model_args.model_name_or_path:
        raise UserError("--calibrate_only needs a trained model. Name it with --model_name_or_path.")
    forward.use_cores(args.device)
    source = model_args.model_name_or_path
    splits = prepared.load(model_args.dataset)
    model, image_processor = backbone.load_trained(source, trust_remote_code=model_args.trust_remote_code)
    require_same_classes(list(model.config.id2label.values()), splits["train"].features["label"].names)
    fingerprint = prepared.read_prep(model_args.dataset)["fingerprint"]
    record = folder.describe_run(vars(model_args) | vars(settings), args, fingerprint=fingerprint)
    output_dir = Path(args.output_dir)
    with folder.begun(output_dir, record, args, overwrite=model_args.overwrite) as work_dir:
        if args.process_index:
            return None
        if (found_before := Path(source) / results.RESULTS_FILE).is_file():
            shutil.copyfile(found_before, work_dir / results.RESULTS_FILE)
        cache_dir = pixel_cache.folder_of(model_args.dataset) if model_args.pixel_cache else None
        found = finish(
            work_dir, model, image_processor, splits, settings, cache_dir=cache_dir,
            batch_size=args.per_device_eval_batch_size, n_workers=args.dataloader_num_workers, device=args.device,
        )  # fmt: skip
        columns = [found.class_names.index(name) for name in splits["train"].features["label"].names]
        logits = {split: own[:, columns] for split, own in found.logits.items()}
        sections = measure.record(work_dir, splits, logits, seed=args.seed, decided=found.decided) | found.sections
        results.update(work_dir, **sections, data=prepared.describe(model_args.dataset))
        plots.draw_figures(work_dir, results.read(work_dir))
        model_page.write(work_dir)
    return Evaluated(output_dir, sections, measure.table(sections))


def require_same_classes(class_names: Sequence[str], in_dataset: Sequence[str]) -> None:
    """See that a model and a dataset are about the same classes, in whatever order.

    Raises:
        UserError: they are not.
    """
    only_model, only_data = sorted(set(class_names) - set(in_dataset)), sorted(set(in_dataset) - set(class_names))
    if only_model or only_data:
        raise UserError(
            f"The model and the dataset have different classes ({_listed(only_model)} only in the model, "
            f"{_listed(only_data)} only in the dataset). Name the dataset that the model was trained on."
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more if names else "none"


def _folded_before(model: torch.nn.Module) -> float:
    """By what the logits were divided since the model was trained, as its configuration says."""
    return float((getattr(model.config, KEY, None) or {}).get("temperature_folded") or 1.0)


def _folded_since(before: np.ndarray, logits: np.ndarray) -> float:
    """By what an interrupted call has divided the logits `before`: 1, if there was none."""
    factor = float((before * logits).sum() / max(float((logits**2).sum()), 1e-12))
    return 1.0 if abs(factor - 1) < _ROUNDING else factor


def _observe(
    model: torch.nn.Module,
    image_processor: Any,
    splits: "Mapping[str, datasets.Dataset]",
    class_names: Sequence[str],
    cache_dir: Path | None,
    batch_size: int,
    n_workers: int,
) -> dict[str, Seen]:
    """What the model computes for each split, with the labels of the model; for training images if not too many."""
    names = splits["train"].features["label"].names
    require_same_classes(class_names, names)
    label_of = np.array([class_names.index(name) for name in names])
    processor = Processor.of(image_processor)
    images = image_datasets(splits, processor, None, seed=0, cache_dir=cache_dir)
    chosen = open_set.some_of(images["train"].labels, open_set.MAX_TRAINING_IMAGES)
    if len(chosen) < len(images["train"]):
        paths = paths_of(splits["train"])
        images["train"] = ImageDataset(
            [paths[position] for position in chosen], [images["train"].labels[position] for position in chosen],
            processor,
        )  # fmt: skip
    layers = open_set.layers_of(model)
    found = {}
    for name, own in images.items():
        seen = open_set.observe(
            model, own, layers, batch_size=batch_size, n_workers=n_workers, title=f"Features of {name}"
        )
        found[name] = replace(seen, labels=label_of[seen.labels])
    return found


def _known(split: str, seen: Seen, decisions: Sequence[Decision]) -> Known:
    return Known(
        split,
        np.array([one.known_score for one in decisions]),
        np.array([one.accepted for one in decisions], dtype=bool),
        seen.logits.argmax(axis=1) == seen.labels,
        seen.labels,
    )


def _image_files(folder: Path, *, at_least: int) -> list[Path]:
    """Readable images below a folder, in order.

    Raises:
        UserError: there are fewer than `at_least`.
    """
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    found = [path for path in sorted(paths) if _is_readable(path)]
    if len(found) < at_least:
        raise UserError(f"{folder} holds {len(found)} readable images, at least {at_least} are needed. Add some.")
    return found


def _is_readable(path: Path) -> bool:
    try:
        pixels.load_image(path)
    except pixels.UnreadableImageError as error:
        logger.info("%s is left out: %s", path, error)
        return False
    return True


def _features_of(paths: Sequence[Path], model: PreTrainedModel, image_processor: Any, *, batch_size: int) -> Seen:
    """What the model computes for files, with labels that mean nothing."""
    classifier, layers = Classifier(model, image_processor), open_set.layers_of(model)
    parts = [
        classifier.outputs([pixels.load_image(path) for path in paths[start : start + batch_size]], layers=layers)
        for start in range(0, len(paths), batch_size)
    ]
    features = {layer: np.concatenate([part.features[layer] for part in parts]) for layer in layers}
    return Seen(np.concatenate([part.logits for part in parts]), features, np.zeros(len(paths), dtype=np.int64))


def unknown_images(classifier: Classifier, settings: OpenSetArguments, *, batch_size: int) -> list[Unknown]:
    """Drawn images, and those that the settings name, as the classifier sees them."""
    sources = {source.name: _image_files(source, at_least=_MIN_UNKNOWN) for source in settings.unknown_images or []}
    if others := _others(settings):
        sources[f"{settings.others.name}, the half that was held back"] = others[1::2]
    found = [_scored(DRAWN, classifier.classify_images(_drawn()))]
    for name, paths in sources.items():
        answers = classifier.classify(paths, batch_size=batch_size)
        found.append(_scored(name, [one for one in answers if one.probabilities is not None], is_near=True))
    return found


def _drawn() -> list[Image.Image]:
    rng = random.Random(0)
    return [unrelated.unrelated(rng, _DRAWN_SIZE) for _ in range(N_DRAWN)]


def _others(settings: OpenSetArguments) -> list[Path]:
    """Images of none of the classes: every second one from the first teaches, the others measure."""
    return _image_files(settings.others, at_least=2 * _MIN_UNKNOWN) if settings.others else []


def _scored(name: str, answers: Sequence[Classification], *, is_near: bool = False) -> Unknown:
    scores = np.array([one.known_score for one in answers])
    return Unknown(name, scores, np.array([one.accepted for one in answers], dtype=bool), is_near)
