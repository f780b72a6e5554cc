"""The precision to train in: fp32, bf16 or fp16."""

import contextlib
import gc

import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import PreTrainedModel, TrainingArguments

from memevit.errors import UserError

FP32, BF16, FP16 = "fp32", "bf16", "fp16"
# On a CPU, bf16 must be clearly faster to be worth the lost digits, and the run long enough for it to matter.
CPU_GAIN = 1.25
CPU_MIN_RUN_S = 600.0
_MIN_FP16_CAPABILITY = (7, 0)  # The first NVIDIA generation with tensor cores.


def asked_for(args: TrainingArguments) -> str | None:
    """The precision that `--bf16`, `--fp16` or `accelerate launch --mixed_precision` ask for, or None."""
    return args.mixed_precision if args.mixed_precision in (BF16, FP16) else None


def of_accelerator(device: torch.device) -> str:
    """bf16 if the device supports it natively, fp16 on older NVIDIA GPUs, otherwise fp32."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return BF16
        if torch.version.cuda and torch.cuda.get_device_capability(device) >= _MIN_FP16_CAPABILITY:
            return FP16
    return FP32


def cpu_has_bf16() -> bool:
    """Whether the CPU has bf16 instructions."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def require(precision: str, device: torch.device) -> str:
    """`precision` if `device` can train in it.

    Raises:
        UserError: fp16 on a CPU.
    """
    if precision == FP16 and device.type == "cpu":
        raise UserError("fp16 needs a GPU; on a CPU choose --precision bf16, fp32 or auto.")
    return precision


def set_on(args: TrainingArguments, precision: str) -> None:
    """Make the Trainer use `precision`."""
    args.bf16, args.fp16 = precision == BF16, precision == FP16
    args.mixed_precision = "no" if precision == FP32 else precision


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """The context in which a forward pass computes in `precision`."""
    if precision == FP32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == BF16 else torch.float16)


def choose_attention(model: PreTrainedModel, precision: str, device: torch.device) -> None:
    """Use eager attention for training in bf16 on a CPU; it is not written into the checkpoint.

    The backward pass of fused attention is slow there: 7 to 50 % less CPU time was measured without it, most for short
    sequences. In fp32, and on GPUs, fused attention is faster.
    """
    if precision == BF16 and device.type == "cpu":
        model.set_attn_implementation("eager")


def agree_on_tf32() -> None:
    """Set torch's old switch for TF32 as its new one is set.

    Transformers 5.24 sets only the new one for `--torch_compile`. torch 2.13 reads the old one when it compiles a
    convolution for a GPU, and fails if they differ (pytorch/pytorch#166387).
    """
    if torch.backends.cuda.matmul.fp32_precision == "tf32":
        torch.set_float32_matmul_precision("high")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def free_memory() -> None:
    """Release the memory that a failed attempt has left on the device."""
    gc.collect()  # A model and its Trainer reference each other in cycles.
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
