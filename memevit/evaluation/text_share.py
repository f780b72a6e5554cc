"""How much of an image is text: a measure without character recognition, for finding screenshots and walls of text."""

import numpy as np
from PIL import Image

_LONGEST_PX = 384
_BLOCK_PX = 12
_PLAIN_SPREAD = 6.0  # Grey levels; a block with less is plain background.
_MIN_CONTRAST = 90.0  # Grey levels between ink and paper.
_NEAR = 0.2  # Of the contrast: a pixel this near to ink or paper counts as such.
_MIN_TWO_TONE = 0.7  # Share of such pixels.
_MIN_EDGES = 0.08  # Share of neighbouring pixels that cross the middle level: strokes are many and thin.
_MAX_COLOUR = 30.0  # Mean spread between channels in grey levels.
_MIN_TEXT = 0.08  # Share of the whole area.
_MIN_OF_CONTENT = 0.45  # Share of what is not plain background.
_MIN_SIDE_PX = 96  # In less, sprites and textures look like letters.
_MIN_LINES = 3
_MAX_LINE_HEIGHT = 0.15  # Of the image.


def shares(image: Image.Image) -> tuple[float, float]:
    """Share of the area that looks like text, and share that is plain background.

    A block of 12x12 pixels (the image at 384 pixels) looks like text if nearly all its pixels are one of two tones far
    apart, without colour, that alternate often.

    Args:
        image: RGB.
    """
    small = image.copy()
    small.thumbnail((_LONGEST_PX, _LONGEST_PX))
    width, height = (side - side % _BLOCK_PX for side in small.size)
    if min(width, height) < 2 * _BLOCK_PX:
        return 0.0, 0.0
    levels = np.asarray(small, dtype=np.float32)[:height, :width]
    blocks = levels.reshape(height // _BLOCK_PX, _BLOCK_PX, width // _BLOCK_PX, _BLOCK_PX, 3).swapaxes(1, 2)
    blocks = blocks.reshape(-1, _BLOCK_PX, _BLOCK_PX, 3)
    grey = blocks.mean(axis=3)
    dark, light = grey.min(axis=(1, 2), keepdims=True), grey.max(axis=(1, 2), keepdims=True)
    contrast = (light - dark)[:, 0, 0]
    near = np.minimum(grey - dark, light - grey) <= _NEAR * (light - dark)
    is_ink = grey < (dark + light) / 2
    edges = (is_ink[:, :, 1:] != is_ink[:, :, :-1]).mean(axis=(1, 2)) + (is_ink[:, 1:] != is_ink[:, :-1]).mean(
        axis=(1, 2)
    )
    colour = (blocks.max(axis=3) - blocks.min(axis=3)).mean(axis=(1, 2))
    is_text = (contrast >= _MIN_CONTRAST) & (near.mean(axis=(1, 2)) >= _MIN_TWO_TONE) & (edges / 2 >= _MIN_EDGES)
    is_text &= colour <= _MAX_COLOUR
    is_plain = ~is_text & (grey.std(axis=(1, 2)) < _PLAIN_SPREAD)
    return float(is_text.mean()), float(is_plain.mean())


def is_mostly_text(image: Image.Image) -> bool:
    """Whether text makes up most of what an RGB image shows besides plain background, and stands in lines."""
    if min(image.size) < _MIN_SIDE_PX:
        return False
    text, plain = shares(image)
    return text >= _MIN_TEXT and text >= _MIN_OF_CONTENT * (1.0 - plain) and _is_in_lines(image)


def _is_in_lines(image: Image.Image) -> bool:
    """Whether rows of pixels with much ink and rows with hardly any take turns, as lines of text and their gaps do."""
    grey = np.asarray(image.convert("L"), dtype=np.float32)
    ink = (np.abs(grey - np.median(grey)) > _MIN_CONTRAST / 2).mean(axis=1)
    is_line = ink > 0.15 * np.quantile(ink, 0.95)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_line, [False]]).astype(np.int8)))
    heights = edges[1::2] - edges[::2]
    return len(heights) >= _MIN_LINES and float(np.median(heights)) <= _MAX_LINE_HEIGHT * len(grey)
