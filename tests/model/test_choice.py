"""Fine-tuned model or linear probe: the better one on validation is saved, and the user is told."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification, pipeline

from memevit import results
from memevit.data import dataset as prepared_dataset
from memevit.evaluation import calibration, measure, predictions
from memevit.model import backbone, choice, linear_probe
from memevit.model.image_dataset import as_batch, image_datasets
from memevit.model.processor import Processor
from memevit.results import MODEL, PROBE
from tests.conftest import run_finetune
from tests.model import tiny

QUIET = ("--use_cpu", "--disable_tqdm", True)
NOTHING_LEARNED = ("--num_train_epochs", 1, "--learning_rate", 1e-30)
LABELS = [0, 0, 1, 1]
RIGHT = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
ONE_WRONG = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
TWO_WRONG = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])


def between(fine_tuned, probe):
    return choice.between(
        fine_tuned, probe, LABELS, compute_metrics=measure.of_logits, compute_losses=calibration.calibrated_losses
    )


@pytest.mark.parametrize(
    ("fine_tuned", "probe", "kept"),
    [
        (RIGHT, ONE_WRONG, MODEL),
        (ONE_WRONG, RIGHT, PROBE),
        (RIGHT, RIGHT, PROBE),
        (RIGHT * 100, RIGHT, PROBE),  # Equal after the temperature: being sure of oneself does not count.
        (ONE_WRONG, TWO_WRONG, MODEL),  # By less than the standard error.
        (TWO_WRONG, ONE_WRONG, PROBE),
    ],
)
def test_the_lower_loss_is_kept_and_at_a_tie_the_probe(fine_tuned, probe, kept):
    assert between(fine_tuned, probe)["kept"] == kept


def test_gains_and_their_error_are_those_of_the_images():
    losses = {1.0: np.array([0.1, 0.2, 0.3, 0.4]), 2.0: np.array([0.2, 0.2, 0.5, 0.5])}
    logits = {which: np.full((4, 2), which) for which in losses}
    found = choice.between(
        logits[1.0], logits[2.0], LABELS, compute_losses=lambda own, _: losses[own[0, 0]],
        compute_metrics=lambda own, _: {"calibrated_loss": losses[own[0, 0]].mean(), "accuracy": own[0, 0] / 4},
    )  # fmt: skip
    # The gains 0.1, 0, 0.2, 0.1 have a mean of 0.1 and a variance of 0.005.
    assert found["standard_error"] == pytest.approx((0.005 / 4) ** 0.5)
    assert found["summary"] == (
        "The fine-tuned model was better on validation than the linear probe (calibrated loss 0.250 against 0.350, "
        "standard error of the difference 0.035; accuracy 0.250 against 0.500), so the fine-tuned model was saved."
    )


def finetune(prepared, tiny_backbone, model_dir, *more, probe_if_better=True):
    argv = ("--dataset", prepared, "--output_dir", model_dir, "--model_name_or_path", tiny_backbone, *QUIET)
    assert run_finetune(*argv, *more, probe_if_better=probe_if_better) == 0
    return results.read(model_dir)


@pytest.mark.parametrize("how", [(), ("--lora_rank", 4)])
def test_a_probe_that_is_better_is_what_is_saved(tmp_path, prepared, tiny_backbone, how):
    found = finetune(prepared, tiny_backbone, tmp_path / "model", *NOTHING_LEARNED, *how)
    finetune(prepared, tiny_backbone, tmp_path / "probe", "--freeze", "backbone")
    saved, alone = (AutoModelForImageClassification.from_pretrained(tmp_path / name) for name in ("model", "probe"))
    assert saved.state_dict().keys() == alone.state_dict().keys()
    for name, own in saved.state_dict().items():
        assert torch.allclose(own, alone.state_dict()[name], atol=1e-6), name
    training = found["training"]
    assert (training["choice"]["kept"], training["method"]) == (PROBE, "linear probe")
    assert training["n_trainable_parameters"] == 16 * 3 + 3
    assert [row for row in found["history"] if "eval_loss" in row]  # What fine-tuning came to is still there.
    assert "linear probe" not in {one["baseline"] for one in found["comparisons"]}
    assert training["choice"]["summary"].startswith("The fine-tuned model was not better")
    card = (tmp_path / "model" / "README.md").read_text().replace("\\", "")
    for text in (training["choice"]["summary"], "| linear probe, saved | test | 18 |", "A linear probe of"):
        assert text in card
    assert "Fine-tuned from" not in card
    assert "learning_curves.png" not in card
    table = measure.table(found)
    assert training["choice"]["summary"] in table
    assert "linear probe, saved  test" in table
    written = predictions.read(tmp_path / "model")
    classify = pipeline("image-classification", model=str(tmp_path / "model"), device="cpu")
    scores = {row["label"]: row["score"] for row in classify(str(prepared / written.paths[0]), top_k=None)}
    assert [scores[name] for name in written.class_names] == pytest.approx(written.probabilities[0], abs=1e-4)


@pytest.mark.usefixtures("no_figures")
def test_fine_tuning_can_be_kept_whatever_the_probe_is(tmp_path, prepared, tiny_backbone):
    found = finetune(prepared, tiny_backbone, tmp_path / "model", *NOTHING_LEARNED, probe_if_better=False)
    assert "choice" not in found["training"]
    assert found["training"]["method"] == "all weights"
    assert "linear probe" in {one["baseline"] for one in found["comparisons"]}


@pytest.mark.usefixtures("no_figures")
def test_validation_alone_decides(tmp_path, prepared, tiny_backbone, monkeypatch):
    """A probe that answers at random on validation, and is always right on test, is not kept."""

    def planted(trainer, evaluated, store, *, weighted):
        logits = {name: 9.0 * np.eye(3)[images.labels] for name, images in evaluated.items()}
        logits["validation"] = np.zeros_like(logits["validation"])
        return linear_probe.Probe(np.zeros((3, 16), np.float32), np.zeros(3, np.float32), logits)

    monkeypatch.setattr(linear_probe, "baseline", planted)
    found = finetune(prepared, tiny_backbone, tmp_path / "model", "--num_train_epochs", 3, "--learning_rate", 5e-3)
    assert found["training"]["choice"]["kept"] == MODEL
    assert found["training"]["method"] == "all weights"
    (compared,) = (one for one in found["comparisons"] if one["baseline"] == "linear probe")
    assert compared["n_only_subject_right"] == 0
    start = AutoModelForImageClassification.from_pretrained(tiny_backbone).vit.state_dict()
    after = AutoModelForImageClassification.from_pretrained(tmp_path / "model").vit.state_dict()
    assert not torch.equal(start["embeddings.cls_token"], after["embeddings.cls_token"])


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_probe_of_every_kind_of_backbone_fits_into_its_head(tmp_path, prepared, kind):
    splits = prepared_dataset.load(prepared)
    names = splits["train"].features["label"].names
    model, image_processor = backbone.load_for_training(str(tiny.save(kind, tmp_path)), names, from_scratch=False)
    images = image_datasets(splits, Processor.of(image_processor), None, seed=0)["test"]
    see = {"normalise": images.normalise, "collate": as_batch}
    features = linear_probe.forward_dataset(model, images, layers=(linear_probe.FINAL,), **see).features["final"]
    weight, bias, _ = linear_probe.fit(features, images.labels, features, images.labels, n_classes=3)
    linear_probe.put_into_head(model, weight, bias)
    logits = linear_probe.forward_dataset(model, images, **see).logits
    assert np.allclose(logits, features @ weight.T + bias, atol=1e-3 * np.abs(logits).max())
