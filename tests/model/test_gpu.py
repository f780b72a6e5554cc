"""What depends on the device: on a GPU as in benchmarks/on_gpu.sh, elsewhere the same code on the processor."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoImageProcessor, AutoModelForImageClassification, TrainerCallback

from memevit.data import dataset as prepared_dataset
from memevit.evaluation import predictions
from memevit.model import image_dataset, precision, preflight
from memevit.model.augment import Augmentation
from memevit.model.classifier import Classifier, best_device
from memevit.model.forward import forward
from memevit.model.processor import Processor
from tests.conftest import run_finetune
from tests.model.test_trainer import trainer_of
from tests.model.test_unkillable import Killed, at_step, killed

pytestmark = pytest.mark.gpu
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICE = best_device()
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shown(tiny_backbone):
    return Processor.of(AutoImageProcessor.from_pretrained(tiny_backbone))


@pytest.fixture
def images(prepared, shown, tmp_path):
    """Datasets from the cache by split."""
    splits = prepared_dataset.load(prepared)
    return image_dataset.image_datasets(splits, shown, Augmentation(), seed=3, cache_dir=tmp_path, n_processes=0)


def trained_on(images, shown, tiny_backbone, folder, **options):
    """The weights of a network after 8 steps on the device, copied and finished ahead where there is a GPU."""
    usual = {"max_steps": 8, "use_cpu": DEVICE.type == "cpu", "dataloader_pin_memory": torch.cuda.is_available()}
    trainer = trainer_of(images, shown, tiny_backbone, folder, **usual | options)
    trainer.train()
    return {name: value.detach().float().cpu() for name, value in trainer.accelerator.unwrap_model(
        trainer.model, keep_torch_compile=False).state_dict().items()}  # fmt: skip


def largest_difference(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_the_device_trains_the_model_that_the_processor_trains(images, shown, tiny_backbone, tmp_path):
    weights = trained_on(images, shown, tiny_backbone, tmp_path)
    expected = trained_on(images, shown, tiny_backbone, tmp_path, use_cpu=True, dataloader_pin_memory=False)
    # Adam takes steps of the same size for the smallest gradients, whose sign is a matter of rounding.
    assert largest_difference(weights, expected) < 5e-3


@on_cuda
def test_copying_ahead_trains_the_same_model(images, shown, tiny_backbone, tmp_path):
    ahead, waiting = (
        trained_on(images, shown, tiny_backbone, tmp_path, dataloader_pin_memory=pin) for pin in (True, False)
    )
    assert largest_difference(ahead, waiting) < 1e-3


@on_cuda
def test_batches_of_the_cache_are_in_pinned_memory(images):
    dataset = images["train"]
    expected = dataset.__getitems__([3, 1])["pixel_values"]
    dataset.is_pinned = True
    found = dataset.__getitems__([3, 1])["pixel_values"]
    assert found.is_pinned()
    assert torch.equal(found, expected)


class ForbidReads(TrainerCallback):
    """Lets every operation fail that waits for the device, from the second step to the end of the last but one."""

    def on_step_begin(self, args, state, control, **kwargs):
        is_inside = 1 <= state.global_step < state.max_steps - 1
        torch.cuda.set_sync_debug_mode("error" if is_inside else "default")


@on_cuda
def test_no_step_waits_for_the_device(images, shown, tiny_backbone, tmp_path):
    trainer = trainer_of(images, shown, tiny_backbone, tmp_path, max_steps=5, use_cpu=False, bf16=True,
                         dataloader_pin_memory=True)  # fmt: skip
    trainer.add_callback(ForbidReads())
    try:
        trainer.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.state.global_step == 5


@on_cuda
def test_copies_to_the_device_are_in_a_stream_of_their_own(images, shown, tiny_backbone, tmp_path):
    trainer = trainer_of(images, shown, tiny_backbone, tmp_path, max_steps=4, use_cpu=False,
                         dataloader_pin_memory=True)  # fmt: skip
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        trainer.train()
    copies = [event for event in found.events() if event.name.startswith("Memcpy HtoD (Pinned")]
    products = [event for event in found.events() if "gemm" in event.name.lower() and "CUDA" in str(event.device_type)]
    assert copies
    assert products
    assert not {event.device_resource_id for event in copies} & {event.device_resource_id for event in products}


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("wanted", [precision.BF16, pytest.param(precision.FP16, marks=on_cuda)])
def test_a_model_trained_in_half_precision_answers_the_same_on_every_device(prepared, tiny_backbone, tmp_path, wanted):
    model_dir = tmp_path / "model"
    code = run_finetune(
        *("--dataset", prepared, "--output_dir", model_dir, "--model_name_or_path", tiny_backbone),
        *("--num_train_epochs", 8, "--learning_rate", 5e-3, "--per_device_train_batch_size", 16),
        *("--precision", wanted, "--disable_tqdm", True),
    )
    assert code == 0
    found = predictions.read(model_dir)
    assert (found.predicted == found.labels).mean() > 0.8
    paths = [prepared / name for name in found.paths]
    for device in {DEVICE, CPU}:
        again = Classifier.load(model_dir, device=device).classify(paths, n_processes=0)
        assert np.abs(np.array([one.probabilities for one in again]) - found.probabilities).max() < 1e-4


def test_features_are_those_of_the_processor(trained):
    values = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one, other = (
        forward(AutoModelForImageClassification.from_pretrained(trained).to(device), values.split(2),
                layers=("final", "block_1"))
        for device in (DEVICE, CPU)
    )  # fmt: skip
    assert np.abs(one.logits - other.logits).max() < 1e-4
    for layer in ("final", "block_1"):
        assert np.abs(one.features[layer] - other.features[layer]).max() < 1e-4


@on_cuda
def test_a_batch_that_does_not_fit_is_halved(tiny_backbone, tmp_path):
    """With memory for 96 MB, and 8192 images of which the pixels alone take 100 MB."""
    precision.free_memory()
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    model = AutoModelForImageClassification.from_pretrained(tiny_backbone)
    args = SimpleNamespace(
        device=torch.device("cuda", torch.cuda.current_device()), per_device_train_batch_size=8192,
        mixed_precision="no", gradient_accumulation_steps=1, max_steps=-1, world_size=1, process_index=1,
        dataloader_num_workers=0, fsdp="", output_dir=str(tmp_path), save_strategy="no", num_train_epochs=1.0,
    )  # fmt: skip
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 96e6) / total)
    try:
        plan = preflight.make(
            model, args, load=lambda n: torch.rand(n, 3, 32, 32, device=args.device), counts={"train": 8192},
            wanted="fp32", limit_s=None,
        )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert plan.batch_size < 8192
    assert plan.batch_size * plan.accumulation == 8192


@on_cuda
def test_a_compiled_model_is_the_same_model(images, shown, tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.delenv("ACCELERATE_DYNAMO_BACKEND", raising=False)
    expected = trained_on(images, shown, tiny_backbone, tmp_path, bf16=True)
    found = trained_on(images, shown, tiny_backbone, tmp_path, bf16=True, torch_compile=True)
    monkeypatch.delenv("ACCELERATE_DYNAMO_BACKEND", raising=False)
    assert largest_difference(expected, found) < 5e-2  # bf16 has 8 bits; fused operations round less often.


def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    images, shown, tiny_backbone, tmp_path, monkeypatch, record_property
):
    options = {"save_strategy": "steps", "save_steps": 4}
    expected = trained_on(images, shown, tiny_backbone, tmp_path / "whole")
    at_step(monkeypatch, 7, killed)
    with pytest.raises(Killed):
        trained_on(images, shown, tiny_backbone, tmp_path / "run", **options)
    trainer = trainer_of(
        images, shown, tiny_backbone, tmp_path / "run", max_steps=8, use_cpu=DEVICE.type == "cpu",
        dataloader_pin_memory=torch.cuda.is_available(), **options,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    apart = largest_difference(expected, {name: own.cpu() for name, own in trainer.model.state_dict().items()})
    record_property("largest_difference", apart)
    assert apart <= (0.0 if DEVICE.type == "cpu" else 1e-4)  # Some backward passes on a GPU add up in any order.


def test_sorting_gives_the_probabilities_of_the_processor(trained, prepared):
    paths = sorted((prepared / "test").rglob("*.png"))
    one, other = (
        np.array([row.probabilities for row in Classifier.load(trained, device=device).classify(paths, batch_size=4)])
        for device in (DEVICE, CPU)
    )
    assert len(one) == len(paths) > 8
    assert np.abs(one - other).max() < 1e-4
