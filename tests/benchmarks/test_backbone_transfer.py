import csv
import json

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from benchmarks import backbone_transfer
from benchmarks.backbone_transfer import TransferArguments
from memevit import cli
from tests.conftest import write_classes


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "games"
    write_classes(root, n=10)
    with (root / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "file", "group"])
        for path in sorted(root.glob("*/*.png")):
            writer.writerow([path.parent.name, path.name, f"{path.parent.name}-{int(path.stem[-1]) // 2}"])
    return root


@pytest.fixture
def backbone(tmp_path):
    folder = tmp_path / "backbone"
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def compare(dataset, backbone, output, *extra):
    paths = ["--dataset", str(dataset), "--backbone", str(backbone), "--output", str(output)]
    argv = [*paths, "--seeds", "0", "1", "--epochs", "2", "--learning_rates", "0.001", "0.01", *extra]
    return cli.run(backbone_transfer.main, TransferArguments, doc=None, argv=argv)


def test_every_method_is_measured_on_every_seed(dataset, backbone, tmp_path):
    output = tmp_path / "results.json"
    assert compare(dataset, backbone, output) == 0
    report = json.loads(output.read_text(encoding="utf-8"))
    assert report["dataset"]["n"] == 30
    assert set(report["methods"]) == {
        "file_properties", "colour_histogram", "linear_probe", "from_scratch", "fine_tuned",
    }  # fmt: skip
    for method in report["methods"].values():
        scores = list(method["by_seed"].values())
        assert list(method["by_seed"]) == ["0", "1"]
        assert method["mean"] == pytest.approx(np.mean(scores), abs=1e-4)
        assert (method["low"], method["high"]) == (min(scores), max(scores))
    assert report["methods"]["fine_tuned"]["learning_rate"] in (0.001, 0.01)


def test_methods_measured_before_stay_in_the_file_unless_the_budget_changed(dataset, backbone, tmp_path):
    output = tmp_path / "results.json"
    compare(dataset, backbone, output, "--methods", "colour_histogram")
    compare(dataset, backbone, output, "--methods", "file_properties")
    assert set(json.loads(output.read_text())["methods"]) == {"colour_histogram", "file_properties"}
    compare(dataset, backbone, output, "--methods", "file_properties", "--epochs", "3")
    assert set(json.loads(output.read_text())["methods"]) == {"file_properties"}


def test_no_group_is_in_two_splits(dataset):
    images = backbone_transfer.load_images(dataset, size=32)
    indices = backbone_transfer.split_indices(images.labels, images.groups, seed=0)
    assert sorted(np.concatenate(list(indices.values()))) == list(range(30))
    groups = [set(images.groups[own]) for own in indices.values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_decoded_images_are_kept_for_the_next_run(dataset, tmp_path):
    first = backbone_transfer.load_images(dataset, size=32, cache_dir=tmp_path / "cache")
    second = backbone_transfer.load_images(dataset, size=32, cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert np.array_equal(first.images, second.images)
    assert first.class_names.tolist() == second.class_names.tolist() == ["coral", "moss", "slate"]


def test_variation_keeps_shape_and_type_and_changes_every_image():
    images = torch.randint(0, 256, (6, 16, 16, 3), dtype=torch.uint8)
    varied = backbone_transfer.augment(images, np.random.default_rng(0))
    assert varied.shape == images.shape
    assert varied.dtype == torch.uint8
    assert (varied != images).flatten(1).any(1).all()


def test_a_folder_without_classes_and_an_unknown_method_get_a_sentence(dataset, backbone, tmp_path, capsys):
    assert compare(tmp_path / "nothing", backbone, tmp_path / "results.json") == 2
    assert "Need at least 2 class folders" in capsys.readouterr().err
    assert compare(dataset, backbone, tmp_path / "results.json", "--methods", "magic") == 2
    assert "There is no method 'magic'" in capsys.readouterr().err
