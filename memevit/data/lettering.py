"""Captions as memes have them: where they are, and the image without them."""

import cv2
import numpy as np

_STROKE_PX = 11  # Bright strokes are thinner, in images of about 256 x 256 pixels.
_OUTLINE_PX = 5  # Side of the square around a bright pixel in which its dark outline lies.
_GROWN_PX = 7  # Side of the square by which strokes are grown, outline and all.
_MIN_AREA_PX = 300  # Of a grown word; stars and sparks, of which some images have nothing else, are smaller.
_MIN_CONTRAST = 90  # Grey levels by which a stroke is brighter than what surrounds it.
_MIN_BRIGHT, _MAX_DARK = 165, 90
_FILL_PX = (5, 9, 17, 33, 65)  # Sides of the squares whose means fill what captions cover, smallest first.
_MIN_KNOWN = 0.15  # Share of such a square that must not be covered.


def covered(grey: np.ndarray) -> np.ndarray:
    """[H, W] 1 where an image of [H, W] grey levels has bright letters with dark around them, otherwise 0."""
    background = cv2.morphologyEx(grey, cv2.MORPH_OPEN, _square(_STROKE_PX))
    is_stroke = (cv2.subtract(grey, background) >= _MIN_CONTRAST) & (grey >= _MIN_BRIGHT)
    is_outlined = cv2.erode(grey, _square(_OUTLINE_PX)) <= _MAX_DARK
    grown = cv2.dilate((is_stroke & is_outlined).astype(np.uint8), _square(_GROWN_PX))
    _, labels, parts, _ = cv2.connectedComponentsWithStats(grown)
    return grown * (parts[:, cv2.CC_STAT_AREA] >= _MIN_AREA_PX)[labels]


def filled(grey: np.ndarray, is_covered: np.ndarray) -> np.ndarray:
    """[H, W] grey levels with what is covered replaced by the mean of what lies around it."""
    is_known = (1 - is_covered).astype(np.float32)
    known, levels = grey * is_known, grey.astype(np.float32)
    missing = is_covered > 0
    for side in _FILL_PX:
        if not missing.any():
            break
        mean, share = cv2.blur(known, (side, side)), cv2.blur(is_known, (side, side))
        is_filled = missing & (share >= _MIN_KNOWN)
        levels[is_filled] = mean[is_filled] / share[is_filled]
        missing &= ~is_filled
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def _square(side: int) -> np.ndarray:
    return np.ones((side, side), dtype=np.uint8)
