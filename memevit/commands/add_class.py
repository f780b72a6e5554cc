"""Add classes to a trained model, take one out or rename one, without training it from scratch."""

import contextlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from memevit import files, manifest, results
from memevit.arguments import ClassArguments, OpenSetArguments, from_keywords
from memevit.commands import calibrate
from memevit.commands.calibrate import DRAWN, Evaluated
from memevit.commands.finetune import finetune
from memevit.data import dataset as prepared
from memevit.data import extend as extending
from memevit.data.dataset import read_prep
from memevit.errors import UserError
from memevit.evaluation import growth, known_scores, measure, predictions, rejection
from memevit.hub import model_page
from memevit.model import backbone, extend, open_set
from memevit.model.classifier import Classifier, best_device
from memevit.model.extend import Observed
from memevit.model.image_dataset import image_datasets
from memevit.model.processor import Processor
from memevit.portable.open_set import KEY, OpenSet, StaleStatisticsError

logger = logging.getLogger(__name__)

REFINE_BELOW = 0.9  # Accuracy of the new classes on validation, as a share of that of the old ones.
_MIN_IMAGES = 10  # Below this the splits of a class are too small to measure anything.
_ENOUGH_IMAGES = 60
_REFINE_EPOCHS, _REFINE_RATE = 6, 0.2  # Of the learning rate of a whole training.
_DATASET_SUFFIX = ".dataset"


def add_class(
    model: str | Path, dataset: str | Path, output_dir: str | Path, images: Mapping[str, str | Path], **options: Any
) -> Evaluated:
    """Add classes to a trained model, as add_class.py does.

    Args:
        model: a model folder.
        dataset: the prepared dataset that it was trained on.
        output_dir: model folder to write.
        images: a folder of images by the name of each new class.
        options: flags of add_class.py without their dashes.

    Returns:
        The results, with the table as `str()`.

    Raises:
        UserError: the classes can't be added.
    """
    given = {
        "model": Path(model), "dataset": Path(dataset), "output_dir": Path(output_dir),
        "class_name": list(images), "images": [Path(one) for one in images.values()],
    }  # fmt: skip
    return run(*from_keywords(given | options, ClassArguments, OpenSetArguments))


@dataclass(frozen=True)
class _Change:
    """What becomes of the classes: new name by old one (None for one that is removed), and those that are added."""

    renamed: dict[str, str | None]
    added: list[str]

    @property
    def class_names(self) -> list[str]:
        """Of the new model, in the order of its labels."""
        return [new for new in self.renamed.values() if new is not None] + self.added

    def label_of(self, old_names: Sequence[str]) -> list[int]:
        """The new label of each old class; -1 for one that is removed."""
        names = self.class_names
        return [-1 if (new := self.renamed[old]) is None else names.index(new) for old in old_names]


def run(args: ClassArguments, settings: OpenSetArguments) -> Evaluated:
    """See `add_class`."""
    started = time.perf_counter()
    _require_free(args.output_dir, overwrite=args.overwrite)
    model, image_processor, known = _loaded(args.model)
    old_names = [model.config.id2label[label] for label in range(model.config.num_labels)]
    prepared.require_prepared(args.dataset)
    calibrate.require_same_classes(old_names, list(read_prep(args.dataset)["classes"]))
    images = _images(args)
    change = _change(old_names, images, remove=args.remove_class, rename=args.rename_class)
    dataset_dir = args.extend_dataset or args.output_dir.with_name(args.output_dir.name + _DATASET_SUFFIX)
    prep = extending.extend(
        args.dataset, images, dataset_dir, remove=args.remove_class, rename=_renames(args.rename_class),
        overwrite=args.overwrite,
    )  # fmt: skip
    _report_new(prep, change.added)
    splits = prepared.load(dataset_dir)
    with files.locked(args.output_dir), _partial(args.output_dir) as work_dir:
        seen, old_answers = _observed(model, image_processor, known, splits, old_names, change, args.batch_size)
        head = _head(model, seen, change, old_names)
        grown = extend.with_classes(model, head, change.class_names)
        grown.save_pretrained(work_dir)
        image_processor.save_pretrained(work_dir)
        results.write_run(work_dir, _record(args, model, prep))
        calibrated = calibrate.finish(
            work_dir, splits, settings, seen={name: own.with_head(head) for name, own in seen.items()},
            batch_size=args.batch_size,
        )  # fmt: skip
        sections = _sections(work_dir, args, splits, calibrated, change, old_answers, known)
        sections["growth"] |= {"head": head.method, "refined": False, "seconds": time.perf_counter() - started}
        _write(work_dir, dataset_dir, sections)
        if _should_refine(args.refine, calibrated, seen["validation"].labels, change):
            sections = _refine(work_dir, args, dataset_dir, splits, change, old_answers, known, sections, started)
        if args.compare_joint:
            sections["growth"]["joint"] = _joint(args, dataset_dir, change)
            _write(work_dir, dataset_dir, sections)
        files.publish(work_dir, args.output_dir)
    return Evaluated(args.output_dir, sections, growth.table(sections["growth"]))
