"""Threads of a process that `accelerate launch` started."""

import os
import subprocess
import sys

import pytest

from memevit import cores

LAUNCHED = {"ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("environment", "n_threads"),
    [
        (LAUNCHED, 8),
        (LAUNCHED | {"LOCAL_WORLD_SIZE": "2"}, 4),
        (LAUNCHED | {"LOCAL_WORLD_SIZE": "16"}, 1),
        (LAUNCHED | {"OMP_NUM_THREADS": "3"}, None),  # Asked for.
        ({"OMP_NUM_THREADS": "1"}, None),
        ({}, None),
    ],
)
def test_only_the_single_thread_of_accelerate_launch_is_replaced(monkeypatch, environment, n_threads):
    monkeypatch.setattr(cores, "n_cores", lambda: 8)
    assert cores.share_of_cores(environment) == n_threads


def test_accelerate_launch_still_leaves_one_thread(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"import os; print('got', {{name: os.environ.get(name) for name in {list(LAUNCHED)}}})")
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    command = ["accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no", str(script)]
    done = subprocess.run([sys.executable, "-m", *command], env=environment, capture_output=True, text=True, check=True)
    assert f"got {LAUNCHED}" in done.stdout
