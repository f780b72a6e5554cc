"""Heat maps: which parts of an image decided for a class, by occlusion and by integrated gradients."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel

from memevit.model.geometry import Render

GRID = 8  # Windows per side that are covered one after the other.
N_STEPS = 16  # Points on the line from the plain image to the real one.
_COVER = 2  # Cells per side of a window, so that neighbouring windows overlap.


def log_odds(logits: torch.Tensor, label: int) -> torch.Tensor:
    """[B] log-odds of class `label` against all others, from logits [B, C]; unlike probabilities they do not saturate.

    Example:
        >>> log_odds(torch.tensor([[2.0, 0.5]]), 0).tolist()
        [1.5]
    """
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.logsumexp(dim=1)


@torch.no_grad()
def occlusion(
    model: PreTrainedModel, values: torch.Tensor, label: int, *, grid: int = GRID, batch_size: int = 32
) -> np.ndarray:
    """[grid, grid] fall of the log-odds of `label` when the part around each cell is covered; above 0 it spoke for it.

    A window of 2x2 cells is covered with the mean colour of the image, and each cell gets the mean of the windows that
    covered it.

    Args:
        model: in evaluation mode.
        values: [3, H, W] what the model sees, on its device.
        label: class id.
        grid: cells per side.
        batch_size: covered copies that the model sees at once.

    Source:
        Zeiler and Fergus, Visualizing and understanding convolutional networks, 2014 (arXiv:1311.2901).
    """
    height, width = values.shape[1:]
    rows = np.linspace(0, height, grid + 1).round().astype(int)
    columns = np.linspace(0, width, grid + 1).round().astype(int)
    windows = [(row, column) for row in range(1 - _COVER, grid) for column in range(1 - _COVER, grid)]
    windows = [(max(0, r), min(grid, r + _COVER), max(0, c), min(grid, c + _COVER)) for r, c in windows]
    plain = values.mean(dim=(1, 2), keepdim=True)
    whole = log_odds(model(pixel_values=values[None].to(model.dtype)).logits.float(), label).item()
    total, n_covers = np.zeros((grid, grid)), np.zeros((grid, grid))
    for start in range(0, len(windows), batch_size):
        chosen = windows[start : start + batch_size]
        copies = values.repeat(len(chosen), 1, 1, 1)
        for copy, (top, bottom, left, right) in zip(copies, chosen, strict=True):
            copy[:, rows[top] : rows[bottom], columns[left] : columns[right]] = plain
        scores = log_odds(model(pixel_values=copies.to(model.dtype)).logits.float(), label).cpu().numpy()
        for score, (top, bottom, left, right) in zip(scores, chosen, strict=True):
            total[top:bottom, left:right] += whole - score
            n_covers[top:bottom, left:right] += 1
    return total / n_covers


def integrated_gradients(
    model: PreTrainedModel, values: torch.Tensor, label: int, *, grid: int = GRID, n_steps: int = N_STEPS
) -> np.ndarray:
    """[grid, grid] shares of the log-odds of `label` that each part adds to those of a plain image of the mean colour.

    Their sum is the difference of the log-odds of the two images, up to the error of the sum over `n_steps` points.

    Args:
        model: in evaluation mode.
        values: [3, H, W] what the model sees, on its device.
        label: class id.
        grid: cells per side.
        n_steps: points at which gradients are taken, all in one batch.

    Source:
        Sundararajan et al., Axiomatic attribution for deep networks, 2017 (arXiv:1703.01365), midpoint rule.
    """
    plain = values.mean(dim=(1, 2), keepdim=True)
    shares = (torch.arange(n_steps, device=values.device) + 0.5) / n_steps
    points = (plain + shares[:, None, None, None] * (values - plain)).to(model.dtype).requires_grad_()
    with torch.enable_grad():
        score = log_odds(model(pixel_values=points).logits.float(), label).sum()
        (gradients,) = torch.autograd.grad(score, points)
    by_pixel = (gradients.float().mean(dim=0) * (values - plain)).sum(dim=0)  # [H, W]
    # Apple's accelerator has neither float64 nor cells of unequal size.
    cells = torch.nn.functional.adaptive_avg_pool2d(by_pixel.cpu().double()[None], grid)[0]
    return (cells * (by_pixel.numel() / grid**2)).numpy()


def visible_box(render: Render) -> Callable[[tuple[int, int]], tuple[float, float, float, float]]:
    """A function from the size (width, height) of an image to the part that the model sees of it.

    The part is left, top, right and bottom as shares of width and height. An image whose levels are its coordinates is
    rendered and read, so that it holds for any image processor; (0, 0, 1, 1) unless it crops.
    """

    def box(size: tuple[int, int]) -> tuple[float, float, float, float]:
        width, height = (max(2, side) for side in size)
        level = [np.linspace(0, 255, side).round().astype(np.uint8) for side in (width, height)]
        across, down = np.meshgrid(*level)
        seen = np.asarray(render(Image.fromarray(np.stack([across, down, down], axis=2)))) / 255
        columns, rows = seen[0].mean(axis=0), seen[1].mean(axis=1)
        ends = (columns[0], rows[0], columns[-1], rows[-1])
        # Resizing averages the outermost pixels: an end within a pixel or two of what is seen is the edge.
        tolerance = (2 / seen.shape[2], 2 / seen.shape[1]) * 2
        exact = (0.0, 0.0, 1.0, 1.0)
        return tuple(
            edge if abs(end - edge) <= near else float(end)
            for end, edge, near in zip(ends, exact, tolerance, strict=True)
        )

    return box
