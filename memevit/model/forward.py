"""The one way to run a model on images: logits and, when asked, features of chosen layers.

    outputs = forward(model, batches)                                   # batches of pixel_values [B, 3, H, W]
    outputs = forward(model, batches, layers=("final", "block_6"))      # and features of two layers
    outputs = forward(model, batches, normalise=Normalise(processor))   # batches of uint8 pixels
    outputs = forward_dataset(model, dataset, normalise=..., accelerator=trainer.accelerator)

    outputs.logits                [n, C] float32
    outputs.features["block_6"]   [n, D] float32

Layers are named "final", which is exactly what the classifier sees, and "block_1", "block_2", ... from the input
upwards (`layers.block_names` gives their modules). The features of a block are its CLS token followed by the mean of
its patch tokens (2 x width); without a CLS token, as in Swin, ConvNeXt and SigLIP, the mean over all positions (width).
`default_blocks` gives the blocks at a quarter, half and three quarters of the depth.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import PreTrainedModel

from memevit import cores
from memevit.portable.features import FINAL, FeatureTap, block_names, exact

__all__ = ["FINAL", "ForwardPass", "Outputs", "default_blocks", "forward", "forward_dataset", "use_cores"]

_DEPTHS = (0.25, 0.5, 0.75)

Normalise = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Outputs:
    """`logits` [n, C] float32, and `features` [n, D] float32 of each layer that was asked for, by its name."""

    logits: np.ndarray
    features: dict[str, np.ndarray]


def default_blocks(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of the blocks at a quarter, half and three quarters of the depth; fewer if the network is shallow.

    Example:
        >>> from transformers import ViTConfig, ViTForImageClassification
        >>> small = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8, "image_size": 16}
        >>> default_blocks(ViTForImageClassification(ViTConfig(num_hidden_layers=12, **small)))
        ('block_3', 'block_6', 'block_9')
    """
    n_blocks = len(block_names(model))
    numbers = (max(1, round(depth * n_blocks)) for depth in _DEPTHS) if n_blocks else ()
    return tuple(dict.fromkeys(f"block_{number}" for number in numbers))


def use_cores(device: torch.device) -> None:
    """Let a process on a CPU use its share of the cores, although `accelerate launch` gives it one thread."""
    n_threads = cores.share_of_cores(os.environ)
    if device.type == "cpu" and n_threads is not None:
        torch.set_num_threads(n_threads)


class ForwardPass:
    """Runs a model on one batch at a time, from any thread; `close` removes its hooks from the model.

    Args:
        model: in evaluation mode, on its device.
        normalise: makes float values of uint8 pixels, on the device; None if batches hold values already.
        layers: whose features are recorded.

    Raises:
        ValueError: the model has no such layer.
    """

    def __init__(
        self, model: PreTrainedModel, *, normalise: Normalise | None = None, layers: Sequence[str] = ()
    ) -> None:
        self._model = model
        self._normalise = normalise
        self._tap = FeatureTap(model, layers)

    @exact()
    @torch.no_grad()  # Not inference_mode: BEiT caches tensors that a later training needs.
    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Logits [B, C] and features [B, D] by layer, float32 and on the device of the model, perhaps not yet computed.

        Args:
            pixels: [B, 3, H, W] values, or uint8 pixels with `normalise`, on any device.
        """
        pixels = pixels.to(self._model.device, non_blocking=True)
        values = pixels if self._normalise is None else self._normalise(pixels)
        logits = self._model(pixel_values=values.to(self._model.dtype)).logits.float()
        return logits, self._tap.take()

    def close(self) -> None:
        """Remove the hooks from the model."""
        self._tap.close()


def forward(
    model: nn.Module,
    batches: Iterable[torch.Tensor | Mapping[str, torch.Tensor]],
    *,
    layers: Sequence[str] = (),
    normalise: Normalise | None = None,
    accelerator: Accelerator | None = None,
) -> Outputs:
    """Logits and features of all images of `batches`, in order.

    Args:
        model: an image classification model on its device; it is run in evaluation mode and without gradients.
        batches: `pixel_values` [B, 3, H, W], or mappings that hold them under this name.
        layers: whose features are wanted, see the top of this module.
        normalise: makes float values of uint8 pixels; None if batches hold values already.
        accelerator: that prepared `batches`; the shares of all processes are gathered, each image once.

    Raises:
        ValueError: the model has no such layer, or there is no batch.
    """
    was_training = model.training
    run = ForwardPass(model.eval(), normalise=normalise, layers=layers)
    found = []
    try:
        for batch in batches:
            outputs = run(batch["pixel_values"] if isinstance(batch, Mapping) else batch)
            found.append(outputs if accelerator is None else accelerator.gather_for_metrics(outputs))
    finally:
        run.close()
        model.train(was_training)
    if not found:
        raise ValueError("no images")

    def joined(parts: list[torch.Tensor]) -> np.ndarray:  # Not batch by batch: each copy waits for the device.
        return torch.cat(parts).cpu().numpy()

    return Outputs(
        joined([logits for logits, _ in found]),
        {layer: joined([features[layer] for _, features in found]) for layer in layers},
    )


def forward_dataset(
    model: nn.Module,
    dataset: Dataset,
    *,
    layers: Sequence[str] = (),
    normalise: Normalise | None = None,
    accelerator: Accelerator | None = None,
    batch_size: int = 64,
    n_workers: int = 0,
    collate: Callable[[Any], Any] | None = None,
    title: str | None = None,
) -> Outputs:
    """Logits and features of all images of a torch dataset, in its order, see `forward`.

    Args:
        model: on its device.
        dataset: of images, from files, the pixel cache or memory; its items or batches hold `pixel_values`.
        layers: whose features are wanted.
        normalise: makes float values of uint8 pixels.
        accelerator: of the processes that share the work; called by all of them. None if this one works alone.
        batch_size: images that the model sees at once.
        n_workers: processes that load images.
        collate: makes a batch of items, as in `DataLoader`.
        title: of the progress bar; None shows none.
    """
    # A generator of its own: training sees the same random numbers whether this ran before or not.
    loader: Iterable = DataLoader(
        dataset, batch_size, num_workers=n_workers, collate_fn=collate, generator=torch.Generator(),
        pin_memory=model.device.type == "cuda",
    )  # fmt: skip
    n_batches = len(loader)
    if accelerator is not None:
        loader = accelerator.prepare_data_loader(loader)
        n_batches = len(loader)
    is_shown = title is not None and (accelerator is None or accelerator.is_main_process)
    progress = tqdm(loader, desc=title, total=n_batches, unit="batch", disable=not is_shown)
    return forward(model, progress, layers=layers, normalise=normalise, accelerator=accelerator)
