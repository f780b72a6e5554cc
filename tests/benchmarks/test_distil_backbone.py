import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTModel,
)

from benchmarks import distil_backbone, drawn_images, teacher_cache
from benchmarks.distil_backbone import DistillationArguments, loss_of, mirrored, warm_start
from benchmarks.pretrain_backbone import export
from memevit import cli

N_IMAGES = 24


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Images of one kind, two small teachers of random weights, and a first backbone of smaller patches."""
    folder = tmp_path_factory.mktemp("distillation")
    (folder / "images" / "drawn").mkdir(parents=True)
    for seed in range(N_IMAGES):
        drawn_images.draw_image(seed, (200, 160)).save(folder / "images" / "drawn" / f"{seed}.png")
    torch.manual_seed(0)
    transformer = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14, mlp_ratio=2
    )
    convolutional = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], num_labels=10)
    ResNetForImageClassification(convolutional).save_pretrained(folder / "convolutional")
    Dinov2Model(transformer).save_pretrained(folder / "transformer")
    for name in ("transformer", "convolutional"):
        BitImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.25] * 3).save_pretrained(folder / name)
    export(ViTModel(small_vit(32, 8), add_pooling_layer=False), folder / "start")
    return folder


def small_vit(image_size, patch_size):
    return ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96,
        image_size=image_size, patch_size=patch_size,
    )  # fmt: skip


def distil(given, work_dir, *extra):
    argv = ["--config", "miniature", "--images", str(given / "images"), "--work_dir", str(work_dir), "--threads", "1"]
    argv += ["--convolutional_teacher", str(given / "convolutional"), "--start", str(given / "start")]
    argv += ["--transformer_teacher", str(given / "transformer"), *extra]
    return cli.run(distil_backbone.main, DistillationArguments, doc=None, argv=argv)


@pytest.fixture(scope="module")
def finished(given, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("distilled")
    assert distil(given, work_dir) == 0
    return work_dir


def state_of(work_dir):
    return json.loads((work_dir / "checkpoint" / "state.json").read_text(encoding="utf-8"))


def test_the_student_comes_closer_to_every_teacher(finished):
    losses = state_of(finished)["losses"]
    assert [row["step"] for row in losses] == [20, 40, 60]
    for name in ("features", "transformer_cls", "transformer_patches", "start_cls", "start_patches"):
        assert losses[-1][name] < min(0.95, losses[0][name]), name
    assert losses[-1]["logits"] < losses[0]["logits"]


def test_the_backbone_loads_and_knows_its_size(finished):
    vit = ViTModel.from_pretrained(finished / "backbone")
    assert (vit.config.image_size, vit.config.patch_size) == (48, 12)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights_without_asking_again(given, finished, tmp_path):
    while not (tmp_path / "checkpoint").exists() or state_of(tmp_path)["step"] < 60:
        assert distil(given, tmp_path, "--minutes", "0.01") == 0
    expected = load_file(finished / "checkpoint" / "state-000.safetensors")
    resumed = load_file(tmp_path / "checkpoint" / "state-000.safetensors")
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_the_cache_holds_what_the_teacher_says_of_the_crop(given, finished):
    cache = teacher_cache.Cache(finished / "cache")
    assert cache.sizes["logits"] == 10
    crop = torch.from_numpy(teacher_cache.np.load(finished / "cache" / "crops.npy")[5])
    model = Dinov2Model.from_pretrained(given / "transformer")
    seen = functional.interpolate(crop.permute(2, 0, 1)[None] / 255, 56, mode="bilinear", antialias=True)
    with torch.inference_mode():
        expected = model((seen - 0.5) / 0.25).last_hidden_state[0]
    stored = torch.from_numpy(teacher_cache.np.load(finished / "cache" / "transformer_patches.npy")[5]).float()
    torch.testing.assert_close(stored, expected[1:], atol=0.1, rtol=0.05)  # Computed in bf16.


def test_a_patch_made_larger_is_embedded_as_before(given):
    small = ViTModel.from_pretrained(given / "start", add_pooling_layer=False)
    large = ViTModel(small_vit(48, 12), add_pooling_layer=False)
    warm_start(large, given / "start")
    patch = torch.rand(1, 3, 8, 8)
    resized = functional.interpolate(patch, (12, 12), mode="bilinear", antialias=True)
    name = next(name for name in small.state_dict() if name.endswith("projection.weight"))
    before = functional.conv2d(patch, small.state_dict()[name])
    torch.testing.assert_close(functional.conv2d(resized, large.state_dict()[name]), before, atol=1e-4, rtol=1e-3)


def test_only_those_named_are_mirrored():
    images = torch.arange(12.0).view(2, 1, 2, 3)
    assert mirrored(images, torch.tensor([True, False])).tolist() == [
        [[[2.0, 1.0, 0.0], [5.0, 4.0, 3.0]]], [[[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]]
    ]  # fmt: skip


def test_the_loss_is_nothing_for_what_the_teachers_say():
    said = {"features": torch.randn(4, 8), "logits": torch.randn(4, 10)}
    total, losses = loss_of(said, said, weights={"features": 1.0, "logits": 1.0})
    assert total.abs() < 1e-5
    opposite, _ = loss_of({"features": -said["features"]}, said, weights={"features": 0.5})
    assert opposite == pytest.approx(1.0)  # Twice the distance of guessing, times its weight.
    assert losses.keys() == said.keys()


def test_a_folder_without_images_of_a_kind_is_refused(given, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "other" / "a.png")
    argv = ["--config", "miniature", "--images", str(tmp_path), "--work_dir", str(tmp_path / "work")]
    argv += ["--convolutional_teacher", str(given / "convolutional"), "--transformer_teacher", str(given)]
    assert cli.run(distil_backbone.main, DistillationArguments, doc=None, argv=argv) == 2
    assert "its folders are kinds: drawn" in capsys.readouterr().err
