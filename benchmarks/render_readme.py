"""Fill the tables of README.md from benchmarks/results/.

python -m benchmarks.render_readme           writes README.md
python -m benchmarks.render_readme --check   exits with 1 where it would change something
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.backbone_card import METHODS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


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
    """What the shipped backbone is worth, against the same network from scratch and what sees no shapes."""
    found = json.loads((RESULTS / "backbone_transfer_vit-micro-patch8-64.json").read_text(encoding="utf-8"))
    lines = ["| what | mean | lowest | highest |", "|---|---|---|---|"]
    for key, text in METHODS.items():
        row = found["methods"][key]
        lines.append(f"| {text} | {row['mean']:.3f} | {row['low']:.3f} | {row['high']:.3f} |")
    return "\n".join(lines)


def speed_table() -> str:
    """What the speed benchmarks found on a processor and on a GPU, against the usual way in the same run."""
    lines = ["| what | network | device | ours | the usual way | times as fast |", "|---|---|---|---|---|---|"]
    for device, title in (("cpu", "processor"), ("cuda", "GPU")):
        for name, rows_of in SPEED.items():
            path = RESULTS / f"{name}_{device}.json"
            found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
            rows = rows_of(found) if found else [("", "", "not measured", "")]
            where = found["device"] if found else title
            lines += [f"| {WORK[name]} | {row[0]} | {where} | {' | '.join(row[1:])} |" for row in rows]
    return "\n".join(lines)


def _train_rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return _pairs(found, "(a) our path", "(b) plain Trainer", "times_plain")


def _sort_rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return _pairs(found, "sort_memes", "pipeline, one by one", "times_the_loop")


def _pairs(found: dict[str, Any], ours: str, usual: str, ratio: str) -> list[tuple[str, str, str, str]]:
    rows = {(row["model"], row["side"]): row for row in found["rows"]}
    return [
        (
            Path(model).name,
            _median(row["images_per_s"]),
            _median(rows[model, usual]["images_per_s"]),
            f"{row[ratio]:.2f}",
        )
        for (model, side), row in rows.items()
        if side == ours
    ]


def _result_rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    totals = [[sum(run.values()) for run in runs] for runs in found["runs"].values()]
    model = Path(found["settings"]["model"]).name
    return [(model, *map(_median, totals), f"{found['times_as_fast']:.2f}")]


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}"


WORK = {
    "train_throughput": "training, images/s",
    "sort_throughput": "sorting full-HD files, images/s",
    "time_to_result": "from the command to the model, s",
}
SPEED = {"train_throughput": _train_rows, "sort_throughput": _sort_rows, "time_to_result": _result_rows}
TABLES = {"demo": demo_table, "backbone": backbone_table, "speed": speed_table}


def rendered(text: str) -> str:
    """`text` of the README with every table made anew."""
    for name, make in TABLES.items():
        block = re.compile(f"(<!-- {name} table: [^\n]*-->\n).*?(<!-- end of {name} table -->)", re.DOTALL)
        table = make()
        text = block.sub(rf"\g<1>{table}\n\g<2>", text)
    return text


def main() -> int:
    """Write or check README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    path = ROOT / "README.md"
    old = path.read_text(encoding="utf-8")
    new = rendered(old)
    if parser.parse_args().check:
        return int(new != old)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
