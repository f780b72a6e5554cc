"""Fine-tune a Vision Transformer on a dataset folder that data_prep.py wrote.

    accelerate launch finetune_vit.py --dataset prepared/ --output_dir model/
    accelerate launch finetune_vit.py --dataset prepared/ --output_dir model/ --num_train_epochs 20
    python finetune_vit.py --dataset prepared/ --output_dir model/ --from_scratch

Writes model/, an ordinary Transformers checkpoint for pipeline("image-classification"), with predictions.csv
(validation and test), results.json, run.json and README.md (the model card) beside the weights. Until it is finished
it is called model.partial/; the same command goes on there. Every flag of Transformers' TrainingArguments works; they
come last in this list.
"""

import logging
from pathlib import Path

from transformers import set_seed

from memevit import cli, results
from memevit.arguments import ModelArguments
from memevit.data import prepared
from memevit.evaluation import measure, metrics
from memevit.hub import card
from memevit.model import backbone, folder, training
from memevit.model.recipe import FineTuningArguments
from memevit.model.transforms import Augmentation, PictureDataset

logger = logging.getLogger(__name__)


def main(model_args: ModelArguments, args: FineTuningArguments) -> None:
    """Train, choose the best checkpoint on validation, read the test split once, and write the model folder."""
    model_dir = Path(args.output_dir)
    dataset = prepared.load(model_args.dataset)
    base_model = backbone.resolve(model_args.model_name_or_path, from_scratch=model_args.from_scratch)
    args.set_default_rate(from_scratch=model_args.from_scratch)
    own = vars(model_args) | {"model_name_or_path": base_model}
    run = folder.describe_run(own, args, fingerprint=dataset.fingerprint)
    with folder.begun(model_dir, run, args, overwrite=model_args.overwrite) as work_dir:
        set_seed(args.seed)
        model, image_processor = backbone.load_for_training(
            base_model,
            dataset.class_names,
            from_scratch=model_args.from_scratch,
            trust_remote_code=model_args.trust_remote_code,
        )
        pictures = {
            name: PictureDataset(
                split.paths, split.labels, image_processor, Augmentation() if name == "train" else None
            )
            for name, split in dataset.by_name.items()
        }
        n_classes = len(dataset.class_names)
        trainer = training.build_trainer(
            model,
            image_processor,
            args,
            train=pictures["train"],
            validation=pictures["validation"],
            compute_metrics=lambda predicted, true: metrics.compute(predicted, true, n_classes=n_classes),
        )
        outcome = training.train(trainer, base_model=base_model, from_scratch=model_args.from_scratch)
        logits = {name: training.predict_logits(trainer, pictures[name]) for name in ("validation", "test")}
        if args.process_index == 0:
            training.save(trainer, image_processor, work_dir)
            sections = measure.record(work_dir, dataset.class_names, dataset.by_name, logits, seed=args.seed)
            results.update(work_dir, **sections, **outcome, data=prepared.describe(model_args.dataset))
            card.write(work_dir)
            logger.info("%s", measure.table(sections["measurements"]))
    logger.info("The model is in %s", model_dir)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, ModelArguments, FineTuningArguments, doc=__doc__))
