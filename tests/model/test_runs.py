"""Several seeds and the folds of a cross-validation, in one command."""

from pathlib import Path

import numpy as np
import pytest

from memevit import results
from memevit.data import dataset as prepared_dataset
from memevit.evaluation import predictions
from memevit.model import runs
from tests.conftest import run_data_prep, run_finetune, write_classes


@pytest.fixture(scope="module")
def with_folds(tmp_path_factory):
    root = tmp_path_factory.mktemp("folds")
    write_classes(root / "source", n=12)
    argv = ("--source", root / "source", "--output_dir", root / "data", "--num_proc", 1, "--folds", 3)
    assert run_data_prep(*argv) == 0
    return root / "data"


@pytest.fixture(scope="module")
def command(with_folds, tiny_backbone):
    return (
        *("--dataset", with_folds, "--model_name_or_path", tiny_backbone, "--use_cpu", "--disable_tqdm", True),
        *("--max_steps", 4, "--learning_rate", 5e-3, "--per_device_train_batch_size", 16),
    )


@pytest.fixture(scope="module")
def cross_validated(command, tmp_path_factory):
    """Trained with a stop in the middle; the names of the runs before and after it."""
    model_dir = tmp_path_factory.mktemp("cross_validated") / "model"
    argv = (*command, "--output_dir", model_dir, "--seeds", 3, 4, "--folds")
    attempt, names = runs._attempt, []

    def stopping(run, *args, **kwargs):
        names.append(run.name)
        if len(names) == 4:
            raise KeyboardInterrupt
        return attempt(run, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_attempt", stopping)
        assert run_finetune(*argv, probe_if_better=True) == 130
        assert run_finetune(*argv, probe_if_better=True) == 0
    return model_dir, names


def test_finished_trainings_are_not_repeated(cross_validated):
    _, names = cross_validated
    assert names == ["model", "seed-4", "fold-0", "fold-1", "fold-1", "fold-2"]


def test_the_model_is_that_of_the_first_seed_alone(cross_validated, command, tmp_path):
    model_dir, _ = cross_validated
    alone = (*command, "--output_dir", tmp_path / "alone", "--seed", 3)
    assert run_finetune(*alone, probe_if_better=True) == 0
    assert (tmp_path / "alone" / "model.safetensors").read_bytes() == (model_dir / "model.safetensors").read_bytes()
    assert {path.name for path in (tmp_path / "alone").iterdir()} == {path.name for path in model_dir.iterdir()}


def test_every_image_has_a_prediction_by_a_model_that_has_not_seen_it(cross_validated, with_folds):
    model_dir, _ = cross_validated
    written = predictions.read(model_dir)
    splits = np.array(written.splits)
    files = [file for file, split in zip(written.paths, splits, strict=True) if split == "out_of_fold"]
    data = prepared_dataset.load(with_folds)
    assert sorted(files) == sorted(file for split in data.values() for file in split["file"])
    assert len(files) == 36
    assert (splits == "test").sum() == len(data["test"])


def test_every_seed_and_fold_is_settled_between_training_and_probe(cross_validated):
    found = results.read(cross_validated[0])
    assert found["training"]["choice"]["kept"] == results.PROBE  # Four steps are not enough to be better.
    first, second = found["seeds"]["metrics"]["accuracy"]["values"].values()
    assert first == second  # All seeds have the same probe.
    accuracies = {m["subject"]: m["value"] for m in found["measurements"]
                  if (m["split"], m["name"]) == ("out_of_fold", "accuracy")}  # fmt: skip
    assert accuracies["models of the folds"] == accuracies["linear probe"]


def test_mean_and_spread_are_those_of_the_values(cross_validated):
    model_dir, _ = cross_validated
    found, written = results.read(model_dir), predictions.read(model_dir)
    for section, names in (("seeds", ["3", "4"]), ("folds", ["fold-0", "fold-1", "fold-2"])):
        accuracy = found[section]["metrics"]["accuracy"]
        values = list(accuracy["values"].values())
        assert list(accuracy["values"]) == names
        assert accuracy["mean"] == pytest.approx(sum(values) / len(values))
        assert accuracy["standard_deviation"] == pytest.approx(np.std(values, ddof=1))
    chosen = np.array(written.splits) == "out_of_fold"
    right = (written.predicted == written.labels)[chosen]
    accuracies = {
        m["subject"]: m for m in found["measurements"] if (m["split"], m["name"]) == ("out_of_fold", "accuracy")
    }
    overall = accuracies.pop("models of the folds")
    assert (overall["value"], overall["n"]) == (pytest.approx(right.mean()), 36)
    assert list(accuracies) == ["majority class", "colour histogram", "linear probe"]
    assert {m["n"] for m in accuracies.values()} == {36}
    compared = [one for one in found["comparisons"] if one["split"] == "out_of_fold"]
    assert [one["baseline"] for one in compared] == list(accuracies)
    for one in compared:
        assert one["subject"] == "models of the folds"
        difference = overall["value"] - accuracies[one["baseline"]]["value"]
        assert one["difference"] == pytest.approx(difference)
        assert one["n_only_subject_right"] - one["n_only_baseline_right"] == round(36 * difference)
    by_model = {(m["subject"], m["split"]) for m in found["measurements"]}
    assert ("fine-tuned model", "out_of_fold") not in by_model


@pytest.mark.usefixtures("no_figures")
def test_the_events_of_every_training_are_kept(command, tmp_path, monkeypatch):
    attempt = runs._attempt

    def reporting(run, job, args, *rest, **kwargs):
        events = Path(args.output_dir, "runs", "today", "events")
        events.parent.mkdir(parents=True)
        events.write_text(run.name)
        return attempt(run, job, args, *rest, **kwargs)

    monkeypatch.setattr(runs, "_attempt", reporting)
    assert run_finetune(*command, "--output_dir", tmp_path / "model", "--seeds", 3, 4) == 0
    found = {str(path.relative_to(tmp_path / "model")): path.read_text() for path in tmp_path.rglob("events")}
    assert found == {"runs/today/events": "model", "runs/seed-4/today/events": "seed-4"}
