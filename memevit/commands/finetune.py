"""Fine-tune a backbone on a prepared dataset, evaluate it, and write the model folder."""

import logging
from pathlib import Path
from typing import Any

from memevit import files, results
from memevit.arguments import ModelArguments, OpenSetArguments, RecipeArguments, RunArguments, from_keywords
from memevit.commands import calibrate
from memevit.commands.calibrate import Evaluated
from memevit.data import dataset as prepared
from memevit.evaluation import calibration, measure, plots
from memevit.hub import model_page
from memevit.model import (
    backbone,
    folder,
    forward,
    interruption,
    linear_probe,
    pixel_cache,
    preflight,
    progress,
    recipe,
    runs,
    training,
)
from memevit.model.recipe import FineTuningArguments

logger = logging.getLogger(__name__)


def finetune(
    dataset: str | Path, output_dir: str | Path, backbone: str | Path | None = None, **training_arguments: Any
) -> Evaluated | None:
    """Fine-tune `backbone` on `dataset`, as finetune_vit.py does.

    Args:
        dataset: folder that data_prep.py or `memevit.prepare` wrote.
        output_dir: model folder to write.
        backbone: a Hub id or a local folder; that of finetune_vit.py when None.
        training_arguments: flags of finetune_vit.py without their dashes, those of `TrainingArguments` included.

    Returns:
        The results, with the table as `str()`; None for a dry run.

    Raises:
        UserError: an argument is unknown or wrong, the dataset was not prepared, or the backbone can't be used.

    Example:
        ``memevit.finetune("prepared", "model", backbone="backbones/vit-micro-patch12-96", num_train_epochs=5)``
    """
    prepared.require_prepared(Path(dataset))
    given = {"dataset": Path(dataset), "model_name_or_path": backbone and str(backbone), "output_dir": str(output_dir)}
    return run(
        *from_keywords(
            given | training_arguments,
            ModelArguments,
            RecipeArguments,
            RunArguments,
            OpenSetArguments,
            FineTuningArguments,
        )
    )


def run(
    model_args: ModelArguments,
    recipe_args: RecipeArguments,
    run_args: RunArguments,
    open_set_args: OpenSetArguments,
    args: FineTuningArguments,
) -> Evaluated | None:
    """Load, train, evaluate, write: see `finetune`; called by all processes, of which the first returns the results."""
    progress.require_reporters(args.report_to)
    training.require_optimizer(args)
    forward.use_cores(args.device)

    dataset = prepared.load(model_args.dataset)
    fingerprint = prepared.read_prep(model_args.dataset)["fingerprint"]
    folds = prepared.folds(dataset) if run_args.folds else {}
    planned = runs.planned(args, dataset, seeds=run_args.seeds or [], folds=folds)
    args.seed = planned[0].seed
    class_names = dataset["train"].features["label"].names
    job = _job(model_args, recipe_args, args, class_names, fingerprint)

    model_dir = Path(args.output_dir)
    own = vars(model_args) | vars(job.recipe) | vars(run_args) | vars(open_set_args)
    own |= {"model_name_or_path": job.base_model, "dry_run": False}  # A dry run is of the same run.
    record = folder.describe_run(own, args, fingerprint=fingerprint)
    with interruption.watched() as request:
        before = None if run_args.dry_run else folder.unfinished(model_dir, record, overwrite=model_args.overwrite)
        limit_s = None if run_args.time_limit is None else run_args.time_limit * 60
        plan, model = runs.rehearse(planned, job, args, before=before, wanted=run_args.precision, limit_s=limit_s)
        n_bytes = preflight.disk_bytes(model, args.save_total_limit)
        screen = preflight.screen(plan, model, args, class_names, dataset, n_runs=len(planned), n_bytes=n_bytes)
        logger.info("%s", screen)
        if before is None:
            files.require_free_space(model_dir, n_bytes)
        if run_args.dry_run:
            return None
        with folder.begun(model_dir, record | plan.record(), args, overwrite=model_args.overwrite) as work_dir:
            outcomes = runs.train_all(planned, job, args, plan, work_dir, request)
            if args.process_index:
                return None
            calibrated = calibrate.finish(
                work_dir, *backbone.load_trained(work_dir, trust_remote_code=model_args.trust_remote_code), dataset,
                open_set_args, before=outcomes[runs.MODEL].logits["validation"], cache_dir=job.cache_dir,
                batch_size=args.per_device_eval_batch_size, n_workers=args.dataloader_num_workers, device=args.device,
            )  # fmt: skip
            sections = _evaluate(work_dir, planned, outcomes, calibrated)
            results.update(work_dir, **sections, data=prepared.describe(model_args.dataset))
            model_page.write(work_dir)
    return Evaluated(model_dir, sections, measure.table(sections))


def _job(
    model_args: ModelArguments,
    recipe_args: RecipeArguments,
    args: FineTuningArguments,
    class_names: list[str],
    fingerprint: str,
) -> runs.Job:
    base_model = backbone.resolve(model_args.model_name_or_path, from_scratch=model_args.from_scratch)
    width = backbone.width(base_model, trust_remote_code=model_args.trust_remote_code)
    completed = recipe.complete(recipe_args, args, from_scratch=model_args.from_scratch, width=width)
    return runs.Job(
        load=lambda: training.build_model(
            base_model,
            class_names,
            completed,
            from_scratch=model_args.from_scratch,
            trust_remote_code=model_args.trust_remote_code,
        ),
        recipe=completed,
        cache_dir=pixel_cache.folder_of(model_args.dataset) if model_args.pixel_cache else None,
        store=linear_probe.Store.beside(model_args.dataset, fingerprint),
        compute_metrics=measure.of_logits,
        compute_losses=calibration.calibrated_losses,
        base_model=base_model,
        from_scratch=model_args.from_scratch,
    )


def _evaluate(
    work_dir: Path, planned: list[runs.Run], outcomes: dict[str, runs.Outcome], calibrated: calibrate.Calibrated
) -> dict[str, Any]:
    """Write predictions.csv and the figures, and return the sections of results.json."""
    main, model = planned[0], outcomes[runs.MODEL]
    seeds = {str(one.seed): outcomes[one.name].logits["test"] for one in planned if one.kind != runs.FOLD}
    folds = {
        one.name: measure.Fold(
            one.splits, outcomes[one.name].logits["test"], outcomes[one.name].probe_logits.get("test")
        )
        for one in planned
        if one.kind == runs.FOLD
    }
    sections = measure.record(
        work_dir,
        main.splits,
        calibrated.logits,
        seed=main.seed,
        probe_logits=None if model.is_probe else model.probe_logits.get("test"),
        seeds=seeds if len(seeds) > 1 else None,
        folds=folds,
        decided=calibrated.decided,
    )
    sections |= {"training": model.training, "history": model.history} | calibrated.sections
    plots.draw_figures(work_dir, sections)
    return sections
