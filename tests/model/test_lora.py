"""Low-rank adapters: little is trained, checkpoints load again, and what is saved is an ordinary model."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, pipeline

from memevit import results
from memevit.evaluation import predictions
from memevit.model import backbone, layers, lora
from memevit.model.classifier import Classifier
from tests.conftest import run_finetune
from tests.model import tiny

pytestmark = pytest.mark.usefixtures("no_figures")
CLASSES = ["coral", "moss", "slate"]
QUIET = ("--use_cpu", "--disable_tqdm", True)


@pytest.mark.parametrize("kind", ["vit", "swin", "convnext", "siglip", "clip"])
def test_merged_adapters_give_the_same_logits_in_an_ordinary_network(tmp_path, kind):
    model, _ = backbone.load_for_training(str(tiny.save(kind, tmp_path)), CLASSES, from_scratch=False)
    names = list(model.state_dict())
    backbone.restrict(model, lora_rank=4)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {"classifier.weight", "classifier.bias"} < trained
    assert all("lora_" in name or name.startswith("classifier") for name in trained)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    values = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = model.eval()(values).logits
    lora.merge(model)
    assert list(model.state_dict()) == names
    with torch.inference_mode():
        assert torch.allclose(model(values).logits, before, atol=1e-5)


def test_a_run_with_adapters_changes_the_matrices_of_the_blocks_and_nothing_else(tmp_path, prepared, tiny_backbone):
    model_dir = tmp_path / "model"
    argv = ("--dataset", prepared, "--output_dir", model_dir, "--model_name_or_path", tiny_backbone)
    more = ("--lora_rank", 4, "--num_train_epochs", 2, "--learning_rate", 1e-2)
    assert run_finetune(*argv, *QUIET, *more) == 0
    start = AutoModelForImageClassification.from_pretrained(tiny_backbone).state_dict()
    after = load_file(model_dir / "model.safetensors")
    loaded = AutoModelForImageClassification.from_pretrained(model_dir)
    assert len(after) == len(start)
    changed = {name for name, tensor in loaded.state_dict().items() if not torch.equal(tensor, start[name])
               if not name.startswith("classifier")}  # fmt: skip
    linear = {f"{name}.weight" for block in layers.block_names(loaded)
              for name, layer in loaded.named_modules() if name.startswith(block)
              if isinstance(layer, torch.nn.Linear)}  # fmt: skip
    assert changed == linear
    classify = pipeline("image-classification", model=str(model_dir), device="cpu")
    written = predictions.read(model_dir)
    scores = {row["label"]: row["score"] for row in classify(str(prepared / written.paths[0]), top_k=None)}
    assert [scores[name] for name in CLASSES] == pytest.approx(written.probabilities[0], abs=1e-4)
    (found,) = Classifier.load(model_dir).classify([prepared / written.paths[0]])
    assert (found.known_score, found.accepted) == (
        pytest.approx(written.known_scores[0], abs=1e-4),
        written.accepted[0],
    )
    training = results.read(model_dir)["training"]
    assert training["method"] == "LoRA of rank 4"
    # In each of 2 blocks: four 16 x 16, a 16 x 32 and a 32 x 16 matrix; the head of 16 x 3.
    assert training["n_trainable_parameters"] == 2 * 4 * (4 * 32 + 2 * 48) + 16 * 3 + 3


def test_the_matrix_inside_an_attention_module_gets_no_adapter(tmp_path):
    model, _ = backbone.load_for_training(str(tiny.save("siglip", tmp_path)), CLASSES, from_scratch=False)
    backbone.restrict(model, lora_rank=2)
    adapted = [name for name, _ in model.named_parameters() if "lora_A" in name]
    assert adapted
    assert not [name for name in adapted if "vision_model.head" in name]
