"""Examine a model on a prepared dataset: mistakes, evidence, shortcuts, confidence, as a page and as numbers."""

import csv
import io
import json
import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from memevit import cores, files, manifest, pixels, results
from memevit.arguments import DiagnoseArguments, from_keywords
from memevit.commands import retrain, start_backbone
from memevit.data import dataset as prepared
from memevit.data import leaks
from memevit.errors import UserError
from memevit.escape import csv_cell
from memevit.evaluation import (
    baselines,
    comparison,
    confidence,
    evidence,
    label_errors,
    learning_curve,
    measure,
    mistakes,
    per_class,
    pool,
    predictions,
    report,
    shortcuts,
)
from memevit.evaluation.observed import Observed, known_by_file
from memevit.model.inspection import Inspection

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

MAX_ALTERED = 1000  # Test images that are also shown altered.
MAX_HEAT_MAPS = 60
HEAT_MAPS_S = 60.0  # For all heat maps, unless their number is given.
POOL_FILE, POOL_SHEET = "label_next.csv", "label_next.jpg"
_FORWARDS_PER_HEAT_MAP = 81 + 3 * 16  # Covered copies, and steps of integrated gradients with their way back.
_FORWARDS_PER_MISTAKE = 7
_FORWARDS_FOR_CAUSES = 240  # Halves of correct images.
_LOOK_S = 0.04  # Per image, for hashing and baselines.
_MANY_IMAGES = 500  # From which on other processes are worth starting for decoding.


@dataclass(frozen=True)
class Diagnosed:
    """A finished diagnosis: the page, the sections that were added to results.json, and what the page shows."""

    page: Path
    sections: dict[str, Any]
    content: report.Content

    def __str__(self) -> str:
        found = self.sections.get("evidence")
        lines = [evidence.plain_lines(found)] if found else []
        return "\n".join(lines + [self.sections[name]["summary"] for name in self.sections if name != "evidence"])


@dataclass(frozen=True)
class _Examined:
    """The model, the splits as it sees them, and how long it takes for an image."""

    args: DiagnoseArguments
    model: Inspection
    parts: dict[str, Observed]
    seconds_each: float

    @property
    def train(self) -> Observed:
        return self.parts["train"]

    @property
    def held_out(self) -> list[Observed]:
        return [self.parts[name] for name in ("validation", "test") if name in self.parts]

    @property
    def judged(self) -> Observed:
        """The split that the verdict is about: test, or validation if there is no test split."""
        return self.held_out[-1]

    @property
    def n_classes(self) -> int:
        return len(self.model.class_names)


def diagnose(model: str | Path, dataset: str | Path, **options: Any) -> Diagnosed:
    """Examine `model` on `dataset`, as diagnose.py does.

    Args:
        model: folder of any image classification checkpoint; the report is written into it.
        dataset: folder that data_prep.py or `memevit.prepare` wrote.
        options: flags of diagnose.py without their dashes.

    Raises:
        UserError: an option is unknown or wrong, or model and dataset do not fit together.

    Example:
        ``memevit.diagnose("model", "prepared", only="mistakes,evidence").page``
    """
    return run(*from_keywords({"model": Path(model), "dataset": Path(dataset)} | options, DiagnoseArguments))


def run(args: DiagnoseArguments) -> Diagnosed:
    """See `diagnose`."""
    started = time.monotonic()
    _require_all(args)
    dataset = prepared.load(args.dataset)
    if not len(dataset["train"]) or not (len(dataset["test"]) or len(dataset["validation"])):
        raise UserError(f"{args.dataset} has no training or no held-out images to diagnose. Run data_prep.py again.")
    model = Inspection.load(args.model)
    label_of = _labels_of(model.class_names, dataset["train"].features["label"].names, args)
    seconds_each = _announce(model, dataset, args)
    of_file = {row.file: row for row in manifest.iter_rows(args.dataset) if row.status == manifest.KEPT}
    parts = {
        name: _observe(model, split, name, of_file, label_of, args) for name, split in dataset.items() if len(split)
    }
    examined = _Examined(args, model, parts, seconds_each)
    prep = prepared.read_prep(args.dataset)
    content = report.Content(
        args.model.resolve().name,
        args.dataset.resolve().name,
        prep["fingerprint"],
        model.class_names,
        parts,
        n_corrections=prep["settings"].get("n_corrections", 0),
        visible_box=model.visible_box,
    )
    sections = _measure(examined, content)
    page = report.write(args.model, content)
    if args.pool:
        _rank_pool(examined, page.parent)
    results.update(args.model, **sections)
    logger.info("Examined in %.0f s", time.monotonic() - started)
    return Diagnosed(page, sections, content)


def _require_all(args: DiagnoseArguments) -> None:
    """Check every path before the work of minutes."""
    for flag, folder in (("--compare", args.compare), ("--backbone", args.backbone)):
        if folder is not None and not (folder / "config.json").is_file():
            raise UserError(f"{flag} {folder} holds no model (no config.json). Name a local checkpoint folder.")
    if args.retrain:
        retrain.require_record(args.model, _backbone(args))
    if args.pool is not None and not args.pool.is_dir():
        raise UserError(f"--pool {args.pool} is not a folder. Name a folder of images.")


def _measure(examined: _Examined, content: report.Content) -> dict[str, Any]:
    """Fill in `content` and return its sections for results.json."""
    args, judged = examined.args, examined.judged
    wanted = set(args.sections)
    before = _features_before(examined) if wanted & {"evidence", "mistakes"} or args.learning_curve else None
    found = _leaks(examined) if wanted & {"evidence", "mistakes"} else []
    sections: dict[str, Any] = {}
    if "evidence" in wanted:
        sections["evidence"] = content.evidence = _evidence(examined, before, found)
        if args.retrain and args.control == "shuffled_labels":
            accuracies = retrain.on_shuffled_labels(args.model, args.dataset, _backbone(args), split=judged.split)
            content.evidence["shuffled_labels_retrained"] = evidence.retrained_control(accuracies, judged)
    if "mistakes" in wanted:
        content.found = _mistakes(examined, before, found)
        content.heat_maps = _heat_maps(examined, content.found)
        sections["mistakes"] = mistakes.section(content.found, examined.model.class_names)
    if "shortcuts" in wanted:
        sections["shortcuts"] = content.shortcuts = _shortcuts(examined, content)
    if "confidence" in wanted:
        sections["confidence"] = content.confidence = confidence.section(
            judged.split, judged.logits, judged.labels, temperature=_temperature(args.model)
        )
    if "classes" in wanted:
        sections["classes"] = content.classes = per_class.section(judged, examined.model.class_names)
    if args.learning_curve:
        of = "the backbone's features before fine-tuning" if before else "this model's features"
        features = before or {part.split: part.features for part in examined.parts.values()}
        sections["learning_curve"] = content.learning_curve = learning_curve.section(
            examined.train, judged, (features["train"], features[judged.split]), of=of, seed=args.seed
        )
        if args.retrain:
            rows = retrain.on_fewer_images(args.model, args.dataset, _backbone(args), split=judged.split)
            content.learning_curve["retrained"] = learning_curve.retrained(rows, examined.train, judged)
    if args.compare:
        sections["comparison"] = content.comparison = comparison.section(
            judged, _compared(examined), args.compare.resolve().name, examined.model.class_names
        )
    return sections


def _labels_of(model_names: list[str], dataset_names: list[str], args: DiagnoseArguments) -> list[int]:
    """The model's class id of each class of the dataset."""
    if unknown := [name for name in dataset_names if name not in model_names]:
        raise UserError(
            f"{args.dataset} has the classes {unknown[:5]}, which {args.model} does not know; it knows "
            f"{model_names[:10]}. Diagnose with the dataset that it was trained on."
        )
    return [model_names.index(name) for name in dataset_names]


def _announce(model: Inspection, dataset: "datasets.DatasetDict", args: DiagnoseArguments) -> float:
    """Say what it will cost, from a few timed images; seconds that the model takes for one."""
    counts = {name: len(split) for name, split in dataset.items()}
    sample = prepared.paths_of(dataset["test"] if counts["test"] else dataset["validation"])[: args.batch_size]
    images = [pixels.load_image(Path(path)) for path in sample]
    model.logits(images[:2])  # What happens once only is not timed.
    start = time.monotonic()
    model.logits(images)
    each = (time.monotonic() - start) / len(images)
    n_images, n_held_out = sum(counts.values()), counts["test"] + counts["validation"]
    n_forwards, look_s = n_images, 0.0
    if "shortcuts" in args.sections:
        n_forwards += len(shortcuts.VARIANTS) * min(counts["test"], MAX_ALTERED)
    if {"evidence", "mistakes"} & set(args.sections):
        n_forwards += n_images
        look_s = n_images * _LOOK_S
    if "mistakes" in args.sections:
        n_mistakes = min(args.max_mistakes, n_held_out // 10)  # If a tenth is wrong.
        n_forwards += _FORWARDS_FOR_CAUSES + n_mistakes * _FORWARDS_PER_MISTAKE
        n_forwards += min(n_mistakes, _n_heat_maps(args, each)) * _FORWARDS_PER_HEAT_MAP
    seconds = n_forwards * each + look_s
    duration = f"{max(seconds, 1):.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
    listed = ", ".join(f"{n:,} {name}" for name, n in counts.items())
    logger.info("%s images; about %s at %.0f ms per image", listed, duration, 1000 * each)
    return each


def _n_heat_maps(args: DiagnoseArguments, seconds_each: float) -> int:
    if args.heat_maps is not None:
        return args.heat_maps
    return int(min(MAX_HEAT_MAPS, max(1, HEAT_MAPS_S / (seconds_each * _FORWARDS_PER_HEAT_MAP))))


def _n_processes(args: DiagnoseArguments, n_images: int) -> int:
    n_processes = args.num_proc or cores.n_cores()
    return n_processes if n_images > _MANY_IMAGES and n_processes > 1 else 0


def _observe(
    model: Inspection,
    split: "datasets.Dataset",
    name: str,
    of_file: dict[str, manifest.Row],
    label_of: list[int],
    args: DiagnoseArguments,
) -> Observed:
    paths = [Path(path) for path in prepared.paths_of(split)]
    logits, features = model.observe(
        paths, title=name.capitalize(), batch_size=args.batch_size, n_processes=_n_processes(args, len(paths))
    )
    names = split["file"][:]
    known = known_by_file(args.model)
    scores = np.array([known.get(file, (np.nan, None))[0] for file in names])
    has_scores = bool(known) and not np.isnan(scores).all()
    return Observed(
        name,
        paths,
        [of_file[file] for file in names],
        np.array(label_of)[np.asarray(split["label"][:], dtype=np.int64)],
        logits,
        features,
        scores if has_scores else None,
        np.array([known.get(file, (np.nan, None))[1] is not False for file in names]) if has_scores else None,
    )


def _backbone(args: DiagnoseArguments) -> Path | None:
    return args.backbone or start_backbone.recorded(args.model)


def _features_before(examined: _Examined) -> dict[str, np.ndarray] | None:
    """Features [n, D] by split, of the backbone before fine-tuning; None if it is not on this machine."""
    args = examined.args
    place = _backbone(args)
    before = None if place is None else Inspection.of_backbone(place)
    if before is None:
        return None
    return {
        name: before.observe(
            part.paths,
            title=f"Backbone, {name}",
            batch_size=args.batch_size,
            n_processes=_n_processes(args, len(part)),
        )[1]
        for name, part in examined.parts.items()
    }


def _leaks(examined: _Examined) -> list[leaks.Leak]:
    by_split = {name: [row.file for row in part.rows] for name, part in examined.parts.items()}
    return leaks.find(examined.args.dataset, by_split, n_processes=examined.args.num_proc or cores.n_cores())


def _evidence(examined: _Examined, before: dict[str, np.ndarray] | None, found: list[leaks.Leak]) -> dict[str, Any]:
    args, train, judged = examined.args, examined.train, examined.judged
    probe = None
    if before is not None:
        probe = start_backbone.probe_predictions(
            args.model, before, examined.parts, judged.split, n_classes=examined.n_classes, seed=args.seed
        )
    compared, predicted = evidence.baseline_predictions(train, judged, probe=probe, seed=args.seed)
    leaked: dict[str, set[str]] = {part.split: set() for part in examined.held_out}
    in_training = set()
    for leak in found:
        sides = (leak.split, leak.file), (leak.other_split, leak.other_file)
        for (split, file), (other_split, _) in (sides, sides[::-1]):
            if split in leaked:
                leaked[split].add(file)
            if other_split == "train":
                in_training.add(file)
    try:
        earlier = results.read(args.model)
    except UserError:
        earlier = {}
    section = evidence.section(
        train,
        judged,
        compared,
        predicted,
        others=examined.held_out[:-1],
        leaks=leaked,
        same={file for leak in found if leak.kind == leaks.SAME for file in (leak.file, leak.other_file)},
        in_training=in_training if prepared.read_prep(args.dataset)["settings"].get("allow_leaks") else None,
        spreads={name: earlier[name] for name in ("seeds", "folds") if name in earlier},
        control=args.control == "shuffled_labels",
        seed=args.seed,
    )
    missing = []
    if probe is None:
        missing.append("linear probe (the backbone before fine-tuning is not here; name it with --backbone)")
    if "seeds" not in earlier and "folds" not in earlier:
        missing.append("spread over seeds or folds (finetune_vit.py --seeds 0 1 2)")
    return section | {"not_measured": evidence.missing_note(missing)}


def _mistakes(examined: _Examined, before: dict[str, np.ndarray] | None, found: list[leaks.Leak]) -> mistakes.Found:
    args, train, model = examined.args, examined.train, examined.model
    twins: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    class_of = {row.file: row.class_name for part in examined.parts.values() for row in part.rows}
    for leak in found:
        pairs = ((leak.file, leak.other_split, leak.other_file), (leak.other_file, leak.split, leak.file))
        for file, other_split, other in pairs:
            if other_split == "train":
                twins[file].append((class_of[other], leak.kind == leaks.SAME))
    taken = baselines.some_of(train.labels, label_errors.MAX_IMAGES, seed=args.seed)
    features, labels = (before["train"] if before else train.features)[taken], train.labels[taken]
    options = {"n_classes": examined.n_classes, "seed": args.seed}
    shares = label_errors.out_of_fold_probabilities(
        features, labels, [train.groups[position] for position in taken], **options
    )
    second_opinion = {
        part.split: label_errors.probe_probabilities(features, labels, before[part.split], **options)
        for part in examined.held_out
        if before
    }
    return mistakes.find(
        train,
        examined.held_out,
        model.class_names,
        model.logits,
        twins=twins,
        fold_probabilities=_fold_probabilities(args.model, model.class_names),
        doubted=(taken, shares),
        second_opinion=second_opinion,
        max_shown=args.max_mistakes,
    )


def _heat_maps(examined: _Examined, found: mistakes.Found) -> dict[str, dict[tuple[str, int], np.ndarray]]:
    heats: dict[str, dict[tuple[str, int], np.ndarray]] = {"occlusion": {}, "gradients": {}}
    shown = found.shown[: _n_heat_maps(examined.args, examined.seconds_each)]
    for one in tqdm(shown, desc="Heat maps", unit="image", delay=2.0, leave=False):
        image = pixels.load_image(examined.parts[one.split].paths[one.position])
        for method, maps in heats.items():
            maps[one.split, one.position] = examined.model.heat_map(image, one.predicted, method=method)
    return heats


def _fold_probabilities(model_dir: Path, class_names: list[str]) -> dict[str, np.ndarray]:
    """Of the models of a cross-validation, by file, where predictions.csv has them."""
    if not (model_dir / results.PREDICTIONS_FILE).is_file():
        return {}
    found = predictions.read(model_dir)
    if found.class_names != class_names:
        return {}
    return {
        path: found.probabilities[row]
        for row, (path, split) in enumerate(zip(found.paths, found.splits, strict=True))
        if split == measure.OUT_OF_FOLD
    }


def _shortcuts(examined: _Examined, content: report.Content) -> dict[str, Any]:
    args, judged = examined.args, examined.judged
    chosen = baselines.some_of(judged.labels, MAX_ALTERED, seed=args.seed)
    labels = judged.labels[chosen]
    predicted = {shortcuts.ORIGINAL: judged.predicted[chosen]}
    for name, alter in tqdm(shortcuts.VARIANTS.items(), desc="Shortcuts", unit="variant", delay=2.0, leave=False):
        images = (alter(pixels.load_image(judged.paths[position])) for position in chosen)
        predicted[name] = examined.model.logits(images, batch_size=args.batch_size).argmax(axis=1)
    measured = shortcuts.table(predicted, labels, split=judged.split)
    chance = float((labels == np.bincount(examined.train.labels).argmax()).mean())
    right = [position for position in chosen.tolist() if judged.is_correct[position]] or chosen.tolist()
    content.shortcut_examples = list({int(judged.labels[position]): position for position in reversed(right)}.values())
    return {
        "title": "Shortcuts",
        "summary": shortcuts.summary(measured, chance),
        "split": judged.split,
        "measurements": measured,
    }


def _compared(examined: _Examined) -> np.ndarray:
    """[n] class ids, in this model's order, that the model of --compare predicts; -1 for a class unknown here."""
    args, judged = examined.args, examined.judged
    other = Inspection.load(args.compare)
    logits, _ = other.observe(
        judged.paths, title="Compared", batch_size=args.batch_size, n_processes=_n_processes(args, len(judged))
    )
    names = examined.model.class_names
    return np.array([names.index(name) if name in names else -1 for name in other.class_names])[logits.argmax(axis=1)]


def _temperature(model_dir: Path) -> float | None:
    """By which the classifier of the model was divided, where its configuration says so."""
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    found = (config.get("open_set") or {}).get("temperature_folded")
    return float(found) if isinstance(found, int | float) else None


def _rank_pool(examined: _Examined, folder: Path) -> None:
    """Write the list of what to label next, with a contact sheet."""
    args, model = examined.args, examined.model
    paths = sorted(path for path in args.pool.rglob("[!.]*") if path.is_file())
    problems: dict[Path, str] = {}
    logits, features = model.observe(
        paths,
        title="Pool",
        batch_size=args.batch_size,
        n_processes=_n_processes(args, len(paths)),
        on_problem=problems.__setitem__,
    )
    paths = [path for path in paths if path not in problems]
    if not paths:
        raise UserError(f"--pool {args.pool} holds no readable image ({len(problems)} other files). Check the path.")
    shares = predictions.softmax(logits)
    ranked = pool.rank(shares, features, examined.train.features)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "file", "predicted", "confidence", "uncertainty", "distance"])
    for number, one in enumerate(ranked, start=1):
        own = shares[one.position]
        name, best = model.class_names[own.argmax()], f"{own.max():.4f}"
        row = [number, str(paths[one.position]), name, best, f"{one.uncertainty:.4f}", f"{one.distance:.4f}"]
        writer.writerow([csv_cell(value) for value in row])
    files.write_bytes(folder / POOL_FILE, text.getvalue().encode("utf-8", "backslashreplace"))
    sheet = io.BytesIO()
    pool.contact_sheet([paths[one.position] for one in ranked]).save(sheet, "JPEG", quality=85)
    files.write_bytes(folder / POOL_SHEET, sheet.getvalue())
    logger.info(
        "%d of %d images to label next are in %s, with a contact sheet beside it%s",
        len(ranked),
        len(paths),
        folder / POOL_FILE,
        f"; {len(problems)} files could not be read" if problems else "",
    )
