"""Which images a model gets wrong, why, what helps, and whether it learned or was lucky.

    python diagnose.py --model model/ --dataset prepared/
    python diagnose.py --model model/ --dataset prepared/ --only mistakes,evidence
    python diagnose.py --model new-model/ --dataset corrected/ --compare model/
    python diagnose.py --model model/ --dataset prepared/ --learning_curve
    python diagnose.py --model model/ --dataset prepared/ --pool unlabelled/

Writes model/report/index.html (one file that needs no network), model/report/corrections.csv (suggestions, none of them
applied) and the numbers into model/results.json. Any image classification checkpoint with a prepared dataset will do.
"""

import json
import logging
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memevit import cli, cores, manifest, pixels, results
from memevit.arguments import DiagnoseArguments
from memevit.data import dataset as prepared
from memevit.errors import UserError

if TYPE_CHECKING:
    from memevit.data.leaks import Leak
    from memevit.evaluation.observed import Observed
    from memevit.evaluation.report import Content
    from memevit.model.inspection import Inspection

logger = logging.getLogger(__name__)

MAX_ALTERED = 1000  # Test images that are also shown altered.
MAX_HEAT_MAPS = 60
HEAT_MAPS_S = 60.0  # For all heat maps, unless their number is given.
_FORWARDS_PER_HEAT_MAP = 81 + 3 * 16  # Covered copies, and steps of integrated gradients with their way back.
_FORWARDS_PER_MISTAKE = 7
_DECODE_S = 0.02  # Per image and look at it, besides the model's.


def main(args: DiagnoseArguments) -> None:
    """Measure the sections, write the page and the numbers."""
    data = prepared.load(args.dataset)
    rows = {row.file: row for row in manifest.iter_rows(args.dataset) if row.status == manifest.KEPT}
    if not data.by_name["test"].files and not data.by_name["validation"].files:
        raise UserError(f"{args.dataset} has no validation or test images to diagnose. Run data_prep.py again.")

    from memevit.evaluation import comparison, confidence, evidence, learning_curve, per_class, report
    from memevit.model.inspection import Inspection

    started = time.monotonic()
    model = Inspection.load(args.model)
    label_of = _labels_of(model.class_names, data.class_names, args)
    n_processes = args.num_proc or cores.n_cores()
    _announce(model, data, args)
    parts = {
        name: _observe(model, split, name, rows, label_of, args, n_processes)
        for name, split in data.by_name.items()
        if split.files
    }
    train = parts["train"]
    held_out = [parts[name] for name in ("validation", "test") if name in parts]
    judged = held_out[-1]
    content = report.Content(
        args.model.resolve().name, args.dataset.resolve().name, data.fingerprint, model.class_names, parts,
        n_corrections=prepared.read_prep(args.dataset)["settings"].get("n_corrections", 0),
        visible_box=model.visible_box,
    )  # fmt: skip
    sections: dict[str, Any] = {}
    wanted = args.sections
    probe = _backbone_features(args, parts, n_processes) if {"evidence", "mistakes"} & set(wanted) else None
    leaks = _leaks(args, data, n_processes) if {"evidence", "mistakes"} & set(wanted) else None
    if "evidence" in wanted:
        sections["evidence"] = content.evidence = _evidence(args, train, held_out, probe, leaks)
    if "mistakes" in wanted:
        _add_mistakes(content, args, model, train, held_out, probe, leaks or [])
        from memevit.evaluation import mistakes

        sections["mistakes"] = mistakes.section(content.found, model.class_names)
    if "shortcuts" in wanted:
        sections["shortcuts"] = content.shortcuts = _shortcuts(content, model, train, judged, args)
    if "confidence" in wanted:
        temperature = _temperature(args.model)
        sections["confidence"] = content.confidence = confidence.section(
            judged.split, judged.logits, judged.labels, temperature=temperature
        )
    if "classes" in wanted:
        sections["classes"] = content.classes = per_class.section(judged, model.class_names)
    if args.learning_curve:
        of = "the backbone's features before fine-tuning" if probe else "this model's features"
        features = (probe["train"], probe[judged.split]) if probe else (train.features, judged.features)
        sections["learning_curve"] = content.learning_curve = learning_curve.section(
            train, judged, features, of=of, seed=args.seed
        )
    if args.compare:
        other = _other_predictions(args, judged, model.class_names, n_processes)
        sections["comparison"] = content.comparison = comparison.section(
            judged, other, args.compare.resolve().name, model.class_names
        )
    page = report.write(args.model, content)
    results.update(args.model, **sections)
    if "evidence" in sections:
        logger.info("%s", evidence.plain_lines(sections["evidence"]))
    logger.info("The report is in %s (%.0f s)", page, time.monotonic() - started)


def _labels_of(model_names: list[str], dataset_names: list[str], args: DiagnoseArguments) -> list[int]:
    """The model's class id of each class of the dataset."""
    if unknown := [name for name in dataset_names if name not in model_names]:
        raise UserError(
            f"{args.dataset} has the classes {unknown[:5]}, which {args.model} does not know; it knows "
            f"{model_names[:10]}. Diagnose with the dataset that it was trained on."
        )
    return [model_names.index(name) for name in dataset_names]


def _announce(model: "Inspection", data: prepared.Dataset, args: DiagnoseArguments) -> None:
    """Say what it will cost, from a few timed images."""
    counts = {name: len(split.files) for name, split in data.by_name.items()}
    sample = (data.by_name["test"].paths or data.by_name["validation"].paths)[: args.batch_size]
    images = [pixels.load_image(path) for path in sample]
    model.logits(images[:2])
    before = time.monotonic()
    model.logits(images)
    each_s = (time.monotonic() - before) / len(images)
    n_images = sum(counts.values())
    n_forward = n_images
    if "shortcuts" in args.sections:
        n_forward += 8 * min(counts["test"], MAX_ALTERED)
    seconds = n_forward * each_s
    if "evidence" in args.sections or "mistakes" in args.sections:
        seconds += n_images * each_s + 2 * n_images * _DECODE_S + 5
    if "mistakes" in args.sections:
        n_mistakes = min(args.max_mistakes, (counts["test"] + counts["validation"]) // 10)
        n_maps = min(n_mistakes, _n_heat_maps(args, each_s))
        seconds += each_s * (n_mistakes * _FORWARDS_PER_MISTAKE + n_maps * _FORWARDS_PER_HEAT_MAP)
    model.each_s = each_s
    listed = ", ".join(f"{n:,} {name}" for name, n in counts.items())
    logger.info("%s images, %.0f ms each: about %s", listed, 1000 * each_s, _duration(seconds))


def _duration(seconds: float) -> str:
    return f"{max(seconds, 1):.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _n_heat_maps(args: DiagnoseArguments, each_s: float) -> int:
    if args.heat_maps is not None:
        return args.heat_maps
    return int(min(MAX_HEAT_MAPS, max(1, HEAT_MAPS_S / (each_s * _FORWARDS_PER_HEAT_MAP))))


def _observe(
    model: "Inspection", split: prepared.Split, name: str, rows: dict[str, manifest.Row], label_of: list[int],
    args: DiagnoseArguments, n_processes: int,
) -> "Observed":  # fmt: skip
    from memevit.evaluation.observed import Observed, known_by_file

    title = name.capitalize()
    logits, features = model.observe(
        split.paths, title=title, batch_size=args.batch_size, n_processes=_worth(len(split.paths), n_processes)
    )
    known = known_by_file(args.model)
    scores = np.array([known.get(file, (np.nan, None))[0] for file in split.files])
    accepted = np.array([known.get(file, (np.nan, None))[1] is not False for file in split.files])
    has_scores = bool(known) and not np.isnan(scores).all()
    return Observed(
        name, split.paths, [rows[file] for file in split.files], np.array([label_of[label] for label in split.labels]),
        logits, features, scores if has_scores else None, accepted if has_scores else None,
    )  # fmt: skip


def _worth(n: int, n_processes: int) -> int:
    """Processes that decode: starting them takes longer than decoding a few hundred images here."""
    return n_processes if n > 500 and n_processes > 1 else 0


def _backbone_features(
    args: DiagnoseArguments, parts: "dict[str, Observed]", n_processes: int
) -> dict[str, np.ndarray] | None:
    """Features [n, D] by split, of the backbone before fine-tuning; None if it is not here."""
    from memevit.model.inspection import Inspection

    name = args.backbone
    if name is None:
        try:
            arguments = results.read_run(args.model)["arguments"]
        except (UserError, KeyError):
            return None
        given = arguments.get("model_name_or_path")
        if not given or arguments.get("from_scratch"):
            return None
        places = (Path(given), Path(__file__).parent / "backbones" / Path(given).name)
        name = next((place for place in places if (place / "config.json").is_file()), None)
    elif not (name / "config.json").is_file():
        raise UserError(f"--backbone {name} holds no model (no config.json). Name a local checkpoint folder.")
    before = Inspection.of_backbone(name) if name is not None else None
    if before is None:
        return None
    return {
        name: before.observe(
            part.paths, title=f"Backbone, {name}", batch_size=args.batch_size,
            n_processes=_worth(len(part), n_processes),
        )[1]
        for name, part in parts.items()
    }  # fmt: skip


def _leaks(args: DiagnoseArguments, data: prepared.Dataset, n_processes: int) -> "list[Leak]":
    from memevit.data import leaks

    by_split = {name: split.files for name, split in data.by_name.items()}
    return leaks.find(args.dataset, by_split, n_processes=n_processes)


def _evidence(
    args: DiagnoseArguments,
    train: "Observed",
    held_out: "list[Observed]",
    probe: dict[str, np.ndarray] | None,
    leaks: "list[Leak]",
) -> dict[str, Any]:
    from memevit.evaluation import evidence

    judged = held_out[-1]
    compared, predicted = evidence.baseline_predictions(
        train, judged, probe=(probe["train"], probe[judged.split]) if probe else None, seed=args.seed
    )
    by_split: dict[str, set[str]] = {part.split: set() for part in held_out}
    for leak in leaks:
        for split, file in ((leak.split, leak.file), (leak.other_split, leak.other_file)):
            if split in by_split:
                by_split[split].add(file)
    try:
        earlier = results.read(args.model)
    except UserError:
        earlier = {}
    section = evidence.section(
        train, judged, compared, predicted, others=held_out[:-1],
        leaks={name: len(files) for name, files in by_split.items()},
        spreads={name: earlier[name] for name in ("seeds", "folds") if name in earlier},
        control=args.control == "shuffled_labels", seed=args.seed,
    )  # fmt: skip
    missing = [] if probe else ["linear probe (the backbone before fine-tuning is not here; name it with --backbone)"]
    if "seeds" not in earlier and "folds" not in earlier:
        missing.append("spread over seeds or folds (finetune_vit.py --seeds 0 1 2)")
    return section | {"not_measured": evidence.missing_note(missing)}


def _add_mistakes(
    content: "Content", args: DiagnoseArguments, model: "Inspection", train: "Observed", held_out: "list[Observed]",
    probe: dict[str, np.ndarray] | None, leaks: "list[Leak]",
) -> None:  # fmt: skip
    from tqdm import tqdm

    from memevit.evaluation import baselines, label_errors, mistakes

    twins: dict[str, list[tuple[str, str]]] = defaultdict(list)
    class_of = {row.file: row.class_name for part in content.parts.values() for row in part.rows}
    for leak in leaks:
        pairs = ((leak.file, leak.other_split, leak.other_file), (leak.other_file, leak.split, leak.file))
        for file, other_split, other in pairs:
            if other_split == "train":
                twins[file].append((class_of[other], other))
    taken = baselines.some_of(train.labels, label_errors.MAX_IMAGES, seed=args.seed)
    features = (probe["train"] if probe else train.features)[taken]
    own = label_errors.out_of_fold_probabilities(
        features, train.labels[taken], [train.groups[position] for position in taken],
        n_classes=len(model.class_names), seed=args.seed,
    )  # fmt: skip
    second_opinion = (
        {}
        if probe is None
        else {
            part.split: label_errors.probe_probabilities(
                features, train.labels[taken], probe[part.split], n_classes=len(model.class_names), seed=args.seed
            )
            for part in held_out
        }
    )
    shares = np.zeros((len(train), len(model.class_names)))
    shares[np.arange(len(train)), train.labels] = 1.0
    shares[taken] = own
    content.found = mistakes.find(
        train, held_out, model.class_names, model.logits, twins=twins,
        fold_probabilities=_fold_probabilities(args.model, model.class_names), train_probabilities=shares,
        second_opinion=second_opinion, max_shown=args.max_mistakes,
    )  # fmt: skip
    heats: dict[str, dict[tuple[str, int], np.ndarray]] = {"occlusion": {}, "gradients": {}}
    shown = content.found.shown[: _n_heat_maps(args, model.each_s)]
    for one in tqdm(shown, desc="Heat maps", unit="image", delay=2.0, leave=False):
        image = pixels.load_image(content.parts[one.split].paths[one.position])
        for method, maps in heats.items():
            maps[one.split, one.position] = model.heat_map(image, one.predicted, method=method)
    content.heat_maps = heats


def _fold_probabilities(model_dir: Path, class_names: list[str]) -> dict[str, np.ndarray]:
    """Of the models of a cross-validation, by file, where predictions.csv has them."""
    from memevit.evaluation import measure, predictions

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


def _shortcuts(
    content: "Content", model: "Inspection", train: "Observed", judged: "Observed", args: DiagnoseArguments
) -> dict[str, Any]:
    from tqdm import tqdm

    from memevit.evaluation import baselines, shortcuts

    chosen = baselines.some_of(judged.labels, MAX_ALTERED, seed=args.seed)
    labels = judged.labels[chosen]
    predicted = {shortcuts.ORIGINAL: judged.predicted[chosen]}
    for name, alter in tqdm(shortcuts.VARIANTS.items(), desc="Shortcuts", unit="variant", delay=2.0, leave=False):
        images = (alter(pixels.load_image(judged.paths[position])) for position in chosen)
        predicted[name] = model.logits(images, batch_size=args.batch_size).argmax(axis=1)
    measured = shortcuts.table(predicted, labels, split=judged.split)
    chance = float((labels == np.bincount(train.labels).argmax()).mean())
    right = [position for position in chosen.tolist() if judged.is_correct[position]] or chosen.tolist()
    content.shortcut_examples = list({int(judged.labels[position]): position for position in reversed(right)}.values())
    return {
        "title": "Shortcuts",
        "summary": shortcuts.summary(measured, chance),
        "split": judged.split,
        "measurements": measured,
    }


def _other_predictions(
    args: DiagnoseArguments, judged: "Observed", class_names: list[str], n_processes: int
) -> np.ndarray:
    """[n] class ids, in this model's order, that the model of --compare predicts; -1 for a class unknown here."""
    from memevit.model.inspection import Inspection

    other = Inspection.load(args.compare)
    logits, _ = other.observe(
        judged.paths, title="Compared model", batch_size=args.batch_size, n_processes=_worth(len(judged), n_processes)
    )
    ids = [class_names.index(name) if name in class_names else -1 for name in other.class_names]
    return np.array(ids)[logits.argmax(axis=1)]


def _temperature(model_dir: Path) -> float | None:
    """By which the classifier of the model was divided, where its configuration says so."""
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    found = (config.get("open_set") or {}).get("temperature")
    return float(found) if isinstance(found, int | float) else None


if __name__ == "__main__":
    raise SystemExit(cli.run(main, DiagnoseArguments, doc=__doc__))
