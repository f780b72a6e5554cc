"""Measure how many captioned copies and reposts of an image the search for near-duplicates finds, and false links.

    python -m benchmarks.duplicate_recall --images ../open-games
    python -m benchmarks.duplicate_recall --images ../open-games --n_from_folder 40 --n_drawn 20 --output /tmp/r.json

Copies of each base image get a caption in one of several styles, or are reposted (cut, framed, mirrored, in the
screenshot of a phone), are scaled and saved as JPEG of quality 30 to 90, and go through the stages of data_prep.py.
Each pair of copies is searched for without the other copies of its base, so none can link them. No threshold was
fitted to the `held-out` styles, but their recall was seen when the number of features was chosen.

False links are counted among all images of the folder as they are, and again among the same images, brought to one
size, with the label of one web site on each. The folder has class folders and a manifest.csv with the columns class,
file and group; images with one group are known to be related, so their links are not false.
"""

import csv
import json
import logging
import random
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import captioned_images
from memevit import cli, pixels, results
from memevit.data import duplicates, ingest
from memevit.data.ingest import Scan
from memevit.data.layout import SourceFile
from memevit.data.sample import adventure, maze, unrelated, village
from memevit.evaluation import significance

logger = logging.getLogger(__name__)

_MAX_SIDE_PX = 512
_BASE_SIDE_PX = 480
_MIN_BASE_SIDE_PX = 96
_MAX_ASPECT = 2.0  # On a banner, captions hide the image.
_SCENES = (maze.corridor, village.village, adventure.adventure, unrelated.unrelated)
_SIZES = ((640, 480), (480, 600), (600, 600))
_N_EXAMPLES = 200
_BASE = "base"


@dataclass
class RecallArguments:
    """The images, and where the figures go."""

    images: Path = field(metadata={"help": "Folder of class folders, with manifest.csv."})
    n_from_folder: int = field(default=140, metadata={"help": "Base images from it."})
    n_drawn: int = field(default=60, metadata={"help": "Drawn base images."})
    processes: int = field(default=2, metadata={"help": "Processes."})
    seed: int = field(default=0, metadata={"help": "Of the choice, the captions and the wear."})
    output: Path = field(default=Path("benchmarks/results/duplicate_recall.json"), metadata={"help": "JSON file."})


def main(args: RecallArguments) -> None:
    """Measure recall by kind, and false links, and write and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        report = {
            "hardware": results.processor_name(),
            "seed": args.seed,
            "n_from_folder": args.n_from_folder,
            "n_drawn": args.n_drawn,
            "recall": _recall(args, Path(folder)),
            "false_links": _false_links(args, Path(folder) / "as_they_are"),
            "false_links_with_a_label": _false_links(
                args, Path(folder) / "labelled", change=captioned_images.site_mark
            ),
        }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    logger.info("Written to %s", args.output)


def _recall(args: RecallArguments, folder: Path) -> dict:
    bases = _base_names(args)
    (folder / "copies").mkdir()
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as executor:
        names = list(
            executor.map(_write_copies, range(len(bases)), bases, [args.seed] * len(bases), [folder] * len(bases))
        )
    found = [SourceFile(folder / "copies", name, name, "all") for of_base in names for name in of_base.values()]
    scans = ingest.scan_all(found, folder / "stored", max_side=_MAX_SIDE_PX, n_processes=args.processes)
    by_name = {scan.name: scan for scan in scans}
    copies = [{kind: by_name[name] for kind, name in of_base.items()} for of_base in names]
    styles, held_out = list(captioned_images.CAPTIONS), list(captioned_images.HELD_OUT_CAPTIONS)
    # Of 15 pairs of styles the 9 that lie next to or opposite each other on a circle.
    turns = [(styles[i], styles[(i + step) % len(styles)]) for step in (1, 3) for i in range(len(styles))]
    turns = sorted({tuple(sorted(turn)) for turn in turns})
    report = {}
    for kind, pairs in {
        "templates": turns,
        "templates, held-out styles": [(style, styles[i % len(styles)]) for i, style in enumerate(held_out)],
        "reposts": [(_BASE, kind) for kind in captioned_images.REPOSTS],
    }.items():
        report[kind] = _by_pair(copies, pairs, folder / "stored")
        logger.info("%s: %s", kind, _line(report[kind]["all"]))
    return report


def _by_pair(copies: list[dict[str, Scan]], pairs: list[tuple[str, str]], stored: Path) -> dict:
    found, dropped = {}, {}
    for one, other in pairs:
        scans = [of_base[kind] for of_base in copies for kind in (one, other)]
        relations = duplicates.relate(scans, stored, n_processes=1)
        found[one, other] = sum(relations.group[0::2] == relations.group[1::2])
        dropped[one, other] = sum(relations.same[0::2] == relations.same[1::2])
        logger.info("%s and %s: %d of %d", one, other, found[one, other], len(copies))
    n = len(copies)
    by_pair = {f"{one} / {other}": _share(int(k), n) for (one, other), k in found.items()}
    n_same = int(sum(dropped.values()))
    return {"all": _share(int(sum(found.values())), n * len(pairs)), "n_called_the_same": n_same, "by_pair": by_pair}


def _share(n_found: int, n: int) -> dict:
    low, high = significance.wilson_interval(n_found, n)
    return {
        "found": n_found,
        "n": n,
        "recall": round(n_found / n, 4),
        "ci_low": round(low, 4),
        "ci_high": round(high, 4),
    }


def _line(share: dict) -> str:
    return "{found} of {n} found, {recall:.1%} ({ci_low:.1%} to {ci_high:.1%})".format(**share)


def _base_names(args: RecallArguments) -> list[Path | int]:
    """Files of the folder, one of each known group and not tiny, and numbers of drawn scenes."""
    rng = random.Random(args.seed)
    rows = _rows(args.images)
    rng.shuffle(rows)
    of_group: dict[str, Path] = {}
    for row in rows:
        path = args.images / row["class"] / row["file"]
        if len(of_group) < args.n_from_folder and row["group"] not in of_group:
            with Image.open(path) as image:
                if min(image.size) >= max(_MIN_BASE_SIDE_PX, max(image.size) / _MAX_ASPECT):
                    of_group[row["group"]] = path
    return [*of_group.values(), *range(args.n_drawn)]


def _rows(images: Path) -> list[dict[str, str]]:
    with (images / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _base(name: Path | int, seed: int) -> Image.Image:
    if isinstance(name, int):
        rng = random.Random(f"{seed}/drawn/{name}")
        return _SCENES[name % len(_SCENES)](rng, rng.choice(_SIZES)).convert("RGB")
    image = pixels.load_image(name)
    scale = _BASE_SIDE_PX / max(image.size)
    return image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.BICUBIC)


def _write_copies(number: int, name: Path | int, seed: int, folder: Path) -> dict[str, str]:
    """Write the base and all its copies; returns the name of each by its kind."""
    base = _base(name, seed)
    written = {_BASE: f"{number:04}_base.png"}
    base.save(folder / "copies" / written[_BASE])
    changes = captioned_images.CAPTIONS | captioned_images.HELD_OUT_CAPTIONS | captioned_images.REPOSTS
    for kind, change in changes.items():
        rng = random.Random(f"{seed}/{number}/{kind}")
        written[kind] = f"{number:04}_{kind.replace(' ', '_')}.jpg"
        (folder / "copies" / written[kind]).write_bytes(captioned_images.worn(change(base, rng), rng))
    return written


def _false_links(args: RecallArguments, folder: Path, *, change: captioned_images.Change | None = None) -> dict:
    rows, images = _rows(args.images), args.images
    if change:
        images = folder / "changed"
        for row in rows:
            path = images / row["class"] / f"{row['file']}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            change(_base(args.images / row["class"] / row["file"], args.seed), random.Random(0)).save(path)
    suffix = ".png" if change else ""
    found = [
        SourceFile(images / row["class"], f"{row['file']}{suffix}", f"{row['class']}/{row['file']}", row["class"])
        for row in rows
    ]
    scans = ingest.scan_all(found, folder / "stored", max_side=_MAX_SIDE_PX, n_processes=args.processes)
    usable = [place for place, scan in enumerate(scans) if not scan.problem]
    relations = duplicates.relate([scans[place] for place in usable], folder / "stored", n_processes=args.processes)
    links = [(usable[a], usable[b]) for a, b in relations.pairs]
    unknown = [(a, b) for a, b in links if (rows[a]["class"], rows[a]["group"]) != (rows[b]["class"], rows[b]["group"])]
    report = {
        "n_images": len(usable),
        "largest_group": int(np.bincount(relations.group).max()),
        "n_links": len(links),
        "n_links_within_known_groups": len(links) - len(unknown),
        "n_links_outside_known_groups": len(unknown),
        "n_images_in_them": len({place for pair in unknown for place in pair}),
        "examples": [[found[a].name, found[b].name] for a, b in unknown[:_N_EXAMPLES]],
    }
    logger.info(
        "False links%s: %s",
        ", with a label" if change else "",
        {key: value for key, value in report.items() if key != "examples"},
    )
    return report


if __name__ == "__main__":
    raise SystemExit(cli.run(main, RecallArguments, doc=__doc__))
