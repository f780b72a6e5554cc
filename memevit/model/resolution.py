"""Another image size for a pretrained network, and an image processor that agrees with it."""

import copy
import logging
import math

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from memevit.errors import UserError

logger = logging.getLogger(__name__)


def side_of(image_processor: BaseImageProcessor) -> int:
    """Side in pixels of the square that the model sees."""
    size = image_processor.crop_size if getattr(image_processor, "do_center_crop", False) else image_processor.size
    return int(size.get("height") or size.get("shortest_edge"))


def whole_square(image_processor: BaseImageProcessor, side: int) -> BaseImageProcessor:
    """A processor that resizes the whole image to `side` x `side` pixels, because memes carry text to the edges.

    Args:
        image_processor: perhaps one that crops; it is not changed.
        side: in pixels.

    Returns:
        The same kind of processor where its settings allow that, else the one of ViT with the same values for colours.
    """
    square = {"height": side, "width": side}
    own = copy.deepcopy(image_processor)
    own.size, own.do_convert_rgb = square, True
    if getattr(own, "do_center_crop", None) is not None:
        own.do_center_crop, own.crop_size = False, square
    if _keeps_the_edges(own, side):
        return own
    plain = ViTImageProcessorPil(
        size=square,
        resample=image_processor.resample,
        image_mean=image_processor.image_mean,
        image_std=image_processor.image_std,
        rescale_factor=image_processor.rescale_factor,
        do_normalize=image_processor.do_normalize,
        do_convert_rgb=True,
    )
    logger.info("%s always crops; ViTImageProcessor is used instead", type(image_processor).__name__)
    return plain


def _keeps_the_edges(image_processor: BaseImageProcessor, side: int) -> bool:
    """Whether the white edges of a black image are still there, whichever of its sides is longer."""
    for width, height in ((3 * side, side), (side, 3 * side)):
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        pixels[: height // 8], pixels[-(height // 8) :] = 255, 255
        pixels[:, : width // 8], pixels[:, -(width // 8) :] = 255, 255
        try:
            seen = image_processor(images=[Image.fromarray(pixels)], return_tensors="pt")["pixel_values"][0]
        except (ValueError, TypeError, AttributeError):  # It knows no height and width, only a shortest edge.
            return False
        if seen.shape[-2:] != (side, side):
            return False
        middle = side // 2
        black = seen[:, middle, middle]
        edges = (seen[:, 0, middle], seen[:, -1, middle], seen[:, middle, 0], seen[:, middle, -1])
        if any(torch.equal(edge, black) for edge in edges):
            return False
    return True


def vision_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The part of a configuration that describes the vision network."""
    return getattr(config, "vision_config", config)


def set_size(config: PreTrainedConfig, side: int) -> None:
    """Make `config` one for images of `side` pixels.

    Raises:
        UserError: `side` can't be divided into patches.
    """
    vision = vision_config(config)
    patch = getattr(vision, "patch_size", None)
    if isinstance(patch, int) and side % patch:
        lower = side // patch * patch
        raise UserError(
            f"--image_size must be a multiple of the backbone's patch size {patch}, got {side}. "
            f"Take {max(lower, patch)} or {lower + patch}."
        )
    if hasattr(vision, "image_size"):
        vision.image_size = side


def resized(model: PreTrainedModel, side: int) -> PreTrainedModel:
    """`model` for images of `side` pixels: what it has learned about positions is interpolated, all else kept.

    The interpolation is the one of `interpolate_pos_encoding=True` in Transformers, done once.

    Raises:
        UserError: the network can't see images of that size.
    """
    config = copy.deepcopy(model.config)
    set_size(config, side)
    if getattr(vision_config(model.config), "image_size", side) == side:
        return model
    other = type(model)(config).to(model.dtype)
    old = model.state_dict()
    new = other.state_dict()
    learned = {name for name, _ in other.named_parameters()}
    changed = [name for name in new if old[name].shape != new[name].shape]
    for name in new.keys() - set(changed):
        new[name] = old[name]
    for name in learned & set(changed):
        new[name] = _interpolated(old[name], new[name].shape[-2], extra_comes_last="bias_table" in name)
    other.load_state_dict(new)
    if changed:
        logger.info("Positions are interpolated for images of %d pixels", side)
    return other


def _interpolated(table: torch.Tensor, n_rows: int, *, extra_comes_last: bool) -> torch.Tensor:
    """[..., n_rows, D] from [..., n, D], whose rows are a square grid of positions and a few tokens.

    Args:
        table: what was learned.
        n_rows: of the new grid and the same tokens.
        extra_comes_last: whether the tokens follow the grid, as in BEiT's table of relative positions.
    """
    rows = table.reshape(-1, table.shape[-1])
    side, new_side = math.isqrt(len(rows)), math.isqrt(n_rows)
    n_extra = len(rows) - side**2
    if n_rows - new_side**2 != n_extra:
        raise UserError(
            f"What the backbone has learned about {len(rows)} positions can't be carried over to {n_rows}. "
            "Choose another --image_size, or leave it out."
        )
    grid, extra = (rows[: side**2], rows[side**2 :]) if extra_comes_last else (rows[n_extra:], rows[:n_extra])
    square = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    square = functional.interpolate(square, size=(new_side, new_side), mode="bicubic", align_corners=False)
    grid = square.permute(0, 2, 3, 1).reshape(new_side**2, -1).to(table.dtype)
    parts = (grid, extra) if extra_comes_last else (extra, grid)
    return torch.cat(parts).reshape(*table.shape[:-2], n_rows, table.shape[-1])
