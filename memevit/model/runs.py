"""All trainings of one command: the model itself, other seeds, and the folds of a cross-validation.

The outcome of a training is kept on the disk until all of them are done, so none is repeated after an interruption.
"""

import copy
import io
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments, set_seed
from transformers.image_processing_utils import BaseImageProcessor

from memevit import files
from memevit.model import balance, checkpoints, choice, linear_probe, precision, preflight, sharding, training
from memevit.model.augment import Augmentation
from memevit.model.forward import forward_dataset
from memevit.model.image_dataset import AugmentAndNormalise, ImageDataset, as_batch, image_datasets, paths_of
from memevit.model.interruption import StopRequest
from memevit.model.preflight import Plan
from memevit.model.processor import Processor
from memevit.model.recipe import Recipe, is_divided
from memevit.model.trainer import build_trainer
from memevit.results import PROBE

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

PARTS = "parts"
MODEL, SEED, FOLD = "model", "seed", "fold"
EVALUATED = ("validation", "test")
_EVENTS = "runs"  # Where Transformers lets TensorBoard write, in the folder of a training.
_LOGITS_FILE = "logits.npz"
_RECORD_FILE = "record.json"  # Written last: with it the outcome is complete.
_OF_PROBE = "probe_"  # Before the name of a split, in the file of logits.


@dataclass(frozen=True)
class Run:
    """One training: its kind (model, seed or fold), a name, its seed, and its images by split."""

    kind: str
    name: str
    seed: int
    splits: "Mapping[str, datasets.Dataset]"


@dataclass(frozen=True)
class Job:
    """What all runs have in common.

    `load` gives an untrained model and its image processor, `compute_metrics` values by name, those of `recipe.METRICS`
    except the loss, from logits [n, C] and true class ids [n], and `compute_losses` the calibrated loss of each image.
    Decoded pixels are kept in `cache_dir` unless it is None, features in `store`.
    """

    load: Callable[[], tuple[PreTrainedModel, BaseImageProcessor]]
    recipe: Recipe
    cache_dir: Path | None
    store: linear_probe.Store
    compute_metrics: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    compute_losses: Callable[[np.ndarray, np.ndarray], np.ndarray]
    base_model: str
    from_scratch: bool

    @property
    def augmentation(self) -> Augmentation | None:
        """Of the training images; None for a probe, which sees them as in evaluation."""
        return None if self.recipe.is_probe else self.recipe.augmentation

    def has_probe_baseline(self, args: TrainingArguments) -> bool:
        """Whether a linear probe of the same backbone is fitted, to compare with.

        Random weights have no features, and weights that are divided among processes would have to be gathered.
        """
        return not (self.recipe.is_probe or self.from_scratch or is_divided(args) or args.deepspeed)


@dataclass(frozen=True)
class Outcome:
    """What one training gave.

    `logits` and `probe_logits` are [n, C] by split: those of what is kept, and those of a linear probe on the backbone
    as it was before, empty if there is none. `training` and `history` are sections of results.json.
    """

    logits: dict[str, np.ndarray]
    training: dict[str, Any]
    history: list[dict[str, float]]
    probe_logits: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def is_probe(self) -> bool:
        """Whether the linear probe was better on validation and is what is kept."""
        return self.training.get("choice", {}).get("kept") == PROBE


def read_outcome(outcome_dir: Path) -> Outcome | None:
    """The outcome in a folder, None if there is none yet."""
    if not (outcome_dir / _RECORD_FILE).is_file():
        return None
    record = json.loads((outcome_dir / _RECORD_FILE).read_text(encoding="utf-8"))
    with np.load(outcome_dir / _LOGITS_FILE, allow_pickle=False) as arrays:
        logits = {name: array for name, array in arrays.items() if not name.startswith(_OF_PROBE)}
        probe = {name.removeprefix(_OF_PROBE): own for name, own in arrays.items() if name.startswith(_OF_PROBE)}
    return Outcome(logits, record["training"], record["history"], probe)


def write_outcome(outcome_dir: Path, outcome: Outcome) -> None:
    """Write `outcome`; if the process is killed meanwhile, there is none."""
    shutil.rmtree(outcome_dir, ignore_errors=True)
    outcome_dir.mkdir(parents=True)
    arrays = io.BytesIO()
    np.savez(arrays, **outcome.logits, **{_OF_PROBE + name: array for name, array in outcome.probe_logits.items()})
    files.write_bytes(outcome_dir / _LOGITS_FILE, arrays.getvalue())
    record = {"training": outcome.training, "history": outcome.history}
    files.write_text(outcome_dir / _RECORD_FILE, json.dumps(record))


def planned(
    args: TrainingArguments,
    splits: "Mapping[str, datasets.Dataset]",
    *,
    seeds: list[int],
    folds: "Mapping[str, Mapping[str, datasets.Dataset]]",
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
    processor = Processor.of(image_processor)
    images = ImageDataset(paths_of(train), train["label"][:], processor, augmentation, seed=runs[0].seed)
    prepare = AugmentAndNormalise(processor, augmentation)
    if job.cache_dir is not None:
        images.hold_decoded(min(args.per_device_train_batch_size, len(images)))

    def load(n: int) -> torch.Tensor:
        batch = images.__getitems__(list(range(n)))
        return prepare({name: values.to(args.device) for name, values in batch.items()})["pixel_values"]

    counts = {name: len(split) for name, split in runs[0].splits.items()}
    if job.has_probe_baseline(args):
        counts[preflight.FEATURES] = sum(counts.values())
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
        done = read_outcome(kept)
        if done is None:
            if len(runs) > 1:
                logger.info("Training %d of %d: %s, seed %d", number + 1, len(runs), run.name, run.seed)
            done = _train(run, job, args, plan, work_dir, request, title=run.name if len(runs) > 1 else "")
            if run.kind == SEED:  # All seeds have the same probe.
                done = _settled(replace(done, probe_logits=found[MODEL].probe_logits), run, job)
            if args.process_index == 0:
                write_outcome(kept, done)
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
    processor = Processor.of(image_processor)
    images = image_datasets(
        run.splits, processor, job.augmentation, seed=run.seed, cache_dir=job.cache_dir, for_folds=run.kind == FOLD
    )
    with args.main_process_first(local=False):
        if args.process_index == 0:
            run_dir.mkdir(parents=True, exist_ok=True)
            checkpoint = checkpoints.newest_intact(run_dir)
        else:
            checkpoint = next(iter(checkpoints.all_in(run_dir)), None)
    if checkpoint:
        logger.info("Continuing after step %d", checkpoints.step_of(checkpoint))
    trainer = build_trainer(
        model,
        image_processor,
        args,
        job.recipe,
        train=images["train"],
        validation=images["validation"],
        prepare_batch=AugmentAndNormalise(
            processor, job.augmentation, job.recipe.mixing, n_classes=model.config.num_labels
        ),
        compute_metrics=job.compute_metrics,
        checkpoint=checkpoint,
        request=request,
        title=title,
    )
    evaluated = {name: images[name] for name in EVALUATED}
    probe = _probe(run, job, trainer, evaluated)
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
    outcome = Outcome(_logits(trainer, evaluated), **sections)
    if probe is not None:
        outcome = _settled(replace(outcome, probe_logits=probe.logits), run, job)
    if run.kind == MODEL:
        if outcome.is_probe:
            _put_back(trainer, run, job, probe)
            n_trainable = probe.weight.size + probe.bias.size
            outcome = replace(outcome, training=training.as_probe(outcome.training, n_trainable=n_trainable))
        training.save(trainer, image_processor, work_dir)
    return outcome


def _settled(outcome: Outcome, run: Run, job: Job) -> Outcome:
    """`outcome` of what is better on validation, the fine-tuned model or the linear probe, if there is one."""
    if not outcome.probe_logits or not job.recipe.probe_if_better:
        return outcome
    made = choice.between(
        outcome.logits["validation"], outcome.probe_logits["validation"], run.splits["validation"]["label"][:],
        compute_metrics=job.compute_metrics, compute_losses=job.compute_losses,
    )  # fmt: skip
    settled = replace(outcome, training=outcome.training | {"choice": made})
    return replace(settled, logits=settled.probe_logits) if settled.is_probe else settled


def _put_back(trainer: Trainer, run: Run, job: Job, probe: linear_probe.Probe) -> None:
    """Give the trainer's model the weights that it had before training, and the head of the probe."""
    set_seed(run.seed)  # For weights that the backbone does not have, such as those of a pooler.
    before, _ = job.load()
    linear_probe.put_into_head(before, probe.weight, probe.bias)
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).load_state_dict(before.state_dict())


def _probe(run: Run, job: Job, trainer: Trainer, evaluated: Mapping[str, ImageDataset]) -> linear_probe.Probe | None:
    """A linear probe of the same backbone, to compare with; None if there is nothing to compare.

    Seeds would all have the same probe, and the features of all images take longer than a training that does not see
    each of them once.
    """
    if run.kind == SEED or not job.has_probe_baseline(trainer.args) or trainer.is_deepspeed_enabled:
        return None
    args, n_images = trainer.args, len(trainer.train_dataset)
    n_per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    if 0 < args.max_steps < n_images / n_per_step:
        logger.info("Not compared with a linear probe: training ends before it has seen each image once")
        return None
    labels, n_classes = trainer.train_dataset.labels, trainer.model.config.num_labels
    weighted = balance.is_weighted(job.recipe.class_balance, labels, n_classes=n_classes)
    return linear_probe.baseline(trainer, evaluated, job.store, weighted=weighted)


def _logits(trainer: Trainer, evaluated: Mapping[str, ImageDataset]) -> dict[str, np.ndarray]:
    """[n, C] logits in single precision for every image of each dataset, in its order, each counted once.

    Training may compute in half precision; whoever loads the model computes in single precision, and so do the numbers
    that we report.
    """
    if trainer.is_deepspeed_enabled:  # Weights are divided: only the Trainer can run it.
        return {name: np.asarray(trainer.predict(own).predictions) for name, own in evaluated.items()}
    accelerator = trainer.accelerator
    if trainer.is_fsdp_enabled:
        model = sharding.whole(accelerator, trainer.model)
    else:
        model = accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).to(accelerator.device)
    return {
        name: forward_dataset(
            model, own, normalise=own.normalise, accelerator=accelerator, collate=as_batch,
            batch_size=trainer.args.eval_batch_size, n_workers=trainer.args.dataloader_num_workers,
        ).logits
        for name, own in evaluated.items()
    }  # fmt: skip
