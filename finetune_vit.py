"""Fine-tune a Vision Transformer on a dataset folder that data_prep.py wrote.

    accelerate launch finetune_vit.py --dataset prepared/ --output_dir model/
    accelerate launch finetune_vit.py --dataset prepared/ --output_dir model/ --num_train_epochs 20
    python finetune_vit.py --dataset prepared/ --output_dir model/ --from_scratch
    python finetune_vit.py --dataset prepared/ --output_dir model/ --time_limit 30 --dry_run
    python finetune_vit.py --dataset prepared/ --output_dir model/ --seeds 0 1 2 --folds
    python finetune_vit.py --dataset prepared/ --output_dir model2/ --calibrate_only --model_name_or_path model/

Writes model/, an ordinary Transformers checkpoint for pipeline("image-classification"), with predictions.csv
(validation and test), results.json, run.json, learning_curves.png and README.md (the model card) beside the weights.
Its probabilities are calibrated, and open_set.safetensors lets it answer `unknown`, as known_scores.png shows.
Until it is finished it is called model.partial/; the same command continues there, whatever stopped it. Ctrl-C and
SIGTERM are answered with a checkpoint and the exit codes 130 and 143. Every flag of Transformers' TrainingArguments
works; they come last in this list.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from memevit import cli
from memevit.arguments import ModelArguments, OpenSetArguments, RecipeArguments, RunArguments
from memevit.data import dataset

if TYPE_CHECKING:
    from memevit.model.recipe import FineTuningArguments

logger = logging.getLogger(__name__)


def argument_groups() -> tuple[type, ...]:
    """The arguments; the Trainer's import torch, so a wrong `--dataset` is told before."""
    if given := cli.value_of("--dataset"):
        dataset.require_prepared(Path(given))
    from memevit.model.recipe import FineTuningArguments

    return ModelArguments, RecipeArguments, RunArguments, OpenSetArguments, FineTuningArguments


def main(
    model_args: ModelArguments,
    recipe_args: RecipeArguments,
    run_args: RunArguments,
    open_set_args: OpenSetArguments,
    args: "FineTuningArguments",
) -> None:
    """Train, select the best checkpoint on validation, read the test split once, and write the model folder."""
    # Trainer and metrics take seconds to import, and --help needs neither.
    from memevit.commands import calibrate, finetune

    if args.process_index:
        logging.disable(logging.INFO)  # The first process speaks for all.
    if model_args.calibrate_only:
        done = calibrate.run(model_args, open_set_args, args)
    else:
        done = finetune.run(model_args, recipe_args, run_args, open_set_args, args)
    if done:
        logger.info("%s", done)
        logger.info("The model is in %s", done.output_dir)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, argument_groups, doc=__doc__))
