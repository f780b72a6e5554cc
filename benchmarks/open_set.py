"""Measure how well scores tell images of known games from images of other games, and from images of no game.

    python -m benchmarks.open_set --images games/ --backbone backbones/vit-micro-patch12-96 --fine_tune --cache runs/open_set
    python -m benchmarks.open_set --images games/ --backbone dinov2-small-8-layers --image_size 112 --cache runs/open_set

`games/` holds a folder per game and, to keep images of one thing on one side of a split, a manifest.csv with the columns
class, file and group. Every game is held out in turn: the others are known, it is the near unknown. Further models know
two games only. A head is fitted to frozen features, or with --fine_tune the whole network is trained briefly. The score
is chosen on some of the held-out games and on drawn images, and reported on the other games and on other images.
Results of several backbones share one file.
"""  # noqa: E501

import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers.utils import logging as transformers_logging

from benchmarks import game_models, open_set_images
from benchmarks.backbone_transfer import split_indices
from benchmarks.game_models import Corpus, GameArguments
from memevit import cli, results
from memevit.evaluation import calibration, rejection
from memevit.model import open_set as fitting
from memevit.portable import open_set
from memevit.portable.features import FINAL
from memevit.portable.open_set import LOG_ODDS, MAHALANOBIS, MAX_LOGIT

logger = logging.getLogger(__name__)

SHIPPED = "max-logit + final + middle block"  # `memevit.model.open_set.default_score`.
DETAILED = ("MSP", "max-logit", "energy", "kNN", "Mahalanobis++", SHIPPED)  # Reported by source, with intervals.
N_NEIGHBOURS = 10
DEVELOPMENT_GAMES = 3  # So many held-out games, in alphabetical order, choose the score; the others report.
PAIRS = ((0, 6), (2, 3), (4, 5))  # Games that are known to a model of two, by position.
METRICS = ("auroc", "fpr_at_95", "aupr_in", "aupr_out", "oscr")


@dataclass
class OpenSetArguments(GameArguments):
    """Which models, beside those of held-out games, and how they are measured."""

    pairs: bool = field(default=True, metadata={"help": "Also models that know two games."})
    n_resamples: int = field(default=100, metadata={"help": "Bootstrap draws of whole groups."})
    output: Path = field(default=Path("benchmarks/results/open_set.json"), metadata={"help": "JSON file."})


@dataclass(frozen=True)
class Setting:
    """A model to be made: which games it knows, and which held-out game it is about, "" for a model of two games."""

    known: tuple[int, ...]
    held_out: str
    seed: int

    @property
    def name(self) -> str:
        """For files and results."""
        return f"{self.held_out or 'pair-' + '-'.join(map(str, self.known))}-{self.seed}"


@dataclass(frozen=True)
class Scored:
    """One model: scores [n] of all images by method, predictions, and which images are its validation and test ones."""

    setting: Setting
    scores: dict[str, np.ndarray]
    predicted: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    near: np.ndarray
    accepted: np.ndarray
    calibration: dict
    interval: list[float]


def main(args: OpenSetArguments) -> None:
    """Make every model, score all images, and write the results."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    start = time.monotonic()
    corpus, frozen = game_models.load(args)
    n_games = len(corpus.class_names)
    settings = [
        Setting(tuple(k for k in range(n_games) if k != out), corpus.class_names[out], seed)
        for seed in args.seeds
        for out in range(n_games)
        if args.held_out is None or corpus.class_names[out] in args.held_out
    ]
    settings += [Setting(pair, "", seed) for seed in args.seeds for pair in PAIRS if args.pairs]
    scored = []
    for setting in settings:
        scored.append(_scored(setting, corpus, frozen, args))
        logger.info("%s: test accuracy %.3f", setting.name, _accuracy(scored[-1]))
    report = _report(scored, corpus, args) | {"seconds": round(time.monotonic() - start, 1)}
    game_models.write(args.output, f"{report['backbone']}, {report['how']}", report)


# Models


def _scored(setting: Setting, corpus: Corpus, frozen: Mapping[str, np.ndarray], args: OpenSetArguments) -> Scored:
    """Make the model of a setting and score all images with it."""
    is_known = np.isin(corpus.labels, setting.known)
    positions = np.flatnonzero(is_known)
    indices = split_indices(corpus.labels[positions], corpus.groups[positions], seed=setting.seed)
    indices = {name: positions[own] for name, own in indices.items()}
    labels = np.array([setting.known.index(label) if label in setting.known else -1 for label in corpus.labels])
    names = [corpus.class_names[label] for label in setting.known]
    if args.fine_tune:
        features = game_models.fine_tuned(
            setting.name, names, corpus, indices["train"], labels, args, seed=setting.seed
        )  # fmt: skip
        logits = features["logits"]
    else:
        features = frozen
        weight, bias = game_models.head(features[FINAL], labels, indices, len(names))
        logits = features[FINAL].astype(np.float64) @ weight.T + bias
    temperature = calibration.fit_temperature(logits[indices["validation"]], labels[indices["validation"]])
    calibrated = logits / temperature
    layers = game_models.main_layers(features)
    fitted = fitting.fit(
        *(game_models.seen(calibrated, features, labels, indices[split], layers) for split in ("train", "validation")),
        class_names=names, score=fitting.default_score([FINAL, layers[1:][(len(layers) - 2) // 2]]),
    )  # fmt: skip
    own = {layer: features[layer] for layer in layers}
    return Scored(
        setting=setting,
        scores=_methods(calibrated, own, fitted, indices, labels),
        predicted=calibrated.argmax(axis=1),
        labels=labels,
        test=indices["test"],
        near=np.flatnonzero((corpus.labels >= 0) & ~is_known),
        accepted=fitted.known_scores(calibrated, own) >= fitted.thresholds()[calibrated.argmax(axis=1)],
        calibration=calibration.section(
            logits[indices["test"]], calibrated[indices["test"]], labels[indices["test"]], temperature=temperature,
            n_validation=len(indices["validation"]), split="test",
        ),
        interval=fitted.settings["false_rejection_interval"],
    )  # fmt: skip


# Scores


def _methods(
    logits: np.ndarray,
    features: Mapping[str, np.ndarray],
    fitted: open_set.OpenSet,
    indices: Mapping,
    labels: np.ndarray,
) -> dict[str, np.ndarray]:
    """[n] scores of all images by method; higher is more known."""
    blocks = [MAHALANOBIS + layer for layer in features if layer != FINAL]
    final, middle, validation = MAHALANOBIS + FINAL, blocks[(len(blocks) - 1) // 2], indices["validation"]
    names = [MAX_LOGIT, LOG_ODDS, final, *blocks]
    raw = open_set.raw_terms(logits, features, fitted.arrays, names)
    median, scale = fitting.standard(raw[validation], labels[validation])
    terms, scaled = dict(zip(names, raw.T, strict=True)), dict(zip(names, ((raw - median) / scale).T, strict=True))
    sums = {
        "max-logit + final": [MAX_LOGIT, final],
        SHIPPED: [MAX_LOGIT, final, middle],
        "max-logit + final + three blocks": [MAX_LOGIT, final, *blocks],
        "log-odds + final": [LOG_ODDS, final],
        "log-odds + final + middle block": [LOG_ODDS, final, middle],
        "log-odds + final + three blocks": [LOG_ODDS, final, *blocks],
        "three blocks": blocks,
        "max-logit twice + final + middle block": [MAX_LOGIT, MAX_LOGIT, final, middle],
        "max-logit + final, twice, + middle block": [MAX_LOGIT, MAX_LOGIT, final, final, middle],
    }
    found = {
        "MSP": terms[LOG_ODDS],  # The same order, and no ties at 1.
        "max-logit": terms[MAX_LOGIT],
        "energy": np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)) + logits.max(axis=1),
        "kNN": _nearest(features[FINAL], indices["train"]),
        "Mahalanobis++": terms[final],
        "Mahalanobis++, middle block": terms[middle],
    }
    return found | {name: np.mean([scaled[term] for term in own], axis=0) for name, own in sums.items()}


def _nearest(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    """[n] cosine similarity to the 10th nearest training image; an image that is one of them skips itself."""
    rows = open_set.normalised(features)
    similarity = rows @ rows[train].T
    similarity[train, np.arange(len(train))] = -np.inf
    k = min(N_NEIGHBOURS, len(train) - 1)
    return np.partition(similarity, -k, axis=1)[:, -k]


# Numbers


def _accuracy(own: Scored) -> float:
    return float((own.predicted[own.test] == own.labels[own.test]).mean())


def _unknown(scored: list[Scored], corpus: Corpus, *, development: bool) -> Iterator[tuple[str, Scored, np.ndarray]]:
    """Source, model, and positions of its unknown images: those for choosing a score, or those for reporting."""
    chosen_on = corpus.class_names[:DEVELOPMENT_GAMES]
    for own in scored:
        if own.setting.held_out:
            if (own.setting.held_out in chosen_on) == development:
                yield f"near: {own.setting.held_out}", own, own.near
        elif not development:
            yield "near: other games, two known", own, own.near
        suffix = "" if own.setting.held_out else ", two known"
        for source in dict.fromkeys(corpus.sources[corpus.sources != ""].tolist()):
            if (source == open_set_images.DEVELOPMENT) == development and (
                not own.setting.held_out or (own.setting.held_out in chosen_on) == development
            ):
                yield f"far: {source}{suffix}", own, np.flatnonzero(corpus.sources == source)


def _table(scored: list[Scored], corpus: Corpus, *, development: bool, n_resamples: int) -> dict[str, dict]:
    """Metrics by method and source, each with an interval from drawing whole groups."""
    by_source: dict[str, list[tuple[Scored, np.ndarray]]] = {}
    for source, own, rows in _unknown(scored, corpus, development=development):
        by_source.setdefault(source, []).append((own, rows))
    return {
        method: {
            source: _cell(method, pairs, corpus, n_resamples if method in DETAILED else 0)
            for source, pairs in by_source.items()
        }
        for method in scored[0].scores
    }


def _cell(method: str, pairs: list[tuple[Scored, np.ndarray]], corpus: Corpus, n_resamples: int) -> dict:
    draws = []
    for number in range(n_resamples + 1):  # The first is of all images as they are.
        values = []
        for own, rows in pairs:
            test = own.test
            if number:
                # The same unknown images for all models of a draw: their chance is one, whatever the split is.
                rows = _resampled(corpus, rows, np.random.default_rng([number, 1]))
                test = _resampled(corpus, test, np.random.default_rng([number, 0, own.setting.seed]))
            correct = own.predicted[test] == own.labels[test]
            found = rejection.summary(own.scores[method][test], own.scores[method][rows], correct)
            values.append([found[name] for name in METRICS])
        draws.append(np.mean(values, axis=0))
    low, high = np.quantile(draws[1:], [0.025, 0.975], axis=0) if n_resamples else (draws[0], draws[0])
    return {
        name: {"value": round(float(draws[0][k]), 4), "ci_low": round(float(low[k]), 4),
               "ci_high": round(float(high[k]), 4)}
        for k, name in enumerate(METRICS)
    } | {"n_unknown": int(np.mean([len(rows) for _, rows in pairs])), "n_models": len(pairs)}  # fmt: skip


_MEMBERS: dict[bytes, list[np.ndarray]] = {}


def _resampled(corpus: Corpus, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    key = rows.tobytes()
    if key not in _MEMBERS:
        _MEMBERS[key] = [rows[own] for own in rejection.members(corpus.groups[rows])]
    return rejection.drawn(_MEMBERS[key], random)


def _macro(table: dict[str, dict], kind: str, *, pairs: bool) -> dict[str, float]:
    """Mean AUROC over sources of a kind by method; none where there is no such source."""
    found = {}
    for method, own in table.items():
        values = [
            cell["auroc"]["value"]
            for source, cell in own.items()
            if source.startswith(kind) and source.endswith("two known") == pairs
        ]
        if values:
            found[method] = round(float(np.mean(values)), 4)
    return found


def _false_rejection(scored: list[Scored], corpus: Corpus) -> list[dict]:
    """At the shipped threshold: share of test images rejected over all and by class, beside the stated interval."""
    rows = []
    for own in scored:
        rejected = ~own.accepted[own.test]
        by_class = {}
        for k, label in enumerate(own.setting.known):
            mine = rejected[own.labels[own.test] == k]
            by_class[corpus.class_names[label]] = {"n": len(mine), "rejected": int(mine.sum())}
        rows.append(
            {
                "model": own.setting.name,
                "n": len(rejected),
                "false_rejection": round(float(rejected.mean()), 4),
                "interval": [round(end, 4) for end in own.interval],
                "by_class": by_class,
                "near_accepted": round(float(own.accepted[own.near].mean()), 4),
                "far_accepted": round(float(own.accepted[corpus.sources != ""].mean()), 4),
                "test_accuracy": round(_accuracy(own), 4),
                "temperature": round(own.calibration["temperature"], 4),
                "calibration": {
                    when: {name: _rounded(value) for name, value in own.calibration[when].items()}
                    for when in ("before", "after")
                },
            }
        )
    return rows


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(own) for name, own in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def _report(scored: list[Scored], corpus: Corpus, args: OpenSetArguments) -> dict:
    development = _table(scored, corpus, development=True, n_resamples=0)
    reported = _table(scored, corpus, development=False, n_resamples=args.n_resamples)
    macro = {
        "development": {kind: _macro(development, kind, pairs=False) for kind in ("near", "far")},
        "report": {kind: _macro(reported, kind, pairs=False) for kind in ("near", "far")},
        "report, two known": {kind: _macro(reported, kind, pairs=True) for kind in ("near", "far")},
    }
    for name, own in macro.items():
        if all(own.values()):
            logger.info("%s\n%s", name, _text(own))
    return {
        "backbone": args.backbone.name,
        "how": args.how,
        "image_size_px": int(corpus.pixels.shape[-1]),
        "dataset": {"name": args.images.name, "n": int((corpus.labels >= 0).sum()), "classes": corpus.class_names},
        "seeds": args.seeds,
        "development": {"held_out": corpus.class_names[:DEVELOPMENT_GAMES], "far": [open_set_images.DEVELOPMENT]},
        "macro_auroc": macro,
        "shipped": SHIPPED,
        "sources": {method: reported[method] for method in DETAILED},
        "models": _false_rejection(scored, corpus),
        "hardware": results.processor_name(),
    }


def _text(macro: dict[str, dict[str, float]]) -> str:
    methods = next(iter(macro.values()), {})
    lines = [f"{'':34}" + "".join(f"{kind:>8}" for kind in macro)]
    return "\n".join(lines + [f"{m:34}" + "".join(f"{macro[kind][m]:8.3f}" for kind in macro) for m in methods])


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    raise SystemExit(cli.run(main, OpenSetArguments, doc=__doc__))
