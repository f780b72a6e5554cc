"""The parts of a network that training treats differently: embeddings, blocks one above the other, and the head."""

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from memevit.errors import UserError

HEAD = -1  # Depth of what belongs to the head.


def head_name(model: PreTrainedModel) -> str:
    """Name of the linear layer that gives the logits.

    Raises:
        UserError: the network has no such layer.
    """
    n_classes = model.config.num_labels
    names = [name for name, layer in model.named_modules() if _is_linear(layer) and layer.out_features == n_classes]
    if "classifier" in names:
        return "classifier"
    blocks = tuple(f"{name}." for name in block_names(model))
    outside = [name for name in names if not name.startswith(blocks)] if blocks else names
    if not outside:
        raise UserError(
            f"{type(model).__name__} has no linear layer with {n_classes} outputs for a head. Choose a backbone of "
            "another architecture, for example ViT, Swin or ConvNeXt."
        )
    return outside[-1]


def head_of(model: PreTrainedModel) -> nn.Linear:
    """The linear layer that gives the logits, see `head_name`."""
    return model.get_submodule(head_name(model))


def block_names(model: nn.Module) -> list[str]:
    """Names of the blocks, from the input to the output; those of a stage one by one.

    Example:
        >>> from transformers import ViTConfig, ViTForImageClassification
        >>> small = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8, "image_size": 16}
        >>> block_names(ViTForImageClassification(ViTConfig(num_hidden_layers=2, **small)))
        ['vit.layers.0', 'vit.layers.1']
    """
    stacks = list(_outermost_lists(model, ""))
    if not stacks:
        return []
    name, stack = max(stacks, key=lambda item: _n_parameters(item[1]))
    return [block for number, stage in enumerate(stack) for block in _blocks_of_stage(f"{name}.{number}", stage)]


def _blocks_of_stage(name: str, stage: nn.Module) -> list[str]:
    """A hierarchical network keeps the larger part of a stage in an inner list of blocks; a plain block is one."""
    for inner_name, inner in _outermost_lists(stage, f"{name}."):
        if _n_parameters(inner) > _n_parameters(stage) / 2:
            return [f"{inner_name}.{number}" for number in range(len(inner))]
    return [name]


def _outermost_lists(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.ModuleList]]:
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            yield prefix + name, child
        else:
            yield from _outermost_lists(child, f"{prefix}{name}.")


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


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
