"""The dataset card, and strangers' words in it and in manifest.csv."""

import csv
import json

import pytest
from huggingface_hub import DatasetCard

from benchmarks import render_readme
from memevit import manifest
from memevit.data import dataset_card
from tests.conftest import run_data_prep, write_classes

HOSTILE = "<!-- <b>a_b</b> | x"


@pytest.fixture(scope="module")
def prepared_twice(tmp_path_factory):
    """prep.json and rows of a dataset whose class, CSV cells and column are hostile."""
    root = tmp_path_factory.mktemp("hostile")
    write_classes(root / "source", n=5, class_names=("moss", HOSTILE.replace("/", "")))
    cells = [f"moss_{n:03}.png,{cell}" for n, cell in enumerate(("=1+1", "'=x", "-5", "@a", "plain"))]
    (root / "source" / "posts.csv").write_text("filename,=HYPERLINK()\n" + "\n".join(cells) + "\n")
    assert run_data_prep("--source", root / "source", "--output_dir", root / "data", "--num_proc", 1) == 0
    return root / "data"


def test_no_cell_of_the_manifest_is_a_formula_and_all_are_read_back(prepared_twice):
    with (prepared_twice / "manifest.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert [cell for cell in cells if cell[:1] in ("=", "+", "@") or (cell[:1] == "-" and cell != "-5")] == []
    rows = {row.source: row.extra for row in manifest.read(prepared_twice)}
    column = [rows[f"moss/moss_{n:03}.png"]["=HYPERLINK()"] for n in range(5)]
    assert column == ["=1+1", "'=x", "-5", "@a", "plain"]


def test_names_of_strangers_are_shown_literally(prepared_twice):
    text = (prepared_twice / "README.md").read_text()
    body = text.split("---\n", 2)[2]
    assert "<!--" not in body
    assert "<b>" not in body
    assert r"| &lt;\!\-\- &lt;b&gt;a\_b&lt;b&gt; \| x | 3 | 1 | 1 |" in body
    assert DatasetCard(text).data.pretty_name == "Images of <!-- <b>a b<b> | x and moss"


def card(prepared, **changes):
    """The card with other settings or other entries of prep.json."""
    prep = json.loads((prepared / "prep.json").read_text())
    settings = {name: changes.pop(name) for name in list(changes) if name in prep["settings"]}
    return dataset_card.render(prep | changes | {"settings": prep["settings"] | settings})


def test_words_tags_and_links_are_those_that_were_given(prepared_twice):
    text = card(
        prepared_twice, title="Reef *life*", description="Two kinds of reefs.", tags=["reefs"], citation="Ada 2020",
        source_url="https://reefs.example/a", license="cc-by-4.0",
    )  # fmt: skip
    parsed = DatasetCard(text).data
    assert (parsed.pretty_name, parsed.tags, parsed.license) == ("Reef *life*", ["reefs"], "cc-by-4.0")
    assert r"# Reef \*life\*" + "\n\nTwo kinds of reefs.\n\n10 images in 2 classes" in text
    assert "<https://reefs.example/a>" in text
    assert "## Citation\n\n```\nAda 2020\n```" in text
    assert "Game" not in text


def test_without_words_nothing_is_made_up(prepared_twice):
    text = card(prepared_twice)
    assert "Where the images come from is not stated." in text
    assert "## Citation" not in text
    assert "tags" not in DatasetCard(text).data.to_dict()


@pytest.mark.parametrize(
    ("made_by", "said"),
    [
        (("seed", "seed", "seed"), "The splits were made by data_prep.py, at random with seed 0"),
        (("source", "source", "source"), "The splits are those of the source."),
        (("source", "seed", "source"), "Train and test are those of the source; validation was taken out of its train"),
    ],
)
def test_the_card_says_who_made_the_splits(prepared_twice, made_by, said):
    assert said in card(prepared_twice, split_made_by=dict(zip(manifest.SPLITS, made_by, strict=True)))


def test_examples_are_files_of_the_dataset(prepared_twice):
    prep = json.loads((prepared_twice / "prep.json").read_text())
    files = [file for files in prep["previews"].values() for file in files]
    assert len(files) == 6
    assert all((prepared_twice / file).is_file() for file in files)


def test_the_share_that_the_search_finds_is_the_measured_one():
    measured = json.loads((render_readme.RESULTS / "duplicate_recall.json").read_text())["recall"]
    shares = [round(measured[kind]["all"]["recall"], 2) for kind in ("templates", "reposts")]
    assert [dataset_card.TEMPLATE_RECALL, dataset_card.REPOST_RECALL] == shares
    near = {"n_related_pairs": 5, "n_kept_pairs_across_splits": 0}
    words = dataset_card.near_duplicates_in_words({"near_duplicates": near, "settings": {}})
    assert f"finds {shares[0]:.0%} of the pairs" in words
