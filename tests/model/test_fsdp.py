"""Weights that FSDP divides among two processes on the processor."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForImageClassification

from memevit import results
from memevit.arguments import RecipeArguments
from memevit.data import dataset as prepared_dataset
from memevit.errors import UserError
from memevit.evaluation import predictions
from memevit.model import layers, sharding
from memevit.model.classifier import Classifier
from memevit.model.recipe import FineTuningArguments, complete
from tests.model import tiny
from tests.model.test_two_processes import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def divided(prepared, tiny_backbone, tmp_path_factory):
    """A model that was best after the first epoch, trained with divided weights."""
    model_dir = tmp_path_factory.mktemp("divided") / "model"
    launch = ("-m", "accelerate.commands.accelerate_cli", "launch", "--use_fsdp", "--fsdp_version", 2)
    launch += ("--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP", "--num_processes", 2, "--num_machines", 1)
    launch += ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", free_port())
    argv = (*launch, "tests/model/fsdp_on_cpu.py", "finetune_vit.py", "--dataset", prepared)
    argv += ("--output_dir", model_dir, "--model_name_or_path", tiny_backbone, "--disable_tqdm", True)
    argv += (
        "--num_train_epochs",
        4,
        "--learning_rate",
        3e-2,
        "--metric_for_best_model",
        "loss",
        "--lr_scheduler_type",
        "constant",
    )
    argv += ("--per_device_train_batch_size", 8, "--no_temperature")  # So that probabilities tell the loss.
    done = subprocess.run([sys.executable, *map(str, argv)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return model_dir


def test_the_best_checkpoint_is_taken_by_all_processes(divided):
    found = results.read(divided)
    losses = {row["step"]: row["eval_loss"] for row in found["history"] if "eval_loss" in row}
    best = losses[found["training"]["best_step"]]
    assert best < losses[max(losses)] / 5  # Else the last one would do as well.
    written = predictions.read(divided)
    validated = np.array(written.splits) == "validation"
    of_true = written.probabilities[np.arange(len(written.labels)), written.labels][validated]
    assert -np.log(np.maximum(of_true, 1e-6)).mean() == pytest.approx(
        best, rel=0.5
    )  # Filled up, a batch has some twice.


def test_what_is_saved_is_what_was_measured(divided, prepared):
    written = predictions.read(divided)
    data = prepared_dataset.load(prepared)
    assert written.paths == data["validation"]["file"][:] + data["test"]["file"][:]
    paths = [Path(one) for name in ("validation", "test") for one in prepared_dataset.paths_of(data[name])]
    again = [each.probabilities for each in Classifier.load(divided).classify(paths, n_processes=0)]
    assert np.abs(np.array(again) - written.probabilities).max() < 1e-4


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_every_kind_of_backbone_is_divided_by_blocks_with_its_embeddings_outside(tmp_path, kind):
    model = AutoModelForImageClassification.from_pretrained(tiny.save(kind, tmp_path / kind))
    sharding.prepare(model)
    divided = [layer for layer in model.modules() if type(layer).__name__ in model._no_split_modules]
    assert len(divided) == len(layers.block_names(model))
    embeddings = model.get_input_embeddings()
    assert embeddings is None or all(embeddings is not part for layer in divided for part in layer.modules())


def test_a_new_head_of_the_other_processes_gets_an_address(tiny_backbone):
    model = AutoModelForImageClassification.from_pretrained(tiny_backbone)
    model.classifier.to("meta")
    weights = model.vit.embeddings.cls_token
    sharding.give_memory(model)
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    assert 0 not in addresses
    assert len(set(addresses)) == len(addresses)
    assert model.vit.embeddings.cls_token is weights


@pytest.mark.parametrize(
    ("choice", "flag"),
    [
        ({"lora_rank": 4}, "--lora_rank"),
        ({"freeze": "backbone"}, "--freeze backbone"),
        ({"probe_first": True}, "--probe_first"),
    ],
)
def test_what_needs_whole_weights_is_refused(tmp_path, monkeypatch, choice, flag):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    args = FineTuningArguments(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(UserError, match=f"{flag} needs all weights"):
        complete(RecipeArguments(**choice), args, from_scratch=False)
