"""What to label next: unlabelled images ranked by what a model would learn most from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from memevit import pixels
from memevit.evaluation.observed import nearest

MAX_RANKED = 200
_COLUMNS, _TILE_PX, _GAP_PX, _TEXT_PX = 10, 128, 6, 18
_INK, _PAPER = "#1c1c1c", "#ffffff"


@dataclass(frozen=True)
class Ranked:
    """Position of one image in the pool, how uncertain the model is (0 to 1), how far it is from training images."""

    position: int
    uncertainty: float
    distance: float


def rank(
    probabilities: np.ndarray, features: np.ndarray, train_features: np.ndarray, *, n: int = MAX_RANKED
) -> list[Ranked]:
    """The images of a pool from which a model would learn most, the best first.

    An image counts for being uncertain and for being unlike the training images, each by its rank in the pool; one that
    resembles an image chosen before counts for less, so that no two are alike.

    Args:
        probabilities: [n_pool, C].
        features: [n_pool, D].
        train_features: [n_train, D].
        n: how many are ranked.

    Source:
        Settles, Active learning literature survey, 2009: margin sampling; Sener and Savarese, Active learning for
        convolutional neural networks: a core-set approach, 2018 (arXiv:1708.00489): distance to what is chosen.
    """
    if not len(features):
        return []
    top = np.sort(probabilities, axis=1)
    uncertainty = 1.0 - (top[:, -1] - top[:, -2])
    distance = nearest(features, train_features)[1][:, 0].astype(np.float64)
    score = (_ranks(uncertainty) + _ranks(distance)) / 2
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    scale = max(float(np.median(distance)), 1e-6)
    apart = np.ones(len(features))  # 1 unless something chosen is nearer than the usual distance to training.
    chosen: list[Ranked] = []
    is_free = np.ones(len(features), dtype=bool)
    for _ in range(min(n, len(features))):
        position = int(np.where(is_free, score * apart, -1.0).argmax())
        is_free[position] = False
        chosen.append(Ranked(position, float(uncertainty[position]), float(distance[position])))
        apart = np.minimum(apart, np.clip((1.0 - unit @ unit[position]) / scale, 0.0, 1.0))
    return chosen


def _ranks(values: np.ndarray) -> np.ndarray:
    """[n] shares of the values that are at most as large."""
    return np.searchsorted(np.sort(values), values, side="right") / len(values)


def contact_sheet(paths: Sequence[Path]) -> Image.Image:
    """The images at `paths` in a grid, numbered from 1."""
    step, height = _TILE_PX + _GAP_PX, _TILE_PX + _TEXT_PX
    n_rows = -(-len(paths) // _COLUMNS)
    sheet = Image.new("RGB", (_GAP_PX + _COLUMNS * step, _GAP_PX + n_rows * (height + _GAP_PX)), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for number, path in enumerate(paths):
        left = _GAP_PX + number % _COLUMNS * step
        upper = _GAP_PX + number // _COLUMNS * (height + _GAP_PX)
        small = pixels.load_image(path).copy()
        small.thumbnail((_TILE_PX, _TILE_PX))
        sheet.paste(small, (left + (_TILE_PX - small.width) // 2, upper + (_TILE_PX - small.height) // 2))
        pen.text((left, upper + _TILE_PX + 2), str(number + 1), fill=_INK, font=font)
    return sheet
