"""finetune_vit.py from dataset to model folder, and the promise that the same file gives the same probabilities."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, pipeline

from memevit import results
from memevit.data import dataset as prepared_dataset
from memevit.evaluation import predictions
from memevit.model.backbone import SHIPPED_BACKBONE
from memevit.model.classifier import Classifier
from tests.conftest import draw_image, run_finetune, run_sort


@pytest.fixture(scope="module")
def plain_pipeline(trained):
    return pipeline("image-classification", model=str(trained), device="cpu")


def by_pipeline(classify, path, class_names):
    scores = {row["label"]: row["score"] for row in classify(str(path), top_k=None)}
    return np.array([scores[name] for name in class_names])


def test_the_model_folder_holds_what_it_should_and_nothing_else(trained):
    assert {path.name for path in trained.iterdir()} == {
        *("config.json", "model.safetensors", "preprocessor_config.json"),
        *("predictions.csv", "results.json", "run.json", "learning_curves.png", "README.md", "confusion_matrix.png"),
        *("open_set.safetensors", "known_scores.png"),
    }
    assert [path.name for path in trained.parent.iterdir()] == ["model"]


def test_whoever_may_read_the_configuration_may_read_the_weights(trained):
    modes = {path.name: path.stat().st_mode for path in trained.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]


def test_it_learned_to_tell_unseen_images_apart(trained):
    found = predictions.read(trained)
    test = np.array(found.splits) == "test"
    assert test.sum() == 18
    assert (found.predicted == found.labels)[test].sum() >= 15


def test_every_weight_moved(trained, tiny_backbone):
    before = AutoModelForImageClassification.from_pretrained(tiny_backbone).vit.state_dict()
    after = AutoModelForImageClassification.from_pretrained(trained).vit.state_dict()
    assert len(before) == len(after) > 30
    still = [name for name in before if torch.equal(before[name], after[name])]
    # Adding one vector to all keys changes no attention, so key biases have no gradient but rounding.
    assert [name for name in still if "k_proj.bias" not in name] == []


def test_classes_are_named_in_the_checkpoint(trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["id2label"] == {"0": "coral", "1": "moss", "2": "slate"}
    assert config["label2id"] == {"coral": 0, "moss": 1, "slate": 2}


def test_trainer_sorting_and_plain_pipeline_give_the_same_probabilities(trained, prepared, plain_pipeline, tmp_path):
    data, written = prepared_dataset.load(prepared), predictions.read(trained)
    row_of = dict(zip(written.paths, written.probabilities, strict=True))
    assert run_sort("--model", trained, "--output", tmp_path / "rows.csv", prepared / "test") == 0
    with (tmp_path / "rows.csv").open(newline="") as file:
        sorted_rows = {row["file"]: row for row in csv.DictReader(file)}
    test, class_names = data["test"], data["test"].features["label"].names
    assert len(sorted_rows) == len(test) == 18
    for path, name in zip(prepared_dataset.paths_of(test), test["file"], strict=True):
        expected = by_pipeline(plain_pipeline, path, class_names)
        by_sorting = [float(sorted_rows[str(path)][f"p_{each}"]) for each in class_names]
        assert np.allclose(row_of[name], expected, atol=1e-4)
        assert np.allclose(by_sorting, expected, atol=1e-4)


def awkward_files():
    """Name, content, and whether the plain pipeline sees the same pixels."""
    image = draw_image(5, size=(120, 90))
    exif = Image.Exif()
    exif[0x0112] = 6
    shaded = Image.fromarray(np.linspace(0, 255, 90 * 120).reshape(90, 120).astype(np.uint8))
    cut = image.convert("RGBA")
    cut.putalpha(shaded)
    grey_16 = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    animation = {"save_all": True, "append_images": [draw_image(6, size=(120, 90))], "duration": 90}
    kinds = [
        ("grey.png", image.convert("L"), "PNG", {}, True),
        ("bit.png", image.convert("1"), "PNG", {}, True),
        ("palette.png", image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG", {}, True),
        ("cmyk.jpg", image.convert("CMYK"), "JPEG", {}, True),
        ("turned.jpg", image, "JPEG", {"exif": exif}, True),
        ("moving.gif", image, "GIF", animation, True),
        ("moving.webp", image, "WEBP", animation, True),
        ("misnamed.jpg", image, "PNG", {}, True),
        ("large.jpg", draw_image(7, size=(2400, 1600)), "JPEG", {}, True),
        ("pixel.png", Image.new("RGB", (1, 1), "red"), "PNG", {}, True),
        ("cut.png", cut, "PNG", {}, False),
        ("grey_cut.png", cut.convert("LA"), "PNG", {}, False),
        ("grey_16.png", grey_16, "PNG", {}, False),
    ]
    for name, image, image_format, options, is_same in kinds:
        content = io.BytesIO()
        image.save(content, image_format, **options)
        yield pytest.param(name, content.getvalue(), is_same, id=name)


@pytest.mark.parametrize(("name", "content", "is_same"), list(awkward_files()))
def test_awkward_files_give_the_same_probabilities_too_but_for_two_exceptions(
    tmp_path, trained, plain_pipeline, name, content, is_same
):
    path = tmp_path / name
    path.write_bytes(content)
    classifier = Classifier.load(trained, device=torch.device("cpu"))
    (found,) = classifier.classify([path])
    plain = by_pipeline(plain_pipeline, path, classifier.class_names)
    assert np.allclose(found.probabilities, plain, atol=1e-4) == is_same
    if not is_same:  # What ours does is what the plain pipeline does with the image made plain first.
        image = Image.open(path)
        if image.mode == "I;16":
            plain_image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        else:
            plain_image = Image.new("RGB", image.size, "white")
            plain_image.paste(image.convert("RGB"), mask=image.getchannel("A"))
        plain_image.save(tmp_path / "made_plain.png")
        expected = by_pipeline(plain_pipeline, tmp_path / "made_plain.png", classifier.class_names)
        assert np.allclose(found.probabilities, expected, atol=5e-3)


def test_results_carry_split_n_and_interval_beside_the_baselines(trained):
    found = results.read(trained)["measurements"]
    accuracy = {(m["subject"], m["split"]): m for m in found if m["name"] == "accuracy"}
    assert set(accuracy) == {
        ("fine-tuned model", "validation"),
        ("fine-tuned model", "test"),
        ("majority class", "test"),
        ("colour histogram", "test"),
        ("linear probe", "test"),
    }
    for measurement in accuracy.values():
        assert measurement["n"] == 18
        assert measurement["ci_low"] <= measurement["value"] <= measurement["ci_high"]
        assert measurement["ci_method"] == "Wilson score, 95 %"
    assert accuracy["majority class", "test"]["value"] == pytest.approx(1 / 3)


def test_results_agree_with_the_predictions_that_were_written(trained):
    found, written = results.read(trained), predictions.read(trained)
    test = np.array(written.splits) == "test"
    matrix = np.zeros((3, 3), dtype=int)
    for true, predicted in zip(written.labels[test], written.predicted[test], strict=True):
        matrix[true, predicted] += 1
    assert found["confusion_matrix"]["counts"] == matrix.tolist()
    value = next(m["value"] for m in found["measurements"] if m["split"] == "test" and m["name"] == "accuracy")
    assert value == pytest.approx(np.trace(matrix) / 18)
    assert [row["n"] for row in found["per_class"]] == [6, 6, 6]


def test_the_run_is_on_record_without_a_path_of_this_machine(trained, prepared):
    run = results.read_run(trained)
    assert run["data_fingerprint"] == prepared_dataset.read_prep(prepared)["fingerprint"]
    assert run["arguments"]["learning_rate"] == 5e-3
    assert run["environment"]["packages"]["transformers"]
    for name in ("run.json", "results.json", "config.json", "predictions.csv"):
        assert str(prepared.parent) not in (trained / name).read_text()


@pytest.mark.usefixtures("no_figures")
def test_the_best_checkpoint_is_what_is_saved(tmp_path, prepared, tiny_backbone, monkeypatch):
    """The highest loss is called the best here, so that it is not the last one."""
    from memevit.model import folder

    kept = {}
    publish = folder.files.publish

    def look_before(work_dir, model_dir):
        kept["log"] = results.read(work_dir)
        publish(work_dir, model_dir)

    monkeypatch.setattr(folder.files, "publish", look_before)
    saved = {}
    rmtree = folder.shutil.rmtree

    def keep_checkpoints(path, *args, **kwargs):
        if path.name.startswith("checkpoint-"):
            saved[path.name] = AutoModelForImageClassification.from_pretrained(path).state_dict()
        rmtree(path, *args, **kwargs)

    monkeypatch.setattr(folder.shutil, "rmtree", keep_checkpoints)
    code = run_finetune(
        *("--dataset", prepared, "--output_dir", tmp_path / "model", "--model_name_or_path", tiny_backbone),
        *("--num_train_epochs", 3, "--learning_rate", 5e-3),
        *("--metric_for_best_model", "loss", "--greater_is_better", True),
        *("--use_cpu", "--disable_tqdm", True, "--save_total_limit", 5),
    )
    assert code == 0
    best = kept["log"]["training"]["best_step"]
    losses = {row["step"]: row["eval_loss"] for row in kept["log"]["history"] if "eval_loss" in row}
    assert best == max(losses, key=losses.get) != max(losses)
    final = AutoModelForImageClassification.from_pretrained(tmp_path / "model").state_dict()
    expected = saved[f"checkpoint-{int(best)}"]
    head = ("classifier.weight", "classifier.bias")
    assert all(torch.equal(final[name], expected[name]) for name in final if name not in head)
    temperature = json.loads((tmp_path / "model" / "config.json").read_text())["open_set"]["temperature_folded"]
    for name in head:
        assert torch.allclose(final[name] * temperature, expected[name], rtol=1e-4, atol=1e-6)


def test_macro_f1_on_validation_chooses_the_checkpoint(trained):
    log = results.read(trained)
    rows = [row for row in log["history"] if "eval_macro_f1" in row]
    best = max(row["eval_macro_f1"] for row in rows)
    equals = [row for row in rows if row["eval_macro_f1"] == best]
    assert len(equals) > 1  # Few images often give equal scores; the lowest loss decides among them.
    assert log["training"]["best_step"] == min(equals, key=lambda row: row["eval_loss"])["step"] != equals[0]["step"]


def test_the_checkpoint_is_in_single_precision(trained):
    assert {tensor.dtype for tensor in load_file(trained / "model.safetensors").values()} == {torch.float32}


@pytest.mark.usefixtures("no_figures")
def test_from_scratch_starts_from_random_weights(tmp_path, prepared, tiny_backbone):
    argv = ("--dataset", prepared, "--model_name_or_path", tiny_backbone, "--use_cpu", "--disable_tqdm", True)
    steps = (
        "--max_steps",
        1,
        "--seed",
        7,
        "--learning_rate",
        1e-9,
        "--eval_strategy",
        "steps",
        "--save_strategy",
        "steps",
    )
    for name, more in (("scratch", ("--from_scratch",)), ("pretrained", ())):
        assert run_finetune(*argv, "--output_dir", tmp_path / name, *steps, *more) == 0
    start = AutoModelForImageClassification.from_pretrained(tiny_backbone).vit.state_dict()
    for name, is_close in (("scratch", False), ("pretrained", True)):
        weights = AutoModelForImageClassification.from_pretrained(tmp_path / name).vit.state_dict()
        key = "embeddings.patch_embeddings.projection.weight"
        assert torch.allclose(start[key], weights[key], atol=1e-6) == is_close
    assert results.read(tmp_path / "scratch")["training"]["from_scratch"]


@pytest.mark.usefixtures("no_figures")
def test_the_shipped_backbone_tells_unseen_images_apart_without_being_trained(tmp_path, prepared):
    argv = ("--dataset", prepared, "--output_dir", tmp_path / "model", "--use_cpu", "--freeze", "backbone")
    assert run_finetune(*argv, "--model_name_or_path", SHIPPED_BACKBONE) == 0
    found = results.read(tmp_path / "model")
    (accuracy,) = (
        m["value"]
        for m in found["measurements"]
        if (m["subject"], m["split"], m["name"]) == (results.MODEL, "test", "accuracy")
    )
    assert accuracy >= 16 / 18
    assert found["training"]["base_model"] == "backbones/vit-micro-patch12-96"
