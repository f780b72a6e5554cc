"""sort_memes.py: rows for every file."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import draw_image, run_sort

ROOT = Path(__file__).parents[1]


def test_every_file_is_a_row_in_order_and_a_broken_one_has_its_reason(tmp_path, trained):
    folder = tmp_path / "memes"
    (folder / "more").mkdir(parents=True)
    draw_image(1).save(folder / "b.png")
    draw_image(2).save(folder / "more" / "ü nicode.jpg")
    (folder / "a.jpg").write_text("<html></html>")
    (folder / ".hidden.png").write_bytes(b"")
    assert run_sort("--model", trained, "--output", tmp_path / "rows.csv", folder, "--batch_size", 2) == 0
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [str(folder / name) for name in ("a.jpg", "b.png", "more/ü nicode.jpg")]
    columns = ["file", "label", "predicted", "confidence", "known_score", "accepted", "reason"]
    assert list(rows[0]) == [*columns, "p_coral", "p_moss", "p_slate"]
    assert (rows[0]["label"], rows[0]["confidence"], rows[0]["reason"]) == ("unreadable", "", "not an image")
    for row in rows[1:]:
        shares = {name: float(row[f"p_{name}"]) for name in ("coral", "moss", "slate")}
        assert abs(sum(shares.values()) - 1) < 1e-5
        assert row["predicted"] == max(shares, key=shares.get)
        assert row["label"] == (row["predicted"] if row["accepted"] != "false" else "unknown")
        assert float(row["confidence"]) == max(shares.values())


def test_json_lines_go_to_standard_output(tmp_path, trained, capsys):
    draw_image(1).save(tmp_path / "b.png")
    (tmp_path / "c.gif").write_bytes(b"GIF89a")
    assert run_sort("--model", trained, "--format", "jsonl", tmp_path / "b.png", tmp_path / "c.gif") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["predicted"] in ("coral", "moss", "slate")
    assert rows[1] == {
        "file": str(tmp_path / "c.gif"),
        **{"label": "unreadable", "predicted": None, "confidence": None, "known_score": None, "accepted": None},
        "reason": rows[1]["reason"],
        **{"p_coral": None, "p_moss": None, "p_slate": None},
    }
    assert rows[1]["reason"]


@pytest.mark.parametrize(("name", "more"), [("rows.jsonl", ()), ("rows.csv", ("--format", "jsonl"))])
def test_the_name_of_the_file_says_how_rows_are_written_unless_a_flag_does(tmp_path, trained, name, more):
    draw_image(1).save(tmp_path / "b.png")
    assert run_sort("--model", trained, "--output", tmp_path / name, *more, tmp_path / "b.png") == 0
    (line,) = (tmp_path / name).read_text().splitlines()
    assert json.loads(line)["file"] == str(tmp_path / "b.png")


def test_batches_do_not_change_what_is_said(tmp_path, trained, capsys):
    for seed in range(5):
        draw_image(seed, size=(60 + 20 * seed, 80)).save(tmp_path / f"{seed}.png")
    found = []
    for batch_size in (1, 3):
        assert run_sort("--model", trained, "--format", "jsonl", "--batch_size", batch_size, tmp_path) == 0
        found.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    for one, other in zip(*found, strict=True):
        assert abs(one["p_moss"] - other["p_moss"]) < 1e-5


def test_rows_stream_and_ctrl_c_ends_it_cleanly(tmp_path, trained):
    """A pipe that nobody writes to keeps its decoder waiting; the rows before it are there all the same."""
    for seed in range(3):
        draw_image(seed).save(tmp_path / f"{seed}.png")
    os.mkfifo(tmp_path / "never.png")
    files = [*(tmp_path / f"{seed}.png" for seed in range(3)), tmp_path / "never.png"]
    command = ["sort_memes.py", "--model", trained, "--format", "jsonl", "--batch_size", "1", "--num_proc", "2", *files]
    done = subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert [json.loads(done.stdout.readline())["file"] for _ in range(2)] == [str(path) for path in files[:2]]
    done.send_signal(signal.SIGINT)
    _, said = done.communicate(timeout=60)
    assert done.returncode == 130
    assert said.splitlines()[-1] == "stopped"
    assert "Traceback" not in said
