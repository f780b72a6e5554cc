"""Locks, and systems that lack a function."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from memevit import files
from memevit.errors import UserError

ROOT = Path(__file__).parents[1]


def test_a_second_command_is_refused_while_the_first_writes_and_its_lock_leaves_nothing(tmp_path):
    lock = f"files.locked(Path({str(tmp_path / 'data')!r}))"
    code = f"from pathlib import Path; from memevit import files\nwith {lock}: pass"
    with files.locked(tmp_path / "data"):
        second = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Another command is writing" in second.stderr
    assert os.listdir(tmp_path) == []
    with files.locked(tmp_path / "data"):
        pass


def test_a_folder_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Can't write beside"), files.locked(tmp_path / "file" / "data"):
        pass


def test_nothing_needs_what_only_linux_has():
    """On macOS there is no posix_fallocate and no sched_getaffinity; on others no fcntl."""
    code = """
import os
for name in ("posix_fallocate", "sched_getaffinity"):
    vars(os).pop(name, None)
from memevit import cores, decoding, files
import memevit.data.prepare
assert cores.n_cores() >= 1
assert list(decoding.mapped(len, ["abc"], n_processes=1)) == [("abc", 3)]
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
