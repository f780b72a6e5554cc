"""Local features of an image: where its distinct spots are and what they look like, in 13 bytes each.

They survive what a hash of the whole image does not: captions, borders, crops, another size, and the frame of a
screenshot. Since memes stay upright, features do not turn with the image, which makes them tell more apart.
"""

import functools

import cv2
import numpy as np
from PIL import Image

from memevit.data import lettering

N_FEATURES = 96  # At most, of one image.
N_CODE_BITS = 64
N_MIRROR_FREE_BITS = 36  # The low bits, which a mirrored spot has in common with the spot.
MIRROR_FREE = np.uint64((1 << N_MIRROR_FREE_BITS) - 1)

FEATURE = np.dtype([("code", "<u8"), ("x", "<u2"), ("y", "<u2"), ("size", "u1")])  # Unaligned: 13 bytes.
PLACE_STEPS = 16.0  # Per pixel of the working copy.
SIZE_STEPS = 16.0  # Per doubling of a feature's size, which is counted from 1 pixel.

_WORK_AREA_PX = 128 * 128
_MIN_SIDE_PX = 16
_GRID = 4  # Features are taken from 4x4 cells in turn, so that a caption can't take them all.
_CONTRAST = 0.005
_CAPTION_DETAIL = 2  # Pixels in which captions are looked for per pixel of the working copy.


def describe(
    image: Image.Image, *, size: tuple[int, int] | None = None, n_features: int = N_FEATURES, detail: float = 1.0
) -> bytes:
    """The local features of an RGB image, strongest first within each part of the image.

    Args:
        image: an RGB image.
        size: its true width and height, where `image` is stretched.
        n_features: how many at most.
        detail: pixels that are looked at per pixel of the working copy, by which places and sizes are counted anyway.

    Returns:
        0 to `n_features` records of `FEATURE`: x and y in 1/`PLACE_STEPS` pixels of the working copy, size in
        1/`SIZE_STEPS` octaves.

    Source: Lowe, Distinctive Image Features from Scale-Invariant Keypoints, 2004 (SIFT, as in OpenCV, upright), less
    its length: the signs of the 64 lowest frequencies of the square roots of its 4x4x8 numbers (Arandjelović and
    Zisserman, Three things everyone should know, 2012). A mirrored spot has the same low 36 bits and the opposite of
    the others.
    """
    width, height = working_size(size or image.size)
    fine = _grey(image, (_CAPTION_DETAIL * width, _CAPTION_DETAIL * height))
    uncaptioned = lettering.filled(fine, lettering.covered(fine))
    grey = cv2.resize(uncaptioned, (round(detail * width), round(detail * height)), interpolation=cv2.INTER_AREA)
    found = _spread(_distinct(_detector().detect(grey)), grey.shape)[:n_features]
    if not found:
        return b""
    for point in found:
        point.angle = 0.0
    found, descriptors = _detector().compute(grey, found)
    features = np.zeros(len(found), dtype=FEATURE)
    features["code"] = _codes(descriptors)
    places = np.array([point.pt for point in found]) / detail
    features["x"], features["y"] = np.clip(np.rint(PLACE_STEPS * places), 0, np.iinfo("<u2").max).T
    sizes = np.array([point.size for point in found]) / detail
    features["size"] = np.clip(np.rint(SIZE_STEPS * np.log2(np.maximum(sizes, 1.0))), 0, 255)
    return features.tobytes()


@functools.cache
def _detector() -> cv2.SIFT:
    cv2.setNumThreads(1)  # Images are spread over processes.
    return cv2.SIFT_create(contrastThreshold=_CONTRAST)


def _grey(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """[H, W] grey levels."""
    resample = Image.Resampling.BOX if image.width > 2 * size[0] else Image.Resampling.BILINEAR
    return np.asarray(image.convert("L").resize(size, resample))


def working_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the working copy of an image of that width and height."""
    scale = float((_WORK_AREA_PX / (size[0] * size[1])) ** 0.5)
    return max(_MIN_SIDE_PX, round(size[0] * scale)), max(_MIN_SIDE_PX, round(size[1] * scale))


def _distinct(points: list[cv2.KeyPoint]) -> list[cv2.KeyPoint]:
    """One of the points that only differ in direction, strongest first."""
    at: dict[tuple[float, float, float], cv2.KeyPoint] = {}
    for point in points:
        at.setdefault((*point.pt, point.size), point)
    return sorted(at.values(), key=lambda point: (-point.response, point.pt))


def _spread(points: list[cv2.KeyPoint], shape: tuple[int, int]) -> list[cv2.KeyPoint]:
    """The points in the order in which the cells of a grid take turns."""
    n_in_cell: dict[tuple[int, int], int] = {}
    turns = []
    for point in points:
        cell = (int(_GRID * point.pt[0] / shape[1]), int(_GRID * point.pt[1] / shape[0]))
        n_in_cell[cell] = n_in_cell.get(cell, 0) + 1
        turns.append(n_in_cell[cell])
    return [points[place] for place in np.argsort(turns, kind="stable")]


def _codes(descriptors: np.ndarray) -> np.ndarray:
    """[n] uint64 codes of [n, 128] SIFT descriptors."""
    roots = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    bits = (roots @ _frequencies().T) > 0
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").ravel()


@functools.cache
def _frequencies() -> np.ndarray:
    """[64, 128] waves over the 4 rows, 4 columns and 8 directions of a descriptor, those that mirroring keeps first."""
    along = np.cos(np.pi / 4 * np.outer(np.arange(4), np.arange(4) + 0.5))  # [wave, place]
    turn = np.pi / 4 * np.arange(8)
    around = np.array([np.ones(8), np.cos(turn), np.sin(turn), np.cos(2 * turn), np.sin(2 * turn)])
    is_kept_around = np.array([1, -1, 1, 1, -1]) > 0  # Mirrored, direction t becomes pi - t.
    orders = np.array([0, 1, 1, 2, 2])
    waves: dict[bool, list[tuple[int, np.ndarray]]] = {True: [], False: []}
    for row, column, turning in np.ndindex(4, 4, 5):
        if turning == 0 and row % 2 == 0 and column % 2 == 0:
            continue  # Nearly always of one sign.
        wave = np.einsum("i,j,k->ijk", along[row], along[column], around[turning]).ravel()
        is_kept = (column % 2 == 0) == bool(is_kept_around[turning])
        waves[is_kept].append((row + column + int(orders[turning]), wave))
    chosen = []
    for is_kept, n in ((True, N_MIRROR_FREE_BITS), (False, N_CODE_BITS - N_MIRROR_FREE_BITS)):
        ranked = sorted(range(len(waves[is_kept])), key=lambda place, kept=is_kept: waves[kept][place][0])
        chosen += [waves[is_kept][place][1] for place in ranked[:n]]
    return np.array(chosen)
