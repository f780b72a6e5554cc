"""Features of a network: what its head sees, and what chosen blocks pass on, the same on every device.

It imports nothing of this project, for it is published beside a model and runs there.
"""

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

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

    Example:
        >>> tokens = torch.tensor([[[9.0], [1.0], [3.0]]])
        >>> pooled(tokens, 1).tolist(), pooled(tokens[:, 1:], 0).tolist()
        ([[9.0, 2.0]], [[2.0]])
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
        self._seen = threading.local()  # Two threads may share the model.
        self._blocks = block_names(model) if any(layer != FINAL for layer in layers) else []
        self._n_prefix = n_prefix_tokens(model)
        modules = [self._module(model, layer) for layer in self.layers]
        self._hooks = [self._hook(module, layer) for module, layer in zip(modules, self.layers, strict=True)]

    def _module(self, model: nn.Module, layer: str) -> nn.Module:
        if layer == FINAL and (heads := head_names(model)):
            return model.get_submodule(heads[0])
        number = _BLOCK.fullmatch(layer)
        if not number or not 1 <= int(number[1]) <= len(self._blocks):
            last = len(self._blocks)
            raise ValueError(f"no layer {layer!r}; the model has {FINAL} and block_1 to block_{last}")
        return model.get_submodule(self._blocks[int(number[1]) - 1])

    def _hook(self, module: nn.Module, layer: str) -> RemovableHandle:
        if layer == FINAL:
            return module.register_forward_pre_hook(lambda _, inputs: self._keep(layer, inputs[0].flatten(1)))
        return module.register_forward_hook(
            lambda _module, _inputs, output: self._keep(
                layer, pooled(output[0] if isinstance(output, tuple) else output, self._n_prefix)
            )
        )

    def _keep(self, layer: str, features: torch.Tensor) -> None:
        if not hasattr(self._seen, "by_layer"):
            self._seen.by_layer = {}
        self._seen.by_layer[layer] = features.detach().float()

    def take(self) -> dict[str, torch.Tensor]:
        """[B, d] float32 features by layer of the last forward pass in this thread, on the device of the model."""
        found, self._seen.by_layer = getattr(self._seen, "by_layer", {}), {}
        return {layer: found[layer] for layer in self.layers}

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> "FeatureTap":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Exact(contextlib.ContextDecorator):
    """See `exact`. Threads may be in it at the same time; the last one to leave restores the setting."""

    _lock = threading.Lock()
    _n_inside = 0
    _before = ("none", "tf32")

    def __enter__(self) -> None:
        matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
        with _Exact._lock:
            if not _Exact._n_inside:
                _Exact._before = (matmul.fp32_precision, conv.fp32_precision)
                matmul.fp32_precision = conv.fp32_precision = "ieee"
            _Exact._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with _Exact._lock:
            _Exact._n_inside -= 1
            if not _Exact._n_inside:
                torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = _Exact._before


def exact() -> contextlib.ContextDecorator:
    """A context, or decorator, in which fp32 on an NVIDIA GPU means fp32.

    By default torch rounds the inputs of convolutions to the 10 bits of TF32, and those of all products once
    Transformers has compiled a model. Rounding the patches alone moved a probability by up to 0.004 (ViT-Micro,
    simulated on a CPU), so that the same model would answer differently on a GPU and on a CPU.
    """
    return _Exact()
