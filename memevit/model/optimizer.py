"""Learning rate and weight decay of each parameter."""

from collections import defaultdict
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from memevit.model import layers

# Prefixes that wrappers of torch add to parameter names.
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "module.")


def rates(model: PreTrainedModel, *, rate: float, layer_decay: float, head_factor: float) -> dict[str, float]:
    """The peak learning rate of every parameter, by name.

    Args:
        model: not wrapped.
        rate: of the top block.
        layer_decay: the rate of each block as a fraction of that of the block above it.
        head_factor: the rate of the head as a multiple of `rate`.

    Source:
        Layer-wise decay as in Clark et al., ELECTRA, 2020, and Bao et al., BEiT, 2022.
    """
    found = layers.depths(model)
    top = max(found.values())
    return {
        name: rate * (head_factor if depth == layers.HEAD else layer_decay ** (top - depth))
        for name, depth in found.items()
    }


def decayed(model: nn.Module) -> set[str]:
    """Names of the parameters that weight decay applies to: matrices and kernels of layers.

    Biases, norms, layer scales, tokens and position embeddings are excluded, as is usual.
    """
    return {
        f"{owner_name}.{name}" if owner_name else name
        for owner_name, owner in model.named_modules()
        for name, parameter in owner.named_parameters(recurse=False)
        if name.endswith("weight") and parameter.ndim > 1 and not isinstance(owner, nn.Embedding)
    }


def parameter_groups(model: nn.Module, rate_of: dict[str, float], *, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: one per rate, with and without decay; without frozen parameters.

    Args:
        model: may be wrapped for several devices.
        rate_of: from `rates`.
        weight_decay: of the parameters in `decayed`.
    """
    with_decay = decayed(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (rate_of[_plain(name)], weight_decay if name in with_decay else 0.0)
            groups[key].append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]


def _plain(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name
