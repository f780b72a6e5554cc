"""Classes added to a trained model, taken out and renamed."""

import json

import numpy as np
import pytest
from transformers import pipeline

from memevit import results
from memevit.data import dataset
from memevit.evaluation import growth, predictions
from memevit.model import extend, open_set
from memevit.portable.open_set import OpenSet
from tests.conftest import COLOURS, draw_image, run_finetune, run_script

NEW_COLOURS = {"amber": (230, 170, 30), "violet": (150, 60, 200), "teal": (20, 150, 150), "rose": (240, 150, 190)}


def draw_class(folder, *, colour, n=40, first_seed=50_000):
    folder.mkdir(parents=True)
    for seed in range(n):
        draw_image(first_seed + seed, colour=colour).save(folder / f"{seed}.png")
    return folder


def run_add_class(*argv):
    import add_class
    from memevit.arguments import ClassArguments, OpenSetArguments

    return run_script(add_class, *argv, groups=(ClassArguments, OpenSetArguments))


@pytest.fixture(scope="module")
def amber(tmp_path_factory):
    return draw_class(tmp_path_factory.mktemp("images") / "anything", colour=NEW_COLOURS["amber"])


@pytest.fixture(scope="module")
def grown(tmp_path_factory, trained, prepared, amber):
    """`trained` with a fourth class."""
    path = tmp_path_factory.mktemp("grown") / "model"
    assert run_add_class(
        *("--model", trained, "--dataset", prepared, "--images", amber, "--class_name", "amber"),
        *("--output_dir", path, "--no_auto_refine"),
    ) == 0  # fmt: skip
    return path


def names_of(model_dir):
    config = json.loads((model_dir / "config.json").read_text())
    return [config["id2label"][str(label)] for label in range(len(config["id2label"]))]


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_old_labels_keep_their_numbers_and_the_new_one_is_appended(grown, trained):
    assert names_of(grown) == [*names_of(trained), "amber"]
    assert dataset.load(grown.with_name("model.dataset"))["test"].features["label"].names == names_of(grown)


def test_the_new_model_is_an_ordinary_one_for_the_plain_pipeline(grown, amber):
    classify = pipeline("image-classification", model=str(grown))
    labels = [classify(str(path))[0]["label"] for path in sorted(amber.iterdir())]
    assert labels.count("amber") > 30


def test_the_plain_pipeline_says_what_predictions_csv_says(grown):
    classify = pipeline("image-classification", model=str(grown))
    written = predictions.read(grown)
    for row in range(0, len(written.paths), 9):
        image = str(grown.with_name("model.dataset") / written.paths[row])
        own = {one["label"]: one["score"] for one in classify(image)}
        assert [own[name] for name in written.class_names] == pytest.approx(written.probabilities[row], abs=1e-4)


def test_the_table_compares_the_same_images_before_and_after(grown, trained):
    found = results.read(grown)["growth"]
    assert [row["class_name"] for row in found["old_classes"]] == names_of(trained)
    before, test = predictions.read(trained), results.read(trained)["confusion_matrix"]["counts"]
    assert [row["n"] for row in found["old_classes"]] == [sum(row) for row in test]
    right = (before.predicted == before.labels)[np.array(before.splits) == "test"]
    assert found["old"]["before"] == pytest.approx(right.mean())
    assert found["new"]["n"] == found["new_classes"][0]["n"] == 6
    assert found["new_called_unknown"]["before"]["n"] == 6
    assert (grown / results.GROWTH_FILE).read_bytes().startswith(b"\x89PNG")


def test_the_card_shows_the_table(grown):
    card = (grown / "README.md").read_text()
    assert "## Classes added later" in card
    assert "| amber | 6 | new |" in card
    assert "](growth.png)" in card


def test_statistics_and_bank_know_the_new_class(grown):
    known = OpenSet.load(grown)
    assert (
        known.settings["n_calibration"]["amber"] == 6 + 28
    )  # Training images of it, judged without them, stand beside.
    assert np.bincount(extend.training_features(known).labels).tolist() == [28, 28, 28, 28]


@pytest.mark.usefixtures("no_figures")
def test_old_model_and_dataset_are_not_changed(tmp_path, trained, prepared, amber):
    before = snapshot(trained), snapshot(prepared)
    assert run_add_class("--model", trained, "--dataset", prepared, "--images", amber, "--class_name", "amber",
                         "--output_dir", tmp_path / "m", "--no_auto_refine") == 0  # fmt: skip
    assert (snapshot(trained), snapshot(prepared)) == before


@pytest.mark.usefixtures("no_figures")
def test_a_model_can_grow_five_times_in_a_row(tmp_path, trained, prepared):
    model, data = trained, prepared
    for number, (name, colour) in enumerate([*NEW_COLOURS.items(), ("grey", (128, 128, 128))]):
        images = draw_class(tmp_path / "images" / name, colour=colour, n=12, first_seed=60_000 + 100 * number)
        output = tmp_path / f"model-{number}"
        assert run_add_class("--model", model, "--dataset", data, "--images", images, "--class_name", name,
                             "--output_dir", output, "--no_auto_refine") == 0  # fmt: skip
        model, data = output, output.with_name(f"{output.name}.dataset")
    assert names_of(model) == [*COLOURS, *NEW_COLOURS, "grey"]
    assert results.read(model)["growth"]["old"]["n"] == 18 + 4 * 2


@pytest.mark.usefixtures("no_figures")
def test_a_folder_of_class_folders_adds_all_of_them(tmp_path, trained, prepared):
    for name in ("amber", "violet"):
        draw_class(tmp_path / "more" / name, colour=NEW_COLOURS[name], n=12, first_seed=len(name) * 9000)
    assert run_add_class("--model", trained, "--dataset", prepared, "--images", tmp_path / "more",
                         "--output_dir", tmp_path / "m", "--no_auto_refine") == 0  # fmt: skip
    assert names_of(tmp_path / "m")[-2:] == ["amber", "violet"]


@pytest.mark.usefixtures("no_figures")
def test_a_class_is_removed_and_another_renamed_without_touching_what_the_others_get(tmp_path, trained, prepared):
    first, second, third = names_of(trained)
    assert run_add_class("--model", trained, "--dataset", prepared, "--remove_class", first, "--rename_class", second,
                         "zinc", "--output_dir", tmp_path / "m") == 0  # fmt: skip
    assert names_of(tmp_path / "m") == ["zinc", third]
    assert results.read(tmp_path / "m")["growth"]["head"] == "as before"
    assert set(OpenSet.load(tmp_path / "m").settings["n_calibration"]) == {"zinc", third}


@pytest.mark.usefixtures("no_figures")
def test_refining_trains_the_whole_network_further(tmp_path, trained, prepared, amber, monkeypatch):
    monkeypatch.setattr("memevit.commands.add_class.REFINE_EPOCHS", 1)
    output = tmp_path / "m"
    assert run_add_class("--model", trained, "--dataset", prepared, "--images", amber, "--class_name", "amber",
                         "--output_dir", output, "--refine") == 0  # fmt: skip
    assert results.read(output)["growth"]["refined"] is True
    assert names_of(output)[-1] == "amber"
    assert results.read(output)["training"]["n_steps"] > 0
    assert list(tmp_path.glob(".*")) == []


@pytest.fixture(scope="module")
def statistics_only(tmp_path_factory, trained, prepared):
    """`trained` without features of single images."""
    model = tmp_path_factory.mktemp("statistics") / "model"
    assert run_finetune("--calibrate_only", "--statistics_only", "--model_name_or_path", trained, "--dataset", prepared,
                        "--output_dir", model, "--use_cpu", "--disable_tqdm", True) == 0  # fmt: skip
    return model


@pytest.fixture
def n_seen(monkeypatch):
    """How many images the network is shown, by the title of the progress bar."""
    found = {}

    def counted(model, images, layers, *, title, **options):
        found[title] = len(images)
        return observe(model, images, layers, title=title, **options)

    observe = open_set.observe
    monkeypatch.setattr(open_set, "observe", counted)
    return found


@pytest.mark.usefixtures("no_figures")
def test_a_model_with_statistics_alone_grows_by_them_and_is_shown_no_old_training_image(
    tmp_path, statistics_only, prepared, amber, n_seen
):
    output = tmp_path / "m"
    assert run_add_class("--model", statistics_only, "--dataset", prepared, "--images", amber, "--class_name", "amber",
                         "--output_dir", output, "--no_auto_refine") == 0  # fmt: skip
    assert n_seen == {"Features of train": 28, "Features of validation": 24, "Features of test": 24}
    known, found = OpenSet.load(output), results.read(output)["growth"]
    assert known.settings["n_training"] == dict.fromkeys(names_of(output), 28)
    assert extend.training_features(known) is None
    assert found["head"] == "linear discriminant analysis"
    assert found["harmonic_mean"] > 0.9


@pytest.mark.usefixtures("no_figures")
def test_a_class_is_removed_from_a_model_with_statistics_alone(tmp_path, statistics_only, prepared, n_seen):
    first, second, third = names_of(statistics_only)
    assert run_add_class("--model", statistics_only, "--dataset", prepared, "--remove_class", second,
                         "--output_dir", tmp_path / "m") == 0  # fmt: skip
    assert "Features of train" not in n_seen
    assert OpenSet.load(tmp_path / "m").settings["n_training"] == {first: 28, third: 28}


@pytest.mark.usefixtures("no_figures")
def test_refining_a_model_with_statistics_alone_gives_it_no_features_of_single_images(
    tmp_path, statistics_only, prepared, amber, monkeypatch
):
    monkeypatch.setattr("memevit.commands.add_class.REFINE_EPOCHS", 1)
    assert run_add_class("--model", statistics_only, "--dataset", prepared, "--images", amber, "--class_name", "amber",
                         "--output_dir", tmp_path / "m", "--refine") == 0  # fmt: skip
    assert extend.training_features(OpenSet.load(tmp_path / "m")) is None


@pytest.mark.usefixtures("no_figures")
def test_unknown_images_are_told_from_known_ones_before_and_after(tmp_path, trained, prepared, amber):
    grey = draw_class(tmp_path / "grey", colour=(128, 128, 128), n=12)
    output = tmp_path / "m"
    assert run_add_class("--model", trained, "--dataset", prepared, "--images", amber, "--class_name", "amber",
                         "--output_dir", output, "--no_auto_refine", "--unknown_images", grey) == 0  # fmt: skip
    drawn, near = results.read(output)["growth"]["auroc"]
    assert (drawn["n"], drawn["is_near"], near["name"], near["n"], near["is_near"]) == (120, False, "grey", 12, True)
    before, after = (results.read(model)["open_set"]["sources"] for model in (trained, output))
    assert drawn["before"] == pytest.approx(before[0]["auroc"], abs=1e-6)
    assert [row["after"] for row in (drawn, near)] == [row["auroc"] for row in after]
    assert f"| grey | 12 | {near['before']:.3f} | {near['after']:.3f} |" in (output / "README.md").read_text()
    assert drawn["called_unknown"]["before"] == pytest.approx(1 - before[0]["accepted"])
    assert near["called_unknown"]["after"] == pytest.approx(1 - after[1]["accepted"])
    assert growth.table(results.read(output)["growth"]).count("Of these called unknown: ") == 2


@pytest.mark.usefixtures("no_figures")
def test_a_new_head_does_not_inherit_the_temperature_of_the_old_one(tmp_path, trained, prepared, amber):
    assert json.loads((trained / "config.json").read_text())["open_set"]["temperature_folded"] != 1
    assert run_add_class("--model", trained, "--dataset", prepared, "--images", amber, "--class_name", "amber",
                         "--output_dir", tmp_path / "m", "--no_auto_refine", "--no_temperature") == 0  # fmt: skip
    assert json.loads((tmp_path / "m/config.json").read_text())["open_set"]["temperature_folded"] == 1


def test_the_model_itself_is_never_replaced(trained, prepared, amber, capsys):
    before = snapshot(trained)
    assert run_add_class("--model", trained, "--dataset", prepared, "--images", amber, "--class_name", "amber",
                         "--output_dir", trained, "--overwrite") == 2  # fmt: skip
    assert "must stay" in capsys.readouterr().err
    assert snapshot(trained) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--class_name", "moss"), "There is a class 'moss' already"),
        (("--class_name", "amber", "--remove_class", "gold"), "has no class 'gold'"),
        (("--class_name", "a", "b"), "Give them in pairs"),
        ((), "holds no class folders"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(tmp_path, trained, prepared, amber, capsys, options, said):
    argv = ("--model", trained, "--dataset", prepared, "--images", amber, "--output_dir", tmp_path / "m", *options)
    assert run_add_class(*argv) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_too_few_images_are_refused_with_what_more_would_give(tmp_path, trained, prepared, capsys):
    images = draw_class(tmp_path / "few", colour=(9, 9, 9), n=6)
    assert run_add_class("--model", trained, "--dataset", prepared, "--images", images, "--class_name", "few",
                         "--output_dir", tmp_path / "m") == 2  # fmt: skip
    said = capsys.readouterr().err
    assert "'few' has 6 usable images" in said
    assert "60 and more" in said
    assert not (tmp_path / "m.dataset").exists()


def test_stale_statistics_are_refused(tmp_path, trained, prepared, amber, capsys):
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    model = tmp_path / "stale"
    shutil.copytree(trained, model)
    weights = load_file(model / "model.safetensors")
    save_file({name: own + 0.1 * torch.randn_like(own) for name, own in weights.items()}, model / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    assert run_add_class("--model", model, "--dataset", prepared, "--images", amber, "--class_name", "amber",
                         "--output_dir", tmp_path / "m") == 2  # fmt: skip
    assert "--calibrate_only" in capsys.readouterr().err
