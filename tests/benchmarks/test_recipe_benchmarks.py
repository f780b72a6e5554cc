"""The benchmarks of the recipe: arms that the command accepts, crops within the image, a verdict by hand."""

import functools
import json
from collections import Counter

import numpy as np
import pytest

from benchmarks import epochs, recipe, reference, runs
from memevit import cli, manifest
from memevit.arguments import ModelArguments, RecipeArguments
from memevit.data import dataset as prepared_dataset
from memevit.evaluation.predictions import Predictions
from memevit.model.recipe import FineTuningArguments


def row(validation, test, nll=1.0):
    return {"validation": {"balanced_accuracy": validation, "nll": nll}, "test": {"balanced_accuracy": test}}


@pytest.mark.parametrize("arm", recipe.ARMS)
def test_every_arm_is_a_list_of_flags_that_the_command_knows(tmp_path, arm):
    argv = ["--dataset", str(tmp_path), "--output_dir", str(tmp_path), "--use_cpu", *recipe.ARMS[arm]]
    values, _ = cli._parse((ModelArguments, RecipeArguments, FineTuningArguments), "", argv, None)
    assert len(values) == 3


def test_an_unknown_arm_is_named(tmp_path):
    argv = ["--datasets", str(tmp_path), "--backbone", str(tmp_path), "--arms", "default", "magic"]
    assert cli.run(recipe.main, recipe.RecipeBenchmarkArguments, doc="", argv=argv) == 2


def test_the_table_has_means_over_seeds():
    found = {"games | default | 0": row(0.5, 0.4), "games | default | 1": row(0.7, 0.6, nll=2.0)}
    line = recipe.table(found).splitlines()[1]
    assert line.split() == ["games", "default", "2", "0.600", "1.500", "0.500", "0.400", "0.600"]


def test_the_verdict_needs_every_dataset_and_counts_whole_pairs_only():
    found = {
        "games | ours | 0": row(0, 0.7), "games | plain | 0": row(0, 0.6),
        "games | ours | 1": row(0, 0.5), "games | plain | 1": row(0, 0.55), "games | ours | 2": row(0, 0.9),
        "sample | ours | 0": row(0, 0.5), "sample | plain | 0": row(0, 0.52),
    }  # fmt: skip
    verdict = reference.compare(found)
    games = verdict["datasets"]["games"]
    assert games == pytest.approx(
        {"ours": 0.6, "plain": 0.575, "difference": 0.025, "low": -0.05, "high": 0.1, "n_seeds": 2}
    )
    assert (verdict["never_worse"], verdict["better_on_average"]) == (False, True)
    assert not reference.compare({})["better_on_average"]


def test_crops_of_the_plain_recipe_have_its_areas_and_proportions():
    random = np.random.default_rng(0)
    boxes = np.array([reference.random_box((400, 300), random) for _ in range(300)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area = width * height / (400 * 300)
    assert (boxes >= -1e-9).all()
    assert (boxes[:, 2] <= 400 + 1e-9).all()
    assert (boxes[:, 3] <= 300 + 1e-9).all()
    assert 0.08 <= area.min() < 0.15 < 0.85 < area.max() <= 1.0
    assert (width / height).min() >= 3 / 4 - 1e-9
    assert (width / height).max() <= 4 / 3 + 1e-9


def test_an_image_in_which_no_crop_fits_is_cut_to_its_middle():
    assert reference.random_box((1000, 10), np.random.default_rng(0)) == (495.0, 0.0, 505.0, 10.0)


def test_scores_of_a_split_are_those_of_its_own_rows():
    found = Predictions(
        class_names=["a", "b"],
        paths=list("wxyz"),
        splits=["validation", "validation", "test", "test"],
        labels=np.array([0, 1, 0, 1]),
        probabilities=np.array([[0.5, 0.5], [0.25, 0.75], [0.1, 0.9], [0.1, 0.9]]),
    )
    values = runs.scores(found)
    expected = {"balanced_accuracy": 1.0, "accuracy": 1.0, "macro_f1": 1.0, "n": 2}
    expected |= {"nll": -np.log([0.5, 0.75]).mean(), "ece": (0.5 + 0.25) / 2}
    assert values["validation"] == pytest.approx(expected)
    assert values["test"]["balanced_accuracy"] == 0.5


def test_few_images_per_class_are_drawn_by_seed_from_train_and_validation(prepared):
    small, other, again = (runs.few_per_class(prepared, 6, seed) for seed in (0, 1, 0))
    whole = manifest.kept(manifest.read(prepared))
    rows = manifest.kept(manifest.read(small))
    n_of = Counter((row.split, row.class_name) for row in rows)
    share = sum(row.split == "validation" for row in whole) / sum(row.split == "train" for row in whole)
    for name in manifest.class_names(whole):
        assert [n_of[split, name] for split in ("train", "validation")] == [6, round(6 * share)]
    assert [row.file for row in rows if row.split == "test"] == [row.file for row in whole if row.split == "test"]
    assert again == small
    assert {row.file for row in rows} != {row.file for row in manifest.kept(manifest.read(other))}
    assert len(prepared_dataset.load(small)["train"]) == 18
    assert prepared_dataset.read_prep(small)["fingerprint"] != prepared_dataset.read_prep(prepared)["fingerprint"]


def test_each_epoch_is_scored_beside_a_probe(prepared, tiny_backbone):
    flags = ("--num_train_epochs", "2")
    found = epochs.finetune(prepared, tiny_backbone, flags, seed=0, rate_factor=0.5)
    assert len(found["epochs"]) == 2
    best = max(one["validation"]["macro_f1"] for one in found["epochs"])
    assert found["validation"]["macro_f1"] == best
    for one in (found["probe"], *found["epochs"]):
        for split in runs.SPLITS:
            assert one[split]["n"] == 18
            assert {"accuracy", "nll", "calibrated_nll", "ece", "calibrated_ece"} < one[split].keys()


@pytest.mark.parametrize(("rule", "expected"), [("macro F1", 1), ("loss", 0), ("calibrated loss", 2)])
def test_a_rule_chooses_by_its_own_value_on_validation(rule, expected):
    values = [(0.8, 0.5, 0.4), (0.9, 0.7, 0.35), (0.9, 0.8, 0.3)]
    candidates = [
        {"validation": {"macro_f1": f1, "nll": nll, "calibrated_nll": calibrated}} for f1, nll, calibrated in values
    ]
    assert epochs.picked(candidates, rule) is candidates[expected]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_plain_recipe_trains(prepared, tiny_backbone, precision):
    found = reference.plain(prepared, tiny_backbone, epochs=1, seed=0, precision=precision)
    assert found["test"]["n"] == found["validation"]["n"] == 18
    assert 0.0 <= found["test"]["accuracy"] <= 1.0


def test_what_is_done_is_not_done_again_unless_the_question_is_another(tmp_path):
    output = tmp_path / "out.json"
    header = {"backbone": "tiny", "epochs": 1}
    output.write_text(json.dumps({**header, "runs": {"games | default | 0": row(0.5, 0.4)}}))
    failing = {"games | default | 0": functools.partial(pytest.fail, "it was run again")}
    found = runs.collect(failing, output, header, jobs=1, minutes=1)
    assert found == {"games | default | 0": row(0.5, 0.4)}
    assert runs.collect(failing, output, header | {"epochs": 2}, jobs=1, minutes=0) == {}
