"""Several processes share a run: each file once, rows in input order."""

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from memevit.sorting import command, processes
from tests.conftest import draw_image
from tests.sorting.stub import Stub, inbox, options

ROOT = Path(__file__).parents[2]


def run_team(paths, n, **more):
    """The command in `n` threads; returns which thread classified what."""
    barrier = threading.Barrier(n)
    stubs = [Stub() for _ in range(n)]

    def one(rank):
        team = command.Team(rank, n, "token", lambda: barrier.wait(30))
        command.sort(options(num_proc=1, **more), [str(path) for path in paths], lambda: stubs[rank], team)

    others = [threading.Thread(target=one, args=(rank,), daemon=True) for rank in range(1, n)]
    for thread in others:
        thread.start()
    one(0)
    for thread in others:
        thread.join(30)
        assert not thread.is_alive()
    return [stub.classified for stub in stubs]


@pytest.mark.parametrize(("n_files", "n"), [(0, 2), (1, 2), (3, 3), (50, 2), (205, 3)])
def test_each_file_is_classified_once_and_rows_are_in_order(tmp_path, n_files, n):
    folder = inbox(tmp_path / "inbox", **{f"{number:04}__jpg": f"doom 1 {number}" for number in range(n_files)})
    shares = run_team([folder], n, output=tmp_path / "rows.jsonl", format="jsonl", into=tmp_path / "sorted")
    expected = sorted(folder.iterdir())
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == [str(path) for path in expected]
    assert sorted(path for share in shares for path in share) == expected
    assert len(list(tmp_path.rglob("doom/*.jpg"))) == n_files
    assert not list(tmp_path.glob(".sorting-*"))
    if n_files > 100:
        assert all(len(share) > n_files // (n + 1) for share in shares)


def test_a_second_run_passes_over_what_is_filed(tmp_path):
    folder = inbox(tmp_path / "inbox", **{f"{number:02}__jpg": f"doom 1 {number}" for number in range(20)})
    run_team([folder], 2, into=tmp_path / "sorted")
    (folder / "new.jpg").write_text("doom 1 new")
    assert run_team([folder], 2, into=tmp_path / "sorted") == [[folder / "new.jpg"], []]


def test_a_classifier_that_reads_far_ahead_does_not_block_the_others(tmp_path):
    """Each one reads `n_ahead` paths before its first row, and the first process waits for the rows of all."""
    paths = [Path(f"{number}") for number in range(200)]

    def greedy(given):
        ahead, given = [], iter(given)
        for path in given:
            ahead.append(path)
            if len(ahead) == 24:
                yield {"file": str(ahead.pop(0))}
        yield from ({"file": str(path)} for path in ahead)

    chance = random.Random(0)

    def slow(given):
        for row in greedy(given):
            time.sleep(chance.uniform(0, 0.001))
            yield row

    thread = threading.Thread(target=processes.serve, args=(tmp_path, 1, slow), daemon=True)
    thread.start()
    share = processes.shared(tmp_path, 2, greedy, block=4, n_ahead=24)
    assert [row["file"] for row in share(paths)] == [str(path) for path in paths]
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.slow
def test_accelerate_launches_two_processes(tmp_path, trained):
    for seed in range(70):
        (tmp_path / "inbox").mkdir(exist_ok=True)
        draw_image(seed).save(tmp_path / "inbox" / f"{seed:02}.png")
    flags = [
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
    ]
    sorting = ["sort_memes.py", "--model", trained, tmp_path / "inbox", "--format", "jsonl", "--batch_size", "8"]
    for name, launch in (("one", []), ("two", ["-m", "accelerate.commands.launch", *flags])):
        more = ["--output", tmp_path / f"{name}.jsonl", "--into", tmp_path / name, "--num_proc", "1"]
        subprocess.run(list(map(str, [sys.executable, *launch, *sorting, *more])), cwd=ROOT, check=True)
    one, two = [[json.loads(line) for line in (tmp_path / f"{name}.jsonl").open()] for name in ("one", "two")]
    assert [row["file"] for row in one] == [row["file"] for row in two]
    assert max(abs(a["p_moss"] - b["p_moss"]) for a, b in zip(one, two, strict=True)) < 1e-4
    assert len(list((tmp_path / "two").rglob("*.png"))) == 70
