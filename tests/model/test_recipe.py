"""Presets, what they leave to the reader, and choices that exclude each other."""

import dataclasses

import pytest
import torch
from transformers import AutoModelForImageClassification

from memevit import results
from memevit.arguments import RecipeArguments
from memevit.model import balance, recipe
from memevit.model.augment import Augmentation, Mixing
from memevit.model.recipe import FineTuningArguments
from tests.conftest import run_finetune

pytestmark = pytest.mark.usefixtures("no_figures")
QUIET = ("--use_cpu", "--disable_tqdm", True)


def completed(tmp_path, *, from_scratch=False, training=None, **given):
    args = FineTuningArguments(output_dir=str(tmp_path), use_cpu=True, **(training or {}))
    return recipe.complete(RecipeArguments(**given), args, from_scratch=from_scratch), args


@pytest.mark.parametrize("preset", recipe.PRESETS)
def test_a_preset_leaves_nothing_open_but_the_size_and_adapters(tmp_path, preset):
    filled, args = completed(tmp_path, preset=preset)
    assert {name for name, value in vars(filled).items() if value is None} == {"image_size", "lora_rank"}
    assert args.num_train_epochs == recipe.PRESETS[preset]["num_train_epochs"]
    assert args.label_smoothing_factor == 0.0


def test_presets_differ_in_effort():
    epochs = [recipe.PRESETS[name]["num_train_epochs"] for name in ("quick", "default", "best")]
    assert epochs == sorted(set(epochs))


def test_what_the_reader_gives_beats_the_preset(tmp_path):
    filled, args = completed(tmp_path, preset="best", colour=0.0, training={"num_train_epochs": 3.0})
    assert (filled.colour, args.num_train_epochs) == (0.0, 3.0)


def test_random_weights_and_adapters_have_rates_of_their_own(tmp_path):
    rates = {
        name: completed(tmp_path, **given)[1].learning_rate
        for name, given in (("fine", {}), ("lora", {"lora_rank": 4}), ("scratch", {"from_scratch": True}))
    }
    assert rates["fine"] < rates["lora"]
    assert rates["fine"] < rates["scratch"]
    assert completed(tmp_path, from_scratch=True)[0].layer_decay == 1.0


def test_augmentation_and_mixing_come_from_the_flags(tmp_path):
    filled, _ = completed(tmp_path, min_area=0.5, max_stretch=1.1, colour=0.1, erasing=0.25, mixup=0.2, cutmix=1.0)
    assert filled.augmentation == Augmentation(min_area=0.5, max_stretch=1.1, colour=0.1, erasing=0.25)
    assert filled.mixing == Mixing(mixup=0.2, cutmix=1.0)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--freeze", "half"), "--freeze takes none, backbone or a number of blocks, got 'half'"),
        (("--freeze", "-1"), "--freeze takes none"),
        (("--freeze", "3"), "--freeze 3 is too much: the backbone has 2 blocks"),
        (("--layer_decay", "0"), "--layer_decay must be larger than 0, got 0"),
        (("--layer_decay", "1.5"), "--layer_decay must be at most 1, got 1.5"),
        (("--min_area", "nan"), "--min_area must be larger than 0"),
        (("--erasing", "2"), "--erasing must be at most 1, got 2"),
        (("--max_stretch", "0.9"), "--max_stretch must be at least 1, got 0.9"),
        (("--mixup", "-0.1"), "--mixup must be at least 0, got -0.1"),
        (("--lora_rank", "0"), "--lora_rank must be at least 1, got 0"),
        (("--lora_rank", "4", "--freeze", "1"), "leave --freeze out"),
        (("--from_scratch", "--freeze", "backbone"), "random weights, which are useless when frozen"),
        (("--early_stopping", "2", "--no_load_best_model_at_end"), "--early_stopping compares checkpoints"),
    ],
)
def test_a_wrong_choice_gets_a_sentence(tmp_path, prepared, tiny_backbone, capsys, argv, message):
    start = ("--dataset", prepared, "--output_dir", tmp_path / "m", "--model_name_or_path", tiny_backbone, *QUIET)
    assert run_finetune(*start, *argv) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_frozen_blocks_keep_their_weights_and_the_others_learn(tmp_path, prepared, tiny_backbone):
    argv = ("--dataset", prepared, "--output_dir", tmp_path / "model", "--model_name_or_path", tiny_backbone)
    assert run_finetune(*argv, *QUIET, "--freeze", 1, "--num_train_epochs", 1, "--learning_rate", 1e-2) == 0
    start = AutoModelForImageClassification.from_pretrained(tiny_backbone).vit.state_dict()
    after = AutoModelForImageClassification.from_pretrained(tmp_path / "model").vit.state_dict()
    still = {name for name in start if torch.equal(start[name], after[name])}
    assert still - {"layers.1.attention.k_proj.bias"} == {
        name for name in start if name.startswith(("embeddings.", "layers.0."))
    }
    assert results.read(tmp_path / "model")["training"]["method"] == "all weights above block 1"


def test_early_stopping_ends_the_run_when_validation_gets_no_better(tmp_path, prepared, tiny_backbone):
    argv = ("--dataset", prepared, "--output_dir", tmp_path / "model", "--model_name_or_path", tiny_backbone)
    # A rate of nearly nothing: every evaluation is as good as the first.
    more = ("--early_stopping", 2, "--num_train_epochs", 9, "--learning_rate", 1e-30)
    assert run_finetune(*argv, *QUIET, *more) == 0
    assert results.read(tmp_path / "model")["training"]["n_epochs"] == 3.0


def test_class_weights_reach_the_loss(tmp_path, prepared, tiny_backbone, monkeypatch):
    built = []
    loss = balance.ClassificationLoss
    monkeypatch.setattr(
        balance, "ClassificationLoss", lambda weights, **rest: built.append(weights) or loss(weights, **rest)
    )
    argv = ("--dataset", prepared, "--output_dir", tmp_path / "model", "--model_name_or_path", tiny_backbone)
    assert run_finetune(*argv, *QUIET, "--class_balance", "weights", "--max_steps", 1) == 0
    assert [weights.tolist() for weights in built] == [pytest.approx([1.0, 1.0, 1.0])]


def test_the_help_names_the_defaults_of_the_recipe():
    text = {each.name: each.metadata["help"] for each in dataclasses.fields(RecipeArguments)}
    assert f"{recipe.FINE_TUNING['layer_decay']:g} by default" in text["layer_decay"]
    assert f"{recipe.FINE_TUNING['head_factor']:g} by default" in text["head_factor"]
    assert f"{balance.BALANCED_UP_TO:g} times" in text["class_balance"]
