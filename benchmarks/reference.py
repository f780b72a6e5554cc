"""Compare finetune_vit.py with the plain recipe of Transformers' image classification example.

    python -m benchmarks.reference --datasets games/ sample/ --backbone backbones/vit-micro-patch12-96

The datasets are folders that data_prep.py wrote. Both recipes train the same backbone on the same images for the
same number of epochs. The plain one is written from its description: AdamW at 5e-5 for all weights, falling linearly,
no weight decay, batches of 8, random crops of 8-100 % of the image, mirrored half of the time, the middle of the
image in evaluation, and the checkpoint with the lowest validation loss. Writes a JSON file with the scores of every
run and the verdict; the same command goes on where it stopped.
"""

import functools
import json
import logging
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from benchmarks import runs
from memevit import cli, pixels
from memevit.data import dataset as prepared
from memevit.evaluation.predictions import Predictions, softmax

logger = logging.getLogger(__name__)

OURS, PLAIN = "ours", "plain"
_AREAS, _PROPORTIONS = (0.08, 1.0), (3 / 4, 4 / 3)
_ATTEMPTS = 10  # At a crop that fits, before the middle is taken.


@dataclass
class ReferenceArguments:
    """What is compared, on which images, and how long."""

    datasets: list[Path] = field(metadata={"help": "Folders that data_prep.py wrote."})
    backbone: Path = field(metadata={"help": "Checkpoint folder."})
    output: Path = field(default=Path("benchmarks/results/reference.json"), metadata={"help": "JSON file."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4], metadata={"help": "One training each."})
    epochs: int = field(default=10, metadata={"help": "Of both recipes alike."})
    precision: Literal["fp32", "bf16"] = field(default="fp32", metadata={"help": "Of both recipes alike."})
    jobs: int = field(default=2, metadata={"help": "Trainings at a time, with one thread each."})
    minutes: float = field(default=13.0, metadata={"help": "After so many no more trainings are begun."})


def main(args: ReferenceArguments) -> None:
    """Train by both recipes and compare balanced accuracy on test."""
    tasks = {}
    for dataset in args.datasets:
        for seed in args.seeds:
            flags = ("--num_train_epochs", str(args.epochs), "--precision", args.precision)
            tasks[f"{dataset.name} | {PLAIN} | {seed}"] = functools.partial(
                plain, dataset, args.backbone, args.epochs, seed, args.precision
            )
            tasks[f"{dataset.name} | {OURS} | {seed}"] = functools.partial(
                runs.finetune, dataset, args.backbone, flags, seed
            )
    header = {"backbone": args.backbone.name, "epochs": args.epochs, "precision": args.precision}
    found = runs.collect(tasks, args.output, header, jobs=args.jobs, minutes=args.minutes)
    verdict = compare(found)
    report = json.loads(args.output.read_text(encoding="utf-8")) | {"verdict": verdict}
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for dataset, row in verdict["datasets"].items():
        logger.info("%s: ours %.3f, plain %.3f, difference %+.3f (%+.3f to %+.3f) over %d seeds", dataset, row[OURS],
                    row[PLAIN], row["difference"], row["low"], row["high"], row["n_seeds"])  # fmt: skip
    logger.info("At least as good on every dataset: %s; better on average: %s", verdict["never_worse"],
                verdict["better_on_average"])  # fmt: skip


def compare(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean balanced accuracy on test of both recipes, and the difference, lowest and highest over the seeds.

    Args:
        found: rows of `runs.collect` by "dataset | recipe | seed"; seeds that lack one of the two are left out.
    """
    values = {tuple(name.split(" | ")): row["test"]["balanced_accuracy"] for name, row in found.items()}
    datasets: dict[str, dict[str, float]] = {}
    for dataset in dict.fromkeys(key[0] for key in values):
        seeds = [seed for own, recipe, seed in values if (own, recipe) == (dataset, OURS)]
        pairs = [(values[dataset, OURS, seed], values[dataset, PLAIN, seed]) for seed in seeds
                 if (dataset, PLAIN, seed) in values]  # fmt: skip
        if pairs:
            ours, plain_values = np.array(pairs).T
            difference = ours - plain_values
            datasets[dataset] = {
                OURS: float(ours.mean()), PLAIN: float(plain_values.mean()), "difference": float(difference.mean()),
                "low": float(difference.min()), "high": float(difference.max()), "n_seeds": len(pairs),
            }  # fmt: skip
    differences = [row["difference"] for row in datasets.values()]
    return {
        "datasets": datasets,
        "never_worse": bool(differences) and min(differences) >= 0,
        "better_on_average": bool(differences) and float(np.mean(differences)) > 0,
    }


def plain(
    dataset: Path, backbone: Path, epochs: int, seed: int, precision: str = "fp32", image_size: int | None = None
) -> dict[str, Any]:
    """Train by the plain recipe and return what `runs.scores` says of its predictions, with its seconds.

    Args:
        dataset: folder that data_prep.py wrote.
        backbone: checkpoint folder.
        epochs: how often every training image is seen.
        seed: of the training.
        precision: fp32 or bf16; predictions are made in fp32.
        image_size: resolution in pixels; that of the backbone when None.
    """
    from transformers import AutoImageProcessor, Trainer, TrainingArguments, default_data_collator, set_seed
    from transformers.utils import logging as transformers_logging

    from memevit.model.precision import choose_attention

    transformers_logging.set_verbosity_error()
    data = prepared.load(dataset)
    set_seed(seed)
    names = data["train"].features["label"].names
    model = _model(backbone, len(names))
    choose_attention(model, precision, model.device)
    image_processor = AutoImageProcessor.from_pretrained(backbone)
    side = image_size or int(image_processor.size.get("height") or image_processor.size["shortest_edge"])
    images = {
        name: _Images(prepared.paths_of(split), split["label"][:], image_processor, side, varied=name == "train")
        for name, split in data.items()
    }
    best = _best_weights()
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder, num_train_epochs=epochs, learning_rate=5e-5, lr_scheduler_type="linear", seed=seed,
            per_device_train_batch_size=8, per_device_eval_batch_size=64, eval_strategy="epoch", save_strategy="no",
            report_to="none", use_cpu=True, disable_tqdm=True, remove_unused_columns=False, bf16=precision == "bf16",
        )  # fmt: skip
        trainer = Trainer(
            model=model, args=args, train_dataset=images["train"], eval_dataset=images["validation"],
            data_collator=default_data_collator, callbacks=[best],
        )  # fmt: skip
        seconds = trainer.train().metrics["train_runtime"]
        model.load_state_dict(best.weights)
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    logits = {name: _logits(model, images[name]) for name in runs.SPLITS}
    found = Predictions(
        class_names=names,
        paths=[file for name in runs.SPLITS for file in data[name]["file"]],
        splits=[name for name in runs.SPLITS for _ in data[name]["file"]],
        labels=np.concatenate([data[name]["label"][:] for name in runs.SPLITS]),
        probabilities=np.concatenate([softmax(logits[name]) for name in runs.SPLITS]),
    )
    return runs.scores(found) | {"seconds": round(seconds, 1)}


def _logits(model: Any, images: "_Images") -> np.ndarray:
    """[n, C] in single precision, whatever the training computed in."""
    import torch

    model.eval()
    with torch.inference_mode():
        found = [model(pixel_values=images[number]["pixel_values"][None]).logits for number in range(len(images))]
    return torch.cat(found).numpy()


def _model(backbone: Path, n_classes: int) -> Any:
    from transformers import AutoModelForImageClassification

    return AutoModelForImageClassification.from_pretrained(
        backbone, num_labels=n_classes, ignore_mismatched_sizes=True, dtype="float32"
    )


def _best_weights() -> Any:
    """A callback that keeps the weights with the lowest validation loss in memory.

    The Trainer's own way, over checkpoints, loads nothing of a ViT in Transformers 5 and would end with the last ones.
    """
    from transformers import TrainerCallback

    class BestWeights(TrainerCallback):
        def __init__(self) -> None:
            self.loss, self.weights = math.inf, {}

        def on_evaluate(self, args: Any, state: Any, control: Any, *, metrics: dict, model: Any, **kwargs: Any) -> None:
            if metrics["eval_loss"] < self.loss:
                self.loss = metrics["eval_loss"]
                self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    return BestWeights()


class _Images:
    """Images and labels of one split, decoded once, as the example shows them."""

    def __init__(self, paths: list[Path], labels: list[int], image_processor: Any, side: int, *, varied: bool) -> None:
        self._images = [pixels.load_image(path) for path in paths]
        self._labels = labels
        self._image_processor = image_processor
        self._side = side
        self._varied = varied

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position: int) -> dict[str, Any]:
        import torch

        image = self._images[position]
        if self._varied:
            random = np.random.default_rng(int(torch.randint(2**62, (1,))))
            image = image.resize((self._side,) * 2, Image.Resampling.BILINEAR, box=random_box(image.size, random))
            if random.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        else:
            image = image.resize((self._side,) * 2, Image.Resampling.BILINEAR, box=middle_box(image.size))
        values = self._image_processor(images=[image], do_resize=False, do_center_crop=False, return_tensors="pt")
        return {"pixel_values": values["pixel_values"][0], "labels": self._labels[position]}


def random_box(size: tuple[int, int], random: np.random.Generator) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a crop of 8-100 % of the area, its proportions from 3:4 to 4:3."""
    for _ in range(_ATTEMPTS):
        area = size[0] * size[1] * random.uniform(*_AREAS)
        proportion = math.exp(random.uniform(*(math.log(end) for end in _PROPORTIONS)))
        width, height = math.sqrt(area * proportion), math.sqrt(area / proportion)
        if width <= size[0] and height <= size[1]:
            left, top = random.uniform(0, size[0] - width), random.uniform(0, size[1] - height)
            return left, top, left + width, top + height
    return middle_box(size)


def middle_box(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest square in the middle of an image of `size`.

    Example:
        >>> middle_box((6, 4))
        (1.0, 0.0, 5.0, 4.0)
    """
    side = min(size)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    return left, top, left + side, top + side


if __name__ == "__main__":
    raise SystemExit(cli.run(main, ReferenceArguments, doc=__doc__))
