"""Fill the tables of README.md from benchmarks/results/.

python -m benchmarks.render_readme           writes README.md
python -m benchmarks.render_readme --check   exits with 1 where it would change something
"""

import argparse
import json
import re
import sys
from pathlib import Path

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


TABLES = {"demo": demo_table, "backbone": backbone_table}


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
