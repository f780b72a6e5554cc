"""Support for FSDP, which shards the weights over the processes."""

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn
from transformers import AutoModelForImageClassification, PreTrainedModel

from memevit.model import layers


def give_memory(model: PreTrainedModel) -> None:
    """Allocate memory for weights on the meta device; without FSDP there are none.

    With it, all processes but the first leave weights that are in no file, those of a new head, without memory. Their
    values come from the first process later, but accelerate tells weights apart by their address before that.
    """
    for name, parameter in list(model.named_parameters()):
        if parameter.is_meta:
            parent, _, own_name = name.rpartition(".")
            filled = nn.Parameter(torch.zeros_like(parameter, device="cpu"), requires_grad=parameter.requires_grad)
            setattr(model.get_submodule(parent), own_name, filled)


def prepare(model: PreTrainedModel) -> None:
    """Let accelerate shard `model` block by block, unless the user asks for something else.

    A ViT also names its embeddings, which accelerate 1.15 already shards by itself, and fails if it does so twice. For
    networks without input embeddings, such as ConvNeXt, it must not fail when it asks for them.
    """
    if blocks := layers.block_names(model):
        model._no_split_modules = sorted({type(model.get_submodule(name)).__name__ for name in blocks})
    try:
        model.get_input_embeddings()
    except NotImplementedError:
        model.get_input_embeddings = lambda: None


def whole(accelerator: Accelerator, model: nn.Module) -> PreTrainedModel:
    """A copy of `model` with all weights in single precision, on the device of every process.

    Training needs several devices for the gradients and moments; inference fits on one.
    """
    weights = accelerator.get_state_dict(model)  # Complete in the first process only.
    copied = AutoModelForImageClassification.from_config(model.config, dtype=torch.float32)
    if accelerator.is_main_process:
        copied.load_state_dict(weights)
    copied.to(accelerator.device)
    broadcast(copied.state_dict())  # In place.
    return copied
