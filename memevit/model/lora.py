"""Low-rank adapters: train little beside frozen weights, and add it to them in the end."""

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from memevit.errors import UserError
from memevit.model import layers

_DROPOUT = 0.1


def add(model: PreTrainedModel, *, rank: int) -> None:
    """Freeze `model` but for its head, and put adapters beside all linear layers of the blocks.

    Checkpoints then hold backbone and adapters together, under the names that they have in memory.

    Args:
        model: to be changed.
        rank: inner width of an adapter.

    Raises:
        UserError: there is no linear layer in any block.

    Source:
        Hu et al., LoRA, 2021 (arXiv:2106.09685).
    """
    blocks = tuple(f"{name}." for name in layers.block_names(model))
    # Attention with its weights in one matrix reads them without calling the layer, so an adapter there does nothing.
    inside_attention = tuple(
        f"{name}." for name, layer in model.named_modules() if isinstance(layer, nn.MultiheadAttention)
    )
    targets = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and name.startswith(blocks) and not name.startswith(inside_attention)
    ]
    if not blocks or not targets:
        raise UserError(
            f"--lora_rank needs blocks with linear layers, and {type(model).__name__} has none. Train it without."
        )
    head = layers.head_of(model)  # Before adapters change the names.
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=_DROPOUT, target_modules=targets)
    inject_adapter_in_model(config, model)
    head.requires_grad_(True)


def merge(model: nn.Module) -> None:
    """Add what the adapters have learned to the weights and remove them; nothing happens where there are none."""
    adapted = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)]
    for name, layer in adapted:
        layer.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
