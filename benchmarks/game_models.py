"""Models that know some classes of a folder of images and not the others, and what they compute for all its images."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import open_set_images
from benchmarks.backbone_transfer import augment
from memevit import pixels
from memevit.model import backbone, extend, linear_probe
from memevit.model.forward import forward
from memevit.model.open_set import Seen
from memevit.model.processor import Processor
from memevit.portable.features import FINAL, block_names

logger = logging.getLogger(__name__)

BATCH_SIZE = 32


@dataclass
class GameArguments:
    """Which images, which backbone, and how it learns them."""

    images: Path = field(metadata={"help": "Folder with a folder of images per class, perhaps with manifest.csv."})
    backbone: Path = field(metadata={"help": "Checkpoint folder."})
    image_size: int | None = field(default=None, metadata={"help": "Side in pixels; what the backbone gives if None."})
    fine_tune: bool = field(default=False, metadata={"help": "Train all weights for --epochs, not only a head."})
    epochs: int = field(default=6, metadata={"help": "Of fine-tuning."})
    learning_rate: float = field(default=5.0e-4, metadata={"help": "Of fine-tuning."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One split and head each."})
    held_out: list[str] | None = field(default=None, metadata={"help": "Only these held-out classes; all if None."})
    cache: Path = field(default=Path("runs/open_set"), metadata={"help": "Folder for features."})

    @property
    def how(self) -> str:
        """How a model learns its classes, in words."""
        if self.fine_tune:
            return f"all weights trained for {self.epochs} epochs at {self.learning_rate:g}"
        return "a head fitted to frozen features"


@dataclass(frozen=True)
class Corpus:
    """All images as the backbone sees them, `pixels` [n, 3, S, S] uint8.

    `sources` names a far source for each image and is "" for the images of games, whose class ids are `labels` [n], -1
    for the others.
    """

    pixels: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    sources: np.ndarray
    class_names: list[str]


def load(args: GameArguments) -> tuple[Corpus, dict[str, np.ndarray]]:
    """All images, and their features and logits of the untrained backbone; kept for the next run."""
    key = hashlib.sha256(f"{args.images.resolve()} {args.backbone.resolve()} {args.image_size}".encode()).hexdigest()
    path = args.cache / f"{args.backbone.name}-{key[:12]}.npz"
    if path.exists():
        with np.load(path) as content:
            found = dict(content)
        own = {name: found.pop(name) for name in ("pixels", "labels", "groups", "sources", "class_names")}
        return Corpus(**own | {"class_names": own["class_names"].tolist()}), found
    files, labels, groups, names = open_set_images.games(args.images)
    model, processor = untrained(args, names)
    levels = [processor.render(pixels.load_image(file)) for file in files]
    sources, all_groups, all_labels = [""] * len(files), groups.tolist(), labels.tolist()
    for source in open_set_images.far_sources():
        levels += [processor.render(image) for image in source.images]
        sources += [source.name] * len(source.images)
        all_groups += source.groups
        all_labels += [-1] * len(source.images)
    corpus = Corpus(np.stack(levels), np.array(all_labels), np.array(all_groups), np.array(sources), names)
    frozen = computed(model, processor, corpus.pixels)
    args.cache.mkdir(parents=True, exist_ok=True)
    np.savez(path, **vars(corpus), **frozen)
    return corpus, frozen


def untrained(args: GameArguments, class_names: list[str]) -> tuple[nn.Module, Processor]:
    """The pretrained backbone with a random head."""
    model, image_processor = backbone.load_for_training(
        str(args.backbone), class_names, from_scratch=False, image_size=args.image_size
    )
    return model, Processor.of(image_processor)


def computed(model: nn.Module, processor: Processor, images: np.ndarray) -> dict[str, np.ndarray]:
    """Features [n, d] of every block in fp16 by layer, and `logits` [n, C]."""
    layers = [FINAL, *(f"block_{number + 1}" for number in range(len(block_names(model))))]
    found = forward(model, torch.from_numpy(images).split(64), layers=layers, normalise=processor.normalise)
    return {layer: own.astype(np.float16) for layer, own in found.features.items()} | {"logits": found.logits}


def main_layers(features: Mapping[str, np.ndarray]) -> list[str]:
    """The final layer, and the blocks at a quarter, a half and three quarters of the depth."""
    n_blocks = sum(name.startswith("block_") for name in features)
    return [FINAL, *dict.fromkeys(f"block_{max(1, round(n_blocks * k / 4))}" for k in (1, 2, 3))]


def seen(
    logits: np.ndarray, features: Mapping[str, np.ndarray], labels: np.ndarray, rows: np.ndarray, layers: list[str]
) -> Seen:
    """What was computed for the images at `rows`."""
    return Seen(logits[rows], {layer: features[layer][rows] for layer in layers}, labels[rows])


def head(
    features: np.ndarray, labels: np.ndarray, indices: Mapping[str, np.ndarray], n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weight [C, D] and bias [C] of a linear probe, every class with the same weight.

    Args:
        features: [n, D] of all images.
        labels: [n] class ids; only those at `indices` count.
        indices: positions of training and validation images.
        n_classes: C.
    """
    rows, (train, validation) = features.astype(np.float64), (indices["train"], indices["validation"])
    counts = np.bincount(labels[train], minlength=n_classes)
    found = linear_probe.fit(
        rows[train], labels[train], rows[validation], labels[validation], n_classes=n_classes,
        weights=counts.mean() / counts,
    )  # fmt: skip
    return found.weight, found.bias


def fine_tuned(
    name: str, class_names: list[str], corpus: Corpus, train: np.ndarray, labels: np.ndarray, args: GameArguments,
    *, seed: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Features and logits of all images after training all weights on those at `train`; kept for the next run.

    The head is in it as `weight` and `bias`, and the processor seconds of the training as `seconds`.
    """
    path = args.cache / f"{args.backbone.name}-{name}-{args.epochs}-{args.learning_rate:g}.npz"
    if path.exists():
        with np.load(path) as content:
            return dict(content)
    start = time.process_time()
    torch.manual_seed(seed)
    model, processor = untrained(args, class_names)
    images, targets = torch.from_numpy(corpus.pixels).permute(0, 2, 3, 1), torch.from_numpy(labels)
    weights = 1 / torch.bincount(targets[train]).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=0.05)
    n_batches = -(-len(train) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.learning_rate, total_steps=args.epochs * n_batches, pct_start=0.1, cycle_momentum=False
    )
    random = np.random.default_rng(seed)
    model.train()
    for _ in range(args.epochs):
        for batch in np.array_split(random.permutation(train), n_batches):
            varied = augment(images[batch], random).permute(0, 3, 1, 2).contiguous()
            logits = model(pixel_values=processor.normalise(varied)).logits
            functional.cross_entropy(logits, targets[batch], weight=weights).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    seconds = time.process_time() - start
    own_head = extend.head_of(model)
    found = computed(model, processor, corpus.pixels)
    found |= {"weight": own_head.weight, "bias": own_head.bias, "seconds": np.array(seconds)}
    np.savez(path, **found)
    return found


def write(output: Path, key: str, report: dict) -> None:
    """Put the report of one backbone into the file that all of them share."""
    output.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    output.write_text(json.dumps(content | {key: report}, indent=1) + "\n", encoding="utf-8")
    logger.info("Written to %s", output)
