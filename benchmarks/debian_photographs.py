"""Build class folders of photographs from two packages of Debian, for measuring on images that nobody drew.

    python -m benchmarks.debian_photographs --output photographs/
    python data_prep.py --source photographs/ --output_dir prepared/ --group_column group --test_fraction 0.25

Fetches tuxpaint-stamps-default (photographs of single things, cut out) and gcompris-qt-data (photographs in the
resource files of Qt) with `apt-get download`, unpacks them with `dpkg -x` into a temporary folder, and copies the
photographs of five kinds of things. Drawings are left out by their folder; a few that lie among photographs stay.
`index.csv` in the output says where each image comes from; images whose names differ in a number only, such as
`rose1` and `rose2`, are one group. The images have licences of their own: see the packages.
"""

import csv
import logging
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memevit import cli
from memevit.errors import UserError

logger = logging.getLogger(__name__)

STAMPS, GCOMPRIS = "tuxpaint-stamps-default", "gcompris-qt-data"
_LEFT_OUT = re.compile(r"/cartoon/|_mirror|_flip")  # Drawings, and other versions of a stamp.
# By class: beginnings of paths among the stamps, and in the resource files of GCompris.
CLASSES: dict[str, tuple[str, ...]] = {
    "buildings": ("town/monuments", "categorization/images/monuments", "explore_monuments/"),
    "mammals": ("animals/mammals", "animals/marsupials"),
    "other_animals": (
        "animals/birds", "animals/fish", "animals/insects", "animals/amphibians", "animals/lizards",
        "animals/shellfish", "categorization/images/fishes",
    ),
    "plants_and_food": ("plants/", "food/"),
    "things": ("household/", "hobbies/", "sports/", "clothes/", "medical/", "categorization/images/tools"),
}  # fmt: skip
_SUFFIXES = (".png", ".jpg", ".webp")
_DIRECTORY, _COMPRESSED = 2, 1  # Flags of a node in a resource file.


@dataclass
class PhotographArguments:
    """Where the photographs go."""

    output: Path = field(metadata={"help": "Folder to write; must not exist."})


def main(args: PhotographArguments) -> None:
    """Fetch, choose and write."""
    if args.output.exists():
        raise UserError(f"{args.output} exists already: name a new folder.")
    with tempfile.TemporaryDirectory() as folder:
        stamps, gcompris = (unpacked(package, Path(folder))[0] for package in (STAMPS, GCOMPRIS))
        found = [*_stamps(stamps), *_resources(gcompris)]
    n_of = write(found, args.output)
    logger.info("%d photographs written to %s: %s", sum(n_of.values()), args.output,
                ", ".join(f"{name} {n}" for name, n in n_of.items()))  # fmt: skip


def unpacked(package: str, folder: Path) -> tuple[Path, str]:
    """The files of a package, fetched from the archive that apt is set up for, and its version."""
    own = folder / package
    own.mkdir()
    for command in (["apt-get", "download", package], ["sh", "-c", f"dpkg -x {package}_*.deb files"]):
        if shutil.which(command[0]) is None:
            raise UserError(f"{command[0]} is missing: run this on Debian.")
        done = subprocess.run(command, cwd=own, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1]}")
    version = next(own.glob("*.deb")).name.split("_")[1]
    return own / "files", version.replace("%3a", ":")


def _stamps(files: Path) -> Iterator[tuple[str, bytes]]:
    """Path below the folder of stamps, and content."""
    folder = files / "usr/share/tuxpaint/stamps"
    for path in sorted(folder.rglob("*.png")):
        yield path.relative_to(folder).as_posix(), path.read_bytes()


def _resources(files: Path) -> Iterator[tuple[str, bytes]]:
    """Path, which begins with the name of the resource file, and content."""
    for path in sorted((files / "usr/share/gcompris-qt/rcc").glob("*.rcc")):
        for name, content in resources_in(path.read_bytes()):
            yield f"{path.stem}/{name.rpartition('/resource/')[2]}", content


def resources_in(packed: bytes) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file in a resource file of Qt, except those in its newest compression.

    Source:
        The format that `rcc --binary` writes, described in Qt's resource.cpp: a tree of nodes of 14 bytes (22 from
        version 2), names in UTF-16 after their length and a hash, and contents after their length, all big-endian.
    """
    magic, version, tree, data, names = struct.unpack_from(">4s4I", packed)
    if magic != b"qres":
        raise UserError("A resource file of Qt begins with `qres`, this one does not.")
    size = 22 if version > 1 else 14

    def walk(number: int, above: str) -> Iterator[tuple[str, bytes]]:
        name_at, flags, first, second = struct.unpack_from(">IHII", packed, tree + number * size)
        (length,) = struct.unpack_from(">H", packed, names + name_at)
        name = packed[names + name_at + 6 :][: 2 * length].decode("utf-16-be") if number else ""
        if flags & _DIRECTORY:
            for child in range(second, second + first):
                yield from walk(child, f"{above}{name}/" if number else above)
        elif flags in (0, _COMPRESSED):
            (n_bytes,) = struct.unpack_from(">I", packed, data + second)
            content = packed[data + second + 4 :][:n_bytes]
            yield above + name, zlib.decompress(content[4:]) if flags else content

    return walk(0, "")


def write(found: list[tuple[str, bytes]], output: Path) -> dict[str, int]:
    """Copy the images of `CLASSES`, write `index.csv`, and return the number of images of each class."""
    rows = []
    for path, content in found:
        name = next((name for name, starts in CLASSES.items() if path.startswith(starts)), None)
        if name is None or not path.endswith(_SUFFIXES) or _LEFT_OUT.search(path):
            continue
        target = output / name / path.replace("/", "_")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        stem = path.rpartition(".")[0]
        rows.append({"class": name, "file": target.name, "group": re.sub(r"[\d_-]+$", "", stem), "source": path})
    if not rows:
        raise UserError("The packages hold none of the images that this script knows: another version of Debian?")
    with (output / "index.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return {name: sum(row["class"] == name for row in rows) for name in CLASSES}


if __name__ == "__main__":
    raise SystemExit(cli.run(main, PhotographArguments, doc=__doc__))
