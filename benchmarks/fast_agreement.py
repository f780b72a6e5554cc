"""How far `sort_memes.py --fast` agrees with the exact way: labels and probabilities of the same files.

    python -m benchmarks.fast_agreement --model model/ --images photos/

Only files that --fast decodes at reduced scale count, which are JPEGs with both sides at least four times the model's
input. `--enlarge` first draws every file at that many pixels (its shorter side) and saves it as JPEG, for images that
are too small otherwise. Writes benchmarks/results/fast_agreement.json.
"""

import json
import logging
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from memevit import cli, cores, files, pixels, results
from memevit.errors import UserError
from memevit.evaluation.significance import wilson_interval
from memevit.model.classifier import Classifier
from memevit.sorting import inputs

logger = logging.getLogger(__name__)


@dataclass
class AgreementArguments:
    """What is compared."""

    model: Path = field(metadata={"help": "Model folder."})
    images: Path = field(metadata={"help": "Folder of images."})
    name: str = field(metadata={"help": "What the images are, for the numbers."})
    enlarge: int | None = field(default=None, metadata={"help": "Pixels of the shorter side of every image."})
    output: Path = field(default=Path("benchmarks/results/fast_agreement.json"), metadata={"help": "The numbers."})


def main(args: AgreementArguments) -> None:
    """Classify all images in both ways."""
    classifier = Classifier.load(args.model)
    with tempfile.TemporaryDirectory() as folder:
        paths = [one.path for one in inputs.find([str(args.images)])]
        if args.enlarge:
            paths = enlarged(paths, Path(folder), args.enlarge)
        least = 4 * max(classifier.input_size)
        paths = [path for path in paths if is_reduced(path, least)]
        if not paths:
            raise UserError(f"No JPEG in {args.images} has both sides at least {least} px. Try --enlarge {least}.")
        n_processes = cores.n_cores()
        exact, fast = (
            np.array(
                [one.probabilities for one in classifier.classify(paths, n_processes=n_processes, is_fast=is_fast)]
            )
            for is_fast in (False, True)
        )
    numbers = compare(exact, fast)
    found = {"benchmark": "fast_agreement", "images": args.name, "model": args.model.resolve().name,
             "input_px": list(classifier.input_size), "enlarged_to_px": args.enlarge, **numbers}  # fmt: skip
    earlier = json.loads(args.output.read_text(encoding="utf-8"))["rows"] if args.output.exists() else []
    rows = [row for row in earlier if (row["images"], row["model"]) != (args.name, found["model"])] + [found]
    files.write_text(args.output, json.dumps({"rows": rows, **results.environment()}, indent=2) + "\n")
    logger.info("%s", json.dumps(found, indent=2))


def enlarged(paths: list[Path], folder: Path, shorter_px: int) -> list[Path]:
    """The images at another size, as JPEGs; those that can't be read are left out."""
    written = []
    for number, path in enumerate(paths):
        try:
            image = pixels.load_image(path)
        except pixels.UnreadableImageError:
            continue
        scale = shorter_px / min(image.size)
        size = tuple(round(side * scale) for side in image.size)
        written.append(folder / f"{number:06}.jpg")
        image.resize(size, Image.Resampling.LANCZOS).save(written[-1], quality=90)
    return written


def is_reduced(path: Path, least_px: int) -> bool:
    """Whether --fast decodes a file at reduced scale."""
    try:
        with Image.open(path) as image:
            return image.format == "JPEG" and min(image.size) >= least_px
    except OSError:
        return False


def compare(exact: np.ndarray, fast: np.ndarray) -> dict[str, object]:
    """Agreement of two tables of probabilities [n, C].

    Example:
        >>> found = compare(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([[0.8, 0.2], [0.6, 0.4]]))
        >>> found["n"], found["same_label"], found["mean_difference"]
        (2, 0.5, 0.15)
    """
    difference = np.abs(exact - fast).max(axis=1)
    same = exact.argmax(axis=1) == fast.argmax(axis=1)
    low, high = wilson_interval(int(same.sum()), len(same))
    return {
        "n": len(same),
        "same_label": round(float(same.mean()), 4),
        "same_label_ci95": [round(low, 4), round(high, 4)],
        "mean_difference": round(float(difference.mean()), 4),
        "difference_95th_percentile": round(float(np.quantile(difference, 0.95)), 4),
        "largest_difference": round(float(difference.max()), 4),
    }


if __name__ == "__main__":
    raise SystemExit(cli.run(main, AgreementArguments, doc=__doc__))
