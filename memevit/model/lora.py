"""LoRA adapters: added before training, merged into the weights afterwards.

peft is imported where it is needed: sorting loads models, too, and would start later for nothing.
"""

from torch import nn
from transformers import PreTrainedModel

from memevit.errors import UserError
from memevit.model import layers

_DROPOUT = 0.1


def add(model: PreTrainedModel, *, rank: int) -> None:
    """Freeze `model` except its head, and add adapters to all linear layers of its blocks.

    Checkpoints then contain backbone and adapters, under the names that they have in memory.

    Args:
        model: changed in place.
        rank: of the adapters.

    Raises:
        UserError: no block has a linear layer.

    Source:
        Hu et al., LoRA, 2021 (arXiv:2106.09685).
    """
    from peft import LoraConfig, inject_adapter_in_model

    blocks = tuple(f"{name}." for name in layers.block_names(model))
    # nn.MultiheadAttention reads its weights without calling the layer, so an adapter there has no effect.
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
            f"--lora_rank needs blocks with linear layers, and {type(model).__name__} has none. Leave --lora_rank out."
        )
    head = layers.head_of(model)  # Before adapters change the names.
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=_DROPOUT, target_modules=targets)
    inject_adapter_in_model(config, model)
    head.requires_grad_(True)


def merge(model: nn.Module) -> None:
    """Merge the adapters of `model`, if there are any, into its weights and remove them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)]
    for name, layer in adapted:
        layer.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
