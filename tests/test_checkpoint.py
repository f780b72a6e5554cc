"""Hostile model folders: one sentence each, from the JSON files alone."""

import json
import shutil

import pytest

from memevit import checkpoint
from memevit.errors import UserError


def changed(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def folder(tiny_backbone, tmp_path):
    return shutil.copytree(tiny_backbone, tmp_path / "model")


def test_an_ordinary_folder_passes(folder):
    checkpoint.check(folder)


HOSTILE = [
    ("preprocessor_config.json", {"size": {"height": 0, "width": 0}}, "sets size to 0, expected 1 to 4,096 pixels"),
    ("preprocessor_config.json", {"size": {"height": 10**6, "width": 10**6}}, "sets size to 1,000,000"),
    ("preprocessor_config.json", {"size": 10**30}, "sets size to 1e+30"),
    ("preprocessor_config.json", {"size": {"height": 64, "width": 64}}, "makes images of 64 pixels"),
    ("preprocessor_config.json", {"image_std": [0.0, 0.5, 0.5]}, "sets image_std to 0"),
    ("preprocessor_config.json", {"image_mean": [float("nan")] * 3}, "sets image_mean to nan"),
    ("config.json", {"num_hidden_layers": 10**7}, "sets num_hidden_layers to 10,000,000"),
    ("config.json", {"num_hidden_layers": 900}, "asks for 900 layers, but model.safetensors holds"),
    ("config.json", {"backbone_config": {"depths": [2, 10**9]}}, "sets depths to 1,000,000,000"),
    ("config.json", {"hidden_size": 10**8}, "sets hidden_size"),
    ("config.json", {"image_size": 4096, "patch_size": 1}, "into 16,777,216 patches"),
    ("config.json", {"patch_size": 0}, "sets patch_size to 0"),
    ("config.json", {"attn_implementation": "evil/kernel"}, "would be fetched as code"),
    ("config.json", {"_attn_implementation": {"": "evil/kernel@main:x"}}, "would be fetched as code"),
    ("config.json", {"text_config": {"_attn_implementation_internal": "evil/kernel"}}, "would be fetched as code"),
    ("config.json", {"num_labels": -1}, "sets num_labels to -1"),
]


@pytest.mark.parametrize(("name", "values", "message"), HOSTILE)
def test_a_hostile_value_is_refused_in_a_sentence(folder, name, values, message):
    changed(folder, name, **values)
    with pytest.raises(UserError) as refused:
        checkpoint.check(folder)
    assert message in str(refused.value)
    assert str(folder / name) in str(refused.value)


def test_what_is_no_object_and_what_is_too_deep_is_damaged(folder):
    for content in ("[1]", '{"a": ' * 100_000, "{"):
        (folder / "config.json").write_text(content)
        with pytest.raises(UserError, match="is damaged"):
            checkpoint.check(folder)


def test_a_model_is_refused_before_it_is_built(folder, monkeypatch):
    from transformers import AutoModelForImageClassification

    from memevit.model.classifier import Classifier

    changed(folder, "config.json", num_hidden_layers=10**7)
    monkeypatch.delattr(AutoModelForImageClassification, "from_pretrained")
    with pytest.raises(UserError, match="10,000,000"):
        Classifier.load(folder)
