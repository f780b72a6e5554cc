"""How fast sort_memes.py files images, against a loop over pipeline("image-classification").

    python -m benchmarks.sort_throughput
    python -m benchmarks.sort_throughput --n_images 400 --models vit-b --repeats 5

Prints a table and writes benchmarks/results/sort_throughput_DEVICE.json. All sides see the same files with the same
model in single precision. Decoding alone and the network alone show what limits: on a CPU they share the cores, so that
both together can't be quicker than one after the other. `--into` is the whole command: rows, log and copies. What
filing adds is measured in CPU time, which depends less than the clock on what else the machine does.
"""

import functools
import logging
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoImageProcessor, pipeline

from benchmarks import timing
from memevit import cli, cores, decoding
from memevit.model.classifier import Classifier, best_device
from memevit.model.processor import Processor
from memevit.sorting import command

OURS, FILING, FAST = "sort_memes", "sort_memes --into", "sort_memes --fast"
LOOP, DECODING, NETWORK = "pipeline, one by one", "decoding alone", "network alone"


@dataclass
class SortBenchmarkArguments:
    """What is sorted, and how often."""

    models: list[str] = field(
        default_factory=lambda: ["vit-tiny", "vit-s"], metadata={"help": "vit-tiny, vit-s, vit-b or model folders."}
    )
    n_images: int = field(default=160, metadata={"help": "Images of 1920 x 1080."})
    repeats: int = field(default=3, metadata={"help": "Rounds; the median counts."})
    batch_size: int = field(default=32, metadata={"help": "Images that the model sees at once."})
    width_px: int = field(default=timing.FULL_HD[0], metadata={"help": "Of the images."})
    image_size: int = field(default=224, metadata={"help": "Side that the models named above see."})
    work_dir: Path = field(default=Path("runs/benchmarks"), metadata={"help": "For drawn images; kept."})
    output: Path | None = field(default=None, metadata={"help": "Another file for the numbers."})


def main(args: SortBenchmarkArguments) -> None:
    """Measure every model on every side."""
    size = (args.width_px, args.width_px * timing.FULL_HD[1] // timing.FULL_HD[0])
    paths = timing.draw_memes(args.work_dir / f"memes-{args.width_px}", args.n_images, size=size)
    rows, table = [], [["model", "side", "images/s", "times as fast as the loop", "share of the limit"]]
    for model in args.models:
        folder = timing.with_head(
            timing.write_backbone(model, args.work_dir, image_size=args.image_size), args.work_dir
        )
        cpu_s: dict[str, list[float]] = defaultdict(list)
        found = timing.in_turns(sides(folder, paths, args, cpu_s), args.repeats)
        for side, rates in found.items():
            faster, share = timing.ratio(found, side, LOOP), share_of_limit(found) if side == OURS else None
            rows.append(
                {
                    "model": model,
                    "side": side,
                    "images_per_s": rates,
                    "times_the_loop": faster,
                    "share_of_limit": share,
                    "cpu_s_per_image": [seconds / len(paths) for seconds in cpu_s[side]],
                }
            )
            shares = [f"{faster:.2f}", "" if share is None else f"{share:.2f}"]
            table.append([model, side, f"{statistics.median(rates):.1f}", *shares])
        adds = timing.ratio(cpu_s, FILING, OURS) - 1
        rows[-1]["cpu_time_that_filing_adds"] = round(adds, 3)
        table.append([model, f"filing adds {adds:.1%} CPU time", "", "", ""])
    timing.publish("sort_throughput", args, {"rows": rows}, table)


def share_of_limit(found: dict[str, list[float]]) -> float:
    """Median share of the rate at which decoding and network would work one after the other, or the slower of the two.

    Args:
        found: images per second by side and round.
    """
    share_cores = best_device().type == "cpu"
    limits = [
        1 / (1 / decoded + 1 / computed) if share_cores else min(decoded, computed)
        for decoded, computed in zip(found[DECODING], found[NETWORK], strict=True)
    ]
    return round(statistics.median(rate / limit for rate, limit in zip(found[OURS], limits, strict=True)), 2)


def sides(folder: Path, paths: list[Path], args: SortBenchmarkArguments, cpu_s: dict[str, list[float]]) -> dict:
    """Each side as a function that returns images per second, and appends its CPU time to `cpu_s`."""
    batch_size = args.batch_size
    classifier, device = Classifier.load(folder), best_device()
    classify = pipeline("image-classification", model=str(folder), device=device)
    names, n_processes = [str(path) for path in paths], cores.n_cores()
    shown = Processor.of(AutoImageProcessor.from_pretrained(folder))
    decoded = list(decoding.decoded(paths, shown.render, n_processes=n_processes))

    def exhaust(results) -> None:
        assert len(list(results)) == len(paths)

    def rate(name: str, work) -> float:
        start, cpu_start_s = time.perf_counter(), _cpu_s()
        work()
        seconds = time.perf_counter() - start
        cpu_s[name].append(_cpu_s() - cpu_start_s)
        return len(paths) / seconds

    def classified(**more) -> None:
        exhaust(classifier.classify(paths, batch_size=batch_size, n_processes=n_processes, **more))

    def filed() -> None:
        with tempfile.TemporaryDirectory(dir=args.work_dir) as into:
            options = command.Options(
                model=folder, into=Path(into) / "sorted", output=Path(into) / "rows.csv", batch_size=batch_size
            )
            command.sort(options, names, lambda: classifier)
            assert sum(path.suffix in (".jpg", ".png") for path in Path(into).rglob("*")) == len(paths)

    work = {
        OURS: classified,
        FILING: filed,
        FAST: lambda: classified(is_fast=True),
        LOOP: lambda: [classify(name) for name in names],
        "pipeline, batches": lambda: list(classify(names, batch_size=batch_size)),
        DECODING: lambda: exhaust(decoding.decoded(paths, shown.render, n_processes=n_processes)),
        NETWORK: lambda: exhaust(classifier.classify_pixels(iter(decoded), batch_size=batch_size)),
    }
    return {name: functools.partial(rate, name, one) for name, one in work.items()}


def _cpu_s() -> float:
    """CPU time of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    logging.getLogger("transformers").setLevel(logging.ERROR)
    raise SystemExit(cli.run(main, SortBenchmarkArguments, doc=__doc__))
