"""Compare what benchmarks/on_gpu.sh has measured with its goals.

python -m benchmarks.gpu_goals benchmarks/results
python -m benchmarks.gpu_goals /tmp/found --device cpu

A goal whose measurement is missing is shown as such. The goals are for an H100 or H200 with 16 cores.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.time_to_result import OURS as RESULT
from benchmarks.train_throughput import SIDES

Found = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """A value of one measurement, and the lowest or highest that is wanted."""

    name: str
    measurement: str
    value: Callable[[Found], float]
    at_least: float | None = None
    at_most: float | None = None

    def line(self, found: Found | None) -> str:
        """The goal and what was found."""
        wanted = f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"
        if found is None:
            return f"{self.name}: not measured ({wanted} is wanted)"
        value = self.value(found)
        is_met = value >= self.at_least if self.at_least is not None else value <= self.at_most
        return f"{self.name}: {value:.2f} ({wanted} is wanted): {'met' if is_met else 'NOT MET'}"


def _of_ours(key: str) -> Callable[[Found], float]:
    return lambda found: next(row[key] for row in found["rows"] if row["side"] == SIDES["ours"])


def _seconds(found: Found) -> float:
    return statistics.median(sum(run.values()) for run in found["runs"][RESULT])


GOALS = [
    Goal("ViT-B, share of the matrix-product rate", "train_throughput", _of_ours("utilisation"), at_least=0.5),
    Goal("ViT-B, share of the step alone", "train_throughput", _of_ours("share_of_limit"), at_least=0.95),
    Goal("ViT-B, times the plain Trainer", "train_throughput", _of_ours("times_plain"), at_least=5),
    Goal("ViT-B, seconds to the model", "time_to_result", _seconds, at_most=60),
    Goal("ViT-B, share of time without work", "profile_training", lambda found: found["idle_share"], at_most=0.05),
]


def main() -> None:
    """Print one line for each goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of the JSON files")
    parser.add_argument("--device", default="cuda", help="end of their names")
    args = parser.parse_args()
    for goal in GOALS:
        path = args.results / f"{goal.measurement}_{args.device}.json"
        print(goal.line(json.loads(path.read_text(encoding="utf-8")) if path.exists() else None))


if __name__ == "__main__":
    main()
