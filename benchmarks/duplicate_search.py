"""Measure how long the search for near-duplicate hashes takes, how much memory, and how that grows.

    python -m benchmarks.duplicate_search
    python -m benchmarks.duplicate_search --sizes 50000 200000

Each search runs in a process of its own on hashes of one of four kinds: evenly spread; spread like those of drawn memes
(their 16-bit parts, shuffled); the same with half of them in templates of 100 images; and the same with a tenth of
all around one single hash, as the placeholder of a removed image or a very popular template gives them.

Then the search for common local features, on images whose features are those of drawn memes with some bits flipped, a
tenth of the images in pairs that have half of their features in common.
"""

import json
import logging
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from memevit import cli, pixels, results
from memevit.data import hashes, keypoints, proposals, sample

logger = logging.getLogger(__name__)

_CODES_PER_IMAGE = 3  # About what `hashes.codes` finds.
_N_DRAWN = 150  # Memes of each game whose hashes are taken.
_TEMPLATE_SIZE = 100
_N_FLIPS = 6  # Bits of a repost that may differ from its template's.


@dataclass
class SearchArguments:
    """How many hashes are searched, and where the figures go."""

    sizes: list[int] = field(default_factory=lambda: [62_500, 250_000, 1_000_000], metadata={"help": "Hashes."})
    images: list[int] = field(
        default_factory=lambda: [10_000, 100_000], metadata={"help": "Images whose local features are searched."}
    )
    seed: int = field(default=0, metadata={"help": "Of the hashes."})
    output: Path = field(default=Path("benchmarks/results/duplicate_search.json"), metadata={"help": "JSON file."})


def main(args: SearchArguments) -> None:
    """Search every kind at every size, and write and print the figures."""
    drawn = _hashes_of_drawn_memes(args.seed)
    runs = []
    for kind in KINDS:
        for size in args.sizes:
            runs.append(_in_a_process_of_its_own(kind, size, args.seed, drawn))
            logger.info("%s", _line(runs[-1]))
    feature_runs = []
    codes = _codes_of_drawn_memes(args.seed)
    for n_images in args.images:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
            feature_runs.append(executor.submit(_search_features, n_images, args.seed, codes).result())
        logger.info("%s", feature_runs[-1])
    report = {"hardware": results.processor_name(), "processes": 1, "seed": args.seed, "runs": runs}
    report["local_features"] = feature_runs
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    logger.info("Written to %s", args.output)


def _codes_of_drawn_memes(seed: int) -> np.ndarray:
    """Feature codes of drawn memes, captions and all."""
    with tempfile.TemporaryDirectory() as folder:
        sample.draw(Path(folder), seed=seed, n_per_class=_N_DRAWN, n_held_apart=0)
        found = []
        for path in sorted(Path(folder).rglob("*.*")):
            try:
                found.append(np.frombuffer(keypoints.describe(pixels.load_image(path)), dtype=keypoints.FEATURE))
            except pixels.UnreadableImageError:
                continue
    return np.concatenate(found)["code"]


def _search_features(n_images: int, seed: int, codes: np.ndarray) -> dict:
    random = np.random.default_rng(seed)
    n_each = np.full(n_images, keypoints.N_FEATURES)
    features = np.zeros(n_each.sum(), dtype=keypoints.FEATURE)
    for bits in range(0, 64, 8):  # Each byte of another feature: as unevenly spread, but all different.
        features["code"] |= random.choice(codes, len(features)) & np.uint64(0xFF << bits)
    features["x"], features["y"] = random.integers(0, 128 * int(keypoints.PLACE_STEPS), (2, len(features)))
    features["size"] = random.integers(20, 60, len(features))
    of_image = features.reshape(n_images, -1)
    n_copies, half = n_images // 20, keypoints.N_FEATURES // 2
    of_image[n_copies : 2 * n_copies, :half] = of_image[:n_copies, :half]
    before, before_cpu = time.perf_counter(), time.process_time()
    n_found = len(proposals.aligned_pairs(features, n_each)[0])
    seconds, cpu_seconds = time.perf_counter() - before, time.process_time() - before_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "n_images": n_images,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "peak_mb": round(peak / 1e6),
        "n_planted_pairs": n_copies,
        "n_aligned_pairs": n_found,
    }


def _hashes_of_drawn_memes(seed: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        sample.draw(Path(folder), seed=seed, n_per_class=_N_DRAWN, n_held_apart=0)
        found: set[int] = set()
        for path in sorted(Path(folder).rglob("*.*")):
            try:
                found.update(hashes.codes(pixels.load_image(path)))
            except pixels.UnreadableImageError:
                continue
    return np.array(sorted(found), dtype=np.uint64)


def _evenly_spread(n: int, drawn: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return random.integers(0, 1 << 64, n, dtype=np.uint64)


def _like_drawn_memes(n: int, drawn: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Each 16-bit part from another meme, with one bit flipped: as unevenly spread, but all different."""
    codes = np.zeros(n, dtype=np.uint64)
    for shift in range(0, 64, 16):
        part = (random.choice(drawn, n) >> np.uint64(shift)) & np.uint64(0xFFFF)
        codes |= (part ^ (np.uint64(1) << random.integers(0, 16, n, dtype=np.uint64))) << np.uint64(shift)
    return codes


def _around(centres: np.ndarray, n_each: int, random: np.random.Generator) -> np.ndarray:
    codes = np.repeat(centres, n_each)
    for _ in range(_N_FLIPS):
        is_flipped = random.integers(0, 2, len(codes), dtype=np.uint64)
        codes ^= is_flipped << random.integers(0, 64, len(codes), dtype=np.uint64)
    return codes


def _half_in_templates(n: int, drawn: np.ndarray, random: np.random.Generator) -> np.ndarray:
    centres = _like_drawn_memes(n // 2 // _TEMPLATE_SIZE, drawn, random)
    in_templates = _around(centres, _TEMPLATE_SIZE, random)
    return np.concatenate([in_templates, _like_drawn_memes(n - len(in_templates), drawn, random)])


def _a_tenth_in_one_crowd(n: int, drawn: np.ndarray, random: np.random.Generator) -> np.ndarray:
    crowd = _around(_like_drawn_memes(1, drawn, random), n // 10, random)
    return np.concatenate([crowd, _like_drawn_memes(n - len(crowd), drawn, random)])


KINDS: dict[str, Callable[[int, np.ndarray, np.random.Generator], np.ndarray]] = {
    "evenly spread": _evenly_spread,
    "like drawn memes": _like_drawn_memes,
    "half in templates": _half_in_templates,
    "a tenth in one crowd": _a_tenth_in_one_crowd,
}


def _in_a_process_of_its_own(kind: str, size: int, seed: int, drawn: np.ndarray) -> dict:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(_search, kind, size, seed, drawn).result()


def _search(kind: str, size: int, seed: int, drawn: np.ndarray) -> dict:
    codes = KINDS[kind](size, drawn, np.random.default_rng(seed))
    images = [tuple(codes[at : at + _CODES_PER_IMAGE].tolist()) for at in range(0, size, _CODES_PER_IMAGE)]
    before, before_cpu = time.perf_counter(), time.process_time()
    pairs, n_crowded = hashes.candidate_pairs(images)
    seconds, cpu_seconds = time.perf_counter() - before, time.process_time() - before_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "hashes": kind,
        "n": size,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_mb": round(peak / 1e6),
        "n_pairs": len(pairs),
        "n_crowded_hashes": n_crowded,
    }


def _line(run: dict) -> str:
    speed = f"{run['seconds']:>8.1f} s ({run['cpu_seconds']:.1f} of CPU)"
    return f"{run['hashes']:22}{run['n']:>10,} hashes {speed} {run['peak_mb']:>6,} MB {run['n_pairs']:>10,} pairs"


if __name__ == "__main__":
    raise SystemExit(cli.run(main, SearchArguments, doc=__doc__))
