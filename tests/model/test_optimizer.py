"""Rates per layer and weight decay, by hand, for a network of two blocks."""

import pytest
import torch

from memevit.model import backbone, optimizer
from memevit.model.trainer import ImageTrainer
from tests.model import tiny

CLASSES = ["coral", "moss", "slate"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tiny.save("vit", tmp_path_factory.mktemp("backbone"))
    return backbone.load_for_training(str(path), CLASSES, from_scratch=False)[0]


def test_each_block_learns_at_a_share_of_the_rate_of_the_block_above(model):
    rates = optimizer.rates(model, rate=0.1, layer_decay=0.5, head_factor=10.0)
    assert rates["classifier.weight"] == rates["classifier.bias"] == pytest.approx(1.0)
    assert rates["vit.layernorm.weight"] == rates["vit.layers.1.mlp.fc1.weight"] == pytest.approx(0.1)
    assert rates["vit.layers.0.mlp.fc1.weight"] == pytest.approx(0.05)
    assert rates["vit.embeddings.position_embeddings"] == pytest.approx(0.025)
    assert rates.keys() == dict(model.named_parameters()).keys()


def test_matrices_decay_and_norms_biases_tokens_and_positions_do_not(model):
    found = optimizer.decayed(model)
    block = {f"attention.{name}.weight" for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    block |= {"mlp.fc1.weight", "mlp.fc2.weight"}
    assert found == {f"vit.layers.{number}.{name}" for number in (0, 1) for name in block} | {
        "vit.embeddings.patch_embeddings.projection.weight", "classifier.weight"
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "free"), [("clip", "position_embedding"), ("beit", "bias_table"), ("swin", "norm"),
                                            ("dinov2", "lambda1"), ("convnext", "layer_scale")])  # fmt: skip
def test_what_is_no_matrix_of_a_layer_never_decays(tmp_path, kind, free):
    model, _ = backbone.load_for_training(str(tiny.save(kind, tmp_path)), CLASSES, from_scratch=False)
    found = optimizer.decayed(model)
    assert any(free in name for name, _ in model.named_parameters())
    assert [name for name in found if free in name or name.endswith("bias")] == []
    assert {name for name, p in model.named_parameters() if p.ndim > 1 and name.endswith("fc1.weight")} <= found


def test_groups_hold_every_trained_parameter_once_and_no_frozen_one(model):
    rates = optimizer.rates(model, rate=0.1, layer_decay=0.5, head_factor=10.0)
    model.vit.embeddings.requires_grad_(False)
    groups = optimizer.parameter_groups(model, rates, weight_decay=0.05)
    model.vit.embeddings.requires_grad_(True)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    expected = {id(p) for name, p in model.named_parameters() if ".embeddings." not in name}
    assert len(held) == len(set(held)) == len(expected)
    assert set(held) == expected
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {
        (1.0, 0.05), (1.0, 0.0), (0.1, 0.05), (0.1, 0.0), (0.05, 0.05), (0.05, 0.0)
    }  # fmt: skip


def test_wrappers_of_torch_do_not_change_the_rates(model):
    rates = optimizer.rates(model, rate=0.1, layer_decay=0.5, head_factor=10.0)
    wrapped = torch.nn.ModuleDict({"module": model})
    plain = optimizer.parameter_groups(model, rates, weight_decay=0.05)
    found = optimizer.parameter_groups(wrapped, rates, weight_decay=0.05)
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in found] == [
        (g["lr"], g["weight_decay"], len(g["params"])) for g in plain
    ]


def test_the_trainer_uses_the_groups_also_when_it_makes_its_optimizer_anew(model, tmp_path):
    from memevit.model.recipe import FineTuningArguments

    args = FineTuningArguments(output_dir=str(tmp_path), learning_rate=0.1, weight_decay=0.05, num_train_epochs=1,
                               use_cpu=True, eval_strategy="no", load_best_model_at_end=False)  # fmt: skip
    rates = optimizer.rates(model, rate=0.1, layer_decay=0.5, head_factor=10.0)
    trainer = ImageTrainer(model=model, args=args, rate_of=rates, prepare_batch=lambda batch: batch)
    for _ in range(2):
        trainer.optimizer = None
        groups = trainer.create_optimizer().param_groups
        assert groups[0]["lr"] == 0.1  # What the log shows.
        assert {group["lr"] for group in groups} == {1.0, 0.1, 0.05, 0.025}
