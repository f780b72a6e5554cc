"""The mean of the best checkpoints: often a little better than the best one, and never taken when it is worse."""

import json
import logging
from pathlib import Path

import torch
from accelerate.utils import broadcast
from safetensors.torch import load_file, save
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from memevit import files
from memevit.model.recipe import deciding_value

logger = logging.getLogger(__name__)

FOLDER = "candidates"
_INDEX = "candidates.json"


class BestWeights(TrainerCallback):
    """Keeps the weights of the best evaluations beside the checkpoints, so that an interrupted run has them too.

    Args:
        n_best: how many.
        greater_is_better: whether a larger value of the metric is the better one.
    """

    def __init__(self, n_best: int, *, greater_is_better: bool) -> None:
        self._n_best = n_best
        self._sign = -1.0 if greater_is_better else 1.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Forget evaluations of steps that this run will take again."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / FOLDER
            self._keep(folder, {step: rank for step, rank in _read(folder).items() if step <= state.global_step})

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Keep these weights if they are among the best."""
        if not state.is_world_process_zero:
            return
        metrics, model = kwargs["metrics"], kwargs["model"]
        folder, value = Path(args.output_dir) / FOLDER, deciding_value(metrics, args)
        # Of equal ones those with the lower loss.
        rank = (self._sign * value, metrics["eval_loss"])
        best = dict(
            sorted((_read(folder) | {state.global_step: rank}).items(), key=lambda item: item[1])[: self._n_best]
        )
        if state.global_step in best:
            folder.mkdir(exist_ok=True)
            weights = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
            files.write_bytes(_weights(folder, state.global_step), save(weights))
        self._keep(folder, best)

    def _keep(self, folder: Path, ranks: dict[int, tuple[float, float]]) -> None:
        if not folder.exists():
            return
        files.write_text(folder / _INDEX, json.dumps(ranks))
        for path in folder.glob("*.safetensors"):
            if path not in {_weights(folder, step) for step in ranks}:
                path.unlink()


def _weights(folder: Path, step: int) -> Path:
    return folder / f"step-{step}.safetensors"


def _read(folder: Path) -> dict[int, tuple[float, float]]:
    """What evaluations are ranked by, the smaller the better, by step; of those whose weights are there."""
    path = folder / _INDEX
    if not path.exists():
        return {}
    found = {int(step): tuple(rank) for step, rank in json.loads(path.read_text(encoding="utf-8")).items()}
    return {step: rank for step, rank in found.items() if _weights(folder, step).exists()}


def mean_of(paths: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of several files of weights; what is no floating-point number is that of the first file."""
    first, *others = [load_file(path) for path in paths]
    return {
        name: torch.stack([tensor.double(), *(other[name].double() for other in others)]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in first.items()
    }


def take_mean_if_better(trainer: Trainer) -> list[int]:
    """Give the model the mean of the kept weights unless its value on validation is worse; the steps that went in.

    Args:
        trainer: after training, holding its best checkpoint.
    """
    folder = Path(trainer.args.output_dir) / FOLDER
    is_main = trainer.is_world_process_zero()
    steps = sorted(_read(folder)) if is_main else []
    model = trainer.accelerator.unwrap_model(trainer.model)
    best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    mean = mean_of([_weights(folder, step) for step in steps]) if steps else best
    # A copy, for the broadcast writes into what it is given.
    mean = broadcast({name: mean[name].to(tensor.device, copy=True) for name, tensor in best.items()})
    before = _value(trainer)
    model.load_state_dict(mean)
    after = _value(trainer)
    is_better = after >= before if trainer.args.greater_is_better else after <= before
    if not is_better:
        model.load_state_dict(best)
    if is_main:
        logger.info(
            "Mean of %d checkpoints: %s %.4f on validation, best single one %.4f; the %s is taken",
            len(steps),
            trainer.args.metric_for_best_model,
            after,
            before,
            "mean" if is_better else "single one",
        )
    return steps if is_better else []


def _value(trainer: Trainer) -> float:
    found = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval").metrics
    return deciding_value(found, trainer.args)
