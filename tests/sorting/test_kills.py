"""Runs that are killed: undo and a second run both end right."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memevit.sorting import command
from memevit.sorting.copying import is_partial
from tests.sorting.stub import inbox, logs, sort, tree

ROOT = Path(__file__).parents[2]


def killed_run(action, source, into, after_s, *more):
    arguments = [sys.executable, "-m", "tests.sorting.stub", action, source, into, *more]
    with subprocess.Popen(list(map(str, arguments)), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while process.poll() is None and not (into.exists() and logs(into)) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
    return process.returncode


def contents(*folders):
    return sorted(path.read_bytes() for folder in folders for path in folder.rglob("*.jpg"))


@pytest.mark.parametrize("action", ["copy", "link", "move"])
def test_undo_after_a_kill_restores_and_a_second_run_completes(tmp_path, action):
    for number in range(400):
        inbox(tmp_path / "inbox" / str(number % 3), **{f"{number % 50}-{number}__jpg": f"doom 1 {number}"})
    before = tree(tmp_path)
    expected = contents(tmp_path / "inbox")
    into, chance = tmp_path / "sorted", random.Random(0)
    killed_run(action, tmp_path / "inbox", into, chance.uniform(0, 0.05))
    for log in logs(into):
        command.undo(log)
    assert {path: what for path, what in tree(tmp_path).items() if path != into} == before
    killed_run(action, tmp_path / "inbox", into, chance.uniform(0, 0.05))
    sort(tmp_path / "inbox", into=into, **({action: True} if action != "copy" else {}))
    assert contents(into) == expected
    assert contents(tmp_path / "inbox") == ([] if action == "move" else expected)
    assert not list(into.rglob(".*"))
    for log in reversed(logs(into)):
        command.undo(log)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("step", range(1, 5))
@pytest.mark.parametrize("action", ["copy", "link", "move"])
def test_a_stop_between_any_two_steps_of_an_action_can_be_undone_and_finished(tmp_path, monkeypatch, action, step):
    """The system calls of one action, of which only the first few happen."""
    inbox(tmp_path / "inbox", a__jpg="doom 1 a")
    before, into, calls = tree(tmp_path), tmp_path / "sorted", []

    class PowerCut(BaseException):
        pass

    def cut(real):
        def called(*args, **more):
            calls.append(real)
            if len(calls) >= step:
                raise PowerCut
            return real(*args, **more)

        return called

    how = {action: True} if action != "copy" else {}
    with monkeypatch.context() as patch:
        for name in ("link", "unlink", "rename", "utime"):
            patch.setattr(os, name, cut(getattr(os, name)))
        with contextlib.suppress(PowerCut):
            sort(tmp_path / "inbox", into=into, **how)
    for log in logs(into):
        command.undo(log)
    # Stopped before there is a log, an empty folder is left, perhaps with the beginning of one.
    left = tree(tmp_path).items()
    assert {path: what for path, what in left if path != into and not is_partial(path.name)} == before
    sort(tmp_path / "inbox", into=into, **how)
    assert contents(into) == [b"doom 1 a"]
    assert contents(tmp_path / "inbox") == ([] if action == "move" else [b"doom 1 a"])
