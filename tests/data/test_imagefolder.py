"""The written folder as `datasets` reads it."""

import json

import datasets
import numpy as np
import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard

from memevit import escape, manifest
from memevit.data import dataset as prepared_dataset
from tests.conftest import draw_image, run_data_prep, write_classes

ODD_NAMES = ["Test", "[x] y", "a#b %20"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A dataset whose class and file names tempt a loader to misread them, with some files left out."""
    root = tmp_path_factory.mktemp("odd")
    source = write_classes(root / "source", n=7, class_names=ODD_NAMES)
    for number, name in enumerate(("train test.png", "eval-1.png", "metadata.png", "x" * 200 + ".png")):
        draw_image(900 + number).save(source / "Test" / name)
    (source / "Test" / "page.jpg").write_text("<html>")
    draw_image(901).save(source / "[x] y" / "both.png")
    argv = ("--num_proc", 1, "--license", "cc0-1.0", "--conflicts", "drop")
    assert run_data_prep("--source", source, "--output_dir", root / "data", *argv) == 0
    return root / "data"


@pytest.mark.parametrize("how", ["data_dir", "data_files", "folder"])
def test_the_loader_gives_the_rows_class_names_and_order_of_the_manifest(odd, how):
    if how == "data_dir":
        loaded = load_dataset("imagefolder", data_dir=str(odd))
    elif how == "data_files":
        loaded = load_dataset("imagefolder", data_files={split: str(odd / split / "**") for split in manifest.SPLITS})
    else:
        loaded = load_dataset(str(odd))  # Reads the configuration in the dataset card.
    rows = manifest.read(odd)
    ours = prepared_dataset.load(odd)
    assert set(loaded) == set(manifest.SPLITS)
    for split in manifest.SPLITS:
        theirs = loaded[split].cast_column("image", datasets.Image(decode=False))
        files = [row["image"]["path"].split(f"{odd}/")[1] for row in theirs]
        assert files == ours[split]["file"][:] == sorted(row.file for row in rows if row.split == split)
        assert theirs["label"][:] == ours[split]["label"][:]
        assert theirs.features["label"].names == ours[split].features["label"].names == sorted(ODD_NAMES)
        first = np.asarray(loaded[split][0]["image"])
        assert first.shape[2] == 3
    assert sum(len(loaded[split]) for split in loaded) == sum(row.status == manifest.KEPT for row in rows) == 24


def test_the_card_is_valid_and_says_what_the_manifest_says(odd):
    card = DatasetCard.load(odd / "README.md")
    assert card.data.license == "cc0-1.0"
    assert card.data.task_categories == ["image-classification"]
    rows = manifest.read(odd)
    for name in ODD_NAMES:
        counts = [sum((row.class_name, row.split) == (name, split) for row in rows) for split in manifest.SPLITS]
        assert f"| {escape.markdown_text(name)} | {' | '.join(map(str, counts))} |" in card.text
    assert "Licence: cc0-1.0." in card.text
    assert "Of 27 files found, 24 were kept." in card.text
    assert "Left out: 2 in several classes, 1 unusable." in card.text


def test_prep_json_counts_what_the_manifest_lists(odd):
    prep = json.loads((odd / "prep.json").read_text(encoding="utf-8"))
    rows = manifest.read(odd)
    assert prep["n_found"] == len(rows) == 27
    assert prep["n_by_status"] == {"kept": 24, "duplicate": 0, "conflict": 2, "dropped": 0, "rejected": 1}
    assert prep["n_conflicts"] == 1
    for name, counts in prep["classes"].items():
        own = [row for row in rows if row.class_name == name]
        assert counts["found"] == len(own)
        for split in manifest.SPLITS:
            assert counts[split] == sum(row.split == split for row in own) > 0
    assert not list(odd.rglob("metadata.csv"))
