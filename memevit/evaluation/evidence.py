"""Learned or lucky: accuracy with intervals, tests against chance and against classifiers that cannot see."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from tqdm import tqdm

from memevit import pixels
from memevit.evaluation import baselines, file_cues, significance
from memevit.evaluation.observed import Observed, count, listed
from memevit.results import MODEL, PROBE

MAJORITY, COLOUR, THUMBNAIL = "majority class", "colour histogram", "16-pixel thumbnail"
PROPERTIES = "file properties alone"
MAX_TEST = 5000  # Images on which baselines are compared.
N_PERMUTATIONS = 1000
N_SHUFFLES = 10
# Shares of the images that may be in another split too, or share a template with one there: so few decide nothing.
_MAX_SAME, _MAX_LEAKED = 0.01, 0.1
_MIN_IMAGES = 30  # In the test split, for a verdict.
_PATIENCE_S = 2.0

LEARNED, NOT_BETTER, NOTHING, TOO_FEW, LEAKED = "learned", "not better", "nothing", "too few", "leaked"
HEADLINES = {
    LEARNED: "The model learned. This is not luck.",
    NOT_BETTER: "Better than guessing, but not clearly better than a simple rule.",
    NOTHING: "Nothing shows that the model learned.",
    TOO_FEW: "Probably learned, but there are too few images to be sure.",
    LEAKED: "The accuracy cannot be trusted yet.",
}


def baseline_predictions(
    train: Observed, test: Observed, *, probe: np.ndarray | None = None, seed: int = 0
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Positions [m] of the compared test images, and the class ids [m] that each baseline predicts for them.

    Args:
        train: what the baselines learn from; at most about `baselines.MAX_TRAIN` images, of every class in proportion.
        test: at most about `MAX_TEST` images are compared.
        probe: [n_test] class ids that a linear probe of the backbone before fine-tuning predicts.
        seed: of the choices and solvers.
    """
    seen = baselines.some_of(train.labels, baselines.MAX_TRAIN, seed=seed)
    compared = baselines.some_of(test.labels, MAX_TEST, seed=seed)
    labels = train.labels[seen]
    every = [train.paths[position] for position in seen] + [test.paths[position] for position in compared]
    colours = np.empty((len(every), baselines.N_BINS**3), dtype=np.float32)
    thumbnails = np.empty((len(every), file_cues.THUMBNAIL_PX**2 * 3), dtype=np.float32)
    for row, path in enumerate(tqdm(every, desc="Baselines", unit="image", delay=_PATIENCE_S, leave=False)):
        image = pixels.load_image(path)
        thumbnails[row] = file_cues.thumbnail_values(image)
        colours[row] = baselines.histogram_of(image)
    rows = [train.rows[position] for position in seen] + [test.rows[position] for position in compared]
    properties = file_cues.file_properties(rows)
    n = len(seen)
    found = {
        MAJORITY: baselines.predict_majority(train.labels, len(compared)),
        COLOUR: file_cues.predict_by_values(colours[:n], labels, colours[n:], seed=seed),
        THUMBNAIL: file_cues.predict_by_values(thumbnails[:n], labels, thumbnails[n:], seed=seed),
        PROPERTIES: file_cues.predict_by_properties(properties[:n], labels, properties[n:], seed=seed),
    }
    if probe is not None:
        found[PROBE] = probe[compared]
    return compared, found


def accuracy_of_split(part: Observed, *, seed: int = 0) -> list[dict[str, Any]]:
    """Accuracy of the model on a split with Wilson's interval and that of the group bootstrap."""
    n = len(part)
    low, high = significance.wilson_interval(int(part.is_correct.sum()), n)
    base = {"name": "accuracy", "subject": MODEL, "value": float(part.is_correct.mean()), "split": part.split, "n": n}
    group_low, group_high = significance.group_bootstrap_interval(part.is_correct, part.groups, seed=seed)
    return [
        base | {"ci_low": low, "ci_high": high, "ci_method": significance.WILSON},
        base | {"ci_low": group_low, "ci_high": group_high, "ci_method": significance.BOOTSTRAP,
                "n_groups": len(set(part.groups))},
    ]  # fmt: skip


def _accuracy_without(test: Observed, leaked: Set[str]) -> list[dict[str, Any]]:
    """Accuracy on the images that have no near-duplicate in another split."""
    clean = test.is_correct[[row.file not in leaked for row in test.rows]]
    if not len(clean):
        return []
    low, high = significance.wilson_interval(int(clean.sum()), len(clean))
    return [
        {"name": "accuracy", "subject": f"{MODEL}, without near-duplicates of other splits", "split": test.split,
         "value": float(clean.mean()), "n": len(clean), "ci_low": low, "ci_high": high,
         "ci_method": significance.WILSON}
    ]  # fmt: skip


def comparisons(test: Observed, compared: np.ndarray, predicted: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Accuracy of each baseline, and McNemar's test of the model against it on the same images, Holm-corrected.

    Args:
        test: the split.
        compared: [m] positions in it.
        predicted: [m] class ids by baseline, see `baseline_predictions`.
    """
    own = test.is_correct[compared]
    rows, tests = [], []
    for name, classes in predicted.items():
        correct = classes == test.labels[compared]
        low, high = significance.wilson_interval(int(correct.sum()), len(correct))
        tests.append(significance.Paired.of(own, correct))
        rows.append(
            {"name": "accuracy", "subject": name, "value": float(correct.mean()), "split": test.split,
             "n": len(correct), "ci_low": low, "ci_high": high, "ci_method": significance.WILSON}
        )  # fmt: skip
    adjusted = significance.holm([one.p for one in tests])
    for row, one, p in zip(rows, tests, adjusted, strict=True):
        gain_low, gain_high = significance.paired_interval(one)
        row |= {
            "gain": one.difference, "gain_ci_low": gain_low, "gain_ci_high": gain_high, "p": one.p, "p_holm": p,
            "n_only_model": one.n_only_first, "n_only_baseline": one.n_only_second,
            "p_method": f"{significance.MCNEMAR}; Holm over {len(tests)} baselines",
            "is_beaten": p < significance.ALPHA and one.difference > 0,
        }  # fmt: skip
    return rows


def chance_tests(
    train: Observed, test: Observed, *, n_permutations: int = N_PERMUTATIONS, seed: int = 0
) -> list[dict[str, Any]]:
    """Tests whether accuracy could come from guessing: exact binomial, and two permutation tests.

    Args:
        train: for the majority class, and for the classifier that is refitted to permuted labels.
        test: held-out images.
        n_permutations: deals of the labels.
        seed: of the deals.
    """
    n, accuracy = len(test), float(test.is_correct.mean())
    majority = int(np.bincount(train.labels).argmax())
    chance = float((test.labels == majority).mean())
    base = {"split": test.split, "n": n}
    binomial = significance.binomial_p(int(test.is_correct.sum()), n, min(max(chance, 1e-9), 1 - 1e-9))
    dealt = significance.permuted_accuracies(test.predicted, test.labels, n_permutations=n_permutations, seed=seed)
    refitted, permuted = refitted_accuracies(train, test, n_permutations=n_permutations, seed=seed)
    return [
        base | {"test": "better than always the most frequent class", "value": accuracy, "chance": chance,
                "p": binomial, "method": "exact binomial test, one-sided"},
        base | {"test": "answers and true classes belong together", "value": accuracy, "chance": float(dealt.mean()),
                "chance_low": float(np.quantile(dealt, 0.025)), "chance_high": float(np.quantile(dealt, 0.975)),
                "p": significance.permutation_p(accuracy, dealt),
                "method": f"true classes of the {test.split} images dealt out {n_permutations} times"},
        base | {"test": "features tell the classes apart", "value": refitted, "chance": float(permuted.mean()),
                "chance_low": float(np.quantile(permuted, 0.025)), "chance_high": float(np.quantile(permuted, 0.975)),
                "p": significance.permutation_p(refitted, permuted),
                "method": f"nearest class mean in 64 components of the features, refitted to {n_permutations} "
                "permutations of the training labels"},
    ]  # fmt: skip


def refitted_accuracies(train: Observed, test: Observed, *, n_permutations: int, seed: int) -> tuple[float, np.ndarray]:
    """Held-out accuracy of a classifier fitted to the training labels, and [n_permutations] to permuted ones."""
    seen = baselines.some_of(train.labels, baselines.MAX_TRAIN, seed=seed)
    compared = baselines.some_of(test.labels, MAX_TEST, seed=seed)
    components = file_cues.Whitened.fit(train.features[seen], seed=seed)
    values, evaluated = components(train.features[seen]), components(test.features[compared])
    labels, true = train.labels[seen], test.labels[compared]
    random = np.random.default_rng(seed)

    def accuracy(own: np.ndarray) -> float:
        return float((file_cues.nearest_mean(values, own, evaluated) == true).mean())

    permuted = [
        accuracy(random.permutation(labels))
        for _ in tqdm(range(n_permutations), desc="Permutations", delay=_PATIENCE_S, leave=False)
    ]
    return accuracy(labels), np.array(permuted)


def shuffled_label_control(
    train: Observed, test: Observed, *, n_shuffles: int = N_SHUFFLES, seed: int = 0
) -> dict[str, Any]:
    """Held-out accuracy of a linear classifier trained on shuffled labels, which must be that of chance.

    Args:
        train: features and labels, which are shuffled.
        test: held-out images.
        n_shuffles: repetitions.
        seed: of the shuffles.
    """
    seen = baselines.some_of(train.labels, baselines.MAX_TRAIN, seed=seed)
    compared = baselines.some_of(test.labels, MAX_TEST, seed=seed)
    random = np.random.default_rng(seed)
    true = test.labels[compared]
    values = []
    for _ in tqdm(range(n_shuffles), desc="Shuffled labels", delay=_PATIENCE_S, leave=False):
        labels = random.permutation(train.labels[seen])
        found = file_cues.predict_by_values(train.features[seen], labels, test.features[compared], seed=seed)
        values.append(float((found == true).mean()))
    method = f"mean of {n_shuffles} linear classifiers of this model's features; must not exceed chance"
    return control_row(values, true, split=test.split, subject="trained on shuffled labels", method=method)


def control_row(values: Sequence[float], true: np.ndarray, *, split: str, subject: str, method: str) -> dict[str, Any]:
    """What trainings on shuffled labels reached on images of the classes `true` [n], and whether that is chance."""
    chance = float(np.bincount(true).max() / len(true))
    # The spread between shuffles, and that of a share measured on so many images.
    variance = np.var(values, ddof=1) / len(values) if len(values) > 1 else 0.0
    spread = significance.Z_95 * np.sqrt(variance + chance * (1 - chance) / len(true))
    return {
        "name": "accuracy", "subject": subject, "split": split, "n": len(true), "value": float(np.mean(values)),
        "lowest": min(values), "highest": max(values), "n_shuffles": len(values), "chance": chance,
        "is_chance": bool(np.mean(values) <= chance + spread), "method": method,
    }  # fmt: skip


def retrained_control(values: Sequence[float], test: Observed) -> dict[str, Any]:
    """The same of the accuracies `values` of whole trainings."""
    method = f"mean of {len(values)} repetitions of the whole training; must not exceed chance"
    subject = "whole network trained on shuffled labels"
    return control_row(values, test.labels, split=test.split, subject=subject, method=method)


def verdict(
    test: Observed,
    compared: Sequence[Mapping[str, Any]],
    chance: Sequence[Mapping[str, Any]],
    n_leaks: int | None,
    n_same: int = 0,
    n_allowed: int | None = None,
) -> tuple[str, str]:
    """The kind of verdict, a key of `HEADLINES`, and the figures behind it as a sentence.

    Args:
        test: the split.
        compared: of `comparisons`.
        chance: of `chance_tests`.
        n_leaks: images that are in another split too or share a template with one there; None if not counted.
        n_same: those of them that are in another split too.
        n_allowed: images with a near-duplicate in training, of a dataset that was divided with --allow_leaks.
    """
    n, n_correct = len(test), int(test.is_correct.sum())
    share = f"{n_correct:,} of {count(n, f'{test.split} image')} are right ({100 * n_correct / n:.0f} %)"
    majority = f"{100 * chance[0]['chance']:.0f} %"
    blind = [row for row in compared if row["subject"] != PROBE]
    unbeaten = [row for row in blind if not row["is_beaten"]]
    if n_allowed is not None:
        return LEAKED, (
            f"The split leaks, because the dataset was made with --allow_leaks: {n_allowed:,} of "
            f"{count(n, f'{test.split} image')} ({100 * n_allowed / n:.0f} %) have a near-duplicate in training. "
            f"{share}, which flatters the model."
        )
    if n_leaks and (n_same > _MAX_SAME * n or n_leaks > _MAX_LEAKED * n):
        twins = f"{count(n_leaks, f'{test.split} image')} {'has' if n_leaks == 1 else 'have'} a near-duplicate"
        return LEAKED, f"{twins} in another split. {share}, but some may be remembered."
    if chance[0]["p"] >= significance.ALPHA or chance[1]["p"] >= significance.ALPHA:
        return NOTHING, f"{share}; always guessing the most frequent class gets {majority}."
    if n < _MIN_IMAGES:
        return TOO_FEW, f"{share}, but {count(n, 'image')} are too few to be sure."
    if unbeaten:
        strongest = max(unbeaten, key=lambda row: row["value"])
        return NOT_BETTER, f"{share}; {_what_sees(strongest['subject'])} gets {100 * strongest['value']:.0f} %."
    best = max((row for row in blind if row["subject"] != MAJORITY), key=lambda row: row["value"], default=None)
    rival = f"; {_what_sees(best['subject'])} gets {100 * best['value']:.0f} %" if best else ""
    return LEARNED, f"{share}. Guessing gets {majority}{rival}."


def _what_sees(subject: str) -> str:
    return {
        MAJORITY: "always guessing the most frequent class",
        COLOUR: "a classifier that sees only the colours",
        THUMBNAIL: "a classifier that sees only a 16-pixel thumbnail",
        PROPERTIES: "a classifier that sees only the size and format of the file",
    }.get(subject, subject)


def section(
    train: Observed,
    test: Observed,
    compared: np.ndarray,
    predicted: Mapping[str, np.ndarray],
    *,
    others: Sequence[Observed] = (),
    leaks: Mapping[str, Set[str]] | None = None,
    same: Set[str] = frozenset(),
    in_training: Set[str] | None = None,
    spreads: Mapping[str, Any] | None = None,
    control: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """The section `evidence` of results.json.

    Args:
        train: training split.
        test: the split that the verdict is about.
        compared: positions of the test images that baselines predicted.
        predicted: of `baseline_predictions`.
        others: further splits whose accuracy is listed.
        leaks: files with a near-duplicate in another split, by split; None if not counted.
        same: those of them that show the same image as a file of another split.
        in_training: files with a near-duplicate in training, of a dataset that was divided with --allow_leaks.
        spreads: sections `seeds` and `folds` of results.json where they were trained.
        control: whether to run the control with shuffled labels.
        seed: of everything random.
    """
    against = comparisons(test, compared, predicted)
    chance = chance_tests(train, test, seed=seed)
    leaked = leaks.get(test.split, set()) if leaks else set()
    n_leaks = None if leaks is None else len(leaked)
    n_allowed = None if in_training is None else len(leaked & in_training)
    kind, detail = verdict(test, against, chance, n_leaks, len(leaked & same), n_allowed)
    measurements = accuracy_of_split(test, seed=seed)
    for part in others:
        measurements += accuracy_of_split(part, seed=seed)
    if leaked:
        measurements += _accuracy_without(test, leaked)
    found: dict[str, Any] = {
        "title": "Learned or lucky?",
        "summary": f"{HEADLINES[kind]} {detail}",
        "verdict": kind,
        "headline": HEADLINES[kind],
        "detail": detail,
        "measurements": measurements + against,
        "tests": chance,
        "n_leaks": None if leaks is None else {name: len(own) for name, own in leaks.items()},
    }
    if control:
        found["shuffled_labels"] = shuffled_label_control(train, test, seed=seed)
    if spreads:
        found["spread"] = [
            {"of": name, "n_runs": len(one["n"]), "split": one["split"], **one["metrics"]["accuracy"]}
            for name, one in spreads.items()
        ]
    return found


def missing_note(names: Sequence[str]) -> str:
    """Which baselines could not be computed.

    Example:
        >>> missing_note(["linear probe"])
        'Not measured: linear probe.'
    """
    return f"Not measured: {listed(names)}." if names else ""


def plain_lines(found: Mapping[str, Any]) -> str:
    """The verdict and the baselines as text."""
    compared = [row for row in found["measurements"] if "p_holm" in row]
    lines = [found["summary"]]
    if compared:
        lines.append("Baselines on the same images (exact McNemar tests; p is Holm-corrected for their number):")
    for row in compared:
        verdict_of = "beaten" if row["is_beaten"] else "NOT beaten"
        lines.append(f"  {row['subject']:<22} {row['value']:.3f}  {verdict_of}, p = {row['p_holm']:.3g}")
    return "\n".join(lines)
