"""Files in folders per label: by copy, link and move, never onto one another."""

import csv
import json
import os

import pytest

from memevit.errors import UserError
from memevit.sorting import command, folders
from tests.sorting.stub import Stub, inbox, logs, sort, tree

MEMES = {
    "a__jpg": "doom 0.9 a", "b__jpg": "doom 0.6 b", "c__jpg": "animal_crossing 1 c", "d__jpg": "unknown d",
    "e__jpg": "<html>",
}  # fmt: skip


@pytest.fixture
def memes(tmp_path):
    return inbox(tmp_path / "inbox", **MEMES)


def placed(into):
    return sorted(str(path.relative_to(into)) for path in into.rglob("*") if path.is_file() and "log" not in path.name)


EXPECTED = ["animal_crossing/c.jpg", "doom/a.jpg", "unknown/d.jpg", "unreadable/e.jpg", "unsure/b.jpg"]


@pytest.mark.parametrize("action", ["copy", "link", "move"])
def test_every_file_comes_into_the_folder_of_its_label(tmp_path, memes, action):
    before, into = tree(memes), tmp_path / "sorted"
    sort(memes, into=into, min_probability=0.7, **({action: True} if action != "copy" else {}))
    assert placed(into) == EXPECTED
    after = tree(into)
    for source, what in before.items():
        (found,) = [path for path in after if path.name == source.name]
        assert after[found] == what
        if action != "move":
            assert os.path.samefile(source, found) == (action == "link")
    assert tree(memes) == ({} if action == "move" else before)


@pytest.mark.parametrize("action", ["copy", "link", "move"])
def test_undo_restores_everything_and_leaves_nothing(tmp_path, memes, action):
    before = tree(tmp_path)
    sort(memes, into=tmp_path / "deep" / "sorted", **({action: True} if action != "copy" else {}))
    (log,) = logs(tmp_path / "deep" / "sorted")
    command.undo(log)
    assert tree(tmp_path) == before


def test_rows_say_where_files_are_and_why(tmp_path, memes):
    sort(memes, into=tmp_path / "sorted", min_probability=0.7, output=tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "file", "label", "predicted", "confidence", "known_score", "accepted", "reason", "placed",
        "p_animal_crossing", "p_doom",
    ]  # fmt: skip
    assert [row["label"] for row in rows] == ["doom", "unsure", "animal_crossing", "unknown", "unreadable"]
    assert [row["accepted"] for row in rows] == ["true", "true", "true", "false", ""]
    assert rows[1]["reason"] == "probability 0.600 is below 0.7"
    assert (rows[3]["predicted"], rows[3]["reason"]) == ("animal_crossing", "like no class")
    assert rows[4]["reason"] == "not an image"
    assert rows[0]["placed"] == str(tmp_path / "sorted" / "doom" / "a.jpg")


def test_a_second_run_files_only_what_is_new(tmp_path, memes):
    into = tmp_path / "sorted"
    sort(memes, into=into)
    (into / "doom" / "a.jpg").rename(into / "animal_crossing" / "renamed.jpg")  # Corrected by hand.
    (memes / "f.jpg").write_bytes(b"doom 1 f")
    again = Stub()
    sort(memes, into=into, classifier=again, output=tmp_path / "rows.jsonl", format="jsonl")
    assert [path.name for path in again.classified] == ["f.jpg"]
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == [str(memes / f"{name}.jpg") for name in "abcdef"]
    assert (rows[0]["label"], rows[0]["reason"]) == ("animal_crossing", "its content is already filed")
    assert "doom/f.jpg" in placed(into)
    assert len(placed(into)) == 6
    third = Stub()
    sort(memes, into=into, classifier=third)
    assert (third.classified, len(logs(into))) == ([], 2)


def test_what_was_deleted_from_the_result_is_filed_again(tmp_path, memes):
    into = tmp_path / "sorted"
    sort(memes, into=into)
    (into / "doom" / "a.jpg").unlink()
    sort(memes, into=into)
    assert "doom/a.jpg" in placed(into)


def test_names_never_collide_and_nothing_is_overwritten(tmp_path):
    for number in range(5):
        inbox(tmp_path / "inbox" / str(number), same__jpg=f"doom 1 {number}")
    inbox(tmp_path / "sorted" / "doom", same__jpg="mine")
    sort(tmp_path / "inbox", into=tmp_path / "sorted")
    found = {path.name: path.read_text() for path in (tmp_path / "sorted" / "doom").iterdir()}
    assert found.pop("same.jpg") == "mine"
    assert sorted(found) == [f"same_{number}.jpg" for number in range(2, 7)]
    assert sorted(found.values()) == [f"doom 1 {number}" for number in range(5)]


def test_equal_files_are_filed_once_and_all_stay_accounted_for(tmp_path):
    inbox(tmp_path / "inbox", a__jpg="doom 1", b__jpg="doom 1", c__jpg="doom 1")
    sort(tmp_path / "inbox", into=tmp_path / "sorted", move=True, output=tmp_path / "rows.jsonl", format="jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {row["placed"] for row in rows} == {str(tmp_path / "sorted" / "doom" / "a.jpg")}
    assert sorted(path.name for path in (tmp_path / "inbox").iterdir()) == ["b.jpg", "c.jpg"]


def test_a_dry_run_says_the_same_and_touches_nothing(tmp_path, memes, capsys):
    inbox(memes / "more", a__jpg="doom 1 other", again__jpg="doom 0.9 a")
    before = tree(tmp_path)
    sort(memes, into=tmp_path / "sorted", dry_run=True, format="jsonl")
    assert tree(tmp_path) == before
    said = [json.loads(line)["placed"] for line in capsys.readouterr().out.splitlines()]
    sort(memes, into=tmp_path / "sorted", output=tmp_path / "rows.jsonl", format="jsonl")
    done = [json.loads(line)["placed"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert said == done
    assert said[-2:] == [str(tmp_path / "sorted" / "doom" / name) for name in ("a_2.jpg", "a.jpg")]


@pytest.mark.parametrize("action", ["copy", "link", "move"])
def test_the_output_may_lie_in_the_input_and_the_input_in_the_output(tmp_path, memes, action):
    how = {action: True} if action != "copy" else {}
    sort(memes, into=memes / "sorted", **how)
    sort(memes, into=memes / "sorted", **how)
    assert len(placed(memes / "sorted")) == 5
    command.undo(logs(memes / "sorted")[0])
    sort(memes, into=tmp_path, **how)
    assert len([path for path in tmp_path.rglob("*.jpg") if path.parent != memes]) == 5


def test_a_folder_is_not_sorted_into_itself(memes):
    with pytest.raises(UserError, match="is the folder to sort"):
        sort(memes, into=memes)


def test_unknown_files_can_be_sorted_again(tmp_path, memes):
    into = tmp_path / "sorted"
    sort(memes, into=into)
    (into / "unknown" / "d.jpg").write_bytes(b"doom 1 d")  # As a better model would see it.
    (into / "unknown" / "e.jpg").write_bytes(b"unknown e")
    sort(into / "unknown", into=into, move=True)
    assert "doom/d.jpg" in placed(into)
    assert [path for path in placed(into) if path.startswith("unknown")] == ["unknown/e.jpg"]


def test_links_are_followed_to_files_but_stay_where_they_are(tmp_path, memes):
    (memes / "link.jpg").symlink_to(inbox(tmp_path / "other", x__jpg="doom 1 x") / "x.jpg")
    (memes / "loop").symlink_to(memes)
    (memes / "broken.jpg").symlink_to("nowhere")
    sort(memes, into=tmp_path / "sorted", move=True, output=tmp_path / "rows.jsonl", format="jsonl")
    rows = {row["file"]: row for row in map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())}
    assert (tmp_path / "sorted" / "doom" / "link.jpg").read_text() == "doom 1 x"
    assert not (tmp_path / "sorted" / "doom" / "link.jpg").is_symlink()
    assert rows[str(memes / "loop")]["reason"] == "a link to a folder, not followed"
    assert "No such file" in rows[str(memes / "broken.jpg")]["reason"]
    assert sorted(path.name for path in memes.iterdir()) == ["broken.jpg", "link.jpg", "loop"]
    assert len(rows) == 8  # The five, and these three.


def test_undo_keeps_what_was_changed_and_says_so(tmp_path, memes, caplog):
    into = tmp_path / "sorted"
    sort(memes, into=into)
    (into / "doom" / "a.jpg").write_bytes(b"edited")
    (memes / "c.jpg").unlink()
    caplog.set_level("INFO")
    with pytest.raises(UserError, match="1 file could not be put back"):
        command.undo(logs(into)[0])
    assert placed(into) == ["doom/a.jpg"]
    assert (memes / "c.jpg").read_text() == MEMES["c__jpg"]  # The last copy is not deleted, it goes home.
    assert "doom/a.jpg: it differs from" in caplog.text


def test_undo_does_not_overwrite_a_new_file_at_the_old_place(tmp_path, memes):
    sort(memes, into=tmp_path / "sorted", move=True)
    (memes / "a.jpg").write_bytes(b"new")
    with pytest.raises(UserError, match="1 file"):
        command.undo(logs(tmp_path / "sorted")[0])
    assert (memes / "a.jpg").read_bytes() == b"new"
    assert placed(tmp_path / "sorted") == ["doom/a.jpg"]


def test_undo_of_anything_but_a_log_is_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')
    for name, message in (("x.jsonl", "is not a log"), ("gone", "does not exist")):
        with pytest.raises(UserError, match=message):
            command.undo(tmp_path / name)


def test_a_made_up_log_removes_nothing_outside_of_its_folder(tmp_path):
    inbox(tmp_path, precious__jpg="x", copy__jpg="x")
    (tmp_path / "sorted").mkdir()
    header = {"log": "memevit sorting log", "format": 1, "made": []}
    action = {"do": "copy", "from": str(tmp_path / "copy.jpg"), "to": "../precious.jpg", "by": ".sorting-1.part"}
    log = tmp_path / "sorted" / "sort_log_20260101_000000.jsonl"
    log.write_text(f"{json.dumps(header)}\n{json.dumps(action)}\n")
    with pytest.raises(UserError, match="lies outside"):
        command.undo(log)
    assert (tmp_path / "precious.jpg").exists()


def test_a_file_that_vanishes_is_a_row_and_an_error_at_the_end(tmp_path, memes):
    class Thief(Stub):
        def _said(self, path):
            said = super()._said(path)
            if path.name == "b.jpg":
                path.unlink()
            return said

    with pytest.raises(UserError, match="1 image could not be filed"):
        sort(memes, into=tmp_path / "sorted", classifier=Thief(), output=tmp_path / "rows.jsonl", format="jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert rows[1]["reason"] == "not filed: No such file or directory"
    assert len(placed(tmp_path / "sorted")) == 4


def test_a_failed_action_leaves_the_file_of_somebody_else_alone_in_undo(tmp_path, memes, monkeypatch):
    from memevit.sorting import copying

    real, into = copying.copy, tmp_path / "sorted"

    def raced(source, destination, partial, **more):
        if destination.name == "a.jpg":
            destination.write_bytes(source.read_bytes())  # Somebody else, at the same moment.
        real(source, destination, partial, **more)

    monkeypatch.setattr(copying, "copy", raced)
    sort(memes, into=into)
    assert (into / "doom" / "a_2.jpg").exists()
    command.undo(logs(into)[0])
    assert placed(into) == ["doom/a.jpg"]


def test_classes_that_are_no_file_names_get_safe_folders(tmp_path):
    names = ["a/b", "..", "A/B", "nul", "x" * 300, "\x1b[2J"]
    folder_of = folders.folder_names(names)
    assert folder_of["a/b"] == "a_b"
    assert folder_of["A/B"] == "A_B_2"
    assert len({folders.folded(name) for name in folder_of.values()}) == len(names)
    for name in folder_of.values():
        (tmp_path / name).mkdir()
    assert len(list(tmp_path.iterdir())) == len(names)


def test_two_commands_do_not_file_into_one_folder_at_once(tmp_path, memes):
    from memevit.sorting import journal

    (tmp_path / "sorted").mkdir()
    with journal.locked(tmp_path / "sorted"), pytest.raises(UserError, match="Another command is filing"):
        sort(memes, into=tmp_path / "sorted")
