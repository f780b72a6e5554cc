import json
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForImageClassification, ViTConfig

from benchmarks import pretrain_backbone
from benchmarks.pretrain_backbone import FormulaReader, PretrainingArguments, Settings, read_settings, sine_positions
from memevit import cli


def pretrain(work_dir, *extra):
    argv = ["--config", "miniature", "--work_dir", str(work_dir), "--threads", "1", *extra]
    return cli.run(pretrain_backbone.main, PretrainingArguments, doc=None, argv=argv)


def state_of(work_dir):
    return json.loads((work_dir / "checkpoint" / "state.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("pretraining")
    assert pretrain(work_dir) == 0
    return work_dir


def test_the_loss_falls_below_that_of_guessing(finished):
    losses = state_of(finished)["losses"]
    assert [row["step"] for row in losses] == [20, 40, 60]
    for name, limit in {"palette": 0.9, "colours": 0.95, "overall": 0.8, "local": 0.8}.items():
        assert losses[-1][name] < limit, name
        assert losses[-1][name] < losses[0][name], name


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(finished, tmp_path):
    while not (tmp_path / "checkpoint").exists() or state_of(tmp_path)["step"] < 60:
        assert pretrain(tmp_path, "--minutes", "0.01") == 0
    expected = load_file(finished / "checkpoint" / "state-000.safetensors")
    resumed = load_file(tmp_path / "checkpoint" / "state-000.safetensors")
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_the_backbone_is_a_checkpoint_in_fp16_that_loads_in_fp32(finished):
    folder = finished / "backbone"
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "preprocessor_config.json", "pretraining.json",
    }  # fmt: skip
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {torch.float16}
    model = AutoModel.from_pretrained(folder)
    classifier = AutoModelForImageClassification.from_pretrained(folder, num_labels=3)
    assert {parameter.dtype for parameter in (*model.parameters(), *classifier.parameters())} == {torch.float32}
    trained = load_file(finished / "checkpoint" / "state-000.safetensors")
    name = "layers.1.mlp.fc1.weight"
    torch.testing.assert_close(model.state_dict()[name], trained[f"model.vit.{name}"], atol=1e-3, rtol=1e-3)
    assert torch.equal(classifier.vit.state_dict()[name], model.state_dict()[name])


def test_a_large_state_is_divided_into_files_below_the_limit(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_backbone, "MAX_FILE_BYTES", 150_000)
    settings = read_settings("miniature")
    model = FormulaReader(settings)
    optimizer = pretrain_backbone.make_optimizer(model, settings)
    pretrain_backbone.load_checkpoint(finished, model, optimizer)
    args = PretrainingArguments(config="miniature", work_dir=tmp_path)
    pretrain_backbone.save(args, model, optimizer, settings, pretrain_backbone.State(step=60))
    files = sorted((tmp_path / "checkpoint").glob("*.safetensors"))
    assert len(files) > 3
    assert max(path.stat().st_size for path in files) < 170_000
    copy = FormulaReader(settings)
    pretrain_backbone.load_checkpoint(tmp_path, copy, pretrain_backbone.make_optimizer(copy, settings))
    assert all(torch.equal(value, copy.state_dict()[name]) for name, value in model.state_dict().items())


def test_unknown_settings_are_named_with_those_there_are(tmp_path, capsys):
    argv = ["--config", "huge", "--work_dir", str(tmp_path)]
    assert cli.run(pretrain_backbone.main, PretrainingArguments, doc=None, argv=argv) == 2
    assert "no settings 'huge'; it has vit-micro-patch8-64, vit-tiny-patch16-128, miniature" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["vit-micro-patch8-64", "vit-tiny-patch16-128", "miniature"])
def test_every_setting_makes_a_network_whose_tensors_fit_into_a_file(name):
    settings = read_settings(name)
    largest_head = settings.architecture["hidden_size"] * max(settings.banks.values())
    assert largest_head * 4 < pretrain_backbone.MAX_FILE_BYTES
    assert settings.architecture["image_size"] % settings.architecture["patch_size"] == 0


def test_the_learning_rate_rises_stays_and_falls_and_all_patches_are_seen_at_the_end():
    known = asdict(read_settings("miniature"))
    settings = Settings(**known | {"steps": 100, "warmup_steps": 10, "cooldown_fraction": 0.2, "learning_rate": 1.0})
    assert settings.rate(0) == pytest.approx(0.1)
    assert settings.rate(50) == 1.0
    assert settings.rate(90) == pytest.approx(0.5)
    assert [settings.kept(step) for step in (0, 79, 80, 99)] == [0.5, 0.5, 1.0, 1.0]


def test_no_two_positions_have_the_same_embedding():
    positions = sine_positions(ViTConfig(hidden_size=48, image_size=32, patch_size=8))
    assert positions.shape == (1, 17, 48)
    assert torch.pdist(positions[0]).min() > 0.05
