"""Which numbers a device computes best with, and how quick a step is."""

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import PreTrainedModel, TrainingArguments

from memevit.errors import UserError

FP32, BF16, FP16 = "fp32", "bf16", "fp16"
# On a processor bf16 loses digits, so it must win clearly, and on a run that is long enough for it to matter.
CPU_GAIN = 1.25
CPU_MIN_RUN_S = 600.0
_MIN_FP16_CAPABILITY = (7, 0)  # The first NVIDIA generation with tensor cores.
_N_TIMED = 3
_MAX_TIMED_S = 10.0


def asked_for(args: TrainingArguments) -> str | None:
    """What `--bf16`, `--fp16` or `accelerate launch --mixed_precision` ask for."""
    return args.mixed_precision if args.mixed_precision in (BF16, FP16) else None


def of_accelerator(device: torch.device) -> str:
    """bf16 where the device computes it itself, fp16 on older NVIDIA devices, else fp32."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return BF16
        if torch.version.cuda and torch.cuda.get_device_capability(device) >= _MIN_FP16_CAPABILITY:
            return FP16
    return FP32


def cpu_has_bf16() -> bool:
    """Whether the processor has instructions for products in bf16."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def require(precision: str, device: torch.device) -> str:
    """`precision` if `device` can train in it.

    Raises:
        UserError: fp16 without an accelerator.
    """
    if precision == FP16 and device.type == "cpu":
        raise UserError("fp16 needs an accelerator; on a processor choose --precision bf16, fp32 or auto.")
    return precision


def set_on(args: TrainingArguments, precision: str) -> None:
    """Make the Trainer use `precision`."""
    args.bf16, args.fp16 = precision == BF16, precision == FP16
    args.mixed_precision = "no" if precision == FP32 else precision


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """The context in which a forward pass has `precision`."""
    if precision == FP32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == BF16 else torch.float16)


def choose_attention(model: PreTrainedModel, precision: str, device: torch.device) -> None:
    """Take the quicker attention for training in bf16 on a processor; it is not written into the checkpoint.

    The backward pass of the fused one is slow there: 7 to 50 % less processor time was measured without it, most for
    short sequences. In fp32, and on accelerators, the fused one is the quicker.
    """
    if precision == BF16 and device.type == "cpu":
        model.set_attn_implementation("eager")


def step_seconds(model: PreTrainedModel, pixel_values: torch.Tensor, precision: str) -> float:
    """Seconds of a forward and backward pass as in training; the model and torch's generators stay what they were.

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
    """Whether a parameter that is trained gets no gradient, see `step_seconds`."""
    with _undisturbed(model):
        model.train()
        _backward(model, pixel_values, precision)
        return any(each.requires_grad and each.grad is None for each in model.parameters())


def _backward(model: PreTrainedModel, pixel_values: torch.Tensor, precision: str) -> None:
    with autocast(model.device, precision):
        logits = model(pixel_values=pixel_values).logits
    logits.float().logsumexp(dim=-1).mean().backward()  # No loss of ours, but one that costs the same.


def picture_seconds(model: PreTrainedModel, pixel_values: torch.Tensor, precision: str) -> float:
    """Seconds of a forward pass in evaluation, per picture, see `step_seconds`."""

    def look() -> None:
        with torch.inference_mode(), autocast(model.device, precision):
            model(pixel_values=pixel_values)

    with _undisturbed(model):
        choose_attention(model, precision, model.device)
        model.eval()
        return _median_seconds(look, model.device) / len(pixel_values)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def free_memory() -> None:
    """Give back what a failed attempt has left in the memory of the device."""
    gc.collect()  # A model and its Trainer hold each other in circles.
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def _median_seconds(action: Callable[[], None], device: torch.device) -> float:
    action()  # The first one also allocates and chooses kernels.
    found: list[float] = []
    while len(found) < _N_TIMED and sum(found) < _MAX_TIMED_S:
        wait_for(device)
        start = time.perf_counter()
        action()
        wait_for(device)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def wait_for(device: torch.device) -> None:
    """Return when the device has done its work."""
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
    """Hold the memory of AdamW's two averages, so that a batch that fits here fits in training."""
    reserved = []
    if model.device.type != "cpu":
        reserved = [torch.empty_like(p) for p in model.parameters() if p.requires_grad for _ in range(2)]
    yield
    reserved.clear()
