"""Datasets that grow, shrink and are renamed."""

import shutil

import pytest

from memevit import manifest
from memevit.data import dataset, extend
from memevit.errors import UserError
from tests.conftest import draw_image


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """A folder with images of a class that `prepared` lacks."""
    folder = tmp_path_factory.mktemp("more") / "amber"
    folder.mkdir()
    for seed in range(14):
        draw_image(90_000 + seed, colour=(200, 160, 60)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def extended(tmp_path_factory, prepared, more):
    output_dir = tmp_path_factory.mktemp("extended") / "data"
    extend.extend(prepared, {"amber": more}, output_dir, n_processes=1)
    return output_dir


def test_the_new_class_comes_last_and_is_in_every_split(prepared, extended):
    old, new = dataset.load(prepared), dataset.load(extended)
    assert new["train"].features["label"].names == [*old["train"].features["label"].names, "amber"]
    assert all(new[split].features["label"].str2int("amber") in new[split]["label"][:] for split in manifest.SPLITS)


def test_old_images_stay_in_their_splits_and_the_old_dataset_is_not_changed(prepared, extended):
    by_source = {row.source: row.split for row in manifest.kept(manifest.read(extended))}
    old = manifest.kept(manifest.read(prepared))
    assert len(old) > 30
    assert all(by_source[row.source] == row.split for row in old)


def test_an_image_that_an_old_class_has_too_is_a_conflict(tmp_path, prepared, more):
    images = tmp_path / "images"
    shutil.copytree(more, images)
    row = manifest.kept(manifest.read(prepared))[0]
    shutil.copy(prepared / row.file, images / "copy.png")
    prep = extend.extend(prepared, {"amber": images}, tmp_path / "data", n_processes=1)
    assert prep["n_by_status"]["conflict"] == 2
    reasons = {one.source: one.reason for one in manifest.read(tmp_path / "data")}
    assert row.class_name in reasons["amber/copy.png"]


def test_a_class_that_is_removed_or_renamed_leaves_the_others_in_order(tmp_path, prepared):
    names = dataset.load(prepared)["train"].features["label"].names
    extend.extend(prepared, {}, tmp_path / "less", remove=names[0], n_processes=1)
    assert dataset.load(tmp_path / "less")["train"].features["label"].names == names[1:]
    extend.extend(prepared, {}, tmp_path / "other", rename={names[0]: "zinc"}, n_processes=1)
    assert dataset.load(tmp_path / "other")["train"].features["label"].names == ["zinc", *names[1:]]


@pytest.mark.parametrize(("name", "said"), [("TAKEN", "There is a class"), ("test", "can't keep its name"),
                                            ("a/b", "without slashes")])  # fmt: skip
def test_a_name_that_is_taken_or_unusable_is_refused(tmp_path, prepared, more, name, said):
    taken = dataset.load(prepared)["train"].features["label"].names[0]
    with pytest.raises(UserError, match=said):
        extend.extend(prepared, {taken if name == "TAKEN" else name: more}, tmp_path / "data")


def test_a_folder_without_images_is_refused(tmp_path, prepared):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no files"):
        extend.extend(prepared, {"amber": tmp_path / "empty"}, tmp_path / "data")


def test_old_images_are_not_regrouped(prepared, extended):
    old = {row.source: row for row in manifest.kept(manifest.read(prepared))}
    groups = {}
    for row in manifest.kept(manifest.read(extended)):
        if row.source in old:
            groups.setdefault(old[row.source].group, set()).add(row.group)
    assert len(groups) == len({row.group for row in old.values()})
    assert all(len(found) == 1 for found in groups.values())
