"""The parts of a network that training treats differently: embeddings, blocks one above the other, and the head."""

from torch import nn
from transformers import PreTrainedModel

from memevit.errors import UserError
from memevit.portable.features import block_names, head_names

__all__ = ["HEAD", "block_names", "depths", "head_name", "head_of"]

HEAD = -1  # Depth of what belongs to the head.


def head_name(model: PreTrainedModel) -> str:
    """Name of the linear layer that gives the logits.

    Raises:
        UserError: the network has no such layer.
    """
    names = head_names(model)
    if not names:
        raise UserError(
            f"{type(model).__name__} has no linear layer with {model.config.num_labels} outputs for a head. Choose a "
            "backbone of another architecture, for example ViT, Swin or ConvNeXt."
        )
    return names[0]


def head_of(model: PreTrainedModel) -> nn.Linear:
    """The linear layer that gives the logits, see `head_name`."""
    return model.get_submodule(head_name(model))


def depths(model: PreTrainedModel) -> dict[str, int]:
    """How far above the input each parameter is: 0 for embeddings, 1 for the lowest block, `HEAD` for the head.

    What lies between two blocks, or above the last one, counts with the block below it.
    """
    head = f"{head_name(model)}."
    blocks = {f"{name}.": depth for depth, name in enumerate(block_names(model), start=1)}
    found: dict[str, int] = {}
    reached = 0
    for name, _ in model.named_parameters():
        reached = next((depth for block, depth in blocks.items() if name.startswith(block)), reached)
        found[name] = HEAD if name.startswith(head) else reached
    return found
