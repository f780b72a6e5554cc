"""Classical descriptors of images, in batches: what a network can be asked to compute before it can read formulas.

They need no labels, and every patch has its own, so they teach the first layers within minutes: colours, contrast, and
how much edge there is in each direction at three scales (Freeman and Roth 1995; Dalal and Triggs 2005).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

N_COLOUR_BINS = 6  # Per colour channel.
N_DIRECTIONS = 4
N_SCALES = 3
N_LOCAL = 3 + 3 + N_SCALES * (N_DIRECTIONS + 1)
_EPSILON = 1e-4


@dataclass(frozen=True)
class Descriptors:
    """What `describe` finds.

    `local` [B, patches, 2 N_LOCAL] is of each patch and of its neighbourhood, `overall` [B, 2 N_LOCAL] their mean and
    spread over the image, `colours` [B, N_COLOUR_BINS ** 3] the shares of the colours.
    """

    local: Tensor
    overall: Tensor
    colours: Tensor


def describe(images: Tensor, *, patch_size: int) -> Descriptors:
    """The descriptors of `images` [B, 3, S, S] in [0, 1]."""
    opponent = _opponent(images)
    side = images.shape[-1] // patch_size
    mean = functional.adaptive_avg_pool2d(opponent, side)
    spread = functional.adaptive_avg_pool2d(opponent.square(), side) - mean.square()
    parts = [mean, spread.clamp(min=0).sqrt()]
    for _ in range(N_SCALES):
        parts.append((functional.adaptive_avg_pool2d(_edges(opponent), side) + _EPSILON).sqrt())
        opponent = functional.avg_pool2d(opponent, 2)
    grid = torch.cat(parts, dim=1)  # [B, N_LOCAL, side, side]
    around = functional.avg_pool2d(functional.pad(grid, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return Descriptors(
        local=torch.cat([grid, around], dim=1).flatten(2).transpose(1, 2),
        overall=torch.cat([grid.mean((2, 3)), grid.std((2, 3))], dim=1),
        colours=_colour_shares(images),
    )


def _opponent(images: Tensor) -> Tensor:
    """[B, 3, S, S] brightness, red against green, and yellow against blue."""
    red, green, blue = images.unbind(1)
    return torch.stack([(red + green + blue) / 3, red - green, (red + green) / 2 - blue], dim=1)


def _edges(opponent: Tensor) -> Tensor:
    """[B, N_DIRECTIONS + 1, H, W] change of brightness along each direction, and change of colour along any."""
    padded = functional.pad(opponent, (1, 1, 1, 1), mode="replicate")
    dx, dy = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2], padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    angles = [number * math.pi / N_DIRECTIONS for number in range(N_DIRECTIONS)]
    along = [(math.cos(angle) * dx[:, 0] + math.sin(angle) * dy[:, 0]).abs() for angle in angles]
    colour = (dx[:, 1:].abs() + dy[:, 1:].abs()).sum(1)
    return torch.stack([*along, colour], dim=1)


def _colour_shares(images: Tensor) -> Tensor:
    levels = (images * N_COLOUR_BINS).long().clamp(max=N_COLOUR_BINS - 1)
    codes = ((levels[:, 0] * N_COLOUR_BINS + levels[:, 1]) * N_COLOUR_BINS + levels[:, 2]).flatten(1)
    shares = torch.zeros(len(images), N_COLOUR_BINS**3, device=images.device)
    return shares.scatter_add_(1, codes, torch.full_like(codes, 1.0 / codes.shape[1], dtype=torch.float32))
