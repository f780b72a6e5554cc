"""Images with the statistics of screenshots, drawn for benchmarks: soft gradients, textures, hard edges and text."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

JPEG_QUALITY = 90
_OCTAVES = (4, 16, 64, 256)  # Cells along the width; the amplitude falls as their square root.
_N_SHAPES = 12
_WORDS = "just five more minutes of this and then to bed".split()


def draw_image(seed: int, size: tuple[int, int]) -> Image.Image:
    """An RGB image of `size` (width, height) that no other seed gives."""
    random = np.random.default_rng(seed)
    levels = np.zeros((size[1], size[0], 3), dtype=np.float32)
    for cells in _OCTAVES:
        shape = (max(2, cells * size[1] // size[0]), cells, 3)
        noise = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        levels += (np.asarray(noise, dtype=np.float32) - 128.0) / cells**0.5
    image = Image.fromarray(np.clip(levels + random.integers(60, 200, 3), 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for number in range(_N_SHAPES):
        x, y = random.integers(0, size[0]), random.integers(0, size[1])
        width, height = random.integers(size[0] // 40 + 1, size[0] // 5 + 2, 2)
        box = (int(x), int(y), int(x + width), int(y + height))
        (pen.ellipse if number % 2 else pen.rectangle)(box, fill=tuple(random.integers(0, 256, 3).tolist()))
    words = " ".join(random.permutation(_WORDS)[:5])
    font = ImageFont.load_default(size=max(8, size[0] // 24))
    pen.text((size[0] // 20, size[1] // 30), words, fill="white", stroke_width=2, stroke_fill="black", font=font)
    return image


def write_classes(root: Path, *, n_images: int, size: tuple[int, int], suffix: str, n_processes: int) -> list[Path]:
    """Fill the new folder `root` with two class folders of images, `n_images` in all; returns their paths."""
    paths = [root / f"class_{number % 2}" / f"{number:06}.{suffix}" for number in range(n_images)]
    for name in ("class_0", "class_1"):
        (root / name).mkdir(parents=True)
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as executor:
        for _ in executor.map(_write, paths, range(n_images), [size] * n_images, chunksize=32):
            pass
    return paths


def _write(path: Path, seed: int, size: tuple[int, int]) -> None:
    draw_image(seed, size).save(path, **({"quality": JPEG_QUALITY} if path.suffix == ".jpg" else {}))
