import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from memevit import results
from memevit.arguments import OpenSetArguments
from memevit.commands import calibrate
from memevit.data import dataset
from memevit.errors import UserError
from memevit.evaluation import predictions
from memevit.model import backbone, open_set
from memevit.model.classifier import Classifier
from memevit.portable.open_set import OpenSet
from tests.conftest import draw_image, run_finetune, write_classes

CPU = torch.device("cpu")


def settings_of(model_dir):
    return json.loads((model_dir / "config.json").read_text())["open_set"]


def calibrate_only(model, data, output_dir, *options):
    return run_finetune(
        *("--calibrate_only", "--model_name_or_path", model, "--dataset", data, "--output_dir", output_dir),
        *("--use_cpu", "--disable_tqdm", True, *options),
    )


@pytest.fixture(scope="module")
def again(trained, prepared, tmp_path_factory):
    """The trained model, calibrated once more: no features of single images, labelled others, an additional class."""
    output_dir = tmp_path_factory.mktemp("again") / "model"
    others = write_classes(tmp_path_factory.mktemp("others"), n=8, class_names=("grey",), first_seed=9000)
    (others / "grey" / "notes.txt").write_text("no image")
    options = ("--statistics_only", "--false_rejection", 0.2, "--others", others / "grey", "--unknown_class")
    assert calibrate_only(trained, prepared, output_dir, *options) == 0
    return output_dir


def test_a_training_ends_with_the_decision_about_every_evaluated_image(trained, prepared):
    found = predictions.read(trained)
    paths = [prepared / path for path in found.paths]
    own = list(Classifier.load(trained, device=CPU).classify(paths))
    assert [one.accepted for one in own] == list(found.accepted)
    np.testing.assert_allclose([one.known_score for one in own], found.known_scores, atol=1e-3, rtol=1e-3)


def test_results_say_what_is_rejected_and_what_is_let_through(trained):
    found = results.read(trained)
    assert [row["n"] for row in found["open_set"]["per_class"]] == [6, 6, 6]
    (source,) = found["open_set"]["sources"]
    assert (source["name"], source["n"]) == ("drawn images of no game", 120)
    assert found["open_set"]["n_validation"] == 18
    assert found["calibration"]["temperature"] == pytest.approx(settings_of(trained)["temperature_folded"], rel=1e-3)


def test_noise_is_unknown_with_a_reason_and_has_probabilities_all_the_same(trained):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 72, 3), dtype=np.uint8))
    (found,) = Classifier.load(trained, device=CPU).classify_images([noise])
    assert found.accepted is False
    assert "validation images" in found.reason
    assert found.probabilities.sum() == pytest.approx(1)
    (plain,) = Classifier.load(trained, device=CPU, answers_unknown=False).classify_images([noise])
    assert plain.accepted is None
    np.testing.assert_allclose(plain.probabilities, found.probabilities, atol=1e-6)


def test_calibrating_again_changes_no_probability_and_keeps_the_temperature(trained, again):
    before, after = predictions.read(trained), predictions.read(again)
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=1e-3)
    assert settings_of(again)["temperature_folded"] == pytest.approx(
        settings_of(trained)["temperature_folded"], rel=5e-3
    )


def test_statistics_only_leave_single_images_out_and_decide_all_the_same(again):
    assert settings_of(again)["statistics_only"] is True
    assert not [name for name in OpenSet.load(again).arrays if name.startswith("bank.")]
    (found,) = Classifier.load(again, device=CPU).classify_images([draw_image(5, colour=(220, 90, 70))])
    assert found.accepted is not None
    # 3 of 19 ranks are the most within 20 %.
    assert settings_of(again)["expected_false_rejection"] == pytest.approx(3 / 19)


def test_half_of_the_labelled_others_teach_and_the_other_half_measure(again):
    assert settings_of(again)["score"][-1] == "others"
    drawn, others = results.read(again)["open_set"]["sources"]
    assert (others["name"], others["n"], others["is_near"]) == ("grey, the half that was held back", 4, True)


def test_the_checkpoint_with_an_additional_class_needs_nothing_but_the_plain_pipeline(again):
    plain = pipeline("image-classification", model=str(again / "unknown_class"), device="cpu")
    threshold = results.read(again)["open_set"]["unknown_class"]["threshold"]
    image = draw_image(5)
    expected = Classifier.load(again, device=CPU).outputs([image]).logits.max() < threshold
    assert (plain(image)[0]["label"] == "unknown") == expected
    assert {one["label"] for one in plain(image)} == {"coral", "moss", "slate", "unknown"}


def test_the_temperature_can_be_undone(trained, again, prepared, tmp_path):
    assert calibrate_only(again, prepared, tmp_path / "raw", "--no_temperature") == 0
    assert settings_of(tmp_path / "raw")["temperature_folded"] == pytest.approx(1)
    image = draw_image(5)
    raw, calibrated = (Classifier.load(path, device=CPU).outputs([image]).logits for path in (tmp_path / "raw", again))
    np.testing.assert_allclose(raw, calibrated * settings_of(again)["temperature_folded"], rtol=1e-4, atol=1e-5)


def test_a_second_call_after_an_interruption_gives_the_same(trained, prepared, tmp_path):
    model_dir = shutil.copytree(trained, tmp_path / "model")
    temperature = settings_of(model_dir)["temperature_folded"]
    calibrated = predictions.read(model_dir)
    splits = dataset.load(prepared)
    is_validation = np.array(calibrated.splits) == "validation"
    before = np.log(calibrated.probabilities[is_validation]) * temperature  # Logits, apart from a constant.
    outputs = Classifier.load(model_dir, device=CPU).outputs(
        [Image.open(prepared / path).convert("RGB") for path in np.array(calibrated.paths)[is_validation]]
    )
    before = outputs.logits * temperature
    found = calibrate.finish(
        model_dir, *backbone.load_trained(model_dir), splits, OpenSetArguments(), before=before, device=CPU
    )
    assert settings_of(model_dir)["temperature_folded"] == pytest.approx(temperature, rel=5e-3)
    np.testing.assert_allclose(found.logits["validation"], outputs.logits, rtol=5e-3, atol=1e-4)


def test_classes_in_another_order_than_in_the_dataset_keep_their_indices(trained, prepared, tmp_path):
    model, image_processor = backbone.load_trained(trained)
    names = [model.config.id2label[label] for label in (2, 0, 1)]
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: label for label, name in enumerate(names)}
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight[[2, 0, 1]].clone())
        model.classifier.bias.copy_(model.classifier.bias[[2, 0, 1]].clone())
    model.save_pretrained(tmp_path / "turned")
    image_processor.save_pretrained(tmp_path / "turned")
    assert calibrate_only(tmp_path / "turned", prepared, tmp_path / "model") == 0
    found, expected = predictions.read(tmp_path / "model"), predictions.read(trained)
    assert found.class_names == expected.class_names
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-2)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert [config["id2label"][str(label)] for label in range(3)] == names


def test_a_dataset_with_other_classes_is_refused_with_their_names(trained, tmp_path):
    with pytest.raises(UserError, match=r"slate only in the model, ruby only in the dataset"):
        calibrate.require_same_classes(["coral", "moss", "slate"], ["coral", "moss", "ruby"])


def test_a_model_whose_weights_changed_is_refused_with_the_command_that_renews_its_statistics(trained, tmp_path):
    model_dir = shutil.copytree(trained, tmp_path / "model")
    model, _ = backbone.load_trained(model_dir)
    open_set.fold_temperature(model, 0.5)
    model.save_pretrained(model_dir)
    with pytest.raises(UserError, match=r"stale.*finetune_vit\.py --calibrate_only.*--no_unknown"):
        Classifier.load(model_dir, device=CPU)
    assert Classifier.load(model_dir, device=CPU, answers_unknown=False).open_set is None


def test_calibrate_only_without_a_model_says_what_is_missing(prepared, tmp_path, capsys):
    code = run_finetune("--calibrate_only", "--dataset", prepared, "--output_dir", tmp_path / "m", "--use_cpu")
    assert code == 2
    assert "--model_name_or_path" in capsys.readouterr().err
