"""All trainings of one command: the model itself, other seeds, and the folds of a cross-validation."""

import copy
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel, TrainingArguments, set_seed
from transformers.image_processing_utils import BaseImageProcessor

from memevit import files
from memevit.model import checkpoints, image_dataset, linear_probe, outcome, precision, preflight, training
from memevit.model.image_dataset import Finish, PictureDataset, Pixels
from memevit.model.interruption import StopRequest
from memevit.model.outcome import Outcome
from memevit.model.preflight import Plan
from memevit.model.recipe import Recipe, is_divided
from memevit.model.trainer import build_trainer

logger = logging.getLogger(__name__)

PARTS = "parts"
_EVENTS = "runs"  # Where Transformers lets TensorBoard write, in the folder of a training.
MODEL, SEED, FOLD = "model", "seed", "fold"


class Pictures(Protocol):
    """One split: where its pictures are, and their class ids."""

    paths: list[Path]
    labels: list[int]


@dataclass(frozen=True)
class Run:
    """One training: its kind (model, seed or fold), a name, its seed, and its pictures by split."""

    kind: str
    name: str
    seed: int
    splits: Mapping[str, Pictures]


@dataclass(frozen=True)
class Job:
    """What all runs have in common.

    `load` gives an untrained model and its image processor, `compute_metrics` values by name from predicted and true
    class ids, both [n]. Decoded pixels are kept in `cache_dir` unless it is None, features in `store`.
    """

    load: Callable[[], tuple[PreTrainedModel, BaseImageProcessor]]
    recipe: Recipe
    cache_dir: Path | None
    store: linear_probe.Store
    compute_metrics: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    base_model: str
    from_scratch: bool


def planned(
    args: TrainingArguments,
    splits: Mapping[str, Pictures],
    *,
    seeds: list[int],
    folds: Mapping[str, Mapping[str, Pictures]],
) -> list[Run]:
    """The runs of a command; the first makes the model, with the first seed.

    Args:
        args: whose seed counts when `seeds` is empty.
        splits: of the dataset.
        seeds: to train with, one after the other.
        folds: splits by fold.
    """
    first, *others = seeds or [args.seed]
    runs = [Run(MODEL, MODEL, first, splits)]
    runs += [Run(SEED, f"seed-{seed}", seed, splits) for seed in others]
    return runs + [Run(FOLD, f"fold-{name}", first, own) for name, own in folds.items()]


def rehearse(
    runs: list[Run],
    job: Job,
    args: TrainingArguments,
    *,
    before: Mapping[str, Any] | None,
    wanted: str,
    limit_s: float | None,
) -> tuple[Plan, PreTrainedModel]:
    """How the runs are carried out, from a few timed steps or as before, and a model as they train it.

    Args:
        runs: of the command.
        job: what they have in common.
        args: of the Trainer.
        before: run.json of the interrupted command that goes on.
        wanted: precision, see `preflight.make`.
        limit_s: seconds for all runs together.
    """
    set_seed(runs[0].seed)
    model, image_processor = job.load()
    if before is not None:
        return Plan.of(before), model
    train, augmentation = runs[0].splits["train"], job.recipe.augmentation
    shown = Pixels.of(image_processor)
    pictures = PictureDataset(train.paths, train.labels, shown, augmentation, seed=runs[0].seed)
    finish = Finish(shown, augmentation)
    if job.cache_dir is not None:
        pictures.hold_decoded(min(args.per_device_train_batch_size, len(pictures)))

    def load(n: int) -> torch.Tensor:
        batch = pictures.__getitems__(list(range(n)))
        return finish({name: values.to(args.device) for name, values in batch.items()})["pixel_values"]

    counts = {name: len(split.labels) for name, split in runs[0].splits.items()}
    limit_each_s = None if limit_s is None else limit_s / len(runs)
    plan = preflight.make(model, args, load=load, counts=counts, wanted=wanted, limit_s=limit_each_s)
    if not is_divided(args):
        model.to("cpu")  # Its place on the device belongs to the model that is trained.
    precision.free_memory()
    return plan, model


def train_all(
    runs: list[Run], job: Job, args: TrainingArguments, plan: Plan, work_dir: Path, request: StopRequest
) -> dict[str, Outcome]:
    """Train what is not trained yet, and return all outcomes by the names of the runs.

    Args:
        runs: the first one's model is written to `work_dir`.
        job: what they have in common.
        args: of the Trainer; each run gets a copy.
        plan: how they are carried out.
        work_dir: for checkpoints and outcomes.
        request: to stop.
    """
    found = {}
    for number, run in enumerate(runs):
        kept = work_dir / PARTS / run.name / "outcome"
        done = outcome.read(kept)
        if done is None:
            if len(runs) > 1:
                logger.info("Training %d of %d: %s, seed %d", number + 1, len(runs), run.name, run.seed)
            done = _train(run, job, args, plan, work_dir, request, title=run.name if len(runs) > 1 else "")
            if args.process_index == 0:
                outcome.write(kept, done)
        if args.process_index == 0:
            _clear(run, work_dir)
        precision.free_memory()
        found[run.name] = done
    return found


def _clear(run: Run, work_dir: Path) -> None:
    """Remove the checkpoints of a run that is done, and put its events for TensorBoard beside those of the model."""
    run_dir = _run_dir(work_dir, run)
    for checkpoint in checkpoints.all_in(run_dir):
        shutil.rmtree(checkpoint)
    if run.kind != MODEL and (run_dir / _EVENTS).is_dir():
        (work_dir / _EVENTS).mkdir(exist_ok=True)
        (run_dir / _EVENTS).rename(work_dir / _EVENTS / run.name)


def _run_dir(work_dir: Path, run: Run) -> Path:
    return work_dir if run.kind == MODEL else work_dir / PARTS / run.name


def _train(
    run: Run,
    job: Job,
    args: TrainingArguments,
    plan: Plan,
    work_dir: Path,
    request: StopRequest,
    *,
    title: str,
) -> Outcome:
    """Train one model; where memory runs out, go on from the last checkpoint with smaller parts of the same batch."""
    eval_batch_size = args.per_device_eval_batch_size
    while True:
        own = copy.copy(args)
        own.output_dir, own.seed, own.data_seed = (
            str(_run_dir(work_dir, run)),
            run.seed,
            run.seed if args.data_seed is None else args.data_seed,
        )
        plan.set_on(own)
        own.per_device_eval_batch_size = eval_batch_size
        try:
            return _attempt(run, job, own, work_dir, request, title=title)
        except RuntimeError as error:
            # Among several processes only some run out of memory, and the others wait for them for ever.
            if own.world_size > 1 or not precision.is_out_of_memory(error):
                raise
        plan = plan.halved()
        eval_batch_size = max(1, eval_batch_size // 2)
        logger.warning(
            "Out of memory: continuing with batches of %d images, %d of them accumulated per step",
            plan.batch_size,
            plan.accumulation,
        )
        precision.free_memory()


def _attempt(
    run: Run, job: Job, args: TrainingArguments, work_dir: Path, request: StopRequest, *, title: str
) -> Outcome:
    run_dir = Path(args.output_dir)
    set_seed(run.seed)
    model, image_processor = job.load()
    shown, augmentation = Pixels.of(image_processor), job.recipe.augmentation
    pictures = image_dataset.datasets(
        run.splits, shown, augmentation, seed=run.seed, cache_dir=job.cache_dir, for_folds=run.kind == FOLD
    )
    with args.main_process_first(local=False):
        if args.process_index == 0:
            run_dir.mkdir(parents=True, exist_ok=True)
            checkpoint = checkpoints.newest_intact(run_dir)
        else:
            checkpoint = next(iter(checkpoints.all_in(run_dir)), None)
    if checkpoint:
        logger.info("Going on after step %d", checkpoints.step_of(checkpoint))
    trainer = build_trainer(
        model,
        image_processor,
        args,
        job.recipe,
        train=pictures["train"],
        validation=pictures["validation"],
        prepare_batch=Finish(shown, augmentation, job.recipe.mixing, n_classes=model.config.num_labels),
        compute_metrics=job.compute_metrics,
        checkpoint=checkpoint,
        request=request,
        title=title,
    )
    try:
        sections = training.train(
            trainer,
            job.recipe,
            checkpoint,
            base_model=job.base_model,
            from_scratch=job.from_scratch,
            store=job.store,
        )
    except Exception as error:
        if files.is_disk_full(error):
            checkpoints.remove_unfinished(run_dir)
        raise
    logits = training.predict_logits(trainer, {name: pictures[name] for name in ("validation", "test")})
    if run.kind == MODEL:
        training.save(trainer, image_processor, work_dir)
    return Outcome(logits, **sections)
