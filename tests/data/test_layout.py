import os
import shutil

import pytest

from memevit.data import layout, metadata_csv
from memevit.errors import UserError
from tests.conftest import write_classes


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def found_in(root):
    return {file.name: (file.class_name, file.split) for file in layout.read(root).files}


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        *(("train", "train"), ("Training", "train"), ("val", "validation"), ("valid", "validation")),
        *(("dev", "validation"), ("test", "test"), ("eval", "test"), ("Evaluation", "test")),
    ],
)
def test_split_folders_are_known_by_the_names_that_the_loader_knows(tmp_path, folder, split):
    fill(tmp_path, f"{folder}/doom/1.jpg", f"{folder}/animal_crossing/2.jpg")
    assert found_in(tmp_path)[f"{folder}/doom/1.jpg"] == ("doom", split)


def test_class_folders_that_happen_to_be_called_train_and_test_are_classes_if_capitalised(tmp_path):
    fill(tmp_path, "Train/1.jpg", "Test/2.jpg", "Train/more/3.jpg", "plane/4.jpg")
    assert found_in(tmp_path) == {
        "Train/1.jpg": ("Train", ""),
        "Test/2.jpg": ("Test", ""),
        "Train/more/3.jpg": ("Train", ""),
        "plane/4.jpg": ("plane", ""),
    }


@pytest.mark.parametrize(
    ("name", "better"),
    [
        *(("test", "Test"), ("train2", "Train2"), ("half-life test", "half-life Test"), ("dev", "Dev")),
        *(("val.1", "Val.1"), ("a_eval", "a_Eval"), ("-testing", "-Testing"), ("test test", "Test Test")),
    ],
)
def test_a_class_that_the_loader_would_take_for_a_split_is_refused_with_a_better_name(tmp_path, name, better):
    with pytest.raises(UserError, match="would take it for the split") as caught:
        layout.read(fill(tmp_path, f"{name}/1.jpg", "doom/2.jpg"))
    assert f"for example to {better!r}" in str(caught.value)
    (tmp_path / name).rename(tmp_path / better)
    assert len(found_in(tmp_path)) == 2


@pytest.mark.parametrize("name", ["__doom", "a::b", "a\\b", "$HOME", "line\nbreak", "bell\a", os.fsdecode(b"caf\xe9")])
def test_a_class_whose_images_the_loader_would_not_find_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="would not find its images"):
        layout.read(fill(tmp_path, f"{name}/1.jpg", "doom/2.jpg"))


@pytest.mark.parametrize(
    "name", ["latest", "evaluate", "attest-1", "Test", "a#b", "[x]", "*", "?", " a", "a,b", "ドゥーム"]
)
def test_other_odd_class_names_stay(tmp_path, name):
    assert found_in(fill(tmp_path, f"{name}/1.jpg", "doom/2.jpg"))[f"{name}/1.jpg"] == (name, "")


def test_splits_beside_other_folders_are_not_guessed_at(tmp_path):
    fill(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg", "test/b/4.jpg", "extra/5.jpg")
    with pytest.raises(UserError, match=r"also holds \['extra'\]"):
        layout.read(tmp_path)


def test_images_beside_the_class_folders_of_a_split_are_stray(tmp_path):
    fill(
        tmp_path, "data/train/a/1.jpg", "data/train/b/2.jpg", "data/test/3.jpg", "data/4.PNG", "5.gif", "data/notes.txt"
    )
    stray = layout.read(tmp_path).stray
    assert [(file.name, file.problem, file.class_name) for file in stray] == [
        (name, "in no class folder", "") for name in ("5.gif", "data/4.PNG", "data/test/3.jpg")
    ]


def test_links_to_folders_are_not_followed_and_have_a_row(tmp_path):
    fill(tmp_path / "elsewhere", "secret.jpg")
    root = fill(tmp_path / "source", "a/1.jpg", "b/2.jpg")
    (root / "linked_class").symlink_to(tmp_path / "elsewhere")
    (root / "same").symlink_to(root / "a")
    (root / "a" / "inner").symlink_to(root / "b")
    (root / "a" / "circle").symlink_to(root)
    found = layout.read(root)
    assert {file.name: file.problem for file in found.stray} == {
        "linked_class": "a link that leaves the source",
        "same": "a link to a folder",
    }
    assert {file.name: file.problem for file in found.files} == {
        "a/1.jpg": "",
        "a/circle": "a link to a folder",
        "a/inner": "a link to a folder",
        "b/2.jpg": "",
    }


def test_hidden_images_count_and_what_the_system_adds_does_not(tmp_path):
    names = ["a/.hidden.jpg", "a/._1.jpg", "a/.DS_Store", "a/Thumbs.db", "a/.thumbs/1.jpg", "__MACOSX/a/1.jpg"]
    fill(tmp_path, "a/1.jpg", "b/2.jpg", *names)
    assert sorted(found_in(tmp_path)) == ["a/.hidden.jpg", "a/1.jpg", "b/2.jpg"]


def test_a_name_that_is_no_utf8_is_spelled_out(tmp_path):
    fill(tmp_path, "b/2.jpg", os.fsdecode(b"a/caf\xe9.jpg"))
    assert sorted(found_in(tmp_path)) == ["a/caf\\xe9.jpg", "b/2.jpg"]


def test_a_csv_link_that_leaves_the_source_and_a_folder_called_csv_are_passed_over(tmp_path):
    root = fill(tmp_path / "source", "a/1.jpg", "b/2.jpg", "c.csv/3.jpg")
    (tmp_path / "private.csv").write_text("file,password\n1.jpg,hunter2\n")
    (root / "link.csv").symlink_to(tmp_path / "private.csv")
    found = layout.read(root)
    metadata_csv.join(found.around, found.files)
    assert all(not file.metadata for file in found.files)


def test_a_folder_that_can_not_be_listed_is_named(tmp_path, monkeypatch):
    fill(tmp_path, "a/1.jpg", "a/locked/2.jpg", "b/3.jpg")
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(UserError, match=r"locked can't be listed \(Permission denied\)"):
        layout.read(tmp_path)


def test_the_order_in_which_folders_are_listed_does_not_matter(tmp_path, monkeypatch):
    root = write_classes(tmp_path / "source", n=4)
    shutil.copy(root / "moss" / "moss_000.png", root / "stray.png")
    before = layout.read(root)
    listed = os.walk
    monkeypatch.setattr(
        os, "walk", lambda top, **options: ((f, s[::-1], n[::-1]) for f, s, n in listed(top, **options))
    )
    assert layout.read(root) == before


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("Doom", "doom", "capital letters"),
        ("Pok\u00e9mon", "Poke\u0301mon", "NFC and NFD"),
        ("doom", "doom ", "spaces"),
        ("doom 2", "doom  2", "spaces"),
        ("STRASSE", "stra\u00dfe", "capital letters"),
        ("train/Doom", "test/doom", "capital letters"),
    ],
)
def test_class_folders_that_look_alike_are_refused_with_the_difference(tmp_path, one, other, how):
    fill(
        tmp_path,
        f"{one}/1.jpg",
        f"{other}/2.jpg",
        *(["train/cat/3.jpg", "test/cat/4.jpg"] if "/" in one else ["cat/3.jpg"]),
    )
    with pytest.raises(UserError, match=f"differ only in .*{how}"):
        layout.read(tmp_path)


def test_hidden_folders_with_images_and_folders_that_systems_make_are_named(tmp_path, caplog):
    caplog.set_level("INFO")
    fill(
        tmp_path,
        "a/1.jpg",
        "b/2.jpg",
        ".NET/3.jpg",
        ".idea/x.xml",
        "a/@eaDir/1.jpg/thumb.jpg",
        "b/@eaDir/t.jpg",
        ".git/x.png",
    )
    assert sorted(found_in(tmp_path)) == ["a/1.jpg", "b/2.jpg"]
    assert ".NET was not read, because its name begins with a dot. If it is a class, rename it." in caplog.text
    assert "2 folders called @eaDir were not read" in caplog.text
    assert ".idea" not in caplog.text


def test_nested_class_folders_are_named_with_a_way_out(tmp_path, caplog):
    fill(tmp_path, "animals/cat/1.jpg", "animals/dog/2.jpg", "cars/3.jpg", "cars/notes/x.txt")
    assert set(found_in(tmp_path).values()) == {("animals", ""), ("cars", "")}
    (said,) = caplog.messages
    assert said.startswith("All images in the folders ['cat', 'dog'] of 'animals' count as the class 'animals'.")


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (("train/a/1.jpg", "train/b/2.jpg", "test1/3.jpg"), "move test1 away, as images without a class"),
        (("train/a/1.jpg", "train/b/2.jpg", "test1/a/3.jpg", "test1/b/4.jpg"), "rename test1 to test"),
        (
            ("training_set/a/1.jpg", "training_set/b/2.jpg", "test_set/a/3.jpg"),
            "rename test_set to test; rename training_set to train",
        ),
        (
            ("train/a/1.jpg", "train/b/2.jpg", "extra/a/3.jpg"),
            "move the classes in extra into the splits, or extra away",
        ),
    ],
)
def test_what_lies_beside_the_splits_is_answered_with_advice_that_works(tmp_path, names, advice):
    with pytest.raises(UserError) as caught:
        layout.read(fill(tmp_path, *names))
    assert advice in str(caught.value)
    for step in str(caught.value).split("To use it: ")[1].rstrip(".").split("; "):
        words = step.split()
        if words[0] == "rename":
            (tmp_path / words[1]).rename(tmp_path / words[3])
        else:
            shutil.rmtree(tmp_path / (words[1] if words[2] == "away," else words[4]))
    assert {split for _, split in found_in(tmp_path).values()} <= {"train", "test"}


def test_a_class_that_one_split_of_the_source_lacks_is_named_with_a_way_out(tmp_path):
    fill(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg")
    with pytest.raises(
        UserError, match=r"'b' has no files in the split 'test' of the source \(1 files in train\).*--resplit"
    ):
        layout.require_classes_in_splits(layout.read(tmp_path).files)
