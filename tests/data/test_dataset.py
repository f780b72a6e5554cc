"""A prepared folder opened with `datasets`: its rows, its order of classes, and its folds."""

import json

import datasets
import pytest

from memevit import manifest
from memevit.data import dataset
from memevit.errors import UserError


def write(root, fold_names, classes=("coral", "moss")):
    rows = [
        manifest.Row(file=f"train/{name}/{number}.png", split="train", class_name=name, status=manifest.KEPT, fold=fold)
        for number, fold in enumerate(fold_names)
        for name in ("moss", "coral")
    ]
    manifest.write(root, [*rows, manifest.Row(status=manifest.REJECTED, source="broken.jpg")])
    (root / dataset.PREP_FILE).write_text(json.dumps({"classes": dict.fromkeys(classes)}))
    for row in rows:
        (root / row.file).parent.mkdir(parents=True, exist_ok=True)
        (root / row.file).write_bytes(b"x")
    return dataset.load(root)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_rows_are_those_of_the_manifest_and_mapped_from_the_disk(prepared):
    found = dataset.load(prepared)
    kept = manifest.kept(manifest.read(prepared))
    for split in manifest.SPLITS:
        own = [row for row in kept if row.split == split]
        assert found[split]["file"][:] == [row.file for row in own]
        assert found[split]["group"][:] == [row.group for row in own]
        names = found[split].features["label"].names
        assert [names[label] for label in found[split]["label"]] == [row.class_name for row in own]
        assert dataset.paths_of(found[split]) == [str(prepared / row.file) for row in own]
        assert found[split].features["image"] == datasets.Image(decode=False)
        (mapped,) = found[split].cache_files
        assert mapped["filename"].startswith(f"{prepared}.cache/rows-")


def test_rows_and_classes_are_those_of_imagefolder(prepared, tmp_path):
    found = dataset.load(prepared)
    for split in manifest.SPLITS:
        usual = datasets.load_dataset("imagefolder", data_dir=prepared, split=split, cache_dir=tmp_path)
        assert usual.features["label"] == found[split].features["label"]
        assert usual["label"][:] == found[split]["label"][:]


def test_a_class_that_was_added_last_stays_last_in_any_alphabet(root):
    found = write(root, ["0", "1", "2"], classes=("moss", "coral"))
    assert found["train"].features["label"].names == ["moss", "coral"]
    assert dict(zip(found["train"]["file"], found["train"]["label"], strict=True))["train/moss/0.png"] == 0


def test_a_changed_manifest_is_read_again(root):
    assert len(write(root, ["0", "1", "2"])["train"]) == 6
    assert len(write(root, ["0", "1"])["train"]) == 4
    assert len(list(root.with_name("data.cache").iterdir())) == 3


def test_titles_are_a_column_if_the_source_had_them(root):
    write(root, ["0"])
    rows = manifest.read(root)
    rows[0].extra["title"] = "When the shotgun is empty"
    manifest.write(root, rows)
    assert dataset.load(root)["train"]["title"][:] == ["", "When the shotgun is empty"]


def test_where_nothing_can_be_written_the_rows_are_held_in_memory(root):
    root.with_name("data.cache").write_text("a file where the folder should be")
    assert write(root, ["0"])["train"]["label"][:] == [0, 1]


def test_a_missing_image_and_a_folder_that_was_not_prepared_are_told(root, tmp_path):
    write(root, ["0", "1"])
    (root / "train/moss/1.png").unlink()
    with pytest.raises(UserError, match=r"1 of 4 images are missing, first .*train/moss/1\.png"):
        dataset.load(root)
    with pytest.raises(UserError, match=r"has no manifest\.csv"):
        dataset.require_prepared(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        dataset.require_prepared(tmp_path / "nowhere")


def test_each_image_is_tested_once_and_in_no_other_role_at_the_same_time(root):
    found = dataset.folds(write(root, ["0", "1", "2", "10", "2"]))
    assert list(found) == ["0", "1", "2", "10"]
    tested = [file for splits in found.values() for file in splits["test"]["file"]]
    assert len(tested) == len(set(tested)) == 10
    for splits in found.values():
        everything = [file for split in splits.values() for file in split["file"]]
        assert len(everything) == len(set(everything)) == 10


def test_the_next_fold_chooses_the_checkpoint(root):
    found = dataset.folds(write(root, ["0", "1", "2"]))
    assert {name: splits["validation"]["file"][:] for name, splits in found.items()} == {
        "0": ["train/coral/1.png", "train/moss/1.png"],
        "1": ["train/coral/2.png", "train/moss/2.png"],
        "2": ["train/coral/0.png", "train/moss/0.png"],
    }
    assert found["2"]["test"]["label"][:] == [0, 1]
    assert dataset.paths_of(found["2"]["test"]) == [f"{root}/train/coral/2.png", f"{root}/train/moss/2.png"]


@pytest.mark.parametrize(
    ("fold_names", "message"),
    [(["", ""], "has no folds"), (["0", "1"], "has 2 folds"), (["0", "1", "2", ""], "in no fold")],
)
def test_too_few_folds_are_refused(root, fold_names, message):
    with pytest.raises(UserError, match=message):
        dataset.folds(write(root, fold_names))
