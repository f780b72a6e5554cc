"""Averaging the best checkpoints: which are kept, what their mean is, and that a worse mean is not taken."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageClassification, TrainerControl, TrainerState

from memevit import results
from memevit.model import averaging
from tests.conftest import run_finetune


def evaluations(tmp_path, callback, values, *, first=1, name="loss", losses=()):
    args = SimpleNamespace(output_dir=str(tmp_path), metric_for_best_model=name)
    for step, value in enumerate(values, start=first):
        model = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(model.weight, float(step))
        state = TrainerState(global_step=step, is_world_process_zero=True)
        metrics = {"eval_loss": next(losses)} if losses else {}
        metrics[f"eval_{name}"] = value
        callback.on_evaluate(args, state, TrainerControl(), metrics=metrics, model=model)
    return args


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / averaging.FOLDER).glob("*.safetensors"))


@pytest.mark.parametrize(("greater_is_better", "expected"), [(False, [2, 4]), (True, [1, 3])])
def test_the_weights_of_the_best_evaluations_are_kept(tmp_path, greater_is_better, expected):
    callback = averaging.BestWeights(2, greater_is_better=greater_is_better)
    evaluations(tmp_path, callback, [0.9, 0.3, 0.8, 0.5])
    assert kept(tmp_path) == [f"step-{step}.safetensors" for step in expected]
    mean = averaging.mean_of([tmp_path / averaging.FOLDER / name for name in kept(tmp_path)])
    assert mean["weight"].item() == sum(expected) / 2


def test_of_equal_evaluations_those_with_the_lower_loss_are_kept(tmp_path):
    losses = iter([0.1, 0.4, 0.2, 0.3])
    callback = averaging.BestWeights(2, greater_is_better=True)
    evaluations(tmp_path, callback, [0.5, 0.9, 0.9, 0.9], name="macro_f1", losses=losses)
    assert kept(tmp_path) == ["step-3.safetensors", "step-4.safetensors"]


def test_a_run_that_goes_on_forgets_the_steps_that_it_will_take_again(tmp_path):
    callback = averaging.BestWeights(3, greater_is_better=False)
    args = evaluations(tmp_path, callback, [0.9, 0.3, 0.8])
    again = averaging.BestWeights(3, greater_is_better=False)
    again.on_train_begin(args, TrainerState(global_step=2, is_world_process_zero=True), TrainerControl())
    assert kept(tmp_path) == ["step-1.safetensors", "step-2.safetensors"]
    again.on_train_begin(args, TrainerState(global_step=0, is_world_process_zero=True), TrainerControl())
    assert kept(tmp_path) == []


def test_the_mean_leaves_what_is_no_real_number_alone(tmp_path):
    for number in (1, 4):
        tensors = {"weight": torch.full((2,), float(number)), "count": torch.tensor([number])}
        save_file(tensors, tmp_path / f"{number}.safetensors")
    mean = averaging.mean_of([tmp_path / "1.safetensors", tmp_path / "4.safetensors"])
    assert mean["weight"].tolist() == [2.5, 2.5]
    assert mean["count"].tolist() == [1]


@pytest.mark.parametrize("is_better", [True, False])
def test_the_mean_is_taken_unless_it_is_worse(tmp_path, prepared, tiny_backbone, monkeypatch, is_better):
    seen = {}
    mean_of = averaging.mean_of

    def look(paths):
        seen["steps"] = [path.stem for path in paths]
        seen["mean"] = mean_of(paths)
        return seen["mean"]

    values = iter([0.5, 0.6] if is_better else [0.5, 0.4])
    monkeypatch.setattr(averaging, "mean_of", look)
    monkeypatch.setattr(averaging, "_value", lambda trainer: next(values))
    argv = ("--dataset", prepared, "--output_dir", tmp_path / "model", "--model_name_or_path", tiny_backbone)
    more = ("--num_train_epochs", 3, "--learning_rate", 1e-3, "--average_checkpoints", 2, "--use_cpu")
    assert run_finetune(*argv, *more, "--disable_tqdm", True) == 0
    final = AutoModelForImageClassification.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(final[name], seen["mean"][name]) for name in final) == is_better
    steps = [int(name.removeprefix("step-")) for name in seen["steps"]]
    assert results.read(tmp_path / "model")["training"]["averaged_steps"] == (steps if is_better else [])
    assert not (tmp_path / "model" / averaging.FOLDER).exists()
    assert len(steps) == 2


def test_an_index_without_its_weights_is_no_candidate(tmp_path):
    folder = tmp_path / averaging.FOLDER
    folder.mkdir()
    (folder / "candidates.json").write_text(json.dumps({"3": [0.5, 0.5]}))
    assert averaging._read(folder) == {}
