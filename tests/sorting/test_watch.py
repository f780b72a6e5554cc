"""A folder that is watched: every file once, and only when it is whole."""

import functools
import os
import time

import pytest

from memevit.sorting import command, watch
from memevit.sorting.inputs import Input
from memevit.sorting.watch import Arrivals
from tests.sorting.stub import Stub, inbox, sort


class Clock:
    """Seconds that pass only when somebody sleeps; each sleep carries out the next step."""

    def __init__(self, steps):
        self.now, self._steps = 0.0, iter(steps)

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        step = next(self._steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()


def nothing():
    pass


def watched(folder, steps, monkeypatch, **more):
    clock = Clock(steps)
    patched = functools.partial(Arrivals, clock=clock, sleep=clock.sleep)
    monkeypatch.setattr(command, "Arrivals", patched)
    classifier = Stub()
    sort(watch=folder, classifier=classifier, **more)
    return classifier.classified


def append(path, content):
    def step():
        with path.open("ab") as file:
            file.write(content)
        os.utime(path, ns=(time.time_ns(), time.time_ns()))

    return step


def test_a_slow_writer_is_waited_for(tmp_path, monkeypatch):
    folder = inbox(tmp_path / "inbox")
    slow, other = folder / "slow.jpg", folder / "other.jpg"
    steps = [append(slow, b"doom "), nothing, append(slow, b"0.9 "), append(other, b"doom 1"), append(slow, b"whole")]
    found = watched(folder, [*steps, *[nothing] * 6], monkeypatch, into=tmp_path / "sorted")
    assert found == [other, slow]
    assert (tmp_path / "sorted" / "doom" / "slow.jpg").read_bytes() == b"doom 0.9 whole"
    assert len(list((tmp_path / "sorted").rglob("*.jpg"))) == 2


def test_a_file_that_is_damaged_and_fresh_is_given_time(tmp_path, monkeypatch):
    folder = inbox(tmp_path / "inbox")
    stalled = folder / "stalled.jpg"
    steps = [append(stalled, b"do"), *[nothing] * 8, append(stalled, b"om 1"), *[nothing] * 8]
    watched(folder, steps, monkeypatch, into=tmp_path / "sorted")
    assert [path.parent.name for path in (tmp_path / "sorted").rglob("*.jpg")] == ["doom"]


def test_a_file_that_stays_damaged_is_unreadable_in_the_end(tmp_path, monkeypatch):
    folder = inbox(tmp_path / "inbox", old__jpg="?", fresh__jpg="?")
    os.utime(folder / "old.jpg", (0, 0))
    monkeypatch.setattr(watch, "DAMAGED_SETTLED_S", 0.0)
    watched(folder, [nothing] * 6, monkeypatch, into=tmp_path / "sorted", move=True)
    assert len(list((tmp_path / "sorted" / "unreadable").iterdir())) == 1  # Their content is the same.


def test_what_was_there_before_is_filed_too_and_rows_are_appended(tmp_path, monkeypatch):
    folder = inbox(tmp_path / "inbox", a__jpg="doom 1 a")
    output = tmp_path / "rows.csv"
    watched(folder, [nothing] * 5, monkeypatch, output=output)
    append(folder / "b.jpg", b"doom 1 b")()
    watched(folder, [nothing] * 5, monkeypatch, output=output)
    lines = output.read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "file",
        *(str(folder / name) for name in ("a.jpg", "a.jpg", "b.jpg")),
    ]


@pytest.mark.parametrize("name", ["a.jpg.crdownload", "b.PART", "c.tmp"])
def test_unfinished_downloads_are_left_alone(name):
    clock = Clock([])
    arrivals = Arrivals(lambda: [Input(__import__("pathlib").Path(name))], clock=clock)
    for _ in range(5):
        clock.now += 10
        assert arrivals.look() == []


def test_a_file_that_changes_after_it_was_given_is_given_again(tmp_path):
    path = inbox(tmp_path, a__jpg="doom 1 a") / "a.jpg"
    clock = Clock([])
    arrivals = Arrivals(lambda: [Input(path)], clock=clock)

    def given():
        found = []
        for _ in range(5):
            clock.now += 1
            found += arrivals.look()
        return len(found)

    assert (given(), given()) == (1, 0)
    append(path, b"more")()
    assert (given(), given()) == (1, 0)
