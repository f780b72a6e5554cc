"""The checkpoints under backbones/ that have weights."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

BACKBONES = sorted(path.parent for path in (Path(__file__).parents[2] / "backbones").glob("*/model.safetensors"))
MAX_BYTES = 12_000_000


def test_the_shipped_backbones_are_those_we_know():
    assert [folder.name for folder in BACKBONES] == ["vit-micro-patch12-96"]


@pytest.mark.parametrize("folder", BACKBONES, ids=lambda folder: folder.name)
def test_a_shipped_backbone_loads_in_fp32_and_sees_the_whole_image(folder):
    assert (folder / "model.safetensors").stat().st_size <= MAX_BYTES
    assert (folder / "README.md").is_file()
    processor = AutoImageProcessor.from_pretrained(folder)
    assert not getattr(processor, "do_center_crop", False)
    values = processor(images=Image.new("RGB", (120, 40), "teal"), return_tensors="pt")["pixel_values"]
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(values).last_hidden_state.isfinite().all()


@pytest.mark.parametrize("folder", BACKBONES, ids=lambda folder: folder.name)
def test_a_shipped_backbone_takes_a_new_head_and_tells_simple_images_apart(folder):
    model = AutoModelForImageClassification.from_pretrained(folder, num_labels=3)
    processor = AutoImageProcessor.from_pretrained(folder)
    images = [Image.new("RGB", (64, 64), colour) for colour in ("white", "teal", "maroon")]
    features = model.base_model(**processor(images=images, return_tensors="pt")).last_hidden_state[:, 0]
    assert model.classifier.out_features == 3
    assert torch.pdist(features).min() > 1.0
