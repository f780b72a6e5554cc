"""Fine-tune a Vision Transformer on a dataset folder that data_prep.py wrote.

    accelerate launch finetune_vit.py --dataset prepared/ --output_dir model/
    accelerate launch finetune_vit.py --dataset prepared/ --output_dir model/ --num_train_epochs 20
    python finetune_vit.py --dataset prepared/ --output_dir model/ --from_scratch
    python finetune_vit.py --dataset prepared/ --output_dir model/ --time_limit 30 --dry_run
    python finetune_vit.py --dataset prepared/ --output_dir model/ --seeds 0 1 2 --folds

Writes model/, an ordinary Transformers checkpoint for pipeline("image-classification"), with predictions.csv
(validation and test), results.json, run.json, learning_curves.png and README.md (the model card) beside the weights.
Until it is finished it is called model.partial/; the same command goes on there, whatever stopped it. Ctrl-C and
SIGTERM are answered with a checkpoint and the exit codes 130 and 143. Every flag of Transformers' TrainingArguments
works; they come last in this list.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memevit import cli, files, results
from memevit.arguments import ModelArguments, RunArguments
from memevit.data import dataset as prepared
from memevit.data import folds
from memevit.model.recipe import FineTuningArguments, RecipeArguments

if TYPE_CHECKING:
    from memevit.model import runs as several

logger = logging.getLogger(__name__)


def main(
    model_args: ModelArguments, recipe_args: RecipeArguments, run_args: RunArguments, args: FineTuningArguments
) -> None:
    """Train, choose the best checkpoint on validation, read the test split once, and write the model folder."""
    # Trainer and metrics take seconds to import, and --help needs neither.
    from memevit.evaluation import measure
    from memevit.hub import model_page as card
    from memevit.model import folder, interruption, preflight, progress, training
    from memevit.model import runs as several

    if args.process_index:
        logging.disable(logging.INFO)  # The first process speaks for all.
    model_dir = Path(args.output_dir)
    progress.require_reporters(args.report_to)
    training.require_optimizer(args)
    dataset = prepared.load(model_args.dataset)
    by_fold = folds.splits_by_fold(model_args.dataset) if run_args.folds else {}
    runs = several.planned(args, dataset.by_name, seeds=run_args.seeds or [], folds=by_fold)
    args.seed = runs[0].seed
    job = _job(model_args, recipe_args, args, dataset)
    own = vars(model_args) | vars(job.recipe) | vars(run_args)
    own |= {"model_name_or_path": job.base_model, "dry_run": False}  # A rehearsal is of the same run.
    run = folder.describe_run(own, args, fingerprint=dataset.fingerprint)
    with interruption.watched() as request:
        before = None if run_args.dry_run else folder.unfinished(model_dir, run, overwrite=model_args.overwrite)
        plan, model = several.rehearse(
            runs, job, args, before=before, wanted=run_args.precision, limit_s=_limit(run_args)
        )
        n_bytes = preflight.disk_bytes(model, args.save_total_limit, n_averaged=job.recipe.average_checkpoints)
        logger.info(
            "%s",
            preflight.screen(plan, model, args, dataset.class_names, runs[0].splits, n_runs=len(runs), n_bytes=n_bytes),
        )
        if before is None:
            files.require_free_space(model_dir, n_bytes)
        if run_args.dry_run:
            return
        with folder.begun(model_dir, run | plan.record(), args, overwrite=model_args.overwrite) as work_dir:
            outcomes = several.train_all(runs, job, args, plan, work_dir, request)
            if args.process_index == 0:
                sections = _measure(work_dir, dataset.class_names, runs, outcomes)
                results.update(work_dir, **sections, data=prepared.describe(model_args.dataset))
                card.write(work_dir)
                logger.info("%s", measure.table(sections))
    logger.info("The model is in %s", model_dir)


def _job(
    model_args: ModelArguments, recipe_args: RecipeArguments, args: FineTuningArguments, dataset: prepared.Dataset
) -> "several.Job":
    from memevit.evaluation import metrics
    from memevit.model import backbone, pixel_cache, recipe, training
    from memevit.model import linear_probe as features
    from memevit.model import runs as several

    base_model = backbone.resolve(model_args.model_name_or_path, from_scratch=model_args.from_scratch)
    width = backbone.width(base_model, trust_remote_code=model_args.trust_remote_code)
    completed = recipe.complete(recipe_args, args, from_scratch=model_args.from_scratch, width=width)
    n_classes = len(dataset.class_names)
    return several.Job(
        load=lambda: training.build_model(
            base_model,
            dataset.class_names,
            completed,
            from_scratch=model_args.from_scratch,
            trust_remote_code=model_args.trust_remote_code,
        ),
        recipe=completed,
        cache_dir=pixel_cache.folder_of(model_args.dataset) if model_args.pixel_cache else None,
        store=features.Store.beside(model_args.dataset, dataset.fingerprint),
        compute_metrics=lambda predicted, true: metrics.compute(predicted, true, n_classes=n_classes),
        base_model=base_model,
        from_scratch=model_args.from_scratch,
    )


def _limit(run_args: RunArguments) -> float | None:
    return None if run_args.time_limit is None else run_args.time_limit * 60


def _measure(
    work_dir: Path, class_names: list[str], runs: "list[several.Run]", outcomes: "dict[str, several.Outcome]"
) -> dict[str, Any]:
    from memevit.evaluation import measure, plots
    from memevit.model import runs as several

    main_run, model = runs[0], outcomes[several.MODEL]
    seeds = {str(run.seed): outcomes[run.name].logits["test"] for run in runs if run.kind != several.FOLD}
    tested = {
        run.name: (run.splits["test"], outcomes[run.name].logits["test"]) for run in runs if run.kind == several.FOLD
    }
    sections = measure.record(
        work_dir,
        class_names,
        main_run.splits,
        model.logits,
        seed=main_run.seed,
        seeds=seeds if len(seeds) > 1 else None,
        folds=tested,
    )
    sections |= {"training": model.training, "history": model.history}
    plots.draw_figures(work_dir, sections)
    return sections


if __name__ == "__main__":
    raise SystemExit(cli.run(main, ModelArguments, RecipeArguments, RunArguments, FineTuningArguments, doc=__doc__))
