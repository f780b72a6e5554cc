"""What the speed benchmarks share: images, models, clocks, tables and result files.

A figure of one machine means little on another, so every benchmark compares its sides within one run, in turns.
"""

import json
import os
import random
import statistics
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm
from transformers import AutoImageProcessor, AutoModelForImageClassification, ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from memevit import cores, files, results
from memevit.data.sample import maze, memes, village
from memevit.model import classifier, precision
from memevit.model.timing import wait_for
from memevit.portable import open_set

RESULTS = Path(__file__).parent / "results"
CLASSES = {"doom": maze.corridor, "animal_crossing": village.village}
FULL_HD = (1920, 1080)
_DRAWN_SHARE = 4  # A scene is drawn at this fraction of its size and enlarged: the decoder doesn't see the difference.
_PNG_EVERY = 4
_VITS = {
    "vit-tiny": {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
    "vit-s": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    "vit-b": {},
}


def draw_memes(folder: Path, n: int, *, size: tuple[int, int] = FULL_HD, seed: int = 0) -> list[Path]:
    """`n` different memes of two classes, each fourth a PNG, in class folders; those that are there stay."""
    grain = np.random.default_rng(seed).integers(-9, 10, (size[1] * 2, size[0] * 2, 1), dtype=np.int16)
    names = list(CLASSES)
    paths = [
        folder / names[number % 2] / f"{number:06}.{'png' if number % _PNG_EVERY == 3 else 'jpg'}"
        for number in range(n)
    ]
    missing = [path for path in paths if not path.exists()]
    with ThreadPoolExecutor(cores.n_cores()) as pool:  # Pillow and NumPy let other threads work meanwhile.
        drawn = pool.map(lambda path: _draw_meme(path, grain, seed=seed), missing)
        deque(tqdm(drawn, total=len(missing), desc="Drawing", unit="image", mininterval=0.5), maxlen=0)
    return paths


def _draw_meme(path: Path, grain: np.ndarray, *, seed: int) -> None:
    """The meme whose number is the name of the file and whose class that of its folder, under `grain` [2 H, 2 W, 1]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"{seed}/{int(path.stem)}")
    size = (grain.shape[1] // 2, grain.shape[0] // 2)
    class_name = path.parent.name
    small = memes.Idea(CLASSES[class_name], class_name, rng, rng).scene(rng, tuple(s // _DRAWN_SHARE for s in size))
    left, top = rng.randrange(size[0]), rng.randrange(size[1])
    levels = np.asarray(small.convert("RGB").resize(size, Image.Resampling.BILINEAR), dtype=np.int16)
    levels = levels + grain[top : top + size[1], left : left + size[0]]
    partial = path.with_name(f".{path.name}")
    options = {"compress_level": 3} if path.suffix == ".png" else {"quality": 88}
    Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(
        partial, "PNG" if path.suffix == ".png" else "JPEG", **options
    )
    partial.rename(path)


def write_backbone(name: str, folder: Path, *, image_size: int = 224, n_layers: int = 12) -> Path:
    """A ViT with random weights and its image processor; a `name` that is a folder is taken as it is."""
    if Path(name).is_dir():
        return Path(name)
    path = folder / f"{name}-{image_size}-{n_layers}"
    if not path.exists():
        torch.manual_seed(0)
        config = ViTConfig(image_size=image_size, num_hidden_layers=n_layers, num_labels=len(CLASSES), **_VITS[name])
        ViTForImageClassification(config).save_pretrained(path)
        ViTImageProcessorPil(size={"height": image_size, "width": image_size}).save_pretrained(path)
    return path


def with_head(folder: Path, work_dir: Path) -> Path:
    """A copy of a backbone with a head, for nothing is sorted without one; what it says does not matter here.

    A trained model, which lies beside the statistics of its images, is taken as it is.
    """
    if (folder / open_set.FILE).is_file():
        return folder
    path = work_dir / f"{folder.name}-with-head"
    AutoModelForImageClassification.from_pretrained(folder).save_pretrained(path)
    AutoImageProcessor.from_pretrained(folder).save_pretrained(path)
    return path


def in_turns(sides: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What every side measures, each once per round, so that a busy minute of the machine meets them all."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, measure in sides.items():
            precision.free_memory()
            found[name].append(measure())
    return found


def ratio(found: dict[str, list[float]], one: str, other: str) -> float:
    """Median over the rounds of `one` divided by `other`."""
    return round(statistics.median(a / b for a, b in zip(found[one], found[other], strict=True)), 2)


def matmul_rate(device: torch.device, dtype: torch.dtype, *, seconds: float = 1.0) -> float:
    """Floating-point operations per second of a product of two square matrices: what the device can do at best.

    An accelerator needs larger ones, and several in a row, to be busy with nothing but the product.
    """
    side, n = (2048, 1) if device.type == "cpu" else (8192, 10)
    one, other = torch.randn(2, side, side, device=device, dtype=dtype).unbind()
    wait_for(device)
    best, started = 0.0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        start = time.perf_counter()
        for _ in range(n):
            one @ other
        wait_for(device)
        best = max(best, 2 * side**3 * n / (time.perf_counter() - start))
    return best


def environment() -> dict[str, Any]:
    """Machine and versions, and how busy the machine was already: absolute times depend on it."""
    device = classifier.best_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else results.processor_name()
    load = [round(one, 2) for one in os.getloadavg()]
    return {"device": name, "n_threads": torch.get_num_threads(), "load": load, **results.environment()}


def publish(name: str, args: Any, found: dict[str, Any], table: list[list[str]]) -> None:
    """Print the table and write the numbers with what they depend on.

    Args:
        name: of the benchmark.
        args: its arguments; those that name folders of this machine are left out. The numbers go to `args.output`, or
            to benchmarks/results/NAME_DEVICE.json where that is None.
        found: the numbers.
        table: header and rows.
    """
    settings = {key: value for key, value in vars(args).items() if key != "output" and not isinstance(value, Path)}
    content = {"benchmark": name, "settings": settings, **found, **environment()}
    path = args.output or RESULTS / f"{name}_{classifier.best_device().type}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps(content, indent=2) + "\n")
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"written to {path}")
