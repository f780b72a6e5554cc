"""A classifier without a model, quick enough to sort thousands of files."""

import contextlib
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memevit.sorting import command


@dataclass(frozen=True)
class Said:
    path: Path
    probabilities: np.ndarray | None
    problem: str = ""
    known_score: float | None = None
    accepted: bool | None = None
    reason: str = ""


class Stub:
    """Reads the label in the content: `doom 0.9 ...`; `unknown ...` is rejected, anything else is no image."""

    def __init__(self, class_names=("animal_crossing", "doom")):
        self.class_names = list(class_names)
        self.classified = []

    def classify(self, paths, *, batch_size=32, n_processes=0, **options):
        batch = []
        for path in paths:
            batch.append(path)
            if len(batch) == batch_size:
                yield from map(self._said, batch)
                batch = []
        yield from map(self._said, batch)

    def _said(self, path):
        self.classified.append(path)
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                words = file.read(100).decode("ascii", "replace").split()
        except OSError as error:
            return Said(path, None, f"can't be opened: {error.strerror}")
        even = np.full(len(self.class_names), 1 / len(self.class_names))
        if words and words[0] == "unknown":
            return Said(path, even, known_score=-1.0, accepted=False, reason="like no class")
        if not words or words[0] not in self.class_names:
            return Said(path, None, "not an image")
        share = float(words[1])
        values = np.full(len(self.class_names), (1 - share) / (len(self.class_names) - 1))
        values[self.class_names.index(words[0])] = share
        return Said(path, values, known_score=1.0, accepted=True)


def options(**more):
    return command.Options(**{"model": Path("model"), "batch_size": 4} | more)


def sort(*paths, classifier=None, **more):
    command.sort(options(**more), [str(path) for path in paths], lambda: classifier or Stub())


def inbox(folder, **contents):
    """Files by name; `__` in a name is a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_bytes(content.encode())
    return folder


def tree(*folders):
    """Every path below the folders, with content, times and permissions; logs without their content."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            status = path.lstat()
            if path.is_symlink():
                found[path] = os.readlink(path)
            elif path.is_dir():
                found[path] = "folder"
            else:
                found[path] = (path.read_bytes(), status.st_mtime_ns, status.st_mode)
    return found


def logs(folder):
    return sorted(folder.glob("sort_log_*.jsonl"))


if __name__ == "__main__":  # python -m tests.sorting.stub ACTION INBOX INTO [UNDO]: a process to kill.
    logging.disable()
    action, source, into = sys.argv[1:4]
    if len(sys.argv) > 4:
        command.undo(Path(sys.argv[4]))
    else:
        with contextlib.suppress(BrokenPipeError):
            sort(source, into=Path(into), **({action: True} if action != "copy" else {}))
