"""Every kind of backbone goes from a dataset to the plain pipeline: head replaced, crop off, size chosen."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    pipeline,
)

from memevit.evaluation import predictions
from memevit.model import backbone, layers
from memevit.model.processor import pixel_values
from tests.conftest import run_finetune
from tests.model import tiny

pytestmark = pytest.mark.usefixtures("no_figures")
FEW_STEPS = ("--max_steps", 2, "--eval_strategy", "steps", "--save_strategy", "steps", "--eval_steps", 2)
QUIET = ("--use_cpu", "--disable_tqdm", True)
CLASSES = ["coral", "moss", "slate"]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {kind: tiny.save(kind, root / kind) for kind in tiny.KINDS}


def test_the_kinds_are_those_of_the_readme():
    assert list(tiny.KINDS) == ["vit", "deit", "beit", "swin", "convnext", "dinov2", "siglip", "clip"]


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_backbone_goes_from_data_to_the_plain_pipeline(tmp_path, backbones, prepared, kind):
    model_dir = tmp_path / "model"
    argv = ("--dataset", prepared, "--output_dir", model_dir, "--model_name_or_path", backbones[kind])
    assert run_finetune(*argv, *FEW_STEPS, *QUIET, "--learning_rate", 1e-3, "--warmup_steps", 0) == 0
    classify = pipeline("image-classification", model=str(model_dir), device="cpu")
    written = predictions.read(model_dir)
    assert written.class_names == CLASSES
    for row in (0, len(written.paths) - 1):
        scores = {each["label"]: each["score"] for each in classify(str(prepared / written.paths[row]), top_k=None)}
        assert [scores[name] for name in CLASSES] == pytest.approx(written.probabilities[row].tolist(), abs=1e-4)
    start, _ = backbone.load_for_training(str(backbones[kind]), CLASSES, from_scratch=False)
    before, after = start.state_dict(), classify.model.state_dict()
    still = [name for name in before if torch.equal(before[name], after[name])]
    # What gets no gradient: keys' biases, the mask that pretraining needed, heads and poolers that are not asked.
    unused = ("k_proj.bias", "mask_token", "relative_position_index", "vision_model.head.", "post_layernorm")
    assert [name for name in still if not any(part in name for part in unused)] == []


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_saved_processor_shows_the_whole_image_in_the_size_of_the_configuration(backbones, kind):
    model, image_processor = backbone.load_for_training(str(backbones[kind]), CLASSES, from_scratch=False)
    levels = np.zeros((60, 200, 3), dtype=np.uint8)
    levels[:, :20], levels[:, -20:] = 255, 255
    values = pixel_values([Image.fromarray(levels)], image_processor)[0]
    assert values.shape == (3, 32, 32)
    assert (values[:, :, 0] > values[:, :, 16]).all()
    assert (values[:, :, -1] > values[:, :, 16]).all()
    assert getattr(model.config, "vision_config", model.config).image_size == 32


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_another_size_of_images_is_that_of_model_and_processor_and_loads_again(tmp_path, backbones, kind):
    model, image_processor = backbone.load_for_training(
        str(backbones[kind]), CLASSES, from_scratch=False, image_size=48
    )
    model.save_pretrained(tmp_path)
    image_processor.save_pretrained(tmp_path)
    values = pixel_values([Image.new("RGB", (70, 30), "teal")], AutoImageProcessor.from_pretrained(tmp_path))
    assert values.shape == (1, 3, 48, 48)
    assert getattr(model.config, "vision_config", model.config).image_size == 48
    again = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        assert torch.allclose(again(values).logits, model.eval()(values).logits, atol=1e-6)


def test_interpolated_positions_give_what_transformers_gives_when_it_interpolates(backbones):
    small, _ = backbone.load_for_training(str(backbones["vit"]), CLASSES, from_scratch=False)
    large, _ = backbone.load_for_training(str(backbones["vit"]), CLASSES, from_scratch=False, image_size=64)
    large.classifier.load_state_dict(small.classifier.state_dict())
    values = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = small.eval()(values, interpolate_pos_encoding=True).logits
        assert torch.allclose(large.eval()(values).logits, expected, atol=1e-6)


def test_a_table_of_relative_positions_keeps_its_middle_and_its_tokens(backbones):
    small, _ = backbone.load_for_training(str(backbones["beit"]), CLASSES, from_scratch=False)
    name = "beit.layers.0.relative_position_bias.relative_position_bias_table"
    table = small.get_parameter(name)
    with torch.no_grad():
        table.copy_(torch.arange(table.numel()).reshape(table.shape) / 10)
    from memevit.model import resolution

    large = resolution.resized(small, 64).get_parameter(name)
    assert table.shape == (7 * 7 + 3, 2)
    assert large.shape == (15 * 15 + 3, 2)
    assert torch.equal(large[-3:], table[-3:])
    assert torch.allclose(large[15 * 15 // 2], table[7 * 7 // 2], atol=1e-4)


def test_a_size_that_is_no_multiple_of_the_patch_is_refused(tmp_path, backbones, prepared, capsys):
    argv = ("--dataset", prepared, "--output_dir", tmp_path / "model", "--model_name_or_path", backbones["vit"])
    assert run_finetune(*argv, *QUIET, "--image_size", 50) == 2
    assert "multiple of the backbone's patch size 8, got 50. Take 48 or 56" in capsys.readouterr().err


def head_checkpoint(path, names, seed=3):
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        id2label=dict(enumerate(names)), label2id={name: label for label, name in enumerate(names)},
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(path)
    tiny.KINDS["vit"]()[1].save_pretrained(path)
    return AutoModelForImageClassification.from_pretrained(path).classifier.weight.detach()


@pytest.mark.parametrize("names", [["cat", "dog"], ["cat", "dog", "owl"]])
def test_a_head_for_other_classes_is_replaced_and_named(tmp_path, caplog, names):
    old = head_checkpoint(tmp_path, names)
    with caplog.at_level("INFO"):
        model, _ = backbone.load_for_training(str(tmp_path), CLASSES, from_scratch=False)
    assert model.classifier.weight.shape == (3, 16)
    assert not any(torch.allclose(row, own) for row in old for own in model.classifier.weight)
    old_head = f"has a head for {len(names)} classes ({', '.join(names)})"
    expected = f"{old_head}; it is replaced by a new one for 3 (coral, moss, slate)"
    assert expected in caplog.text


def test_a_head_for_the_same_classes_is_kept(tmp_path, caplog):
    old = head_checkpoint(tmp_path, CLASSES)
    with caplog.at_level("INFO"):
        model, _ = backbone.load_for_training(str(tmp_path), CLASSES, from_scratch=False)
    assert torch.equal(model.classifier.weight, old)
    assert "its head is kept" in caplog.text


def test_a_checkpoint_of_something_else_is_refused(tmp_path, backbones, prepared, capsys):
    config = json.loads((backbones["swin"] / "config.json").read_text())
    folder = tiny.save("vit", tmp_path / "odd")
    (folder / "config.json").write_text(json.dumps(config))
    argv = ("--dataset", prepared, "--output_dir", tmp_path / "model", "--model_name_or_path", folder)
    assert run_finetune(*argv, *QUIET) == 2
    assert "made for something else" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "n_blocks"), [("vit", 2), ("swin", 3), ("convnext", 3), ("siglip", 2), ("beit", 2)])
def test_blocks_are_counted_one_by_one_from_the_input(backbones, kind, n_blocks):
    model, _ = backbone.load_for_training(str(backbones[kind]), CLASSES, from_scratch=False)
    found = layers.depths(model)
    assert len(layers.block_names(model)) == n_blocks == max(found.values())
    assert {name for name, depth in found.items() if depth == layers.HEAD} == {"classifier.weight", "classifier.bias"}
    embeddings = [depth for name, depth in found.items() if ".embeddings." in name]
    assert set(embeddings) == {0}
