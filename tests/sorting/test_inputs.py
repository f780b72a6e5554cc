"""What is sorted: files, folders, patterns and lists."""

import io
import os

import pytest

from memevit.errors import UserError
from memevit.sorting import inputs
from tests.sorting.stub import inbox


def found(*paths, **more):
    return [str(one.path) for one in inputs.find([str(path) for path in paths], **more)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    inbox(tmp_path / "in", b__jpg="", a__jpg="", __hidden="")
    inbox(tmp_path / "in" / "sub", c__png="")
    inbox(tmp_path / "in" / ".cache", d__png="")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


def test_folders_are_searched_in_order_without_hidden_files(folder):
    assert found("in") == ["in/a.jpg", "in/b.jpg", "in/sub/c.png"]
    assert found("in/.cache/d.png") == ["in/.cache/d.png"]


def test_a_file_that_is_named_twice_is_sorted_once(folder):
    assert found("in/b.jpg", "in", "in/", "./in/sub/c.png") == ["in/a.jpg", "in/b.jpg", "in/sub/c.png"]
    assert found("in/sub", "in/b.jpg", "in/b.jpg") == ["in/sub/c.png", "in/b.jpg"]
    assert found("in", "in/.cache/d.png")[-1] == "in/.cache/d.png"


def test_patterns_are_expanded_unless_a_file_is_called_so(folder):
    assert found("in/*.jpg") == ["in/a.jpg", "in/b.jpg"]
    assert found("in/**/*.png") == ["in/sub/c.png"]
    (folder / "[x].jpg").touch()
    assert found("in/[x].jpg") == ["in/[x].jpg"]
    with pytest.raises(UserError, match=r"Nothing matches in/\*.webp"):
        found("in/*.webp")


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_a_list_on_standard_input(folder, separator):
    odd = os.fsdecode(b"in/\xff.jpg")
    listed = separator.join([b"in/b.jpg", b"gone.jpg", os.fsencode(odd), b"in/sub"])
    for end in (b"", separator):
        assert found("-", stdin=io.BytesIO(listed + end)) == ["in/b.jpg", "gone.jpg", odd, "in/sub/c.png"]


def test_lists_are_read_as_they_are_written():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb", buffering=0) as writer:
        walk = inputs.find(["-"], stdin=stdin)
        writer.write(b"a.jpg\nb")
        assert str(next(walk).path) == "a.jpg"
        writer.write(b".jpg\n")
        assert str(next(walk).path) == "b.jpg"


def test_special_files_and_links_to_folders_are_inputs_with_a_problem(folder):
    os.mkfifo(folder / "pipe.jpg")
    (folder / "self").symlink_to(folder)
    problems = {one.path.name: one.problem for one in inputs.find(["in"])}
    assert problems.pop("pipe.jpg") == "not a regular file"
    assert problems.pop("self") == "a link to a folder, not followed"
    assert set(problems.values()) == {""}


def test_large_folders_are_sorted_all_the_same(folder, monkeypatch):
    expected = found("in")
    monkeypatch.setattr(inputs, "_MAX_NAMES_IN_MEMORY", 2)
    assert found("in") == expected


def test_what_is_left_out_is_skipped(folder):
    assert found("in", left_out=[folder / "sub", folder / "a.jpg"]) == ["in/b.jpg"]
