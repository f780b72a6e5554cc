"""Fetch free art and photographs from Debian to train on, and leave out whatever must not be seen.

    python -m benchmarks.debian_images --output images/ --never games/

Fetches the packages in debian_images.json with `apt-get download`, and copies their images, at most 1,280 pixels a
side and no two alike, to a folder per kind and package. Images that our own duplicate search finds to be the same as
one below `games/`, or of one template with it, are deleted. `images/index.json` says which packages there are, in
which version, and what was searched and found. Nothing of this is committed: the images have licences of their own.
"""

import io
import json
import logging
import os
import random
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.debian_photographs import resources_in, unpacked
from memevit import cli, cores, pixels
from memevit.data import leaks
from memevit.errors import UserError

logger = logging.getLogger(__name__)

PACKAGES_FILE = Path(__file__).with_suffix(".json")
LONGEST_PX, SHORTEST_PX = 1280, 32
_SHORTER_LEAST_PX = 720  # A JPEG may be decoded at reduced scale as long as its shorter side keeps so many.
_MOST_OBLONG = 4
_MIN_BYTES = 600
_MIN_CONTRAST = 10.0  # Grey levels, of the image at 16 x 17 pixels.
_PHOTOGRAPH_PX = 300  # What is larger is stored as JPEG.
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tga", ".dds", ".pcx", ".rgb", ".tif", ".tiff")
_ZIPS = {".zip", ".pk3", ".jar", ".sh3f", ".sh3t", ".sdz", ".love", ".wz"}
# Normals, heights and the like, which are stored as images but are none.
_MAPS = re.compile(
    r"[_-](n|norm|normals?|nm|nrm|bump|spec|specular|gloss|local|height|disp|mask|glow|luma|shirt|pants|reflect|ao"
    r"|rough|metal|alpha|depth|dudv|lm|mr|s|h)\d*\.|normalmap|heightmap|lightmap|_icon_mask|specular",
    re.IGNORECASE,
)
_DOCUMENTATION = re.compile(r"/doc/|/help/|/HTML/")


@dataclass
class ImageArguments:
    """Where the images go, and which must not be among them."""

    output: Path = field(metadata={"help": "Folder to write; a package that is there already is not fetched again."})
    never: list[Path] = field(default_factory=list, metadata={"help": "Folders of images that must not be seen."})
    packages: Path = field(default=PACKAGES_FILE, metadata={"help": "JSON file: for each kind, the packages."})
    seed: int = field(default=0, metadata={"help": "Of the choice where a package has too many."})


def main(args: ImageArguments) -> None:
    """Fetch, copy, and delete what must not be seen."""
    packages = json.loads(args.packages.read_text(encoding="utf-8"))
    wanted = [(kind, name, most) for kind, names in packages.items() for name, most in names.items()]
    args.output.mkdir(parents=True, exist_ok=True)
    n_processes = cores.n_cores()
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as executor:
        rows = list(executor.map(partial(_copied, output=args.output, seed=args.seed), wanted))
    index = {"packages": rows, "search": _without(args.output, args.never, n_processes)}
    (args.output / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    logger.info("%d images of %d packages: %s", sum(row["n_images"] for row in rows), len(rows), index["search"])


def _copied(wanted: tuple[str, str, int], *, output: Path, seed: int) -> dict:
    """Fetch a package and copy its images; says what it was."""
    kind, name, most = wanted
    folder = output / kind / name
    row_path = folder / "package.json"
    if row_path.exists():
        return json.loads(row_path.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        files, version = unpacked(name, Path(place))
        is_doc = name.endswith("-doc")  # Elsewhere these are screenshots of windows.
        found = [
            item
            for item in sorted(_contents(files), key=lambda item: item[0])
            if not _MAPS.search(item[0]) and (is_doc or not _DOCUMENTATION.search(item[0]))
        ]
        random.Random(seed).shuffle(found)
        n_kept = copy_images((read for _, read in found), folder, most=most)
        licences = _licences(files / "usr/share/doc" / name / "copyright")
    row = {"kind": kind, "name": name, "version": version, "licences": licences, "n_images": n_kept}
    row_path.write_text(json.dumps(row), encoding="utf-8")
    return row


def _licences(path: Path) -> list[str]:
    """The short names of the licences in a copyright file in Debian's machine-readable format."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return sorted({name.strip() for name in re.findall(r"^License: *(\S.*)$", text, re.MULTILINE)})


def _contents(files: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Path of each image, also within archives and resource files, and how to read it."""
    for path in files.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        name, suffix = path.relative_to(files).as_posix(), path.suffix.lower()
        if suffix in _SUFFIXES:
            yield name, path.read_bytes
        elif suffix in _ZIPS and zipfile.is_zipfile(path):
            archive = zipfile.ZipFile(path)
            inner = (entry for entry in archive.namelist() if entry.lower().endswith(_SUFFIXES))
            yield from ((f"{name}/{entry}", partial(archive.read, entry)) for entry in inner)
        elif suffix == ".rcc":
            inner = (item for item in resources_in(path.read_bytes()) if item[0].lower().endswith(_SUFFIXES))
            yield from ((f"{name}/{entry}", partial(bytes, content)) for entry, content in inner)


def copy_images(reads: Iterator[Callable[[], bytes]], folder: Path, *, most: int) -> int:
    """Write up to `most` images that can be used and do not look alike; returns how many."""
    seen: set[bytes] = set()
    for read in reads:
        if len(seen) >= most:
            break
        try:
            content = read()
            image = pixels.decode(io.BytesIO(content), shorter_at_least_px=_SHORTER_LEAST_PX).image
        except (pixels.UnreadableImageError, OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
            continue  # Also encrypted entries, or those of an unknown compression.
        if (
            len(content) < _MIN_BYTES
            or min(image.size) < SHORTEST_PX
            or max(image.size) > _MOST_OBLONG * min(image.size)
        ):
            continue
        image.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.BICUBIC, reducing_gap=3.0)
        gradients, contrast = _looks(image)
        if contrast < _MIN_CONTRAST or gradients in seen:
            continue
        image.info = {}
        if min(image.size) > _PHOTOGRAPH_PX:
            image.save(folder / f"{len(seen):05}.jpg", quality=92)
        else:
            image.save(folder / f"{len(seen):05}.png", compress_level=1)
        seen.add(gradients)
    return len(seen)


def _looks(image: Image.Image) -> tuple[bytes, float]:
    """Where a small copy gets lighter from left to right, and its contrast."""
    small = np.asarray(image.resize((17, 16), Image.Resampling.BOX).convert("L"), dtype=np.int16)
    return np.packbits(np.diff(small, axis=1) > 0).tobytes(), float(small.std())


def _without(output: Path, never: list[Path], n_processes: int) -> dict:
    """Delete what shows an image of `never` again or shares a template with one; says what was compared."""
    forbidden = [str(path.resolve()) for folder in never for path in _images_in(folder)]
    own = [str(path.resolve()) for path in _images_in(output)]
    if never and not forbidden:
        raise UserError(f"There is no image in {', '.join(map(str, never))}.")
    found = leaks.find(Path("/"), {"never": forbidden, "own": own}, n_processes=n_processes) if forbidden else []
    lost = {leak.file if leak.split == "own" else leak.other_file: leak for leak in found}
    for path in lost:
        os.remove(path)
    return {
        "n_images": len(own),
        "n_never": len(forbidden),
        "deleted": {str(Path(path).relative_to(output.resolve())): leak.kind for path, leak in lost.items()},
    }


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.*") if path.suffix.lower() in _SUFFIXES)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, ImageArguments, doc=__doc__))
