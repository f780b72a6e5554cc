"""Features of a network: what its head sees, and what chosen blocks pass on.

It imports nothing of this project, for it is published beside a model and runs there.
"""

import re
import threading
from collections.abc import Iterator, Sequence

import torch
from torch import nn

FINAL = "final"  # The input of the head.
_BLOCK = re.compile(r"block_(\d+)")


def head_names(model: nn.Module) -> list[str]:
    """Names of the linear layers that give the logits.

    Most networks have one; DeiT with a teacher has two, whose logits are averaged. None if there is no linear layer
    with one output per class outside of the blocks.
    """
    n_classes = model.config.num_labels
    names = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == n_classes
    ]
    if "classifier" in names:
        return ["classifier"]
    if on_top := [name for name in names if "." not in name]:
        return on_top
    blocks = tuple(f"{name}." for name in block_names(model))
    outside = [name for name in names if not name.startswith(blocks)] if blocks else names
    return outside[-1:]


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
    """A hierarchical network keeps most parameters of a stage in an inner list of blocks; a plain block is one."""
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


def n_prefix_tokens(model: nn.Module) -> int:
    """How many tokens stand before those of the patches: class, distillation and register tokens."""
    n_tokens = 0
    for name, parameter in model.named_parameters():
        last = name.rsplit(".", 1)[-1]
        if last in ("cls_token", "class_embedding", "distillation_token"):
            n_tokens += 1
        elif last == "register_tokens":
            n_tokens += parameter.shape[1]
    return n_tokens


def pooled(hidden: torch.Tensor, n_prefix: int) -> torch.Tensor:
    """Features [B, d] of the output of a block.

    Args:
        hidden: [B, T, D] tokens, or a map [B, D, H, W] of a convolutional network.
        n_prefix: number of tokens that stand before those of the patches.

    Returns:
        The class token next to the mean of the patch tokens, d = 2 D; the mean alone, d = D, without a class token.
    """
    if hidden.ndim == 4:
        return hidden.mean(dim=(2, 3))
    patches = hidden[:, n_prefix:].mean(dim=1)
    return torch.cat([hidden[:, 0], patches], dim=1) if n_prefix else patches


class FeatureTap:
    """Keeps the features of the last forward pass, for each thread that runs the model its own.

    Args:
        model: an image classification model.
        layers: `final` for the input of the head, `block_N` for the pooled output of block N, counted from 1.

    Raises:
        ValueError: the model has no such layer.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        self.layers = list(layers)
        self._seen = threading.local()
        self._handles = []
        blocks, n_prefix = block_names(model), n_prefix_tokens(model)
        for layer in self.layers:
            if layer == FINAL:
                heads = head_names(model)
                if not heads:
                    raise ValueError(f"{type(model).__name__} has no linear head")
                hook = model.get_submodule(heads[0]).register_forward_pre_hook(
                    lambda _, inputs, name=layer: self._keep(name, inputs[0].flatten(1))
                )
            else:
                found = _BLOCK.fullmatch(layer)
                if not found or not 1 <= int(found[1]) <= len(blocks):
                    raise ValueError(f"{type(model).__name__} has {len(blocks)} blocks and no layer {layer!r}")
                hook = model.get_submodule(blocks[int(found[1]) - 1]).register_forward_hook(
                    lambda _, inputs, output, name=layer: self._keep(
                        name, pooled(output if isinstance(output, torch.Tensor) else output[0], n_prefix)
                    )
                )
            self._handles.append(hook)

    def _keep(self, name: str, features: torch.Tensor) -> None:
        if not hasattr(self._seen, "by_layer"):
            self._seen.by_layer = {}
        self._seen.by_layer[name] = features.detach().float()

    def take(self) -> dict[str, torch.Tensor]:
        """[B, d] float32 features by layer of the last forward pass in this thread, on the device of the model."""
        found, self._seen.by_layer = self._seen.by_layer, {}
        return {layer: found[layer] for layer in self.layers}

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> "FeatureTap":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
