"""Which images are the same image again, and which share a template. Hashes propose, pixels decide."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse.csgraph
from PIL import Image

from memevit import decoding
from memevit.data import hashes, keypoints, lettering, proposals
from memevit.data.hashes import Box
from memevit.data.ingest import Scan
from memevit.data.proposals import Alignment

SAME = "same"
TEMPLATE = "template"

_SQUARE_PX = 224  # Side of the squares that images are read as.
_COMPARE_PX = 96  # Side of the squares that are compared.
_BLOCK_PX = 12  # They are judged in 8x8 blocks of this side.
# Measured on 250 game images, cropped by up to 4 % a side, scaled by 0.5 to 1.3 and saved as JPEG 30 to 90: 84 %
# are found to be the same (99 % without a crop), and 1 % of those with another caption. The others count as templates.
_MAX_MEAN_DIFFERENCE = 10.0  # Grey levels.
_BLOCK_ALLOWANCE = (3.0, 3.5)  # Grey levels, and times the mean: the worst block stands out where words differ.
_SPOT_PX = 6  # Side of the spots in which a limb may have moved.
_SPOT_ALLOWANCE = (6.0, 5.0)
_MAX_TINT_DIFFERENCE = 8.0  # Grey levels, in all but 5 % of the blocks.
_MIN_CORRELATION = 0.9  # Of the two images' details, so that two dark images are not the same for being dark.
_MIN_BLOCK_CONTRAST = 5.0  # Grey levels; a block with less shows nothing that could agree.
_MIN_TEXTURED_BLOCKS = 10
_OVERLAP_PX = _COMPARE_PX + 6  # Aligned by features, the squares may be a few pixels off.
_MIN_TEXTURE = 3.0  # Grey levels, less what is alike along rows or columns: the edges of frames and bars tell nothing.
_MIN_OVERLAP = 0.5  # Of the smaller of two aligned images.
_CAPTIONED = 0.1  # Share of a block that a caption covers.
_MIN_FEATURES, _MIN_SHARE = 6, 0.4  # A pair with less than both of these is not looked at more closely.
_N_CLOSE_FEATURES = 256  # Then so many features are compared,
_CLOSE_DETAIL = 1.5  # at so many times the resolution of those that proposed the pair.
# Where they agree in so many places, so large a share of the textured blocks beside captions must. The same watermark
# on two images makes 5 to 9 places.
_NEEDED_SHARES = ((18, 0.0), (12, _MIN_SHARE), (9, 0.5))
_FEW_PLACES, _NEEDED_SHARE = 3, 0.55  # Of all textured blocks.
_MIN_TEMPLATE_SHARE = 0.45  # Of the textured blocks.
_BLOCK_CORRELATION = 0.7
_CROPS = np.linspace(0.0, 0.06, 7)  # Shares cut from an edge that are tried when two images are aligned.


@dataclass(frozen=True)
class Relations:
    """How the images of a source relate.

    `same` and `group` give one number per image: images with equal `same` show the same image again, those with
    equal `group` also count templates with other captions. `pairs` are the positions of directly related images.
    `n_crowded_hashes` is the number of hashes with so many near ones that not all were looked at, `n_pairs_passed_over`
    that of pairs with common features that were too many to look at.
    """

    same: np.ndarray
    group: np.ndarray
    pairs: list[tuple[int, int]]
    n_pairs_compared: int
    n_crowded_hashes: int
    n_pairs_passed_over: int


def relate(
    scans: list[Scan], staging_dir: Path, *, n_processes: int, between: Sequence[str] | None = None
) -> Relations:
    """Find images that are the same or share a template.

    Args:
        scans: usable images.
        staging_dir: where their stored files are.
        n_processes: how many processes compare.
        between: a name for each image; images of one name are compared only if their pixels are equal.
    """
    same = _equal_pixels(scans)
    proposed, n_crowded, n_passed_over = _proposed(scans)
    if between is not None:
        proposed = [(a, b, alignment) for a, b, alignment in proposed if between[a] != between[b]]
    candidates = [(scans[a].stored, scans[b].stored, alignment) for a, b, alignment in proposed]
    compare_two = functools.partial(compare_files, staging_dir=staging_dir)
    verdicts = list(
        decoding.map_ordered(compare_two, candidates, n_processes=n_processes, description="Comparing", unit="pair")
    )
    related = {verdict: [] for verdict in (SAME, TEMPLATE, "")}
    for (a, b, _), verdict in zip(proposed, verdicts, strict=True):
        related[verdict].append((a, b))
    same += related[SAME]
    return Relations(
        same=components(len(scans), same),
        group=components(len(scans), same + related[TEMPLATE]),
        pairs=same + related[TEMPLATE],
        n_pairs_compared=len(candidates),
        n_crowded_hashes=n_crowded,
        n_pairs_passed_over=n_passed_over,
    )


def with_known_groups(relations: Relations, names: Sequence[str | None]) -> Relations:
    """`relations`, with images of one name in one group; None is no name."""
    first: dict[str, int] = {}
    pairs = list(enumerate(first_of_each(relations.group)))
    pairs += [(first.setdefault(name, position), position) for position, name in enumerate(names) if name is not None]
    return replace(relations, group=components(len(names), pairs))


def first_of_each(labels: np.ndarray) -> list[int]:
    """The first position with the label of each position."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse].tolist()


def _proposed(scans: list[Scan]) -> tuple[list[tuple[int, int, Alignment | None]], int, int]:
    """Pairs with a hash or enough local features in common, without those of equal pixels; then what was too much."""
    by_hash, n_crowded = hashes.candidate_pairs([scan.codes for scan in scans])
    features = np.frombuffer(b"".join(scan.features for scan in scans), dtype=keypoints.FEATURE)
    n_each = [len(scan.features) // keypoints.FEATURE.itemsize for scan in scans]
    aligned, n_passed_over = proposals.aligned_pairs(features, np.array(n_each, dtype=int))
    pairs = sorted(set(map(tuple, by_hash.tolist())) | aligned.keys())
    found = [(a, b, aligned.get((a, b))) for a, b in pairs if scans[a].pixel_digest != scans[b].pixel_digest]
    return found, n_crowded, n_passed_over


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


def compare_files(candidate: tuple[str, str, Alignment | None], *, staging_dir: Path) -> str:
    """`compare` for two stored files."""
    first, second, alignment = candidate
    return compare(_opened(staging_dir / first), _opened(staging_dir / second), alignment)


@dataclass(frozen=True)
class Square:
    """An RGB image brought to `_SQUARE_PX` pixels a side, and the width and height that it had."""

    image: Image.Image
    size: tuple[int, int]

    @functools.cached_property
    def features(self) -> np.ndarray:
        """More local features than are searched for."""
        found = keypoints.describe(self.image, size=self.size, n_features=_N_CLOSE_FEATURES, detail=_CLOSE_DETAIL)
        return np.frombuffer(found, dtype=keypoints.FEATURE)

    @functools.cached_property
    def grey(self) -> Image.Image:
        """Its grey levels."""
        return self.image.convert("L")

    @functools.cached_property
    def captions(self) -> Image.Image:
        """1 where it has a caption, otherwise 0."""
        return Image.fromarray(lettering.covered(np.asarray(self.grey)))


def squared(image: Image.Image, size: tuple[int, int] | None = None) -> Square:
    """`image` as `compare` takes it; `size` is given where a decoder has reduced it already."""
    small = image.convert("RGB").resize((_SQUARE_PX, _SQUARE_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return Square(small, size or image.size)


@functools.lru_cache(maxsize=256)
def _opened(path: Path) -> Square:
    with Image.open(path) as image:
        size = image.size
        image.draft("RGB", (_SQUARE_PX, _SQUARE_PX))
        return squared(image, size)


def compare(first: Square, second: Square, alignment: Alignment | None = None) -> str:
    """Whether two images are the same, share a template, or neither.

    Args:
        first: one image.
        second: another.
        alignment: how the first lies in the second, where their local features tell.

    Returns:
        `SAME`, `TEMPLATE` or an empty string.
    """
    whole = _aligned(first.image, second.image)
    if _is_same(*whole):
        return SAME
    if alignment is not None:
        return TEMPLATE if _share_much(first, second, alignment) else ""
    boxes = [hashes.content_box(square.image.convert("L")) for square in (first, second)]
    if boxes != [hashes.WHOLE, hashes.WHOLE]:
        content = _aligned(hashes.region(first.image, boxes[0]), hashes.region(second.image, boxes[1]))
        if _template_share(*content) >= _MIN_TEMPLATE_SHARE:
            return TEMPLATE
    return TEMPLATE if _template_share(*whole) >= _MIN_TEMPLATE_SHARE else ""


def _without_lines(blocks: np.ndarray) -> np.ndarray:
    """[n, H, W] blocks less their row and column means."""
    overall = blocks.mean(axis=(1, 2), keepdims=True)
    return blocks - blocks.mean(axis=1, keepdims=True) - blocks.mean(axis=2, keepdims=True) + overall


def _share_much(first: Square, second: Square, alignment: Alignment) -> bool:
    """Whether enough blocks agree where the images overlap; in the more places features do, the fewer are enough."""
    share, share_beside_captions = _overlap_shares(first, second, alignment)
    best = max(share, share_beside_captions)
    if best < _MIN_SHARE and alignment.n_features < _MIN_FEATURES:
        return False
    n_places = proposals.n_agreeing(first.features, second.features, alignment)
    if share >= _NEEDED_SHARE and n_places >= _FEW_PLACES:
        return True
    return any(n_places >= least and best >= needed for least, needed in _NEEDED_SHARES)


def _overlap_shares(first: Square, second: Square, alignment: Alignment) -> tuple[float, float]:
    """Share of the blocks with something in them that show the same where the aligned images overlap.

    The second share leaves out the blocks that differ and on which one of the two has a caption.
    """
    boxes = _overlap(first.size, second.size, alignment)
    if boxes is None:
        return 0.0, 0.0
    parts = []
    for square, box in zip((first, second), boxes, strict=True):
        for image in (square.grey, square.captions):
            of_square = tuple(_SQUARE_PX * edge for edge in box)
            part = image.resize((_OVERLAP_PX, _OVERLAP_PX), Image.Resampling.BILINEAR, box=of_square)
            parts.append(np.asarray(part, dtype=np.float32))
    if alignment.is_mirrored:
        parts[:2] = (part[:, ::-1] for part in parts[:2])
    return _agreeing_shares(parts[0], parts[2], np.maximum(parts[1], parts[3]))


def _overlap(first: tuple[int, int], second: tuple[int, int], alignment: Alignment) -> tuple[Box, Box] | None:
    """The part of each of two images, given by width and height, that the other shows; None where it is small."""
    one, other = keypoints.working_size(first), keypoints.working_size(second)
    sign = -1.0 if alignment.is_mirrored else 1.0
    across = _common(sign * alignment.scale, alignment.shift_x, one[0], other[0])
    down = _common(alignment.scale, alignment.shift_y, one[1], other[1])
    if across is None or down is None or max(_share(across[i]) * _share(down[i]) for i in (0, 1)) < _MIN_OVERLAP:
        return None
    own, its = ((across[i][0], down[i][0], across[i][1], down[i][1]) for i in (0, 1))
    return own, its


def _share(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def _common(
    scale: float, shift: float, length: float, other_length: float
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Of two sides, which share of each the other covers, when x of the first is at scale * x + shift in the second.

    >>> _common(1.0, 20.0, 100.0, 100.0)
    ((0.0, 0.8), (0.2, 1.0))
    >>> _common(-0.5, 100.0, 100.0, 100.0)
    ((0.0, 1.0), (0.5, 1.0))
    """
    low, high = sorted((shift, scale * length + shift))
    low, high = max(0.0, low), min(other_length, high)
    if low >= high:
        return None
    own = sorted(min(1.0, max(0.0, (x - shift) / scale / length)) for x in (low, high))
    return (own[0], own[1]), (low / other_length, high / other_length)


def _agreeing_shares(first: np.ndarray, second: np.ndarray, captions: np.ndarray) -> tuple[float, float]:
    """Share of the textured blocks of two [_OVERLAP_PX, _OVERLAP_PX] squares that agree, moved a few pixels at most.

    The second share leaves out blocks that differ where `captions` is more than 0; it is 0 where hardly any are left.
    """
    margin = _OVERLAP_PX - _COMPARE_PX
    inner = slice(margin // 2, margin // 2 + _COMPARE_PX)
    one = _without_lines(_blocks(first[inner, inner]))
    norms = np.sqrt((one**2).sum(axis=(1, 2)))
    table: dict[tuple[int, int], np.ndarray] = {}  # [n_blocks] correlations by shift, NaN where nothing is to be seen.

    def agreeing(shift: tuple[int, int]) -> int:
        if shift not in table:
            down, right = shift
            other = _without_lines(_blocks(second[down : down + _COMPARE_PX, right : right + _COMPARE_PX]))
            other_norms = np.sqrt((other**2).sum(axis=(1, 2)))
            products = np.einsum("nij,nij->n", one, other) / np.maximum(norms * other_norms, 1e-6)
            table[shift] = np.where(np.maximum(norms, other_norms) >= _MIN_TEXTURE * _BLOCK_PX, products, np.nan)
        return int((table[shift] >= _BLOCK_CORRELATION).sum())

    middle = margin // 2
    coarse = {*itertools.product(range(0, margin + 1, 2), repeat=2), *_shifts_around((middle, middle), margin)}
    best = max(sorted(coarse), key=agreeing)
    near = _shifts_around(best, margin)
    best = max(near, key=agreeing)
    is_textured = ~np.isnan(table[best])
    if is_textured.sum() < _MIN_TEXTURED_BLOCKS:
        return 0.0, 0.0
    agrees = np.any([table[shift] >= _BLOCK_CORRELATION for shift in near], axis=0)
    is_captioned = _blocks(captions[inner, inner]).mean(axis=(1, 2)) >= _CAPTIONED
    is_beside = is_textured & (agrees | ~is_captioned)
    share_beside = float(agrees[is_beside].mean()) if is_beside.sum() >= _MIN_TEXTURED_BLOCKS else 0.0
    return float(agrees[is_textured].mean()), share_beside


def _shifts_around(shift: tuple[int, int], most: int) -> list[tuple[int, int]]:
    """The shift and its up to 8 neighbours between 0 and `most`."""
    moved = ((shift[0] + down, shift[1] + right) for down, right in itertools.product((-1, 0, 1), repeat=2))
    return [(down, right) for down, right in moved if 0 <= down <= most and 0 <= right <= most]


def _is_same(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether nothing but compression tells two [H, W, 3] squares apart: no words, no moved limb, no other colours."""
    difference = np.abs(first - second).mean(axis=2)
    mean = difference.mean()
    if mean > _MAX_MEAN_DIFFERENCE or _blocks(difference).mean(axis=(1, 2)).max() > _allowed(mean, _BLOCK_ALLOWANCE):
        return False
    if _blocks(difference, _SPOT_PX).mean(axis=(1, 2)).max() > _allowed(mean, _SPOT_ALLOWANCE):
        return False
    if np.percentile(np.abs(_tints(first) - _tints(second)), 95) > _MAX_TINT_DIFFERENCE:
        return False
    return _correlation(_detail(first).ravel(), _detail(second).ravel()) >= _MIN_CORRELATION


def _allowed(mean: float, allowance: tuple[float, float]) -> float:
    return allowance[0] + allowance[1] * mean


def _tints(square: np.ndarray) -> np.ndarray:
    """[n_blocks, 2] how much redder and bluer than green each block is, in grey levels."""
    channels = np.stack([_blocks(square[:, :, channel]).mean(axis=(1, 2)) for channel in range(3)], axis=1)
    return channels[:, [0, 2]] - channels[:, [1]]


def _template_share(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the blocks with something in them that show the same in both images, 0 where there are few."""
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


def _blocks(square: np.ndarray, side: int = _BLOCK_PX) -> np.ndarray:
    """[n_blocks, side, side] pieces of an [H, W] array."""
    n = _COMPARE_PX // side
    return square.reshape(n, side, n, side).swapaxes(1, 2).reshape(n * n, side, side)


def _aligned(first: Image.Image, second: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Both images as [_COMPARE_PX, _COMPARE_PX, 3] grey levels, with the edges cut off that the other one lacks."""
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
