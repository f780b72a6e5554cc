"""Measure what adding a class costs and gives, against other ways to add it and against training from the start.

    python -m benchmarks.add_class --images games/ --backbone backbones/vit-micro-patch12-96 --fine_tune --epochs 4
    python -m benchmarks.add_class --images games/ --backbone dinov2-small-8-layers --image_size 112

`games/` holds a folder per class and, to keep images of one thing on one side of a split, a manifest.csv with the columns
class, file and group. Every class is added in turn to a model of the others, with so many of its images in training and
validation, each time others. The model has a head on frozen features, and then one more class stays unknown to measure
how it is told from the known ones; or with --fine_tune all its weights were trained. All that adding needs is the
features of the model, which are computed once. Seconds are those of one processor core. Results of several backbones
share one file.
"""  # noqa: E501

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers.utils import logging as transformers_logging

from benchmarks import game_models, open_set_images
from benchmarks.backbone_transfer import split_indices
from benchmarks.game_models import Corpus, GameArguments
from memevit import cli, results
from memevit.evaluation import calibration, growth, rejection
from memevit.evaluation.growth import Answers
from memevit.evaluation.significance import wilson_interval
from memevit.model import extend
from memevit.model import open_set as fitting
from memevit.model.extend import Observed
from memevit.model.heads import Head
from memevit.model.open_set import Seen, Statistics
from memevit.portable.features import FINAL
from memevit.portable.open_set import OpenSet

logger = logging.getLogger(__name__)

TRAIN_SHARE = 0.8  # Of the images of a new class that are not for the test.
NAIVE_STEPS, NAIVE_RATE = 100, 1.0e-2
TIMED_STEPS = 3
OURS, JOINT_HEAD, JOINT = "ours", "joint head", "joint fine-tuning"
NAIVE, IMPRINT, NEAREST_MEAN = "new class alone", "raw imprinting", "nearest class mean"
# Accuracy that old classes may lose, that the new class and the harmonic mean may lack of joint training, and the share
# of its time that adding may take.
GOALS = {"old_lost": 0.02, "new_behind": 0.03, "harmonic_mean_behind": 0.02, "time_share": 0.02}


@dataclass
class AddClassArguments(GameArguments):
    """How many images the new class has, and how often."""

    sizes: list[int] = field(
        default_factory=lambda: [10, 20, 50, 100, 0],
        metadata={"help": "Images of the new class in training and validation; 0 for all."},
    )
    output: Path = field(default=Path("benchmarks/results/add_class.json"), metadata={"help": "JSON file."})


@dataclass(frozen=True)
class Case:
    """One model and the class that it gets: names of the classes in the order of its labels, the new one last.

    `labels` [n] are -1 for images of no class of it. `indices` are the images of its classes by split, `near` those of
    the class that stays unknown, `far` those of no game. `features` [n, d] by layer are what the model computes,
    `frozen` [n, D] what its head would see without training, `head` that of the old classes.
    """

    class_names: list[str]
    labels: np.ndarray
    indices: dict[str, np.ndarray]
    near: np.ndarray
    far: np.ndarray
    features: Mapping[str, np.ndarray]
    frozen: np.ndarray
    head: Head
    seed: int

    @property
    def new(self) -> int:
        """Label of the new class."""
        return len(self.class_names) - 1

    def old(self) -> dict[str, np.ndarray]:
        """Images of the old classes by split."""
        return {split: rows[self.labels[rows] != self.new] for split, rows in self.indices.items()}

    def with_new(self, n: int, seed: int) -> dict[str, np.ndarray] | None:
        """The same with `n` images of the new class in training and validation, 0 for all; None if there are fewer.

        All its test images are in it.
        """
        own = {split: rows[self.labels[rows] == self.new] for split, rows in self.indices.items()}
        if n:
            random = np.random.default_rng(seed)
            wanted = {"train": round(TRAIN_SHARE * n), "validation": n - round(TRAIN_SHARE * n)}
            if any(len(own[split]) < number for split, number in wanted.items()):
                return None
            own |= {split: random.permutation(own[split])[:number] for split, number in wanted.items()}
        return {split: np.concatenate([rows, own[split]]) for split, rows in self.old().items()}


@dataclass(frozen=True)
class Model:
    """A head with temperature and statistics, and what it says about all images.

    `logits` [n, C] are divided by the temperature, `scores` [n] and `accepted` [n] tell what is known.
    """

    known: OpenSet
    logits: np.ndarray
    scores: np.ndarray
    accepted: np.ndarray

    def answers(self, rows: np.ndarray) -> Answers:
        """What it says about the images at `rows`, by class name."""
        names = np.array(self.known.class_names, dtype=object)
        return Answers(names[self.logits[rows].argmax(axis=1)], self.accepted[rows])


def main(args: AddClassArguments) -> None:
    """Add every class in turn, and write the results."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    start = time.monotonic()
    corpus, frozen = game_models.load(args)
    step_s, forward_s = _seconds_per_image(args, corpus)
    head = {
        "backbone": args.backbone.name,
        "how": args.how,
        "image_size_px": int(corpus.pixels.shape[-1]),
        "dataset": {"name": args.images.name, "n": int((corpus.labels >= 0).sum()), "classes": corpus.class_names},
        "seeds": args.seeds,
        "seconds_per_image": {"training": round(step_s, 5), "forward": round(forward_s, 5)},
        "joint_epochs": args.epochs,
        "joint_seconds": "measured where it was trained, else of a few steps, times their number",
        "goals": GOALS,
        "hardware": results.processor_name(),
    }
    rows: list[dict[str, Any]] = []
    wanted = [name for name in corpus.class_names if args.held_out is None or name in args.held_out]
    for seed, name in itertools.product(args.seeds, wanted):
        case = _case(corpus.class_names.index(name), seed, corpus, frozen, args)
        added = list(_added(case, corpus, args, step_s=step_s, forward_s=forward_s))
        logger.info("%s, seed %d: %s", name, seed, _line(added))
        rows += added
        found = {"by_size": [_summary(rows, n) for n in args.sizes], "rows": rows}
        seconds = round(time.monotonic() - start, 1)
        game_models.write(args.output, f"{args.backbone.name}, {args.how}", head | found | {"seconds": seconds})


def _seconds_per_image(args: AddClassArguments, corpus: Corpus) -> tuple[float, float]:
    """Processor seconds of training and of a forward pass, for one image."""
    model, processor = game_models.untrained(args, corpus.class_names)
    batch = torch.from_numpy(corpus.pixels[: game_models.BATCH_SIZE])
    start = time.process_time()
    for _ in range(TIMED_STEPS):
        model(pixel_values=processor.normalise(batch)).logits.sum().backward()
    middle = time.process_time()
    with torch.inference_mode():
        for _ in range(TIMED_STEPS):
            model(pixel_values=processor.normalise(batch))
    n = TIMED_STEPS * len(batch)
    return (middle - start) / n, (time.process_time() - middle) / n


# Models


def _case(new: int, seed: int, corpus: Corpus, frozen: Mapping[str, np.ndarray], args: AddClassArguments) -> Case:
    """The model that gets the class `new`; with fine-tuning it is the same for all seeds."""
    n_games = len(corpus.class_names)
    near = -1 if args.fine_tune else (new + 1) % n_games
    known = [*(k for k in range(n_games) if k not in (new, near)), new]
    names = [corpus.class_names[k] for k in known]
    labels = np.array([known.index(label) if label in known else -1 for label in corpus.labels])
    is_far = (corpus.sources != "") & (corpus.sources != open_set_images.DEVELOPMENT)
    own_seed = args.seeds[0] if args.fine_tune else seed
    indices = _split(corpus, labels, own_seed)
    old = {split: rows[labels[rows] != len(names) - 1] for split, rows in indices.items()}
    if args.fine_tune:
        name = f"without-{corpus.class_names[new]}-{own_seed}"
        features = game_models.fine_tuned(name, names[:-1], corpus, old["train"], labels, args, seed=own_seed)
        head = Head(features["weight"], features["bias"], "fine-tuned")
    else:
        features = frozen
        head = Head(*game_models.head(frozen[FINAL], labels, old, len(names) - 1), "linear probe")
    layers = game_models.main_layers(features)
    layers = [FINAL, layers[1:][(len(layers) - 2) // 2]]  # As `memevit.model.open_set.layers_of`.
    own = {layer: features[layer].astype(np.float32) for layer in layers}
    unknown = np.flatnonzero(corpus.labels == near) if near >= 0 else np.array([], dtype=np.int64)
    frozen_rows = frozen[FINAL].astype(np.float64)
    return Case(names, labels, indices, unknown, np.flatnonzero(is_far), own, frozen_rows, head, seed)


def _split(corpus: Corpus, labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Positions of the images with a label, by split, from one division of all games."""
    games = np.flatnonzero(corpus.labels >= 0)
    found = split_indices(corpus.labels[games], corpus.groups[games], seed=seed)
    return {split: games[rows][labels[games[rows]] >= 0] for split, rows in found.items()}


def _model(
    case: Case, head: Head, rows: Mapping[str, np.ndarray], class_names: Sequence[str],
    held_out: Sequence[tuple[Seen, Statistics]] = (),
) -> Model:  # fmt: skip
    """`head` with temperature and statistics from the images at `rows`, as add_class.py renews them."""
    raw = head.logits(case.features[FINAL])
    validation = rows["validation"]
    temperature = calibration.fit_temperature(raw[validation], case.labels[validation])
    logits = raw / temperature
    seen = [
        game_models.seen(logits, case.features, case.labels, rows[split], list(case.features))
        for split in ("train", "validation")
    ]
    cooled = [(own.cooled(temperature), without) for own, without in held_out]
    known = fitting.fit(*seen, class_names=class_names, held_out=cooled)
    scores = known.known_scores(logits, case.features)
    return Model(known, logits, scores, scores >= known.thresholds()[logits.argmax(axis=1)])


def _fitted(features: np.ndarray, case: Case, rows: Mapping[str, np.ndarray]) -> Head:
    """The head that add_class.py fits to [n, D] features of all classes."""
    observed = [Observed({FINAL: features[rows[split]]}, case.labels[rows[split]]) for split in ("train", "validation")]
    return extend.fitted_head(*observed, n_classes=len(case.class_names))


def _held_out(
    case: Case, groups: np.ndarray, rows: Mapping[str, np.ndarray], head: Head
) -> list[tuple[Seen, Statistics]]:
    """Training images of the new class that stand beside the validation images, as add_class.py takes them."""
    train, validation = (
        Observed({layer: own[rows[split]] for layer, own in case.features.items()}, case.labels[rows[split]])
        for split in ("train", "validation")
    )
    own = rows["train"][train.labels == case.new]
    made = extend.refit(head, validation, n_classes=len(case.class_names))
    return extend.held_out(train, groups[own].tolist(), made, n_old=case.new)


# Other ways; each gives a head from the images at some rows


def _with_row(head: Head, row: np.ndarray, method: str) -> Head:
    return Head(np.vstack([head.weight, row]), np.append(head.bias, 0.0), method)


def _imprinted(case: Case, rows: Mapping[str, np.ndarray]) -> Head:
    """The mean feature of the new class as its row, beside the old rows."""
    train = rows["train"]
    mean = case.features[FINAL][train[case.labels[train] == case.new]].mean(axis=0)
    return _with_row(case.head, mean, IMPRINT)


def _naive(case: Case, rows: Mapping[str, np.ndarray]) -> Head:
    """The old head with one more row, trained on images of the new class alone."""
    train = rows["train"][case.labels[rows["train"]] == case.new]
    features = torch.from_numpy(case.features[FINAL][train]).double()
    start = _with_row(case.head, np.zeros(features.shape[1]), NAIVE)
    weight, bias = (torch.tensor(own, dtype=torch.float64, requires_grad=True) for own in (start.weight, start.bias))
    optimizer = torch.optim.Adam([weight, bias], lr=NAIVE_RATE)
    for _ in range(NAIVE_STEPS):
        optimizer.zero_grad()
        logits = functional.linear(features, weight, bias)
        functional.cross_entropy(logits, torch.full((len(train),), case.new)).backward()
        optimizer.step()
    return Head(weight.detach().numpy(), bias.detach().numpy(), NAIVE)


def _nearest_mean(case: Case, rows: Mapping[str, np.ndarray]) -> Head:
    """The class whose mean feature is nearest."""
    train = rows["train"]
    labels, features = case.labels[train], case.features[FINAL][train].astype(np.float64)
    means = np.stack([features[labels == label].mean(axis=0) for label in range(len(case.class_names))])
    return Head(means, -0.5 * (means**2).sum(axis=1), NEAREST_MEAN)


OTHERS: dict[str, Callable[[Case, Mapping[str, np.ndarray]], Head]] = {
    NAIVE: _naive, IMPRINT: _imprinted, NEAREST_MEAN: _nearest_mean,
}  # fmt: skip


# Numbers


def _added(
    case: Case, corpus: Corpus, args: AddClassArguments, *, step_s: float, forward_s: float
) -> Iterator[dict[str, Any]]:
    """A row for each number of images and, where those are drawn, each seed."""
    before = _model(case, case.head, case.old(), case.class_names[:-1])
    for n in args.sizes:
        if args.fine_tune and n == 0 and case.seed != args.seeds[0]:
            continue  # All images are the same for every seed.
        rows = case.with_new(n, case.seed)
        if rows is None:
            logger.info("%s has not %d images", case.class_names[-1], n)
            continue
        start = time.process_time()
        head = _fitted(case.features[FINAL], case, rows)
        held_out = _held_out(case, corpus.groups, rows, head)
        after = _model(case, head, rows, case.class_names, held_out)
        n_seen = sum(map(len, rows.values())) - len(case.old()["train"])
        seconds = time.process_time() - start + forward_s * n_seen
        test = rows["test"]
        found = {
            "new_class": case.class_names[-1], "n": n, "seed": case.seed,
            "n_new": {split: int((case.labels[own] == case.new).sum()) for split, own in rows.items()},
            **_compared(case, before, after, test),
            "accuracy": {OURS: _accuracy(case, after.logits, test)},
            "seconds": seconds,
            "joint_seconds": args.epochs * len(rows["train"]) * step_s,
        }  # fmt: skip
        for name, fit in OTHERS.items():
            found["accuracy"][name] = _accuracy(case, fit(case, rows).logits(case.features[FINAL]), test)
        # On features of a backbone that was not trained it is the same head.
        joint_head = _fitted(case.frozen, case, rows) if args.fine_tune else head
        found["accuracy"][JOINT_HEAD] = _accuracy(case, joint_head.logits(case.frozen), test)
        if args.fine_tune and n == 0:
            joint = game_models.fine_tuned(
                f"all-{case.seed}", corpus.class_names, corpus, rows["train"], corpus.labels, args, seed=case.seed
            )
            order = [corpus.class_names.index(name) for name in case.class_names]
            found["accuracy"][JOINT] = _accuracy(case, joint["logits"][:, order], test)
            found["joint_seconds"] = float(joint["seconds"])
        yield _rounded(found)


def _accuracy(case: Case, logits: np.ndarray, test: np.ndarray) -> dict[str, float]:
    right, is_new = logits[test].argmax(axis=1) == case.labels[test], case.labels[test] == case.new
    old, new = float(right[~is_new].mean()), float(right[is_new].mean())
    return {"old": old, "new": new, "harmonic_mean": growth.harmonic_mean(old, new)}


def _compared(case: Case, before: Model, after: Model, test: np.ndarray) -> dict[str, Any]:
    """Before and after: accuracy of the old classes, what is called unknown, and AUROC."""
    true = np.array(case.class_names, dtype=object)[case.labels[test]]
    answers = [model.answers(test) for model in (before, after)]
    found = growth.section(true, *answers, old_names=case.class_names[:-1], new_names=case.class_names[-1:])
    old_test = test[case.labels[test] != case.new]
    unknown = {"near": case.near, "far": case.far}
    low, high = after.known.settings["false_rejection_interval"]
    return {
        "old": {name: found["old"][name] for name in ("n", "before", "after", "p_value")},
        "new_called_unknown": {when: own["value"] for when, own in found["new_called_unknown"].items()},
        "old_called_unknown": {when: own["value"] for when, own in found["old_called_unknown"].items()},
        "auroc": {
            kind: {
                when: rejection.auroc(model.scores[known], model.scores[rows])
                for when, model, known in (("before", before, old_test), ("after", after, test))
            }
            for kind, rows in unknown.items() if len(rows)
        },
        "false_rejection_interval": [low, high],
        "false_rejection": [
            _false_rejection(name, ~answers[1].accepted[true == name], low=low, high=high) for name in case.class_names
        ],
    }  # fmt: skip


def _false_rejection(class_name: str, rejected: np.ndarray, *, low: float, high: float) -> dict[str, Any]:
    """Whether the share of a class lies in the stated interval, and whether its own interval meets that."""
    n, share = len(rejected), float(rejected.mean())
    own_low, own_high = wilson_interval(int(rejected.sum()), n)
    return {
        "class_name": class_name, "n": n, "rate": share, "is_inside": bool(low <= share <= high),
        "is_compatible": bool(own_low <= high and own_high >= low),
    }  # fmt: skip


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(own) for name, own in value.items()}
    if isinstance(value, list):
        return [_rounded(own) for own in value]
    return round(value, 4) if isinstance(value, float) else value


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "low": float(min(values)), "high": float(max(values))}


def _summary(all_rows: list[dict[str, Any]], n: int) -> dict[str, Any]:
    """Mean, lowest and highest over classes and seeds for one number of images; and how often the goals are met."""
    rows = [row for row in all_rows if row["n"] == n]
    if not rows:
        return {"n": n, "n_rows": 0}
    reference = JOINT if all(JOINT in row["accuracy"] for row in rows) else JOINT_HEAD
    ours, joint = ([row["accuracy"][name] for row in rows] for name in (OURS, reference))
    values = {
        "old_lost": [row["old"]["before"] - row["old"]["after"] for row in rows],
        "new_behind": [b["new"] - a["new"] for a, b in zip(ours, joint, strict=True)],
        "harmonic_mean_behind": [b["harmonic_mean"] - a["harmonic_mean"] for a, b in zip(ours, joint, strict=True)],
        "time_share": [row["seconds"] / row["joint_seconds"] for row in rows],
    }
    by_class = [own for row in rows for own in row["false_rejection"]]
    new = [row["false_rejection"][-1] for row in rows]
    return _rounded({
        "n": n, "n_rows": len(rows), "compared_with": reference,
        **{name: _spread(own) | {"goal_met": float(np.mean(np.array(own) <= GOALS[name]))}
           for name, own in values.items()},
        "accuracy": {
            name: {kind: float(np.mean([row["accuracy"][name][kind] for row in rows])) for kind in ours[0]}
            for name in rows[0]["accuracy"] if all(name in row["accuracy"] for row in rows)
        },
        "old_before": float(np.mean([row["old"]["before"] for row in rows])),
        "new_called_unknown": {
            when: float(np.mean([row["new_called_unknown"][when] for row in rows])) for when in ("before", "after")
        },
        "auroc": {
            kind: {when: float(np.mean([row["auroc"][kind][when] for row in rows])) for when in ("before", "after")}
            for kind in rows[0]["auroc"]
        },
        "false_rejection": {
            who: {"rate": float(np.mean([one["rate"] for one in own])),
                  "inside": float(np.mean([one["is_inside"] for one in own])),
                  "compatible": float(np.mean([one["is_compatible"] for one in own]))}
            for who, own in (("all classes", by_class), ("new class", new))
        },
    })  # fmt: skip


def _line(rows: list[dict[str, Any]]) -> str:
    means = {name: np.mean([row["accuracy"][OURS][name] for row in rows]) for name in ("old", "new")}
    return f"old {means['old']:.3f}, new {means['new']:.3f} over {len(rows)} rows"


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    raise SystemExit(cli.run(main, AddClassArguments, doc=__doc__))
