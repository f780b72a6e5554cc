"""Fill the tables of README.md and docs/ from benchmarks/results/.

python -m benchmarks.render_readme           writes them
python -m benchmarks.render_readme --check   exits with 1 where it would change something
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import backbone_card, epochs, recipe, runs

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SHIPPED, FORMULAS = "vit-micro-patch12-96", "vit-micro-patch8-64"  # The backbone, and what it began as.
_MIN_FOR_ERROR = 3  # Seeds.
_KNOWN_SCORES = ("MSP", "max-logit", "energy", "kNN", "Mahalanobis++")  # Those of the literature.
_SHOWN = 0.0005  # A gain that the table does not show as 0.


def demo_table() -> str:
    """The test accuracies of the last committed demo run."""
    found = json.loads((RESULTS / "demo.json").read_text(encoding="utf-8"))
    lines = ["| what | split | n | accuracy | 95 % interval |", "|---|---|---|---|---|"]
    for one in found["measurements"]:
        if (one["name"], one["split"]) == ("accuracy", "test"):
            interval = f"{one['ci_low']:.3f} to {one['ci_high']:.3f}"
            lines.append(f"| {one['subject']} | test | {one['n']} | {one['value']:.3f} | {interval} |")
    training = found["training"]
    lines += ["", f"Trained in {training['seconds']:.0f} s on {training['hardware']}, seed {training['seed']}."]
    return "\n".join(lines)


def backbone_table() -> str:
    """What the shipped backbone and the one that it began as are worth on games and on photographs."""
    return backbone_card.transfer_tables(backbone_card.read_transfers(SHIPPED, FORMULAS))


def speed_table() -> str:
    """What the speed benchmarks found on a CPU and on a GPU, against a baseline in the same run."""
    lines = ["| what | network | device | memevit | baseline | speed-up |", "|---|---|---|---|---|---|"]
    for device, title in DEVICES.items():
        for name, rows_of in SPEED.items():
            runs_of = _measured(name, device)
            rows = [(*row, found["device"]) for found in runs_of for row in rows_of(found)]
            for network, *cells, where in rows or [("", "", "not measured", "", title)]:
                lines.append(f"| {WORK[name]} | {network} | {where} | {' | '.join(cells)} |")
    return "\n".join(lines)


def limits_table() -> str:
    """How near training and sorting come to what the images alone and the network alone allow."""
    columns = ["what", "network", "device", "memevit", "images alone", "network alone", "share of the limit",
               "share of matrix products"]  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for device in DEVICES:
        for name, sides in LIMITS.items():
            for found in _measured(name, device):
                rows = {(row["model"], row["side"]): row for row in found["rows"]}
                for model in dict.fromkeys(model for model, _ in rows):
                    rates = [_median(rows[model, side]["images_per_s"]) for side in sides]
                    ours = rows[model, sides[0]]
                    used = f"{ours['utilisation']:.0%}" if "utilisation" in ours else ""
                    cells = [WORK[name], _network(model, found), found["device"], *rates]
                    cells += [f"{ours['share_of_limit']:.2f}", used]
                    lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines + _profile_lines())


def _profile_lines() -> list[str]:
    """Where the time of training steps goes on a GPU."""
    lines = []
    for found in _measured("profile_training", "cuda"):
        network, n_steps = _network(found["settings"]["model"], found), found["settings"]["n_steps"]
        most = ", ".join(f"`{row['name']}` {row['share']:.0%}" for row in found["rows"][:5])
        lines += ["", f"{n_steps} training steps of {network} took {found['seconds']:.2f} s under the profiler "
                  f"({found['device']}), without work for {found['idle_share']:.1%} of the time; {most}."]  # fmt: skip
    return lines


def _network(model: str, found: dict[str, Any]) -> str:
    return Path(model).name + (", compiled" if found["settings"].get("torch_compile") else "")


def _measured(name: str, device: str) -> list[dict[str, Any]]:
    """What the runs of a speed benchmark found on a kind of device; none where it was not run."""
    paths = [RESULTS / f"{name}_{device}.json", *sorted(RESULTS.glob(f"{name}_*_{device}.json"))]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def _train_rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return _pairs(found, "(a) our path", "(b) plain Trainer", "times_plain")


def _sort_rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return _pairs(found, "sort_memes", "pipeline, one by one", "times_the_loop")


def _pairs(found: dict[str, Any], ours: str, usual: str, ratio: str) -> list[tuple[str, str, str, str]]:
    rows = {(row["model"], row["side"]): row for row in found["rows"]}
    return [
        (
            _network(model, found),
            _median(row["images_per_s"]),
            _median(rows[model, usual]["images_per_s"]),
            f"{row[ratio]:.2f}",
        )
        for (model, side), row in rows.items()
        if side == ours
    ]


def _result_rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    totals = [[sum(run.values()) for run in runs] for runs in found["runs"].values()]
    ours, usual = map(_median, totals)
    model, prepare_s = Path(found["settings"]["model"]).name, found["prepare_s"]
    return [(model, f"{ours}, and {prepare_s:.1f} to prepare once", usual, f"{found['times_as_fast']:.2f}")]


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}"


WORK = {
    "train_throughput": "training, images/s",
    "sort_throughput": "sorting full-HD files, images/s",
    "time_to_result": "from the command to the model, seconds",
}
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
LIMITS = {  # Ours, images alone, network alone.
    "train_throughput": ("(a) our path", "(d) our batches alone", "(c) model step alone"),
    "sort_throughput": ("sort_memes", "decoding alone", "network alone"),
}
SPEED = {"train_throughput": _train_rows, "sort_throughput": _sort_rows, "time_to_result": _result_rows}


def reference_table() -> str:
    """Our recipe against the plain one, on every dataset that was tried."""
    found = json.loads((RESULTS / "reference.json").read_text(encoding="utf-8"))
    lines = ["| dataset | memevit | plain recipe | difference (lowest to highest) | seeds |", "|---|---|---|---|---|"]
    for name, row in found["verdict"]["datasets"].items():
        difference = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        lines.append(f"| {name} | {row['ours']:.3f} | {row['plain']:.3f} | {difference} | {row['n_seeds']} |")
    return "\n".join(lines)


def recipe_table() -> str:
    """The default recipe, and how far every other choice is from it with the same seeds."""
    default, others = _recipe_values()
    lines = [f"| recipe | {' | '.join(map(', '.join, default))} | seeds |", "|---|" + "---|" * (len(default) + 1)]
    means = [f"{statistics.mean(by_seed.values()):.3f}" for by_seed in default.values()]
    lines.append(f"| default | {' | '.join(means)} | {_n_seeds(default)} |")
    for arm, by_column in others.items():
        apart = [_apart(by_column.get(column, {}), default[column]) for column in default]
        lines.append(f"| {arm} | {' | '.join(apart)} | {_n_seeds(by_column)} |")
    return "\n".join(lines)


def recipe_verdict() -> str:
    """Which choices are better than the default on the validation splits of both datasets, of one, or of none."""
    default, others = _recipe_values()
    columns = [column for column in default if column[1] == "validation"]
    by_wins: dict[int, list[str]] = {n: [] for n in (2, 1, 0)}
    for arm, by_column in others.items():
        gains = [statistics.mean(_differences(by_column[column], default[column])) for column in columns]
        by_wins[sum(gain >= _SHOWN for gain in gains)].append(f"{arm} ({', '.join(f'{gain:+.3f}' for gain in gains)})")
    titles = {2: "Better on both validation splits", 1: "Better on one of them", 0: "Better on neither"}
    where = " and ".join(dataset for dataset, _ in columns)
    lines = [f"Mean difference on the validation splits of {where}:", ""]
    return "\n".join(lines + [f"- **{titles[n]}**: {', '.join(arms) or 'nothing'}." for n, arms in by_wins.items()])


def _recipe_values() -> tuple[dict, dict]:
    """Balanced accuracy by (dataset, split) and seed: of the default, and of every other arm by its name."""
    found = json.loads((RESULTS / "recipe.json").read_text(encoding="utf-8"))["runs"]
    values: dict[str, dict[tuple[str, str], dict[str, float]]] = {}
    for key, row in found.items():
        dataset, arm, seed = key.split(" | ")
        for split in runs.SPLITS:
            values.setdefault(arm, {}).setdefault((dataset, split), {})[seed] = row[split]["balanced_accuracy"]
    default = values.pop("default")
    return default, {arm: by_column for arm, by_column in values.items() if arm in recipe.ARMS}  # Others are gone.


def _differences(values: dict[str, float], default: dict[str, float]) -> list[float]:
    """From the default, for the seeds that both have."""
    return [value - default[seed] for seed, value in values.items() if seed in default]


def _apart(values: dict[str, float], default: dict[str, float]) -> str:
    """Mean difference over the seeds that both have, with its standard error where there are enough of them."""
    differences = _differences(values, default)
    if not differences:
        return ""
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) >= _MIN_FOR_ERROR else None
    return f"{statistics.mean(differences):+.3f}" + ("" if error is None else f" ± {error:.3f}")


def _n_seeds(by_column: dict[tuple[str, str], dict[str, float]]) -> str:
    counts = [len(by_seed) for by_seed in by_column.values()]
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def by_epoch_table() -> str:
    """Accuracy and calibrated loss on test of what each rule chooses on validation, for each arm and its probe."""
    columns = ["network", "images", "per class", "epochs", "training", "seeds"]
    columns += [*(f"best by {rule}" for rule in epochs.RULES), "linear probe", "what is saved"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for path in sorted(RESULTS.glob("recipe_by_epoch_*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        by_arm: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for key, row in found["runs"].items():
            by_arm.setdefault(tuple(key.split(" | ")[:2]), []).append(row)
        for (dataset, arm), rows in sorted(by_arm.items()):
            budget = [str(found["per_class"] or "all"), str(found["epochs"])]
            cells = [found["backbone"], dataset, *budget, arm, str(len(rows)), *_by_rule(rows)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_rule(rows: list[dict[str, Any]]) -> list[str]:
    if not all("epochs" in row for row in rows):  # The plain recipe, whose checkpoint has the lowest loss.
        return ["", f"{statistics.mean(row['test']['accuracy'] for row in rows):.3f}", "", "", ""]
    picked = [[epochs.picked(row["epochs"], rule) for row in rows] for rule in epochs.RULES]
    picked.append([row["probe"] for row in rows])
    if all("calibrated_losses" in row["probe"]["validation"] for row in rows):
        picked.append([epochs.settled(row, "macro F1") for row in rows])
    cells = [
        f"{statistics.mean(one['test']['accuracy'] for one in own):.3f} / "
        f"{statistics.mean(one['test']['calibrated_nll'] for one in own):.3f}"
        for own in picked
    ]
    return cells + [""] * (len(epochs.RULES) + 2 - len(cells))


def scaling_table() -> str:
    """Milliseconds per image and peak memory, from a thousand images on."""
    found = json.loads((RESULTS / "scaling_cpu.json").read_text(encoding="utf-8"))
    steps = ("prepare", "sort", "decode once", "an epoch")
    columns = ["images", "processes", *(f"{step}, ms" for step in steps), "memory to prepare", "to sort", "to train"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in found["rows"]:
        times = (row["prepare"]["seconds"], row["sort"]["seconds"], row["cache_s"], row["epoch_s"])
        cells = [f"{1000 * seconds / row['n']:.2f}" for seconds in times]
        cells += [f"{row[name]['peak_mb']:,.0f} MB" for name in ("prepare", "sort", "train")]
        lines.append(f"| {row['n']:,} | {row['processes']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def prepare_table() -> str:
    """Images per second of data_prep.py, beside those of Pillow, which only decodes and shrinks them."""
    found = json.loads((RESULTS / "prepare_throughput.json").read_text(encoding="utf-8"))
    sides = list(found["runs"][0]["images_per_s"])
    lines = [f"| format | mean file size | {' | '.join(f'{side}, images/s' for side in sides)} |"]
    lines.append("|" + "---|" * (len(sides) + 2))
    for run in found["runs"]:
        rates = [f"{run['images_per_s'][side]:.1f}" for side in sides]
        lines.append(f"| {run['format']} | {run['mean_file_kb']} kB | {' | '.join(rates)} |")
    size = " x ".join(map(str, found["size_px"]))
    lines += [
        "",
        f"{found['n_images']} images of {size} pixels, median of {found['repeats']} runs on {found['hardware']}.",
    ]
    return "\n".join(lines)


def recall_table() -> str:
    """How many copies the search for near-duplicates finds, by how they were changed."""
    found = json.loads((RESULTS / "duplicate_recall.json").read_text(encoding="utf-8"))
    lines = ["| pair | found | n | share | 95 % interval |", "|---|---|---|---|---|"]
    for kind, of_kind in found["recall"].items():
        for name, row in {f"**{kind}**": of_kind["all"], **of_kind["by_pair"]}.items():
            interval = f"{row['ci_low']:.3f} to {row['ci_high']:.3f}"
            lines.append(f"| {name} | {row['found']} | {row['n']} | {row['recall']:.3f} | {interval} |")
    return "\n".join(lines)


def fast_table() -> str:
    """How far sort_memes.py --fast agrees with the exact way."""
    found = json.loads((RESULTS / "fast_agreement.json").read_text(encoding="utf-8"))
    lines = [
        "| images | n | same label | 95 % interval | difference of probabilities: mean | 95th percentile | largest |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        low, high = row["same_label_ci95"]
        size = f", drawn at {row['enlarged_to_px']} px" if row["enlarged_to_px"] else ""
        numbers = [row["mean_difference"], row["difference_95th_percentile"], row["largest_difference"]]
        cells = [f"{row['images']}{size}", row["n"], f"{row['same_label']:.1%}", f"{low:.1%} to {high:.1%}"]
        lines.append(f"| {' | '.join(map(str, [*cells, *(f'{value:.3f}' for value in numbers)]))} |")
    return "\n".join(lines)


def open_set_table() -> str:
    """AUROC of published scores and of ours, macro mean over sources; the best of each backbone in bold."""
    found = json.loads((RESULTS / "open_set.json").read_text(encoding="utf-8"))
    heads = [
        "six games known: the four other games that report", "all seven other games", "no game",
        "two games known: other games", "no game",
    ]  # fmt: skip
    lines = [f"| backbone | score | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 2)]
    for entry in found.values():
        six, two = (entry["macro_auroc"][models] for models in ("report", "report, two known"))
        by_column = [six["near"], _of_all_games(entry), six["far"], two["near"], two["far"]]
        shown = [*_KNOWN_SCORES, entry["shipped"]]
        for method in shown:
            cells = [f"{own[method]:.3f}" for own in by_column]
            best = [own[method] == max(own[name] for name in shown) for own in by_column]
            cells = [f"**{cell}**" if is_best else cell for cell, is_best in zip(cells, best, strict=True)]
            name = f"{method} (ours)" if method == entry["shipped"] else method
            how = ", fine-tuned" if entry["how"].startswith("all weights") else ""
            lines.append(f"| {entry['backbone']}{how}, {len(entry['seeds'])} seeds | {name} | {' | '.join(cells)} |")
    return "\n".join(lines).replace(", 1 seeds", ", 1 seed")


def _of_all_games(entry: dict[str, Any]) -> dict[str, float]:
    """Near AUROC by score over all held-out games: those on which the score was chosen, and those that report."""
    n_chosen_on, n_games = len(entry["development"]["held_out"]), len(entry["dataset"]["classes"])
    chosen_on, reported = (entry["macro_auroc"][name]["near"] for name in ("development", "report"))
    return {
        method: (n_chosen_on * chosen_on[method] + (n_games - n_chosen_on) * value) / n_games
        for method, value in reported.items()
    }


def _add_class_rows(cells: Callable[[dict[str, Any]], list[str]]) -> list[str]:
    """A line for each backbone and number of new images in add_class.json."""
    found = json.loads((RESULTS / "add_class.json").read_text(encoding="utf-8"))
    return [
        f"| {' | '.join([name, str(own['n'] or 'all'), str(own['n_rows']), *cells(own)])} |"
        for name, entry in found.items()
        for own in entry["by_size"]
        if own["n_rows"]
    ]


def add_class_table() -> str:
    """Accuracy of old and new classes, and the harmonic mean of other ways."""
    ways = ("nearest class mean", "raw imprinting", "new class alone", "joint head", "joint fine-tuning")

    def cells(own: dict[str, Any]) -> list[str]:
        ours, others = own["accuracy"]["ours"], [own["accuracy"].get(way) for way in ways]
        shown = [own["old_before"], ours["old"], ours["new"], ours["harmonic_mean"]]
        values = [*shown, *(None if one is None else one["harmonic_mean"] for one in others)]
        return ["" if value is None else f"{value:.3f}" for value in values]

    heads = ["model", "new images", "cases", "old classes before", "after", "new class", "harmonic mean", *ways]
    return "\n".join([f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *_add_class_rows(cells)])


def add_class_goals() -> str:
    """How far each goal is reached: the mean, and in which share of the cases."""

    def cells(own: dict[str, Any]) -> list[str]:
        reached = [own[name] for name in ("old_lost", "new_behind", "harmonic_mean_behind")]
        time, auroc, rejection = own["time_share"], own["auroc"], own["false_rejection"]
        return [
            *(f"{100 * one['mean']:+.1f} ({one['goal_met']:.0%})" for one in reached),
            f"{100 * time['mean']:.1f} % ({time['goal_met']:.0%})",
            f"{100 * rejection['all classes']['rate']:.1f} % ({rejection['all classes']['compatible']:.0%})",
            f"{100 * rejection['new class']['rate']:.1f} % ({rejection['new class']['compatible']:.0%})",
            "{before:.0%} to {after:.0%}".format(**own["new_called_unknown"]),
            *("{before:.3f} to {after:.3f}".format(**auroc[kind]) if kind in auroc else "" for kind in ("near", "far")),
        ]

    heads = [
        *("model", "new images", "cases", "old classes lose (at most 2 points)", "new class behind joint (3)"),
        *("harmonic mean behind joint (2)", "time of joint fine-tuning (2 %)", "old and new images called unknown"),
        *("of the new class", "new class called unknown, before and after", "AUROC, other games", "AUROC, no game"),
    ]
    return "\n".join([f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *_add_class_rows(cells)])


PAGES = {
    "README.md": {"demo": demo_table},
    "docs/choices.md": {
        "backbone": backbone_table,
        "reference": reference_table,
        "by epoch": by_epoch_table,
        "recipe": recipe_table,
        "verdict": recipe_verdict,
        "recall": recall_table,
        "add class": add_class_table,
        "add class goals": add_class_goals,
    },
    "docs/speed.md": {
        "speed": speed_table,
        "limits": limits_table,
        "prepare": prepare_table,
        "scaling": scaling_table,
    },
    "docs/sort_memes.md": {"fast": fast_table},
    "docs/unknown_images.md": {"open set": open_set_table},
}


def rendered(page: str, text: str) -> str:
    """`text` of `page` with every table made anew."""
    for name, make in PAGES[page].items():
        block = re.compile(f"(<!-- {name} table: [^\n]*-->\n).*?(<!-- end of {name} table -->)", re.DOTALL)
        text = block.sub(rf"\g<1>{make()}\n\g<2>", text)
    return text


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    is_check, is_stale = parser.parse_args().check, False
    for page in PAGES:
        path = ROOT / page
        old = path.read_text(encoding="utf-8")
        new = rendered(page, old)
        is_stale = is_stale or new != old
        if not is_check:
            path.write_text(new, encoding="utf-8")
    return int(is_check and is_stale)


if __name__ == "__main__":
    sys.exit(main())
