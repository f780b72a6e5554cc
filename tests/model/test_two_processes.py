"""The same command in two processes on the processor (gloo): copies of the weights, weights that FSDP divides."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from transformers import AutoModelForImageClassification

from memevit import results
from memevit.data import dataset as prepared_dataset
from memevit.evaluation import predictions
from memevit.model.classifier import Classifier
from tests.conftest import run_finetune

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="macOS forks no process that has imported torch")
ROOT = Path(__file__).parents[2]
# --multi_gpu stands for "several processes on this machine"; without it accelerate starts one on a processor.
PROCESSES = ("--num_processes", 2, "--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no")
DIVIDED = ("--use_fsdp", "--fsdp_version", 2, "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP")


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def environment(*flags):
    """What `accelerate launch` with these flags adds to the environment, and another place to meet."""
    argv = map(str, (*flags, *PROCESSES, "--main_process_port", free_port(), "script.py"))
    found = prepare_multi_gpu_env(launch_command_parser().parse_args([*argv])) | {"OMP_NUM_THREADS": "1"}
    own = {"MASTER_PORT": str(free_port()), "TORCHELASTIC_USE_AGENT_STORE": "False"}
    return {name: value for name, value in found.items() if os.environ.get(name) != value} | own


@pytest.fixture(scope="module")
def root(prepared, tiny_backbone, tmp_path_factory):
    """Models by one process, by two, by two that learn nothing and with divided weights; a diverging one; and logs."""
    root = tmp_path_factory.mktemp("launched")
    usual = ("--dataset", prepared, "--model_name_or_path", tiny_backbone, "--disable_tqdm", True)
    usual += ("--num_train_epochs", 4)
    own = (*usual, "--use_cpu", "--learning_rate", 5e-3, "--no_probe_if_better")
    assert run_finetune(*own, "--output_dir", root / "models" / "one", "--per_device_train_batch_size", 16) == 0
    two = ("finetune_vit.py", *own, "--output_dir", root / "models" / "two", "--per_device_train_batch_size", 8)
    # Best after the first epoch, and with a temperature of 1, so that probabilities tell the loss.
    divided = ("tests/model/fsdp_on_cpu.py", "finetune_vit.py", *usual, "--output_dir", root / "divided")
    divided += ("--learning_rate", 3e-2, "--metric_for_best_model", "loss", "--lr_scheduler_type", "constant")
    divided += ("--per_device_train_batch_size", 8, "--no_temperature")
    diverging = ("tests/model/diverging.py", tiny_backbone, root / "diverging")
    (root / "diverging").mkdir()
    unlearned = ("finetune_vit.py", *usual, "--use_cpu", "--output_dir", root / "unlearned", "--learning_rate", 1e-30)
    jobs = [("two", two, {}), ("unlearned", unlearned, environment())]
    jobs += [("divided", divided, environment(*DIVIDED)), ("diverging", diverging, environment())]
    jobs = [{"log": str(root / f"{name}.log"), "argv": [*map(str, argv)], "environment": variables}
            for name, argv, variables in jobs]  # fmt: skip
    (root / "jobs.json").write_text(json.dumps(jobs))
    launch = ("-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", *PROCESSES)
    launch += ("--main_process_port", free_port(), "tests/model/two_processes.py", root / "jobs.json")
    done = subprocess.run([sys.executable, *map(str, launch)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + "".join(path.read_text() for path in sorted(root.glob("*.log-?")))
    return root


@pytest.fixture
def both(root):
    """Model folders by one process and by two, with 16 images per step each, and what the two printed."""
    said = "".join(path.read_text() for path in sorted(root.glob("two.log-?")))
    return root / "models" / "one", root / "models" / "two", said


@pytest.fixture
def divided(root):
    """A model that was best after the first epoch, trained with divided weights."""
    return root / "divided"


def test_two_processes_train_the_same_model_within_noise(both):
    one, two, _ = both
    runs = [results.read(path)["training"] for path in (one, two)]
    assert [run["batch_size"] for run in runs] == [16, 16]
    assert [run["n_steps"] for run in runs] == [24, 24]
    assert runs[1]["hardware"].startswith("2 x ")
    found = [predictions.read(path) for path in (one, two)]
    # The last step of an epoch has four images left for one process, and is filled up to sixteen for two.
    assert np.abs(found[0].probabilities - found[1].probabilities).mean() < 0.05
    accuracies = [(each.predicted == each.labels).mean() for each in found]
    assert abs(accuracies[0] - accuracies[1]) <= 2 / 36


def test_two_processes_save_the_probe_if_it_is_better(root, tiny_backbone):
    found, written = results.read(root / "unlearned"), predictions.read(root / "unlearned")
    assert found["training"]["choice"]["kept"] == results.PROBE
    before, after = (
        AutoModelForImageClassification.from_pretrained(path).vit.state_dict()
        for path in (tiny_backbone, root / "unlearned")
    )
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (written.predicted == written.labels).mean() > 0.6


def test_each_image_is_counted_once_and_in_order(both, prepared):
    _, two, _ = both
    data = prepared_dataset.load(prepared)
    expected = data["validation"]["file"][:] + data["test"]["file"][:]
    assert predictions.read(two).paths == expected
    accuracy = [m for m in results.read(two)["measurements"] if m["name"] == "accuracy" and m["split"] == "test"]
    assert {m["n"] for m in accuracy} == {18}


def test_files_and_lines_are_written_once(both):
    one, two, said = both
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    assert sorted(path.name for path in two.parent.iterdir()) == ["one", "two"]
    assert said.count("The model is in") == 1
    assert said.count("images            train validation") == 1
    assert "find_unused_parameters" not in said  # Torch says so when it looks for what is not there.


def test_a_loss_that_is_not_finite_in_one_process_stops_both(root):
    endings = [(root / "diverging" / f"{rank}.txt").read_text() for rank in (0, 1)]
    assert endings[0].startswith("UserError: The training loss became nan in steps 1 to 4")
    assert endings[0] == endings[1]
    assert not list((root / "diverging" / "model").glob("checkpoint-*"))


def test_the_best_checkpoint_of_divided_weights_is_taken_by_all_processes(divided):
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


@pytest.mark.parametrize("name", ["models/two", "divided"])
def test_what_is_saved_is_what_was_measured(root, prepared, name):
    written = predictions.read(root / name)
    data = prepared_dataset.load(prepared)
    assert written.paths == data["validation"]["file"][:] + data["test"]["file"][:]
    paths = [Path(one) for split in ("validation", "test") for one in prepared_dataset.paths_of(data[split])]
    again = list(Classifier.load(root / name).classify(paths, n_processes=0))
    assert np.abs(np.array([one.probabilities for one in again]) - written.probabilities).max() < 1e-4
    assert [one.known_score for one in again] == pytest.approx(written.known_scores, abs=1e-3)
    assert [one.accepted for one in again] == written.accepted
