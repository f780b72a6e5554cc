"""Measure what a pretrained backbone is worth on real images, against the same network from random weights.

    python -m benchmarks.backbone_transfer --dataset games/ --backbone backbones/vit-micro-patch12-96
    python -m benchmarks.backbone_transfer --dataset games/ --backbone runs/micro/backbone --methods linear_probe

`games/` holds a folder per class and, for splits that keep images of one thing together, a manifest.csv with the
columns class, file and group. Writes a JSON file with the macro accuracy on the test split, per seed, of fine-tuning,
of the same from scratch, of a linear probe on frozen features, and of two classifiers that see no shapes: colours, and
properties of the file. The learning rate of every network is chosen on the validation split of a seed of its own.
"""

import csv
import hashlib
import json
import logging
import os
import time
from collections import Counter, defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification
from transformers.utils import logging as transformers_logging

from benchmarks.pretrain_backbone import half_precision, keep_freed_memory
from memevit import cli, pixels, results
from memevit.data import splits
from memevit.errors import UserError
from memevit.evaluation import baselines, file_cues

logger = logging.getLogger(__name__)

FRACTIONS = {"train": 0.7, "validation": 0.15, "test": 0.15}
SEARCH_SEED = 1000  # Its split chooses the learning rates and is not among those reported.
WEIGHT_DECAY = 0.05
WARMUP_FRACTION = 0.1
PROBE_STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # Inverse regularisation of the linear probe, chosen on validation.


@dataclass
class TransferArguments:
    """What is compared, on which images, and how long."""

    dataset: Path = field(metadata={"help": "Folder with a folder of images per class, perhaps with manifest.csv."})
    backbone: Path = field(metadata={"help": "Checkpoint folder; its config.json alone is used from scratch."})
    output: Path = field(default=Path("benchmarks/results/backbone_transfer.json"), metadata={"help": "JSON file."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4], metadata={"help": "One split and run each."})
    learning_rates: list[float] = field(
        default_factory=lambda: [2.0e-4, 5.0e-4, 1.0e-3], metadata={"help": "Tried for every network alike."}
    )
    epochs: int = field(default=20, metadata={"help": "Of every network alike."})
    batch_size: int = field(default=32, metadata={"help": "Images per step."})
    methods: list[str] = field(
        default_factory=lambda: ["file_properties", "colour_histogram", "linear_probe", "from_scratch", "fine_tuned"],
        metadata={"help": "Those to run; results of the others stay in the output file."},
    )
    cache: Path | None = field(default=None, metadata={"help": "Folder for decoded images, to be quicker again."})
    threads: int = field(default=0, metadata={"help": "Of torch; 0 leaves its default."})


@dataclass(frozen=True)
class ImageSet:
    """A dataset in memory: `images` [n, S, S, 3] uint8, resized as the image processor of the backbone does."""

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    histograms: np.ndarray
    properties: np.ndarray
    class_names: np.ndarray


def main(args: TransferArguments) -> None:
    """Run every method on every seed and write the results after each."""
    transformers_logging.set_verbosity_error()  # It names the missing classifier at every load.
    transformers_logging.disable_progress_bar()
    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    size = AutoConfig.from_pretrained(args.backbone).image_size
    image_set = load_images(args.dataset, size=size, cache_dir=args.cache)
    report = _begin(args, image_set)
    for method in args.methods:
        start = time.perf_counter()
        rate = _choose_rate(method, image_set, args) if method in NETWORKS else None
        scores = []
        for seed in args.seeds:
            scores.append(score(method, image_set, args, seed=seed, rate=rate))
            logger.info("%s, seed %d: %.3f", method, seed, scores[-1])
        report["methods"][method] = _summary(scores, args.seeds, rate, time.perf_counter() - start)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    logger.info("%s", _table(report))
    logger.info("Written to %s", args.output)


def _begin(args: TransferArguments, image_set: ImageSet) -> dict:
    report = {
        "metric": "macro accuracy on the test split (mean of the recall of each class)",
        "dataset": {
            "name": args.dataset.name,
            "n": len(image_set.labels),
            "n_groups": len(set(image_set.groups.tolist())),
            "classes": {str(name): int((image_set.labels == i).sum()) for i, name in enumerate(image_set.class_names)},
            "fractions": FRACTIONS,
        },
        "backbone": {"name": args.backbone.name, "image_size_px": int(image_set.images.shape[1])},
        "budget": {
            "epochs": args.epochs,
            "batch_size": args.batch_size,
            "precision": "fp32" if isinstance(half_precision(torch.device("cpu")), nullcontext) else "bf16",
            "learning_rates": args.learning_rates,
            "learning_rate_chosen_on": f"validation split of seed {SEARCH_SEED}",
        },
        "hardware": results.processor_name(),
        "methods": {},
    }
    if args.output.exists():
        before = json.loads(args.output.read_text(encoding="utf-8"))
        same = all(before.get(key) == report[key] for key in ("dataset", "budget"))
        report["methods"] = before["methods"] if same else {}
    return report


def _summary(scores: list[float], seeds: list[int], rate: float | None, seconds: float) -> dict:
    summary = {
        "mean": round(float(np.mean(scores)), 4),
        "low": round(min(scores), 4),
        "high": round(max(scores), 4),
        "by_seed": {str(seed): round(score, 4) for seed, score in zip(seeds, scores, strict=True)},
        "seconds": round(seconds, 1),
    }
    return summary | ({"learning_rate": rate} if rate else {})


def _table(report: dict) -> str:
    rows = [f"{'method':18} {'mean':>6} {'low':>6} {'high':>6}"]
    for name, row in report["methods"].items():
        rows.append(f"{name:18} {row['mean']:6.3f} {row['low']:6.3f} {row['high']:6.3f}")
    return "\n".join(rows)


def load_images(dataset_dir: Path, *, size: int, cache_dir: Path | None = None) -> ImageSet:
    """All images of `dataset_dir`, decoded once.

    Args:
        dataset_dir: holds a folder per class.
        size: side of the square that every image is squeezed into, in pixels.
        cache_dir: where decoded images are kept, for a quicker second run.

    Raises:
        UserError: there are fewer than two class folders with images.
    """
    rows = dataset_rows(dataset_dir)
    key = hashlib.sha256(f"{dataset_dir.resolve()}:{size}:{len(rows)}".encode()).hexdigest()[:16]
    cached = cache_dir / f"{key}.npz" if cache_dir else None
    if cached and cached.exists():
        with np.load(cached) as content:
            return ImageSet(**content)
    class_names = sorted({class_name for class_name, _, _ in rows})
    if len(class_names) < 2:
        raise UserError(f"Need at least 2 class folders with images in {dataset_dir}, found {class_names}.")
    paths = [path for _, path, _ in rows]
    image_set = ImageSet(
        images=np.stack([np.asarray(pixels.load_image(path).resize((size, size), Image.BILINEAR)) for path in paths]),
        labels=np.array([class_names.index(class_name) for class_name, _, _ in rows]),
        groups=np.array([group for _, _, group in rows]),
        histograms=baselines.colour_histograms(paths),
        properties=np.stack([_properties(path) for path in paths]),
        class_names=np.array(class_names),
    )
    if cached:
        cache_dir.mkdir(parents=True, exist_ok=True)
        np.savez(cached, **vars(image_set))
    return image_set


def dataset_rows(dataset_dir: Path) -> list[tuple[str, Path, str]]:
    """Class, file and group of every image, from manifest.csv where there is one."""
    manifest_path = dataset_dir / "manifest.csv"
    if manifest_path.exists():
        with manifest_path.open(encoding="utf-8", newline="") as file:
            rows = [
                (row["class"], dataset_dir / row["class"] / row["file"], row["group"]) for row in csv.DictReader(file)
            ]
        return [row for row in rows if row[1].is_file()]
    files = sorted(path for path in dataset_dir.glob("*/*") if path.is_file())
    return [(path.parent.name, path, path.relative_to(dataset_dir).as_posix()) for path in files]


def _properties(path: Path) -> np.ndarray:
    """[6] logarithms of width, height, bytes and bytes per pixel, proportions, and the format as a number."""
    decoded = pixels.decode(path)
    n_pixels, n_bytes = decoded.width_px * decoded.height_px, path.stat().st_size
    image_format = int(hashlib.sha256(decoded.image_format.encode()).hexdigest()[:4], 16)
    logarithms = np.log([decoded.width_px, decoded.height_px, n_bytes, n_bytes / n_pixels])
    return np.array([*logarithms, decoded.width_px / decoded.height_px, image_format])


def split_indices(labels: np.ndarray, groups: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
    """Positions of the images in train, validation and test; a group is on one side."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        counts[str(group)][str(label)] += 1
    placed = splits.assign([splits.Group(key, dict(count)) for key, count in counts.items()], FRACTIONS, seed=seed)
    names = np.array([placed[str(group)] for group in groups])
    return {name: np.flatnonzero(names == name) for name in FRACTIONS}


def score(method: str, image_set: ImageSet, args: TransferArguments, *, seed: int, rate: float | None) -> float:
    """Macro accuracy of `method` on the test split of `seed`."""
    indices = split_indices(image_set.labels, image_set.groups, seed=seed)
    if method in NETWORKS:
        return train(method, image_set, indices, args, seed=seed, rate=rate, evaluated="test")
    if method == "linear_probe":
        return probe(frozen_features(args.backbone, image_set.images), image_set.labels, indices)
    if method == "colour_histogram":
        predicted = file_cues.predict_by_values(
            image_set.histograms[indices["train"]],
            image_set.labels[indices["train"]],
            image_set.histograms[indices["test"]],
            seed=seed,
        )
    elif method == "file_properties":
        trees = HistGradientBoostingClassifier(class_weight="balanced", random_state=seed)
        trees.fit(image_set.properties[indices["train"]], image_set.labels[indices["train"]])
        predicted = trees.predict(image_set.properties[indices["test"]])
    else:
        raise UserError(f"There is no method {method!r}; take some of {sorted(DESCRIPTIONS)}.")
    return float(balanced_accuracy_score(image_set.labels[indices["test"]], predicted))


NETWORKS = ("from_scratch", "fine_tuned")
DESCRIPTIONS = {"file_properties", "colour_histogram", "linear_probe", *NETWORKS}


def frozen_features(backbone: Path, images: np.ndarray, *, batch_size: int = 128) -> np.ndarray:
    """[n, 2 D] CLS token and mean patch token of every decoded."""
    model, normalise = _load(backbone, n_classes=2, from_scratch=False)
    model.eval()
    features = []
    with torch.inference_mode():
        for batch in torch.from_numpy(images).split(batch_size):
            hidden = model.base_model(normalise(batch)).last_hidden_state  # [B, 1 + patches, D]
            features.append(torch.cat([hidden[:, 0], hidden[:, 1:].mean(1)], dim=1))
    return torch.cat(features).numpy()


def probe(features: np.ndarray, labels: np.ndarray, indices: dict[str, np.ndarray]) -> float:
    """Macro accuracy on test of a logistic regression, its strength chosen on validation."""
    train = features[indices["train"]]
    features = (features - train.mean(0)) / (train.std(0) + 1e-6) / features.shape[1] ** 0.5

    def fit(strength: float) -> LogisticRegression:
        regression = LogisticRegression(C=strength * features.shape[1], max_iter=500, class_weight="balanced")
        return regression.fit(features[indices["train"]], labels[indices["train"]])

    def recall(regression: LogisticRegression, split: str) -> float:
        return float(balanced_accuracy_score(labels[indices[split]], regression.predict(features[indices[split]])))

    return recall(max(map(fit, PROBE_STRENGTHS), key=lambda regression: recall(regression, "validation")), "test")


def _load(backbone: Path, *, n_classes: int, from_scratch: bool) -> tuple[nn.Module, "Normalise"]:
    config = AutoConfig.from_pretrained(backbone, num_labels=n_classes)
    how = {"dtype": torch.float32, "attn_implementation": "eager"}  # On a CPU quicker to train than sdpa.
    if from_scratch:
        model = AutoModelForImageClassification.from_config(config, **how)
    else:
        model = AutoModelForImageClassification.from_pretrained(backbone, config=config, **how)
    processor = AutoImageProcessor.from_pretrained(backbone)
    return model, Normalise(processor.image_mean, processor.image_std)


@dataclass(frozen=True)
class Normalise:
    """From uint8 [B, S, S, 3] to `pixel_values` [B, 3, S, S], as the image processor does it."""

    mean: list[float]
    std: list[float]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The `pixel_values`."""
        values = images.permute(0, 3, 1, 2).float() / 255
        return (values - torch.tensor(self.mean).view(3, 1, 1)) / torch.tensor(self.std).view(3, 1, 1)


def _choose_rate(method: str, image_set: ImageSet, args: TransferArguments) -> float:
    """The learning rate with the best macro accuracy on the validation split of SEARCH_SEED."""
    indices = split_indices(image_set.labels, image_set.groups, seed=SEARCH_SEED)
    scores = {}
    for rate in args.learning_rates:
        scores[rate] = train(method, image_set, indices, args, seed=SEARCH_SEED, rate=rate, evaluated="validation")
        logger.info("%s, learning rate %g: %.3f on validation", method, rate, scores[rate])
    return max(scores, key=lambda rate: scores[rate])


def train(
    method: str,
    image_set: ImageSet,
    indices: dict[str, np.ndarray],
    args: TransferArguments,
    *,
    seed: int,
    rate: float,
    evaluated: str,
) -> float:
    """Macro accuracy on the split `evaluated` after training all weights on the train split."""
    torch.manual_seed(seed)
    model, normalise = _load(args.backbone, n_classes=len(image_set.class_names), from_scratch=method == "from_scratch")
    images, labels = torch.from_numpy(image_set.images), torch.from_numpy(image_set.labels)
    weights = 1.0 / torch.bincount(labels[indices["train"]]).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    n_batches = -(-len(indices["train"]) // args.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=args.epochs * n_batches, pct_start=WARMUP_FRACTION, cycle_momentum=False
    )
    random = np.random.default_rng(seed)
    model.train()
    for _ in range(args.epochs):
        for batch in np.array_split(random.permutation(indices["train"]), n_batches):
            with half_precision(images.device):
                logits = model(normalise(augment(images[batch], random))).logits
            functional.cross_entropy(logits.float(), labels[batch], weight=weights).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    model.eval()
    with torch.inference_mode():
        batches = images[indices[evaluated]].split(128)
        predicted = torch.cat([model(normalise(batch)).logits.argmax(1) for batch in batches])
    return float(balanced_accuracy_score(image_set.labels[indices[evaluated]], predicted.numpy()))


def augment(images: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """uint8 [B, S, S, 3] images, each cropped to 60-100 % of its area, with brightness and contrast varied by 20 %.

    The same variation as in fine-tuning with this project; nothing is mirrored.
    """
    n = len(images)
    area, stretch = random.uniform(0.6, 1.0, n), 1.2 ** random.uniform(-1, 1, n)
    scale = np.stack([np.minimum(1, np.sqrt(area * stretch)), np.minimum(1, np.sqrt(area / stretch))], axis=1)
    offset = random.uniform(-1, 1, (n, 2)) * (1 - scale)
    transform = torch.zeros(n, 2, 3)
    transform[:, [0, 1], [0, 1]] = torch.from_numpy(scale).float()
    transform[:, :, 2] = torch.from_numpy(offset).float()
    values = images.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(transform, list(values.shape), align_corners=False)
    values = functional.grid_sample(values, grid, padding_mode="border", align_corners=False)
    contrast, brightness = (torch.from_numpy(random.uniform(0.8, 1.2, (n, 1, 1, 1))).float() for _ in range(2))
    mean = values.mean((1, 2, 3), keepdim=True)
    values = ((values - mean) * contrast + mean) * brightness
    return values.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    raise SystemExit(cli.run(main, TransferArguments, doc=__doc__))
