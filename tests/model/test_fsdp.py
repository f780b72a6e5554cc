"""What FSDP needs of a model whose weights it divides among processes; see also test_two_processes.py."""

import pytest
from transformers import AutoModelForImageClassification

from memevit.arguments import RecipeArguments
from memevit.errors import UserError
from memevit.model import layers, sharding
from memevit.model.recipe import FineTuningArguments, complete
from tests.model import tiny


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_every_kind_of_backbone_is_divided_by_blocks_with_its_embeddings_outside(tmp_path, kind):
    model = AutoModelForImageClassification.from_pretrained(tiny.save(kind, tmp_path / kind))
    sharding.prepare(model)
    divided = [layer for layer in model.modules() if type(layer).__name__ in model._no_split_modules]
    assert len(divided) == len(layers.block_names(model))
    embeddings = model.get_input_embeddings()
    assert embeddings is None or all(embeddings is not part for layer in divided for part in layer.modules())


def test_a_new_head_of_the_other_processes_gets_an_address(tiny_backbone):
    model = AutoModelForImageClassification.from_pretrained(tiny_backbone)
    model.classifier.to("meta")
    weights = model.vit.embeddings.cls_token
    sharding.give_memory(model)
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    assert 0 not in addresses
    assert len(set(addresses)) == len(addresses)
    assert model.vit.embeddings.cls_token is weights


@pytest.mark.parametrize(
    ("choice", "flag"),
    [
        ({"lora_rank": 4}, "--lora_rank"),
        ({"freeze": "backbone"}, "--freeze backbone"),
        ({"probe_first": True}, "--probe_first"),
    ],
)
def test_what_needs_whole_weights_is_refused(tmp_path, monkeypatch, choice, flag):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    args = FineTuningArguments(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(UserError, match=f"{flag} needs all weights"):
        complete(RecipeArguments(**choice), args, from_scratch=False)
