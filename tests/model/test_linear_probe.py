"""A linear probe: features computed once, a head that is the best there is for them, an ordinary checkpoint."""

import shutil

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForImageClassification, Trainer, TrainingArguments, pipeline

from memevit import results
from memevit.data import dataset as prepared_dataset
from memevit.evaluation import predictions
from memevit.model import backbone, image_dataset, linear_probe
from memevit.model.augment import Augmentation
from memevit.model.image_dataset import image_datasets
from memevit.model.processor import Processor, pixel_values
from memevit.pixels import load_image
from tests.conftest import run_data_prep, run_finetune, write_classes

pytestmark = pytest.mark.usefixtures("no_figures")
QUIET = ("--use_cpu", "--disable_tqdm", True)


@pytest.fixture(scope="module")
def prepared_small(tmp_path_factory):
    root = tmp_path_factory.mktemp("small")
    write_classes(root / "source", n=12)
    assert run_data_prep("--source", root / "source", "--output_dir", root / "data", "--num_proc", 1) == 0
    return root / "data"


@pytest.fixture
def small(prepared_small, tmp_path):
    """A copy, beside which there are no features yet."""
    return shutil.copytree(prepared_small, tmp_path / "data")


def run_probe(data, tiny_backbone, model_dir, *more):
    argv = ("--dataset", data, "--output_dir", model_dir, "--model_name_or_path", tiny_backbone)
    return run_finetune(*argv, "--freeze", "backbone", *QUIET, *more)


def test_a_probe_writes_a_plain_checkpoint_in_which_only_the_head_is_new(tmp_path, small, tiny_backbone):
    assert run_probe(small, tiny_backbone, tmp_path / "model") == 0
    start = AutoModelForImageClassification.from_pretrained(tiny_backbone).vit.state_dict()
    classify = pipeline("image-classification", model=str(tmp_path / "model"), device="cpu")
    after = classify.model.vit.state_dict()
    assert all(torch.equal(start[name], after[name]) for name in start)
    written = predictions.read(tmp_path / "model")
    scores = {row["label"]: row["score"] for row in classify(str(small / written.paths[0]), top_k=None)}
    assert [scores[name] for name in written.class_names] == pytest.approx(written.probabilities[0], abs=1e-4)
    training = results.read(tmp_path / "model")["training"]
    assert training["method"] == "linear probe"
    assert training["n_trainable_parameters"] == 16 * 3 + 3
    assert (written.predicted == written.labels).mean() > 0.6


def test_features_are_computed_once_and_again_only_for_other_weights_or_pixels(
    tmp_path, small, tiny_backbone, monkeypatch
):
    computed = []
    forward_dataset = linear_probe.forward_dataset
    monkeypatch.setattr(
        linear_probe,
        "forward_dataset",
        lambda model, images, **kwargs: computed.append(len(images)) or forward_dataset(model, images, **kwargs),
    )
    assert run_probe(small, tiny_backbone, tmp_path / "one") == 0
    assert run_probe(small, tiny_backbone, tmp_path / "two", "--seed", 5) == 0
    assert sum(computed) == 30  # Of train and validation, once.
    (kept,) = (tmp_path / "data.features").iterdir()
    assert {path.name for path in tmp_path.iterdir()} >= {"data", "data.features"}
    assert run_probe(small, tiny_backbone, tmp_path / "three", "--image_size", 48) == 0
    assert sum(computed) == 60
    assert len(list(kept.parent.iterdir())) == 2


def test_a_damaged_file_of_features_is_computed_again(tmp_path, small, tiny_backbone, caplog):
    assert run_probe(small, tiny_backbone, tmp_path / "one") == 0
    (kept,) = (tmp_path / "data.features").iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content[:100])
    assert run_probe(small, tiny_backbone, tmp_path / "two") == 0
    assert "the features are computed again" in caplog.text
    assert kept.read_bytes() == content


def test_features_that_cannot_be_kept_cost_time_only(tmp_path, small, tiny_backbone, caplog):
    (tmp_path / "data.features").write_text("a file where the folder should be")
    assert run_probe(small, tiny_backbone, tmp_path / "model") == 0
    assert "Features are not kept for the next run" in caplog.text


def trainer_of(data, tiny_backbone, output_dir, *, cache_dir=None, augmentation=None):
    """A Trainer before its training, and the images of all splits."""
    splits = prepared_dataset.load(data)
    names = splits["train"].features["label"].names
    model, image_processor = backbone.load_for_training(str(tiny_backbone), names, from_scratch=False)
    images = image_datasets(splits, Processor.of(image_processor), augmentation, seed=0, cache_dir=cache_dir)
    args = TrainingArguments(
        output_dir=str(output_dir), use_cpu=True, disable_tqdm=True, report_to="none", per_device_eval_batch_size=2
    )
    trainer = Trainer(model, args, train_dataset=images["train"], eval_dataset=images["validation"])
    trainer.processing_class = image_processor
    store = linear_probe.Store.beside(data, prepared_dataset.read_prep(data)["fingerprint"])
    return trainer, images, store


def test_the_features_are_what_the_head_sees(tmp_path, small, tiny_backbone):
    trainer, images, store = trainer_of(small, tiny_backbone, tmp_path)
    generator = torch.get_rng_state()
    (found,) = linear_probe.features_of(trainer, [images["test"]], store)
    assert torch.equal(generator, torch.get_rng_state())  # Training is the same whether they were there or not.
    files = [load_image(path) for path in images["test"].paths]
    model = trainer.model.eval()
    with torch.inference_mode():
        expected = model(pixel_values(files, trainer.processing_class)).logits
        assert torch.allclose(model.classifier(torch.from_numpy(found)), expected, atol=1e-5)


def test_features_of_augmented_images_come_from_the_cache_and_are_those_of_evaluation(
    tmp_path, small, tiny_backbone, monkeypatch
):
    trainer, images, store = trainer_of(
        small, tiny_backbone, tmp_path, cache_dir=tmp_path / "cache", augmentation=Augmentation()
    )
    monkeypatch.setattr(image_dataset.pixels, "load_image", lambda path: 1 / 0)
    found = linear_probe.features_of(trainer, [images["train"], images["validation"]], store)
    monkeypatch.undo()
    trainer, images, _ = trainer_of(small, tiny_backbone, tmp_path)
    expected = linear_probe.features_of(
        trainer, [images["train"], images["validation"]], linear_probe.Store(tmp_path / "other", "")
    )
    for own, other in zip(found, expected, strict=True):
        assert np.allclose(own, other, atol=1e-6)


def test_a_fine_tuning_reports_the_probe_of_its_backbone_which_is_that_of_freeze(tmp_path, small, tiny_backbone):
    argv = ("--dataset", small, "--model_name_or_path", tiny_backbone, *QUIET, "--max_steps", 2)
    assert run_finetune(*argv, "--output_dir", tmp_path / "model") == 0
    assert run_probe(small, tiny_backbone, tmp_path / "probe") == 0
    baseline, alone = (
        {m["name"]: m["value"] for m in results.read(tmp_path / name)["measurements"]
         if (m["subject"], m["split"]) == (subject, "test")}
        for name, subject in (("model", "linear probe"), ("probe", "fine-tuned model"))
    )  # fmt: skip
    assert baseline == pytest.approx(alone)
    compared = {one["baseline"]: one for one in results.read(tmp_path / "model")["comparisons"]}
    assert list(compared) == ["majority class", "colour histogram", "linear probe"]
    assert compared["linear probe"]["n"] == 6
    assert "linear probe" not in {one["baseline"] for one in results.read(tmp_path / "probe")["comparisons"]}


def test_a_training_that_does_not_see_each_image_is_not_compared_with_a_probe(tmp_path, small, tiny_backbone, caplog):
    argv = ("--dataset", small, "--model_name_or_path", tiny_backbone, *QUIET, "--output_dir", tmp_path / "model")
    caplog.set_level("INFO")
    assert run_finetune(*argv, "--max_steps", 2, "--per_device_train_batch_size", 4) == 0
    assert "Not compared with a linear probe" in caplog.text
    compared = {one["baseline"] for one in results.read(tmp_path / "model")["comparisons"]}
    assert compared == {"majority class", "colour histogram"}
    assert not (tmp_path / "data.features").exists()


def test_two_classes_and_a_class_without_training_images_get_a_head_too():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 2], 30)
    inputs = random.normal(size=(60, 4)) + labels[:, None]
    weight, bias, _ = linear_probe.fit(inputs, labels, inputs, labels, n_classes=3)
    logits = inputs @ weight.T + bias
    expected = LogisticRegression(C=1.0 / (60 * min(linear_probe.PENALTIES)) * 2, tol=1e-8).fit(
        (inputs - inputs.mean(0)) / inputs.std(0), labels
    )
    assert set(logits.argmax(axis=1)) == {0, 2}
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scaled = (inputs - inputs.mean(0)) / inputs.std(0)
    assert np.allclose(shares[:, [0, 2]], expected.predict_proba(scaled), atol=2e-3)


def test_the_head_is_that_of_a_logistic_regression():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    inputs = random.normal(size=(120, 5)) * [1, 2, 3, 4, 5] + labels[:, None] * [1.0, 0.5, 0.0, -1.0, 2.0] + 3.0
    weight, bias, _ = linear_probe.fit(inputs, labels.tolist(), inputs, labels.tolist(), n_classes=3)
    scaled = (inputs - inputs.mean(0)) / inputs.std(0)
    # On its own training images the weakest penalty has the lowest loss; scikit-learn's is 1 / (n penalty).
    strength = 1.0 / (len(labels) * min(linear_probe.PENALTIES))
    expected = LogisticRegression(C=strength, tol=1e-8, max_iter=1000).fit(scaled, labels).predict_proba(scaled)
    found = torch.softmax(torch.from_numpy(inputs @ weight.T + bias), dim=1)
    assert np.allclose(found, expected, atol=2e-3)


def test_a_probe_before_fine_tuning_starts_from_a_head_that_works(tmp_path, small, tiny_backbone):
    argv = ("--dataset", small, "--model_name_or_path", tiny_backbone, *QUIET)
    steps = ("--max_steps", 1, "--eval_strategy", "steps", "--save_strategy", "steps", "--eval_steps", 1,
             "--learning_rate", 1e-8)  # fmt: skip
    assert run_probe(small, tiny_backbone, tmp_path / "probe") == 0
    assert run_finetune(*argv, *steps, "--output_dir", tmp_path / "both", "--probe_first") == 0
    heads = [AutoModelForImageClassification.from_pretrained(tmp_path / name).classifier for name in ("probe", "both")]
    assert torch.allclose(heads[0].weight, heads[1].weight, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_fit_like_another_is_what_its_penalty_gives_from_nothing(n_classes):
    random = np.random.default_rng(0)
    labels = np.arange(120) % n_classes
    inputs = random.normal(size=(120, 5)) * [1, 10, 0.1, 1, 1] + np.eye(5)[labels]
    whole = linear_probe.fit(inputs, labels, inputs[::3], labels[::3], n_classes=n_classes)
    part = linear_probe.fit(inputs[20:], labels[20:], inputs, labels, n_classes=n_classes, like=whole)
    kept = inputs[20:]
    scaled = (kept - kept.mean(axis=0)) / kept.std(axis=0)
    strength = (2 if n_classes == 2 else 1) / (100 * whole.penalty)
    expected = LogisticRegression(C=strength, tol=1e-8, max_iter=1000).fit(scaled, labels[20:]).predict_proba(scaled)
    logits = kept @ part.weight.T + part.bias
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=2e-3)
    assert part.penalty == whole.penalty
