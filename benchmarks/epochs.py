"""A training that is scored after every epoch, and a linear probe beside it, to compare rules of choosing."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import HfArgumentParser, TrainerCallback, set_seed

from benchmarks import runs
from memevit.arguments import ModelArguments, RecipeArguments
from memevit.data import dataset as prepared
from memevit.evaluation import calibration, measure
from memevit.evaluation.predictions import softmax
from memevit.model import backbone as backbones
from memevit.model import balance, choice, linear_probe, recipe, training
from memevit.model.forward import forward_dataset
from memevit.model.image_dataset import AugmentAndNormalise, ImageDataset, as_batch, image_datasets
from memevit.model.processor import Processor
from memevit.model.trainer import ImageTrainer, build_trainer
from memevit.results import PROBE

Scores = dict[str, dict[str, float]]
# Rules that choose an epoch on validation: the one with the highest value.
RULES: dict[str, Callable[[Mapping[str, float]], tuple[float, ...]]] = {
    "macro F1": lambda validation: (validation["macro_f1"], -validation["nll"]),
    "loss": lambda validation: (-validation["nll"],),
    "calibrated loss": lambda validation: (-validation["calibrated_nll"],),
}


def finetune(
    dataset: Path, backbone: Path, flags: tuple[str, ...], seed: int, *, rate_factor: float = 1.0
) -> dict[str, Any]:
    """Train by the recipe of finetune_vit.py; the scores of both splits after every epoch, and those of the probe.

    The scores at the top are those of the epoch with the highest macro F1 on validation, of several the one with the
    lowest loss.

    Args:
        dataset: folder that data_prep.py wrote.
        backbone: checkpoint folder.
        flags: of finetune_vit.py, besides those for data, backbone and seed.
        seed: of the training.
        rate_factor: by which the default learning rate is multiplied.
    """
    with tempfile.TemporaryDirectory() as folder:
        argv = [
            *("--dataset", str(dataset), "--model_name_or_path", str(backbone), "--output_dir", folder),
            *("--seed", str(seed), "--use_cpu", "--disable_tqdm", "True", "--save_strategy", "no"),
            *("--load_best_model_at_end", "False", *flags),
        ]
        groups = HfArgumentParser((ModelArguments, RecipeArguments, recipe.FineTuningArguments))
        _, recipe_args, args = groups.parse_args_into_dataclasses(argv)
        completed = recipe.complete(recipe_args, args, from_scratch=False, width=backbones.width(str(backbone)))
        args.learning_rate *= rate_factor
        return _train(dataset, backbone, completed, args)


def _train(dataset: Path, backbone: Path, chosen: recipe.Recipe, args: recipe.FineTuningArguments) -> dict[str, Any]:
    splits = prepared.load(dataset)
    set_seed(args.seed)
    names = splits["train"].features["label"].names
    model, image_processor = training.build_model(
        str(backbone), names, chosen, from_scratch=False, trust_remote_code=False
    )
    processor = Processor.of(image_processor)
    images = image_datasets(splits, processor, chosen.augmentation, seed=args.seed, cache_dir=_pixels_of(dataset))
    trainer = build_trainer(
        model, image_processor, args, chosen, train=images["train"], validation=images["validation"],
        prepare_batch=AugmentAndNormalise(processor, chosen.augmentation, chosen.mixing, n_classes=len(names)),
        compute_metrics=measure.of_logits,
    )  # fmt: skip
    store = linear_probe.Store.beside(dataset, prepared.read_prep(dataset)["fingerprint"])
    weighted = balance.is_weighted(chosen.class_balance, images["train"].labels, n_classes=len(names))
    evaluated = {name: images[name] for name in runs.SPLITS}
    probe = linear_probe.baseline(trainer, evaluated, store, weighted=weighted)
    scoring = _Scoring(trainer, evaluated)
    trainer.add_callback(scoring)
    start = time.monotonic()
    if chosen.probe_first:
        linear_probe.fit_head(trainer, store, weighted=weighted)
    trainer.train()
    best = picked(scoring.epochs, "macro F1")
    return {name: best[name] for name in runs.SPLITS} | {
        "seconds": round(time.monotonic() - start, 1),
        "probe": scored(probe.logits, evaluated),
        "epochs": scoring.epochs,
    }


def picked(candidates: Sequence[Scores], rule: str) -> Scores:
    """Of the scores of several models, those that one of the `RULES` chooses; the first of equal ones."""
    return max(candidates, key=lambda one: RULES[rule](one["validation"]))


def settled(row: Mapping[str, Any], rule: str) -> Scores:
    """The scores of what finetune_vit.py would save: the epoch that `rule` picks, or the probe."""
    best, probe = picked(row["epochs"], rule), row["probe"]
    losses = [np.array(one["validation"]["calibrated_losses"]) for one in (best, probe)]
    made = choice.between(
        losses[0], losses[1], range(len(losses[0])), compute_losses=lambda own, _: own,
        compute_metrics=lambda own, _: {"calibrated_loss": own.mean(), "accuracy": 0.0},
    )  # fmt: skip
    return probe if made["kept"] == PROBE else best


def _pixels_of(dataset: Path) -> Path:
    return dataset.with_name(f"{dataset.name}.pixels")


def scored(logits: Mapping[str, np.ndarray], evaluated: Mapping[str, ImageDataset]) -> Scores:
    """`runs.scores_of` for each split, and `nll` and `ece` after the temperature that validation gives.

    Args:
        logits: [n, C] by split.
        evaluated: the images of each split.
    """
    temperature = calibration.fit_temperature(logits["validation"], np.asarray(evaluated["validation"].labels))
    found = {}
    for name, own in logits.items():
        labels = np.asarray(evaluated[name].labels)
        cooled = runs.scores_of(softmax(own / temperature), labels)
        found[name] = runs.scores_of(softmax(own), labels)
        found[name] |= {f"calibrated_{score}": cooled[score] for score in ("nll", "ece")}
        true = softmax(own / temperature)[np.arange(len(labels)), labels]
        found[name]["calibrated_losses"] = [round(float(-np.log(max(share, 1e-7))), 4) for share in true]
    return found


class _Scoring(TrainerCallback):
    """Scores the model after each epoch."""

    def __init__(self, trainer: ImageTrainer, evaluated: Mapping[str, ImageDataset]) -> None:
        self._trainer, self._evaluated = trainer, evaluated
        self.epochs: list[Scores] = []

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        """Predict both splits."""
        model = self._trainer.accelerator.unwrap_model(self._trainer.model, keep_fp32_wrapper=False)
        is_half = self._trainer.args.bf16
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            logits = {
                name: forward_dataset(model, own, normalise=own.normalise, collate=as_batch).logits
                for name, own in self._evaluated.items()
            }
        self.epochs.append(scored(logits, self._evaluated))
