"""One device for everything, shown with one that has no values; and what TF32 does on NVIDIA GPUs."""

import copy
import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoImageProcessor, AutoModelForImageClassification

from memevit.model import balance, open_set, precision
from memevit.model.augment import Augmentation, Mixing
from memevit.model.forward import ForwardPass
from memevit.model.image_dataset import AugmentAndNormalise
from memevit.model.processor import Processor
from memevit.portable.features import exact
from memevit.portable.pipeline import OpenSetImageClassificationPipeline

META = torch.device("meta")  # Has shapes and no values, so that nothing can be read back from it.


class OneDevice(TorchDispatchMode):
    """Lets an operation fail whose tensors are on different devices, as it would on a GPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        found = {one.device.type for one in tensors if one.dim() or one.device == META}
        if len(found) > 1 and "copy" not in function.name():
            raise RuntimeError(f"{function.name()} of tensors on {sorted(found)}")
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def processor(tiny_backbone):
    return Processor.of(AutoImageProcessor.from_pretrained(tiny_backbone))


@pytest.fixture
def shown(processor):
    """With no constants on any device yet."""
    return dataclasses.replace(processor, normalise=copy.copy(processor.normalise))


def test_mixed_devices_and_values_that_are_read_are_noticed():
    with OneDevice(), pytest.raises(RuntimeError, match="on \\['cpu', 'meta'\\]"):
        torch.ones(2, device=META) + torch.ones(2)
    with pytest.raises(RuntimeError, match="meta"):
        torch.ones((), device=META).item()


def test_a_training_step_stays_on_the_device(shown, tiny_backbone):
    model = AutoModelForImageClassification.from_pretrained(tiny_backbone).to(META).train()
    finish = AugmentAndNormalise(shown, Augmentation(erasing=0.5), Mixing(0.2, 0.2), n_classes=2)
    loss_of = balance.ClassificationLoss(torch.ones(2), label_smoothing=0.1)
    batch = {
        "pixel_values": torch.empty(4, 3, 41, 41, dtype=torch.uint8, device=META),
        "labels": torch.zeros(4, dtype=torch.long, device=META),
        "parameters": torch.rand(4, 16, device=META),
        "crops": torch.rand(4, 4, device=META),
    }
    with OneDevice():
        finished = finish(batch)
        outputs = model(pixel_values=finished["pixel_values"])
        loss = loss_of(outputs, finished["labels"], torch.tensor(4, device=META))
        loss.backward()
    assert (loss.device, loss.shape) == (META, ())
    assert {parameter.grad.device for parameter in model.parameters()} == {META}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_and_features_stay_on_the_device_in_every_thread(shown, tiny_backbone, dtype):
    model = AutoModelForImageClassification.from_pretrained(tiny_backbone).to(META, dtype).eval()
    run = ForwardPass(model, normalise=shown.normalise, layers=("final", "block_1"))

    def launched(n):
        with OneDevice():  # Set for each thread.
            return run(torch.zeros(n, 3, 32, 32, dtype=torch.uint8))

    with ThreadPoolExecutor(2) as pool:
        for n, (logits, features) in enumerate(pool.map(launched, range(1, 5)), 1):
            found = [logits, *features.values()]
            assert {(one.device, one.dtype, len(one)) for one in found} == {(META, torch.float32, n)}
    run.close()


@pytest.fixture
def tf32():
    """torch's switches as on an NVIDIA GPU when Transformers has set them; put back after the test."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = (torch.backends.fp32_precision, matmul.fp32_precision, conv.fp32_precision)
    yield torch.backends
    torch.backends.fp32_precision = before[0]
    torch.set_float32_matmul_precision("highest")
    matmul.fp32_precision, conv.fp32_precision = before[1:]


def switches():
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


def test_evaluation_does_not_round_to_tf32_and_training_may(tf32, tiny_backbone):
    tf32.fp32_precision = "tf32"
    model = AutoModelForImageClassification.from_pretrained(tiny_backbone)
    seen = []
    model.register_forward_hook(lambda *_: seen.append(switches()))
    ForwardPass(model.eval())(torch.zeros(1, 3, 32, 32))
    model(torch.zeros(1, 3, 32, 32))
    assert seen == [("ieee", "ieee"), ("tf32", "tf32")]


def test_statistics_of_a_model_are_not_rounded_to_tf32(tf32, tiny_backbone):
    tf32.fp32_precision = "tf32"
    model = AutoModelForImageClassification.from_pretrained(tiny_backbone)
    seen = []
    model.register_forward_hook(lambda *_: seen.append(switches()))
    open_set.probe(model, AutoImageProcessor.from_pretrained(tiny_backbone), ("final",))
    published = SimpleNamespace(model=model, _tap=Mock(take=dict))
    OpenSetImageClassificationPipeline._forward(published, {"pixel_values": torch.zeros(1, 3, 32, 32)})
    assert seen == [("ieee", "ieee")] * 2


def test_the_last_thread_that_leaves_restores_the_switches(tf32):
    tf32.fp32_precision = "tf32"
    inside, leave = threading.Event(), threading.Event()

    @exact()
    def stay():
        inside.set()
        leave.wait()

    with exact():
        thread = threading.Thread(target=stay)
        thread.start()
        inside.wait()
    assert switches() == ("ieee", "ieee")
    leave.set()
    thread.join()
    assert switches() == ("tf32", "tf32")


def test_both_switches_of_tf32_agree_when_a_model_is_compiled(tf32):
    tf32.fp32_precision = "tf32"  # As Transformers does for --torch_compile on Ampere and later.
    with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
        torch.get_float32_matmul_precision()
    precision.agree_on_tf32()
    assert torch.get_float32_matmul_precision() == "high"
    assert tf32.cuda.matmul.allow_tf32
    assert switches() == ("tf32", "tf32")
