"""Fine-tune a Vision Transformer on a dataset folder that data_prep.py wrote.

    accelerate launch finetune_vit.py --dataset prepared/ --output_dir model/
    accelerate launch finetune_vit.py --dataset prepared/ --output_dir model/ --num_train_epochs 20
    python finetune_vit.py --dataset prepared/ --output_dir model/ --from_scratch

Writes model/, an ordinary Transformers checkpoint for pipeline("image-classification"), with predictions.csv
(validation and test), results.json and run.json beside the weights. Until it is finished it is called model.partial/;
the same command goes on there. Every flag of Transformers' TrainingArguments works; they come last in this list.
"""

import logging
from pathlib import Path

from transformers import set_seed

from memevit import cli, results
from memevit.arguments import ModelArguments
from memevit.data import prepared
from memevit.evaluation import measure, metrics
from memevit.model import backbone, features, folder, recipe, training
from memevit.model.recipe import FineTuningArguments, RecipeArguments
from memevit.model.transforms import PictureDataset

logger = logging.getLogger(__name__)


def main(model_args: ModelArguments, recipe_args: RecipeArguments, args: FineTuningArguments) -> None:
    """Train, choose the best checkpoint on validation, read the test split once, and write the model folder."""
    model_dir = Path(args.output_dir)
    dataset = prepared.load(model_args.dataset)
    base_model = backbone.resolve(model_args.model_name_or_path, from_scratch=model_args.from_scratch)
    width = backbone.width(base_model, trust_remote_code=model_args.trust_remote_code)
    recipe_args = recipe.complete(recipe_args, args, from_scratch=model_args.from_scratch, width=width)
    own = vars(model_args) | vars(recipe_args) | {"model_name_or_path": base_model}
    run = folder.describe_run(own, args, fingerprint=dataset.fingerprint)
    with folder.begun(model_dir, run, args, overwrite=model_args.overwrite) as work_dir:
        set_seed(args.seed)
        model, image_processor = training.build_model(
            base_model,
            dataset.class_names,
            recipe_args,
            from_scratch=model_args.from_scratch,
            trust_remote_code=model_args.trust_remote_code,
        )
        pictures = {
            name: PictureDataset(
                split.paths, split.labels, image_processor, recipe_args.augmentation if name == "train" else None
            )
            for name, split in dataset.by_name.items()
        }
        n_classes = len(dataset.class_names)
        trainer = training.build_trainer(
            model,
            image_processor,
            args,
            recipe_args,
            train=pictures["train"],
            validation=pictures["validation"],
            compute_metrics=lambda predicted, true: metrics.compute(predicted, true, n_classes=n_classes),
        )
        outcome = training.train(
            trainer,
            recipe_args,
            base_model=base_model,
            from_scratch=model_args.from_scratch,
            store=features.Store.beside(model_args.dataset, dataset.fingerprint),
        )
        logits = {name: training.predict_logits(trainer, pictures[name]) for name in ("validation", "test")}
        if args.process_index == 0:
            training.save(trainer, image_processor, work_dir)
            sections = measure.record(work_dir, dataset.class_names, dataset.by_name, logits, seed=args.seed)
            results.update(work_dir, **sections, **outcome, data=prepared.describe(model_args.dataset))
            logger.info("%s", measure.table(sections["measurements"]))
    logger.info("The model is in %s", model_dir)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, ModelArguments, RecipeArguments, FineTuningArguments, doc=__doc__))
