"""Which pictures are the same picture again, and which share a template. Hashes propose, pixels decide."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse.csgraph
from PIL import Image

from memevit import decoding
from memevit.data import hashes
from memevit.data.ingest import Scan

SAME = "same"
TEMPLATE = "template"

_COMPARE_PX = 96  # Side of the squares that are compared.
_BLOCK_PX = 12  # They are judged in 8x8 blocks of this side.
# Measured on 250 game pictures, cropped by up to 4 % a side, scaled by 0.5 to 1.3 and saved as JPEG 30 to 90: 84 %
# are found to be the same (99 % without a crop), and 1 % of those with another caption. The others count as templates.
_MAX_MEAN_DIFFERENCE = 10.0  # Grey levels.
_BLOCK_ALLOWANCE = (3.0, 3.5)  # Grey levels, and times the mean: the worst block stands out where words differ.
_MIN_CORRELATION = 0.9  # Of the two pictures' details, so that two dark pictures are not the same for being dark.
_MIN_BLOCK_CONTRAST = 5.0  # Grey levels; a block with less shows nothing that could agree.
_MIN_TEXTURED_BLOCKS = 10
_MIN_TEMPLATE_SHARE = 0.45  # Of the textured blocks.
_BLOCK_CORRELATION = 0.7
_CROPS = np.linspace(0.0, 0.06, 7)  # Shares cut from an edge that are tried when two pictures are aligned.


@dataclass(frozen=True)
class Relations:
    """How the pictures of a source relate.

    `same` and `group` give one number per picture: pictures with equal `same` show the same picture again, those with
    equal `group` also count templates with other captions. `pairs` are the positions of directly related pictures.
    `n_crowded_hashes` is the number of hashes with so many near ones that not all were looked at.
    """

    same: np.ndarray
    group: np.ndarray
    pairs: list[tuple[int, int]]
    n_pairs_compared: int
    n_crowded_hashes: int


def relate(scans: list[Scan], staging_dir: Path, *, n_processes: int) -> Relations:
    """Find pictures that are the same or share a template.

    Args:
        scans: usable pictures.
        staging_dir: where their stored files are.
        n_processes: how many processes compare.
    """
    same = _equal_pixels(scans)
    proposed, n_crowded = hashes.candidate_pairs([scan.codes for scan in scans])
    candidates = [(a, b) for a, b in proposed.tolist() if scans[a].pixel_digest != scans[b].pixel_digest]
    names = [(scans[a].stored, scans[b].stored) for a, b in candidates]
    compare_two = functools.partial(compare_files, staging_dir=staging_dir)
    verdicts = list(
        decoding.map_ordered(compare_two, names, n_processes=n_processes, description="Comparing", unit="pair")
    )
    same += [pair for pair, verdict in zip(candidates, verdicts, strict=True) if verdict == SAME]
    templates = [pair for pair, verdict in zip(candidates, verdicts, strict=True) if verdict == TEMPLATE]
    return Relations(
        same=components(len(scans), same),
        group=components(len(scans), same + templates),
        pairs=same + templates,
        n_pairs_compared=len(candidates),
        n_crowded_hashes=n_crowded,
    )


def _equal_pixels(scans: list[Scan]) -> list[tuple[int, int]]:
    first_with: dict[bytes, int] = {}
    return [
        (first_with[scan.pixel_digest], position)
        for position, scan in enumerate(scans)
        if first_with.setdefault(scan.pixel_digest, position) != position
    ]


def components(n: int, pairs: list[tuple[int, int]]) -> np.ndarray:
    """[n] the number of the connected component that each of `n` positions belongs to."""
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    links = scipy.sparse.coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(n, n))
    return scipy.sparse.csgraph.connected_components(links, directed=False)[1]


def compare_files(names: tuple[str, str], *, staging_dir: Path) -> str:
    """`compare` for two stored files."""
    return compare(_opened(staging_dir / names[0]), _opened(staging_dir / names[1]))


@functools.lru_cache(maxsize=512)
def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.draft("RGB", (2 * _COMPARE_PX, 2 * _COMPARE_PX))
        return image.convert("RGB").resize((2 * _COMPARE_PX, 2 * _COMPARE_PX), Image.Resampling.BILINEAR)


def compare(first: Image.Image, second: Image.Image) -> str:
    """Whether two RGB pictures are the same, share a template, or neither.

    Returns:
        `SAME`, `TEMPLATE` or an empty string.
    """
    whole = _aligned(first, second)
    if _is_same(*whole):
        return SAME
    boxes = [hashes.content_box(image.convert("L")) for image in (first, second)]
    if boxes != [hashes.WHOLE, hashes.WHOLE]:
        content = _aligned(hashes.region(first, boxes[0]), hashes.region(second, boxes[1]))
        if _template_share(*content) >= _MIN_TEMPLATE_SHARE:
            return TEMPLATE
    return TEMPLATE if _template_share(*whole) >= _MIN_TEMPLATE_SHARE else ""


def _is_same(first: np.ndarray, second: np.ndarray) -> bool:
    difference = np.abs(first - second).mean(axis=2)
    allowed = _BLOCK_ALLOWANCE[0] + _BLOCK_ALLOWANCE[1] * difference.mean()
    if difference.mean() > _MAX_MEAN_DIFFERENCE or _blocks(difference).mean(axis=(1, 2)).max() > allowed:
        return False
    return _correlation(_detail(first).ravel(), _detail(second).ravel()) >= _MIN_CORRELATION


def _template_share(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the blocks with something in them that show the same in both pictures, 0 where there are few."""
    one, two = _blocks(first.mean(axis=2)), _blocks(second.mean(axis=2))
    contrast = np.maximum(one.std(axis=(1, 2)), two.std(axis=(1, 2)))
    textured = contrast >= _MIN_BLOCK_CONTRAST
    if textured.sum() < _MIN_TEXTURED_BLOCKS:
        return 0.0
    agree = [
        _correlation(a.ravel(), b.ravel()) >= _BLOCK_CORRELATION
        for a, b in zip(one[textured], two[textured], strict=True)
    ]
    return float(np.mean(agree))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / norm if norm > 0 else 0.0


def _detail(square: np.ndarray) -> np.ndarray:
    """[H, W] grey levels less the mean of their block: what remains when overall light and shade are taken away."""
    blocks = _blocks(square.mean(axis=2))
    return blocks - blocks.mean(axis=(1, 2), keepdims=True)


def _blocks(square: np.ndarray) -> np.ndarray:
    """[n_blocks, _BLOCK_PX, _BLOCK_PX] pieces of an [H, W] array."""
    n = _COMPARE_PX // _BLOCK_PX
    return square.reshape(n, _BLOCK_PX, n, _BLOCK_PX).swapaxes(1, 2).reshape(n * n, _BLOCK_PX, _BLOCK_PX)


def _aligned(first: Image.Image, second: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Both pictures as [_COMPARE_PX, _COMPARE_PX, 3] grey levels, with the edges cut off that the other one lacks."""
    profiles = [_profiles(image) for image in (first, second)]
    cuts = [_best_cut(one, two) for one, two in zip(*profiles, strict=True)]  # Columns, then rows.
    squares = []
    for side, image in enumerate((first, second)):
        (left, right), (top, bottom) = (cut[side] for cut in cuts)
        box = (left * image.width, top * image.height, right * image.width, bottom * image.height)
        square = image.resize((_COMPARE_PX, _COMPARE_PX), Image.Resampling.BILINEAR, box=box)
        squares.append(np.asarray(square, dtype=np.float32))
    return squares[0], squares[1]


def _profiles(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Mean grey level of each column and of each row, at _COMPARE_PX positions."""
    levels = np.asarray(
        image.convert("L").resize((_COMPARE_PX, _COMPARE_PX), Image.Resampling.BILINEAR), dtype=np.float32
    )
    return levels.mean(axis=0), levels.mean(axis=1)


@functools.cache
def _cut_positions() -> tuple[list[tuple[float, float]], np.ndarray]:
    """The cuts that are tried and, for each, [_COMPARE_PX] positions in the uncut profile."""
    cuts = [(float(low), float(1.0 - high)) for low in _CROPS for high in _CROPS]
    centres = (np.arange(_COMPARE_PX) + 0.5) / _COMPARE_PX
    positions = np.array([low + (high - low) * centres for low, high in cuts]) * _COMPARE_PX - 0.5
    return cuts, positions


def _best_cut(first: np.ndarray, second: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Which share of each profile to keep, cutting one of the two, so that they look most alike."""
    cuts, positions = _cut_positions()
    grid = np.arange(_COMPARE_PX)
    cut_first = np.abs(np.interp(positions, grid, first) - second).mean(axis=1)
    cut_second = np.abs(np.interp(positions, grid, second) - first).mean(axis=1)
    if cut_first.min() <= cut_second.min():
        return cuts[int(cut_first.argmin())], (0.0, 1.0)
    return (0.0, 1.0), cuts[int(cut_second.argmin())]
