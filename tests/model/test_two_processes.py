"""The same command under `accelerate launch` with two processes on the processor (gloo)."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memevit import results
from memevit.data import dataset as prepared_dataset
from memevit.evaluation import predictions
from tests.conftest import run_finetune

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def both(prepared, tiny_backbone, tmp_path_factory):
    """Model folders by one process and by two, with 16 images per step each, and what the two printed."""
    root = tmp_path_factory.mktemp("launched")
    usual = ("--dataset", prepared, "--model_name_or_path", tiny_backbone, "--use_cpu", "--disable_tqdm", True)
    usual += ("--num_train_epochs", 4, "--learning_rate", 5e-3)
    assert run_finetune(*usual, "--output_dir", root / "one", "--per_device_train_batch_size", 16) == 0
    # --multi_gpu stands for "several processes on this machine"; without it accelerate starts one on a processor.
    launch = ("-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", 2)
    launch += ("--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no")
    launch += ("--main_process_port", free_port(), "finetune_vit.py")
    argv = (*launch, *usual, "--output_dir", root / "two", "--per_device_train_batch_size", 8)
    done = subprocess.run([sys.executable, *map(str, argv)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return root / "one", root / "two", done.stderr


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


def test_each_picture_is_counted_once_and_in_order(both, prepared):
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


def test_a_loss_that_is_not_finite_in_one_process_stops_both(tiny_backbone, tmp_path):
    argv = [sys.executable, "-m", "tests.model.diverging", str(tiny_backbone), str(tmp_path)]
    own = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(argv, cwd=ROOT, env=os.environ | own | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in (0, 1)
    ]
    try:
        for process in processes:
            process.wait(timeout=300)
    finally:
        for process in processes:
            process.kill()
    endings = [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)]
    assert endings[0].startswith("UserError: The training loss became nan in steps 1 to 4")
    assert endings[0] == endings[1]
    assert not list((tmp_path / "model").glob("checkpoint-*"))
