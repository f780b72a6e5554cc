"""Killed at any moment, data_prep.py leaves the old dataset or none, and the next run succeeds."""

import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.conftest import run_data_prep, write_classes

ROOT = Path(__file__).parents[2]


def content_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def start(source, output_dir, *argv):
    command = [sys.executable, "data_prep.py", "--source", source, "--output_dir", output_dir, *argv]
    return subprocess.Popen([str(part) for part in command], cwd=ROOT, stderr=subprocess.DEVNULL)


def children_of(pid):
    """Processes that `pid` has started, where the system tells."""
    found = (path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for children in found for child in children]


def is_alive(pid):
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def run_until(output_dir, source, delay_s, *argv):
    """Start the command and kill it `delay_s` after it began to build; returns its workers."""
    process = start(source, output_dir, *argv)
    partial = output_dir.with_name(f"{output_dir.name}.partial")
    while not partial.exists() and process.poll() is None:
        time.sleep(0.002)
    time.sleep(delay_s)
    workers = children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return workers


def kill_and_repeat(tmp_path, source, delays, *, n_processes):
    """Alternate killed runs of two seeds on one folder, and see what each leaves."""
    wholes = {}
    for seed in (0, 1):
        assert run_data_prep("--source", source, "--output_dir", tmp_path / f"whole_{seed}", "--seed", seed) == 0
        wholes[seed] = content_of(tmp_path / f"whole_{seed}")
    assert wholes[0] != wholes[1]
    (tmp_path / "work").mkdir()
    output_dir = tmp_path / "work" / "data"
    before = None
    for number, delay_s in enumerate(delays):
        seed = number % 2
        workers = run_until(output_dir, source, delay_s, "--seed", seed, "--num_proc", n_processes)
        left = content_of(output_dir) if output_dir.exists() else None
        retired = tmp_path / "work" / ".data.replaced"
        assert left in (before, wholes[seed]) or (left is None and content_of(retired) == before), delay_s
        deadline = time.monotonic() + 10
        while any(is_alive(pid) for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not any(is_alive(pid) for pid in workers)
        if number % 3 != 2:  # Sometimes the next run is killed, too.
            assert run_data_prep("--source", source, "--output_dir", output_dir, "--seed", seed, "--num_proc", 1) == 0
            assert content_of(output_dir) == wholes[seed]
            assert os.listdir(tmp_path / "work") == ["data"]
        before = content_of(output_dir) if output_dir.exists() else before


def test_a_killed_run_leaves_the_old_dataset_or_none_and_the_next_run_succeeds(tmp_path):
    source = write_classes(tmp_path / "source", n=22)  # Enough for two workers.
    kill_and_repeat(tmp_path, source, [0.05, 0.3], n_processes=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_runs_killed_at_many_random_moments(tmp_path, kind):
    source = write_classes(tmp_path / "source", n=40)
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
            for path in sorted(source.rglob("*.png")):
                archive.write(path, path.relative_to(source))
        source = tmp_path / "source.zip"
    process = start(source, tmp_path / "timed")
    partial = tmp_path / "timed.partial"
    while not partial.exists() and process.poll() is None:
        time.sleep(0.002)
    begun = time.monotonic()
    assert process.wait() == 0
    longest = time.monotonic() - begun
    moments = random.Random(0)
    kill_and_repeat(tmp_path, source, [moments.uniform(0, 1.1 * longest) for _ in range(24)], n_processes=2)
