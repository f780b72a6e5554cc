"""Images of the open-set benchmark: games with their groups, and images of no game from several sources."""

import importlib.util
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.backbone_transfer import dataset_rows
from memevit import pixels
from memevit.data.sample import unrelated

N_PER_SOURCE = 120
N_CROPS = 8  # Of one photograph.
REPORT_SEED, DEVELOPMENT_SEED = 0, 1
SCENES = (unrelated.hills, unrelated.sea, unrelated.town, unrelated.pet, unrelated.lights)
DEVELOPMENT = "drawn, other seed"
# Photographs among the images of scikit-image; the others are drawings, test patterns or copies of one another.
_PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png"),
    *("grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png"),
    *("retina.jpg", "rocket.jpg", "page.png"),
)


@dataclass(frozen=True)
class Source:
    """Images that belong together: `groups` has an entry for each, for intervals that draw whole groups."""

    name: str
    images: list[Image.Image]
    groups: list[str]


def games(dataset_dir: Path) -> tuple[list[Path], np.ndarray, np.ndarray, list[str]]:
    """Files, class ids [n], groups [n] and class names of a folder of class folders."""
    rows = dataset_rows(dataset_dir)
    names = sorted({name for name, _, _ in rows})
    labels = np.array([names.index(name) for name, _, _ in rows])
    return [path for _, path, _ in rows], labels, np.array([group for _, _, group in rows]), names


def far_sources() -> Iterator[Source]:
    """Images of no game, source by source: the one for choosing a score first, then those for reporting."""
    yield _drawn(DEVELOPMENT, unrelated.unrelated, DEVELOPMENT_SEED)
    yield _drawn("sample, unrelated", unrelated.unrelated, REPORT_SEED)
    yield _drawn("drawn scenes", lambda rng, size: rng.choice(SCENES)(rng, size), REPORT_SEED)
    yield _drawn("text screenshots", unrelated.page, REPORT_SEED)
    yield _drawn("noise", unrelated.noise, REPORT_SEED)
    yield _drawn("flat colour", unrelated.plain, REPORT_SEED)
    photographs = load_sample_images()
    names = [Path(name).stem for name in photographs.filenames]
    yield _crops("scikit-learn, photographs", dict(zip(names, photographs.images, strict=True)), n=30)
    found = importlib.util.find_spec("skimage")  # Optional: only its images are read.
    if found is not None:
        folder = Path(found.origin).parent / "data"
        own = {name: np.asarray(pixels.load_image(folder / name)) for name in _PHOTOGRAPHS if (folder / name).is_file()}
        yield _crops("scikit-image, photographs", own, n=N_CROPS)


def _drawn(name: str, draw: Callable[[random.Random, tuple[int, int]], Image.Image], seed: int) -> Source:
    rng = random.Random(f"{name} {seed}")
    sizes = [(rng.randrange(300, 640), rng.randrange(240, 512)) for _ in range(N_PER_SOURCE)]
    return Source(name, [draw(rng, size) for size in sizes], [f"{name} {number}" for number in range(N_PER_SOURCE)])


def _crops(name: str, photographs: dict[str, np.ndarray], *, n: int) -> Source:
    """Each photograph whole and in parts; the parts of one are a group."""
    rng, images, groups = random.Random(name), [], []
    for title, levels in photographs.items():
        whole = Image.fromarray(levels).convert("RGB")
        for number in range(n):
            share = 1.0 if number == 0 else rng.uniform(0.35, 0.9)
            width, height = int(whole.width * share), int(whole.height * share)
            x, y = rng.randint(0, whole.width - width), rng.randint(0, whole.height - height)
            images.append(whole.crop((x, y, x + width, y + height)))
            groups.append(title)
    return Source(name, images, groups)
