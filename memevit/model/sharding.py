"""What FSDP needs to know of an image classifier before it divides the weights among the processes."""

import torch
from torch import nn
from transformers import PreTrainedModel

from memevit.model import anatomy


def prepare(model: PreTrainedModel) -> None:
    """Make `model` one that accelerate can divide; without FSDP nothing that counts changes.

    It is divided block by block where nothing else is asked for. The other class that a ViT names, its embeddings,
    holds what accelerate 1.15 divides by itself, and it can't do so twice.

    All processes but the first may have left weights that are in no file, those of a new head, without memory; they
    come from the first one. But accelerate tells weights apart by their address, so here they get one.
    """
    if blocks := anatomy.block_names(model):
        model._no_split_modules = sorted({type(model.get_submodule(name)).__name__ for name in blocks})
    for name, parameter in list(model.named_parameters()):
        if parameter.is_meta:
            parent, _, own_name = name.rpartition(".")
            filled = nn.Parameter(torch.zeros_like(parameter, device="cpu"), requires_grad=parameter.requires_grad)
            setattr(model.get_submodule(parent), own_name, filled)
