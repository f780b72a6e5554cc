"""One forward pass: logits and features of all kinds of networks, in order, from any source of images."""

import gc
import threading

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from memevit.model import backbone, layers
from memevit.model.forward import ForwardPass, default_blocks, forward, forward_dataset
from tests.model import tiny

CLASSES = ["coral", "moss", "slate"]
WITHOUT_CLS = ("swin", "convnext", "siglip")
N_EXTRA_TOKENS = {"vit": 1, "deit": 2, "beit": 1, "dinov2": 1, "clip": 1, "siglip": 0, "swin": 0}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("forward")
    return {
        kind: backbone.load_for_training(str(tiny.save(kind, root / kind)), CLASSES, from_scratch=False)[0]
        for kind in tiny.KINDS
    }


@pytest.fixture(scope="module")
def values():
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_logits_are_those_of_the_model_and_final_is_what_its_classifier_sees(models, values, kind):
    model = models[kind].train()
    found = forward(model, values.split(2), layers=("final",))
    assert model.training  # As it was before.
    with torch.inference_mode():
        expected = model.eval()(values).logits
        by_head = layers.head_of(model)(torch.from_numpy(found.features["final"]))
    assert found.logits.dtype == np.float32
    assert np.allclose(found.logits, expected, atol=1e-5)
    assert torch.allclose(by_head, expected, atol=1e-5)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_network_can_be_trained_after_its_first_forward_pass(tmp_path, values, kind):
    folder = tiny.save(kind, tmp_path)
    model, _ = backbone.load_for_training(str(folder), CLASSES, from_scratch=False)
    clear_lru_caches()  # As in a new process.
    forward(model, [values])
    model.train()(values).logits.sum().backward()


def clear_lru_caches():
    """Forget what Transformers keeps from one forward pass for the next."""
    for found in gc.get_objects():
        if callable(getattr(found, "cache_clear", None)) and "transformers.models" in str(
            getattr(found, "__module__", "")
        ):
            found.cache_clear()


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_features_of_a_block_are_its_cls_token_and_the_mean_of_its_patches(models, values, kind):
    model = models[kind]
    last = f"block_{len(layers.block_names(model))}"
    found = forward(model, [values], layers=(last,)).features[last]
    with torch.inference_mode():
        hidden = model.eval()(values, output_hidden_states=True).hidden_states[-1]  # [B, tokens, D] or [B, D, H, W]
    if hidden.dim() == 4:
        hidden = hidden.flatten(2).transpose(1, 2)
    n_extra = N_EXTRA_TOKENS.get(kind, 0)
    expected = hidden[:, n_extra:].mean(dim=1)
    if kind not in WITHOUT_CLS:
        expected = torch.cat([hidden[:, 0], expected], dim=1)
    assert np.allclose(found, expected, atol=1e-5)


def test_blocks_are_counted_from_the_input(models, values):
    model = models["vit"]
    found = forward(model, [values], layers=("block_1", "block_2")).features
    with torch.inference_mode():
        hidden = model.eval()(values, output_hidden_states=True).hidden_states
    for number in (1, 2):
        assert np.allclose(found[f"block_{number}"][:, :16], hidden[number][:, 0], atol=1e-5)
    assert default_blocks(model) == ("block_1", "block_2")


@pytest.mark.parametrize("layer", ["block_0", "block_3", "block_x", "pooler"])
def test_a_layer_that_is_not_there_is_named_with_those_that_are(models, values, layer):
    with pytest.raises(ValueError, match=rf"no layer '{layer}'; the model has final and block_1 to block_2"):
        forward(models["vit"], [values], layers=(layer,))


def test_uint8_pixels_give_the_same_as_their_values(models):
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = forward(models["vit"], [pixels], normalise=lambda given: given.float() / 127.5 - 1.0)
    expected = forward(models["vit"], [{"pixel_values": pixels.float() / 127.5 - 1.0}])
    assert np.array_equal(found.logits, expected.logits)


def test_a_dataset_is_seen_in_order_and_training_draws_the_same_numbers_afterwards(models, values):
    dataset, before = TensorDataset(values), torch.get_rng_state()
    options = {"layers": ("final",), "batch_size": 2}
    found = forward_dataset(models["vit"], dataset, collate=lambda items: torch.stack([i[0] for i in items]), **options)
    assert torch.equal(torch.get_rng_state(), before)
    expected = forward(models["vit"], [values], layers=("final",))
    assert np.allclose(found.logits, expected.logits, atol=1e-6)
    assert np.allclose(found.features["final"], expected.features["final"], atol=1e-6)


def test_hooks_are_gone_afterwards(models, values):
    def count():  # Transformers has hooks of its own for hidden states.
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())

    model = models["vit"]
    before, run = count(), ForwardPass(model, layers=("final", "block_1"))
    assert count() == before + 2
    run.close()
    forward(model, [values], layers=("final", "block_1"))
    assert count() == before


def test_two_threads_that_share_a_model_get_their_own_features(models, values):
    run = ForwardPass(models["vit"].eval(), layers=("block_1",))
    alone = [run(values[[position]])[1]["block_1"] for position in range(len(values))]
    found = [[] for _ in values]

    def repeat(position):
        found[position] += [run(values[[position]])[1]["block_1"] for _ in range(20)]

    threads = [threading.Thread(target=repeat, args=(position,)) for position in range(len(values))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.close()
    for own, expected in zip(found, alone, strict=True):
        assert len(own) == 20
        assert all(torch.allclose(one, expected, atol=1e-6) for one in own)
