"""Cross-validation on the folds that data_prep.py numbered."""

import pytest

from memevit import manifest
from memevit.data import folds
from memevit.errors import UserError


def write(root, fold_names):
    rows = [
        manifest.Row(file=f"train/{name}/{number}.png", split="train", class_name=name, status=manifest.KEPT, fold=fold)
        for number, fold in enumerate(fold_names)
        for name in ("moss", "coral")
    ]
    manifest.write(root, [*rows, manifest.Row(status=manifest.REJECTED, source="broken.jpg")])


def test_each_picture_is_tested_once_and_in_no_other_role_at_the_same_time(tmp_path):
    write(tmp_path, ["0", "1", "2", "10", "2"])
    found = folds.splits_by_fold(tmp_path)
    assert list(found) == ["0", "1", "2", "10"]
    tested = [file for splits in found.values() for file in splits["test"].files]
    assert len(tested) == len(set(tested)) == 10
    for splits in found.values():
        everything = [file for split in splits.values() for file in split.files]
        assert len(everything) == len(set(everything)) == 10


def test_the_next_fold_chooses_the_checkpoint(tmp_path):
    write(tmp_path, ["0", "1", "2"])
    found = folds.splits_by_fold(tmp_path)
    assert {name: splits["validation"].files for name, splits in found.items()} == {
        "0": ["train/coral/1.png", "train/moss/1.png"],
        "1": ["train/coral/2.png", "train/moss/2.png"],
        "2": ["train/coral/0.png", "train/moss/0.png"],
    }
    assert found["2"]["test"].labels == [0, 1]
    assert found["2"]["test"].paths == [tmp_path / "train/coral/2.png", tmp_path / "train/moss/2.png"]


@pytest.mark.parametrize(
    ("fold_names", "message"),
    [(["", ""], "has no folds"), (["0", "1"], "has 2 folds"), (["0", "1", "2", ""], "in no fold")],
)
def test_too_few_folds_are_refused(tmp_path, fold_names, message):
    write(tmp_path, fold_names)
    with pytest.raises(UserError, match=message):
        folds.splits_by_fold(tmp_path)
