"""How fast sort_memes.py files pictures, against a loop over pipeline("image-classification").

    python -m benchmarks.sort_throughput
    python -m benchmarks.sort_throughput --n_images 400 --models vit-b --repeats 5

Prints a table and writes benchmarks/results/sort_throughput_DEVICE.json. All sides see the same files with the same
model in single precision.
"""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

from benchmarks import timing
from memevit import cli, cores
from memevit.model.inference import Classifier, best_device


@dataclass
class SortBenchmarkArguments:
    """What is sorted, and how often."""

    models: list[str] = field(
        default_factory=lambda: ["vit-tiny", "vit-s"], metadata={"help": "vit-tiny, vit-s, vit-b or model folders."}
    )
    n_images: int = field(default=160, metadata={"help": "Pictures of 1920 x 1080."})
    repeats: int = field(default=3, metadata={"help": "Rounds; the median counts."})
    batch_size: int = field(default=32, metadata={"help": "Pictures that the model sees at once."})
    width_px: int = field(default=timing.FULL_HD[0], metadata={"help": "Of the pictures."})
    image_size: int = field(default=224, metadata={"help": "Side that the models named above see."})
    work_dir: Path = field(default=Path("runs/benchmarks"), metadata={"help": "For drawn pictures; kept."})
    output: Path | None = field(default=None, metadata={"help": "Another file for the numbers."})


def main(args: SortBenchmarkArguments) -> None:
    """Measure every model on every side."""
    size = (args.width_px, args.width_px * timing.FULL_HD[1] // timing.FULL_HD[0])
    paths = timing.draw_memes(args.work_dir / f"memes-{args.width_px}", args.n_images, size=size)
    rows, table = [], [["model", "side", "images/s", "times as fast as the loop"]]
    for model in args.models:
        folder = with_head(timing.write_backbone(model, args.work_dir, image_size=args.image_size), args.work_dir)
        found = timing.in_turns(sides(folder, paths, args.batch_size), args.repeats)
        for side, rates in found.items():
            faster = timing.ratio(found, side, "pipeline, one by one")
            rows.append({"model": model, "side": side, "images_per_s": rates, "times_the_loop": faster})
            table.append([model, side, f"{sorted(rates)[len(rates) // 2]:.1f}", f"{faster:.2f}"])
    settings = {"n_images": args.n_images, "size_px": size, "batch_size": args.batch_size, "repeats": args.repeats}
    content = {"benchmark": "sort_throughput", "settings": settings, "rows": rows, **timing.environment()}
    timing.publish("sort_throughput", content, table, args.output)


def with_head(folder: Path, work_dir: Path) -> Path:
    """A copy of a backbone with a head, for nothing is sorted without one; what it says does not matter here."""
    path = work_dir / f"{folder.name}-with-head"
    AutoModelForImageClassification.from_pretrained(folder).save_pretrained(path)
    AutoImageProcessor.from_pretrained(folder).save_pretrained(path)
    return path


def sides(folder: Path, paths: list[Path], batch_size: int) -> dict:
    """Each side as a function that returns images per second."""
    classifier, device = Classifier.load(folder), best_device()
    classify = pipeline("image-classification", model=str(folder), device=device)
    names = [str(path) for path in paths]

    def ours() -> None:
        n_processes = cores.n_cores()
        assert len(list(classifier.classify(paths, batch_size=batch_size, n_processes=n_processes))) == len(paths)

    def rate(work) -> float:
        start = time.perf_counter()
        work()
        return len(paths) / (time.perf_counter() - start)

    return {
        "sort_memes": lambda: rate(ours),
        "pipeline, one by one": lambda: rate(lambda: [classify(name) for name in names]),
        "pipeline, batches": lambda: rate(lambda: list(classify(names, batch_size=batch_size))),
    }


if __name__ == "__main__":
    logging.getLogger("transformers").setLevel(logging.ERROR)
    raise SystemExit(cli.run(main, SortBenchmarkArguments, doc=__doc__))
