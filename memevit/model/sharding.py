"""Weights that FSDP divides among the processes: what it needs to know of an image classifier, and all in one place."""

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn
from transformers import AutoModelForImageClassification, PreTrainedModel

from memevit.model import layers


def give_memory(model: PreTrainedModel) -> None:
    """Give every weight an address; without FSDP all have one.

    With it, all processes but the first leave weights that are in no file, those of a new head, without memory. They
    come from the first one in the end, but until then weights are copied, and accelerate tells them apart by address.
    """
    for name, parameter in list(model.named_parameters()):
        if parameter.is_meta:
            parent, _, own_name = name.rpartition(".")
            filled = nn.Parameter(torch.zeros_like(parameter, device="cpu"), requires_grad=parameter.requires_grad)
            setattr(model.get_submodule(parent), own_name, filled)


def prepare(model: PreTrainedModel) -> None:
    """Let accelerate divide `model` block by block where nothing else is asked for.

    The other class that a ViT names, its embeddings, holds what accelerate 1.15 divides by itself, and it can't do so
    twice. Of a network without a place for those, such as ConvNeXt, it must not ask where they are.
    """
    if blocks := layers.block_names(model):
        model._no_split_modules = sorted({type(model.get_submodule(name)).__name__ for name in blocks})
    try:
        model.get_input_embeddings()
    except NotImplementedError:
        model.get_input_embeddings = lambda: None


def whole(accelerator: Accelerator, model: nn.Module) -> PreTrainedModel:
    """A copy of `model` with all its weights in single precision, on the device of every process.

    Where training takes several devices for the gradients and their averages, one is enough to look at pictures.
    """
    weights = accelerator.get_state_dict(model)  # Whole in the first process only.
    copied = AutoModelForImageClassification.from_config(model.config, dtype=torch.float32)
    if accelerator.is_main_process:
        copied.load_state_dict(weights)
    copied.to(accelerator.device)
    broadcast(copied.state_dict())  # Into the weights themselves.
    return copied
