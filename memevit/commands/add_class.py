"""Add classes to a trained model, take one out or rename one, without training it from scratch."""

import functools
import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from memevit import files, manifest, results
from memevit.arguments import ClassArguments, OpenSetArguments, from_keywords
from memevit.commands import calibrate
from memevit.commands.calibrate import Evaluated
from memevit.commands.finetune import finetune
from memevit.data import dataset as prepared
from memevit.data import extend as extending
from memevit.errors import UserError
from memevit.evaluation import growth, measure, plots, predictions, rejection
from memevit.evaluation.growth import Answers
from memevit.hub import model_page
from memevit.model import backbone, extend, open_set, recipe
from memevit.model.classifier import Classifier, best_device
from memevit.model.extend import Observed
from memevit.model.heads import Head
from memevit.model.image_dataset import image_datasets
from memevit.model.open_set import Seen
from memevit.model.processor import Processor
from memevit.portable.open_set import KEY, OpenSet, StaleStatisticsError

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

REFINE_BELOW = 0.9  # Accuracy of the new classes on validation, as a fraction of that of the old ones.
REFINE_EPOCHS = 6
REFINE_RATE = 0.2  # As a fraction of the learning rate of a whole training.
MIN_IMAGES = 10  # Of a new class; with fewer its test split is too small to say anything.
_GOOD_ADVICE = "10 give a first idea, 20 a usable class, 60 and more steady figures"
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

    Example:
        ``memevit.add_class("model", "prepared", "model-3", {"genshin_impact": "genshin/"})``
    """
    given = {
        "model": Path(model), "dataset": Path(dataset), "output_dir": Path(output_dir),
        "class_name": list(images), "images": [Path(folder) for folder in images.values()],
    }  # fmt: skip
    return run(*from_keywords(given | options, ClassArguments, OpenSetArguments))


@dataclass(frozen=True)
class _Old:
    """The model that is changed."""

    model: PreTrainedModel
    image_processor: BaseImageProcessor
    classifier: Classifier

    @property
    def class_names(self) -> list[str]:
        """In the order of its labels."""
        return self.classifier.class_names

    @property
    def known(self) -> OpenSet | None:
        """Its statistics, if it has any."""
        return self.classifier.open_set

    @property
    def has_statistics_only(self) -> bool:
        """Whether it has statistics, but no features of single images."""
        return self.known is not None and self.known.settings["statistics_only"]


@dataclass(frozen=True)
class _Change:
    """New names by old ones, None for a class that is removed, and the classes that are added."""

    renamed: dict[str, str | None]
    added: list[str]

    @property
    def kept(self) -> list[str]:
        """Old classes under their new names."""
        return [name for name in self.renamed.values() if name is not None]

    @property
    def class_names(self) -> list[str]:
        """Of the new model, in the order of its labels."""
        return self.kept + self.added

    @property
    def label_of(self) -> list[int]:
        """The new label of each old one; -1 for a class that is removed."""
        return [-1 if name is None else self.class_names.index(name) for name in self.renamed.values()]


def run(args: ClassArguments, settings: OpenSetArguments) -> Evaluated:
    """See `add_class`."""
    started = time.perf_counter()
    _require_free(args.output_dir, args.model, overwrite=args.overwrite)
    old = _loaded(args.model)
    if old.has_statistics_only:  # Who left single images out once means it.
        settings = replace(settings, statistics_only=True)
    prepared.require_prepared(args.dataset)
    calibrate.require_same_classes(old.class_names, list(prepared.read_prep(args.dataset)["classes"]))
    images = _images(args)
    change = _change(old.class_names, list(images), remove=args.remove_class, rename=args.rename_class or [])
    dataset_dir = args.extend_dataset or args.output_dir.with_name(args.output_dir.name + _DATASET_SUFFIX)
    prep = extending.extend(
        args.dataset, images, dataset_dir, remove=args.remove_class, overwrite=args.overwrite,
        rename={name: new for name, new in change.renamed.items() if new not in (None, name)},
        check=functools.partial(_require_enough, added=change.added),
    )  # fmt: skip
    _report(prep, change.added)
    splits = prepared.load(dataset_dir)
    work_dir = files.partial_of(args.output_dir)
    with files.locked(args.output_dir):
        shutil.rmtree(work_dir, ignore_errors=True)
        work_dir.mkdir(parents=True)
        try:
            with files.explained_disk_errors(args.output_dir):
                sections = _changed(work_dir, args, settings, old, change, splits, dataset_dir, started)
                files.publish(work_dir, args.output_dir)
        finally:
            shutil.rmtree(work_dir, ignore_errors=True)
    return Evaluated(args.output_dir, sections, f"{growth.table(sections['growth'])}\nThe dataset is in {dataset_dir}")


def _changed(
    work_dir: Path,
    args: ClassArguments,
    settings: OpenSetArguments,
    old: _Old,
    change: _Change,
    splits: "datasets.DatasetDict",
    dataset_dir: Path,
    started: float,
) -> dict[str, Any]:
    """Write the new model to `work_dir`, and return the sections of its results.json."""
    seen = _observed(old, change, splits, batch_size=args.batch_size)
    statistics = None
    if old.has_statistics_only:
        new = seen["train"]
        statistics = open_set.Statistics.extended(old.known, change.label_of, new.features, new.labels)
    head = _head(old, change, seen, statistics)
    grown = extend.with_classes(old.model, head, change.class_names)
    if change.added:  # The temperature in the configuration is that of the old head.
        vars(grown.config).pop(KEY, None)
    results.write_run(work_dir, _record(args, dataset_dir))
    calibrated = calibrate.finish(
        work_dir, grown, old.image_processor, splits, settings, statistics=statistics,
        held_out=_held_out(old, change, seen, splits, head),
        seen={name: own.with_head(head) for name, own in seen.items()}, batch_size=args.batch_size,
    )  # fmt: skip
    sections = measure.record(work_dir, splits, calibrated.logits, seed=0, decided=calibrated.decided)
    sections |= calibrated.sections | _inherited(args.model)
    before = _old_answers(old, change, seen["test"])
    record = {"added": change.added, "removed": args.remove_class, "head": head.method, "refined": False}
    validation = seen["validation"].with_head(head)
    trails = args.auto_refine and change.added and _trails(validation.logits.argmax(1), validation.labels, change)
    if args.refine or trails:
        sections = _refined(work_dir, settings, dataset_dir, old)
        record["refined"] = True
    found = _growth(work_dir, before, change) | record
    found["auroc"] = _auroc(old, change, seen["test"], settings, sections["open_set"], batch_size=args.batch_size)
    found["seconds"] = time.perf_counter() - started
    if args.compare_joint:
        found["joint"] = _joint(args, dataset_dir, change)
    sections["growth"] = found
    results.update(work_dir, **sections, data=prepared.describe(dataset_dir))
    plots.draw_figures(work_dir, results.read(work_dir))
    model_page.write(work_dir)
    return sections


def _require_free(output_dir: Path, model_dir: Path, *, overwrite: bool) -> None:
    if output_dir.resolve() == model_dir.resolve():
        raise UserError(f"--output_dir {output_dir} is the model to extend, which must stay. Choose another one.")
    if output_dir.exists() and not overwrite and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise UserError(f"{output_dir} is not empty. Choose another --output_dir, or replace it with --overwrite.")


def _loaded(model_dir: Path) -> _Old:
    model, image_processor = backbone.load_trained(model_dir)
    try:
        classifier = Classifier(model.to(best_device()), image_processor, OpenSet.load(model_dir))
    except StaleStatisticsError as error:
        raise UserError(f"{model_dir} can't be extended: {error}") from error
    return _Old(model, image_processor, classifier)


def _images(args: ClassArguments) -> dict[str, Path]:
    """A folder by class name: pairs of --images and --class_name, or the class folders in --images."""
    if args.class_name:
        return dict(zip(args.class_name, args.images or [], strict=True))
    found: dict[str, Path] = {}
    for folder in args.images or []:
        if not folder.is_dir():
            raise UserError(f"--images {folder} is not a folder. Name a folder of images.")
        inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not inner:
            raise UserError(f"{folder} holds no class folders. Say with --class_name what its images show.")
        found |= {path.name: path for path in inner}
    return found


def _change(old_names: list[str], added: list[str], *, remove: str | None, rename: list[str]) -> _Change:
    renamed: dict[str, str | None] = {name: name for name in old_names}
    for name in [*([remove] if remove else []), *rename[:1]]:
        if name not in renamed:
            raise UserError(f"The model has no class {name!r}. Its classes are {', '.join(old_names)}.")
    if remove:
        renamed[remove] = None
    if rename:
        renamed[rename[0]] = rename[1]
    change = _Change(renamed, added)
    if len(change.class_names) < 2:
        raise UserError(f"Without {remove!r} the model would have one class. At least 2 are needed.")
    return change


def _n_usable(prep: Mapping[str, Any], class_name: str) -> int:
    return sum(prep["classes"][class_name][split] for split in manifest.SPLITS)


def _require_enough(prep: Mapping[str, Any], *, added: Sequence[str]) -> None:
    for name in added:
        if (n := _n_usable(prep, name)) < MIN_IMAGES:
            raise UserError(f"{name!r} has {n} usable images, at least {MIN_IMAGES} are needed: {_GOOD_ADVICE}.")


def _report(prep: Mapping[str, Any], added: Sequence[str]) -> None:
    """Say how many images each new class has."""
    for name in added:
        counts = prep["classes"][name]
        logger.info("%s: %d of %d files are used, %s", name, _n_usable(prep, name), counts["found"],
                    ", ".join(f"{counts[split]} {split}" for split in manifest.SPLITS))  # fmt: skip
    if prep["n_conflicts"]:
        logger.warning("The same image is in several classes (%d times) and left out; manifest.csv and "
                       "contact_sheet.jpg of the new dataset show it", prep["n_conflicts"])  # fmt: skip
    if prep["n_moved_between_splits"]:
        logger.warning("%d images changed sides, because they resemble one of another split; manifest.csv of the new "
                       "dataset shows where they are", prep["n_moved_between_splits"])  # fmt: skip


def _observed(old: _Old, change: _Change, splits: "datasets.DatasetDict", *, batch_size: int) -> dict[str, Observed]:
    """Features of all images by split, in the new labels; those of old training images from the model, if kept.

    Validation and test images are seen again, for predictions.csv lists them one by one. Of a model with nothing but
    statistics of its training images, `train` holds those of the new classes.
    """
    kept = extend.training_features(old.known) if old.known else None
    if kept is None and not old.has_statistics_only:
        logger.info("The model has no features of its training images; they are computed again")
    layers = old.known.layers if old.known else open_set.layers_of(old.model)
    names = splits["train"].features["label"].names
    label_of = np.array([change.class_names.index(name) for name in names])
    is_new = np.array([name in change.added for name in names])
    processor, found = Processor.of(old.image_processor), {}
    for split in ("validation", "test", "train"):
        rows = splits[split]
        if split == "train" and (kept or old.has_statistics_only):
            rows = rows.select(np.flatnonzero(is_new[np.asarray(rows["label"][:])]).tolist())
            found[split] = (kept or found["validation"].none).relabelled(change.label_of)
        if len(rows):
            images = image_datasets({split: rows}, processor, None, seed=0, cache_dir=None)[split]
            seen = open_set.observe(old.model, images, layers, batch_size=batch_size, title=f"Features of {split}")
            computed = Observed(seen.features, label_of[seen.labels])
            found[split] = found[split].joined(computed) if split in found else computed
    return found


def _head(old: _Old, change: _Change, seen: Mapping[str, Observed], statistics: open_set.Statistics | None) -> Head:
    """The head of the new model: fitted anew if classes are added, else the rows of the old one that stay."""
    if change.added and statistics:
        return extend.head_from_statistics(statistics, seen["validation"])
    if change.added:
        return extend.fitted_head(seen["train"], seen["validation"], n_classes=len(change.class_names))
    head, rows = extend.head_of(old.model), [row for row, label in enumerate(change.label_of) if label >= 0]
    return Head(head.weight[rows], head.bias[rows], head.method)


def _held_out(
    old: _Old, change: _Change, seen: Mapping[str, Observed], splits: "datasets.DatasetDict", head: Head
) -> list[tuple[Seen, open_set.Statistics]]:
    """Training images of the new classes that stand beside the validation images, see `extend.held_out`."""
    names = splits["train"].features["label"].names
    pairs = zip(splits["train"]["label"], splits["train"]["group"], strict=True)
    groups = [group for label, group in pairs if names[label] in change.added]

    def extended(train: Observed) -> tuple[Head, open_set.Statistics]:
        statistics = open_set.Statistics.extended(old.known, change.label_of, train.features, train.labels)
        return extend.head_from_statistics(statistics, seen["validation"]), statistics

    refit = extend.refit(head, seen["validation"], n_classes=len(change.class_names))
    made = extended if old.has_statistics_only else refit
    return extend.held_out(seen["train"], groups, made, n_old=len(change.kept))


def _old_answers(old: _Old, change: _Change, test: Observed) -> Answers:
    """What the old model says about the test images, under the new names; a removed class is nobody's."""
    seen = test.with_head(extend.head_of(old.model))
    names = np.array([name if name is not None else "" for name in change.renamed.values()], dtype=object)
    accepted = None
    if old.known:
        accepted = np.array([one.accepted for one in old.known.decide(seen.logits, seen.features)], dtype=bool)
    return Answers(names[seen.logits.argmax(axis=1)], accepted)


def _auroc(
    old: _Old, change: _Change, test: Observed, settings: OpenSetArguments, after: Mapping[str, Any], *, batch_size: int
) -> list[dict[str, Any]]:
    """How well unknown images of each source are told from known ones, before and after; [] if they never could be.

    Args:
        old: the model before.
        change: of its classes.
        test: what it computes for the test images; those of the new classes are left out.
        settings: name the unknown images.
        after: section `open_set` of the new model.
        batch_size: images that the model sees at once.
    """
    if old.known is None:
        return []
    seen = test.with_head(extend.head_of(old.model))
    scores = old.known.known_scores(seen.logits, seen.features)[test.labels < len(change.kept)]
    unknown = calibrate.unknown_images(old.classifier, settings, batch_size=batch_size)
    before = {own.name: (rejection.auroc(scores, own.scores), 1 - float(own.accepted.mean())) for own in unknown}
    return [
        {"name": row["name"], "n": row["n"], "is_near": row["is_near"],
         "before": before[row["name"]][0], "after": row["auroc"],
         "called_unknown": {"before": before[row["name"]][1], "after": 1 - row["accepted"]}}
        for row in after["sources"]
    ]  # fmt: skip


def _growth(model_dir: Path, before: Answers, change: _Change) -> dict[str, Any]:
    """The section `growth`, with the new answers from predictions.csv."""
    written = predictions.read(model_dir)
    test = np.flatnonzero(np.array(written.splits) == "test")
    names = np.array(written.class_names, dtype=object)
    accepted = [written.accepted[row] for row in test]
    after = Answers(names[written.predicted[test]], None if None in accepted else np.array(accepted, dtype=bool))
    true = names[written.labels[test]]
    return growth.section(true, before, after, old_names=change.kept, new_names=change.added)


def _trails(predicted: np.ndarray, true: np.ndarray, change: _Change) -> bool:
    """Whether the new classes are told far less well than the old ones."""
    n_kept, right = len(change.kept), predicted == true
    new, old = right[true >= n_kept].mean(), right[true < n_kept].mean()
    trails = bool(new < REFINE_BELOW * old)
    if trails:
        logger.info("The new classes reach %.2f on validation, the old ones %.2f: the whole network is trained a "
                    "little on all images. --no_auto_refine leaves this out.", new, old)  # fmt: skip
    return trails


def _refined(work_dir: Path, settings: OpenSetArguments, dataset_dir: Path, old: _Old) -> dict[str, Any]:
    """Train the model in `work_dir` further on all images, classes weighted equally, and put the result there."""
    rate = recipe.default_rate(from_scratch=False, lora=False, width=extend.head_of(old.model).weight.shape[1])
    with tempfile.TemporaryDirectory(dir=work_dir.parent, prefix=f".{work_dir.name}-") as folder:
        start, refined = Path(folder) / "start", Path(folder) / "refined"
        work_dir.rename(start)
        done = finetune(
            dataset_dir, refined, backbone=start, num_train_epochs=REFINE_EPOCHS, learning_rate=REFINE_RATE * rate,
            class_balance="weights", head_factor=1.0, probe_if_better=False, **vars(settings),
        )  # fmt: skip
        refined.rename(work_dir)
    return done.sections


def _joint(args: ClassArguments, dataset_dir: Path, change: _Change) -> dict[str, Any]:
    """Accuracy and seconds of a whole training on all classes, from the backbone that the old model started with."""
    started, base = time.perf_counter(), (results.read_run(args.model)["arguments"]).get("model_name_or_path")
    with tempfile.TemporaryDirectory() as folder:
        finetune(dataset_dir, Path(folder) / "joint", backbone=args.backbone or base)
        seconds = time.perf_counter() - started
        written = predictions.read(Path(folder) / "joint")
    test = np.array(written.splits) == "test"
    right, true = written.predicted == written.labels, np.array(written.class_names)[written.labels]
    old, new = right[test & np.isin(true, change.kept)], right[test & np.isin(true, change.added)]
    values = {"old": float(old.mean()), "new": float(new.mean()) if len(new) else None, "seconds": seconds}
    return values | {"harmonic_mean": growth.harmonic_mean(old.mean(), new.mean()) if len(new) else None}


def _inherited(model_dir: Path) -> dict[str, Any]:
    """How the old model was trained, as far as it is known: the new one has its backbone."""
    try:
        return {"training": results.read(model_dir)["training"]}
    except (UserError, KeyError):
        return {}


def _record(args: ClassArguments, dataset_dir: Path) -> dict[str, Any]:
    return {
        "arguments": {
            "model": args.model.resolve().name, "dataset": dataset_dir.name, "class_name": args.class_name,
            "remove_class": args.remove_class, "rename_class": args.rename_class, "refine": args.refine,
        },
        "environment": results.environment(), "seed": 0,
        "data_fingerprint": prepared.read_prep(dataset_dir)["fingerprint"],
    }  # fmt: skip
