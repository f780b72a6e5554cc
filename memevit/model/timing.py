"""How long a training step and an evaluation take, and how long a checkpoint takes to write, measured before a run."""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from transformers import PreTrainedModel

from memevit import files
from memevit.model.precision import autocast, choose_attention

_N_TIMED = 3
_MAX_TIMED_S = 10.0
_SAMPLE_BYTES = 16 * 2**20


def step_seconds(model: PreTrainedModel, pixel_values: torch.Tensor, precision: str) -> float:
    """Seconds of a forward and backward pass as in training; leaves the model and torch's generators unchanged.

    Args:
        model: on its device.
        pixel_values: [B, 3, H, W] on the same device.
        precision: fp32, bf16 or fp16.
    """

    def step() -> None:
        _backward(model, pixel_values, precision)
        model.zero_grad(set_to_none=True)

    with _undisturbed(model), _reserved_for_optimizer(model):
        choose_attention(model, precision, model.device)
        model.train()
        return _median_seconds(step, model.device)


def has_idle(model: PreTrainedModel, pixel_values: torch.Tensor, precision: str) -> bool:
    """Whether some trained parameter gets no gradient, see `step_seconds`."""
    with _undisturbed(model):
        model.train()
        _backward(model, pixel_values, precision)
        return any(each.requires_grad and each.grad is None for each in model.parameters())


def _backward(model: PreTrainedModel, pixel_values: torch.Tensor, precision: str) -> None:
    with autocast(model.device, precision):
        logits = model(pixel_values=pixel_values).logits
    logits.float().logsumexp(dim=-1).mean().backward()  # Not the real loss, but one that costs the same.


def image_seconds(model: PreTrainedModel, pixel_values: torch.Tensor, precision: str) -> float:
    """Seconds of a forward pass in evaluation per image, see `step_seconds`."""

    def evaluate() -> None:
        with torch.no_grad(), autocast(model.device, precision):
            model(pixel_values=pixel_values)

    with _undisturbed(model):
        choose_attention(model, precision, model.device)
        model.eval()
        return _median_seconds(evaluate, model.device) / len(pixel_values)


def _median_seconds(action: Callable[[], None], device: torch.device) -> float:
    action()  # The first call also allocates and chooses kernels.
    found: list[float] = []
    while len(found) < _N_TIMED and sum(found) < _MAX_TIMED_S:
        wait_for(device)
        start = time.perf_counter()
        action()
        wait_for(device)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextlib.contextmanager
def _undisturbed(model: PreTrainedModel) -> Iterator[None]:
    was_training, attention = model.training, model.config._attn_implementation
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        is_cpu = model.device.type == "cpu"
        with torch.random.fork_rng(
            [] if is_cpu else [model.device], device_type="cuda" if is_cpu else model.device.type
        ):
            yield
    finally:
        model.zero_grad(set_to_none=True)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)
        model.train(was_training)


@contextlib.contextmanager
def _reserved_for_optimizer(model: PreTrainedModel) -> Iterator[None]:
    """Reserve memory for AdamW's two moments, so that a batch that fits here also fits in training."""
    reserved = []
    if model.device.type != "cpu":
        reserved = [torch.empty_like(p) for p in model.parameters() if p.requires_grad for _ in range(2)]
    yield
    reserved.clear()


def seconds_to_save(n_bytes: int, folder: Path) -> float:
    """Seconds for writing and sealing a checkpoint on the disk of `folder`, extrapolated from a small file.

    Args:
        n_bytes: size of the checkpoint.
        folder: of the run; it may not exist yet.
    """
    sample = os.urandom(min(n_bytes, _SAMPLE_BYTES))
    try:
        with tempfile.NamedTemporaryFile(dir=files.existing_part(folder), prefix=".memevit-") as file:
            start = time.perf_counter()
            file.write(sample)
            file.flush()
            os.fsync(file.fileno())
            files.sha256_of(Path(file.name))
            return (time.perf_counter() - start) * n_bytes / len(sample)
    except OSError:  # The run itself reports what is wrong.
        return 0.0
