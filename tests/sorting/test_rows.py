"""Rows as CSV, JSON lines and Parquet, whatever files are called."""

import csv
import json
import os
import subprocess
import sys

import pytest

from memevit import rows
from memevit.sorting import rows as sorted_rows
from tests.sorting.stub import Stub, inbox, sort

ODD = [
    "a\nb.jpg",
    "c\x1b[2J\x07.jpg",
    "=cmd|' C calc'!A0.jpg",
    "\u202egnp.jpg",
    "ü ,\"'.jpg",
    os.fsdecode(b"\xff\xfe.jpg"),
]


@pytest.fixture
def odd_inbox(tmp_path):
    inbox(tmp_path / "inbox")
    for name in ODD:
        (tmp_path / "inbox" / name).write_bytes(f"doom 1 {name!a}".encode())
    return tmp_path / "inbox"


def test_csv_rows_are_one_safe_line_each(tmp_path, odd_inbox):
    sort(odd_inbox, into=tmp_path / "sorted", output=tmp_path / "rows.csv")
    text = (tmp_path / "rows.csv").read_text(encoding="utf-8")
    assert text.count("\n") == len(ODD) + 1
    assert not any(character in text for character in "\x1b\x07\u202e")
    files = [os.path.basename(row["file"]) for row in csv.DictReader(text.splitlines())]
    assert "a\\nb.jpg" in files
    assert "\\udcff\\udcfe.jpg" in files
    assert sorted(path.name for path in (tmp_path / "sorted" / "doom").iterdir()) == sorted(ODD)


def test_json_lines_give_back_exact_names_and_hold_nothing_a_terminal_executes(tmp_path, odd_inbox):
    sort(odd_inbox, output=tmp_path / "rows.jsonl", format="jsonl")
    text = (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    assert not any(character in text for character in "\x1b\x07\u202e")
    assert [os.path.basename(json.loads(line)["file"]) for line in text.splitlines()] == sorted(ODD)


def test_parquet_has_typed_columns(tmp_path, odd_inbox):
    from pyarrow import parquet

    (odd_inbox / "z.jpg").write_bytes(b"unknown")
    sort(odd_inbox, output=tmp_path / "rows.parquet", format="parquet", into=tmp_path / "sorted")
    table = parquet.read_table(tmp_path / "rows.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types["file"] == types["placed"] == "string"
    assert types["confidence"] == types["p_doom"] == "double"
    assert types["accepted"] == "bool"
    assert sorted(table["accepted"].to_pylist()) == [False] + [True] * len(ODD)
    assert table["p_doom"].to_pylist()[0] == 1.0


@pytest.mark.parametrize(("name", "row_format"), [("rows.csv", "csv"), ("rows.parquet", "parquet")])
def test_an_interrupted_run_leaves_the_old_rows(tmp_path, name, row_format):
    class Broken(Stub):
        def classify(self, paths, **options):
            yield next(super().classify(paths, **options))
            raise KeyboardInterrupt

    inbox(tmp_path / "inbox", a__jpg="doom 1")
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        sort(tmp_path / "inbox", output=tmp_path / name, format=row_format, classifier=Broken())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inbox", name]
    assert (tmp_path / name).read_bytes() == b"old"


def test_many_classes_do_not_drown_the_row(tmp_path):
    names = ["doom", *(f"game {number}" for number in range(999))]
    inbox(tmp_path / "inbox", a__jpg="doom 0.5", b__jpg="?")
    sort(tmp_path / "inbox", output=tmp_path / "rows.jsonl", format="jsonl", classifier=Stub(names))
    first, second = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(first) == len(second) == 7 + 2 * 5
    assert (first["top1_class"], first["top1_probability"]) == ("doom", 0.5)
    assert (first["top2_class"], first["top2_probability"]) == ("game 0", round(0.5 / 999, 6))
    assert second["top1_class"] is None
    sort(tmp_path / "inbox", output=tmp_path / "rows.jsonl", format="jsonl", classifier=Stub(names), top_k=1000)
    first = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])
    assert len(first) == 7 + 1000


def test_no_probabilities_at_all_can_be_asked_for():
    assert list(rows.prediction(["a", "b"], [0.3, 0.7], top_k=0)) == [
        "predicted", "confidence", "known_score", "accepted",
    ]  # fmt: skip


def test_a_probability_just_at_the_limit_is_sure():
    row = sorted_rows.row_of("x", ["a", "b"], [0.3, 0.7], min_probability=0.7)
    assert row["label"] == "b"


def test_rows_reach_a_pipe_one_by_one(tmp_path):
    """The second file is a pipe that nobody writes to yet; the row of the first is there all the same."""
    code = """
import sys
from tests.sorting.stub import Stub, sort
class Slow(Stub):
    def _said(self, path):
        if path.name == "b.jpg": sys.stdin.read(1)
        return super()._said(path)
sort(sys.argv[1], sys.argv[2], classifier=Slow(), format="jsonl", batch_size=1)
"""
    inbox(tmp_path, a__jpg="doom 1", b__jpg="doom 1")
    command = [sys.executable, "-c", code, str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert json.loads(process.stdout.readline())["file"].endswith("a.jpg")
        process.stdin.write(b"x")
        process.stdin.close()
        assert json.loads(process.stdout.readline())["file"].endswith("b.jpg")
    assert process.returncode == 0
