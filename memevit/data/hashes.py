"""Perceptual hashes of images, and the search for those that lie close together."""

import itertools
from collections.abc import Iterator

import numpy as np
from PIL import Image

_WORK_PX = 64  # Side of the grey square from which a hash is taken.
_DCT_PX = 32
# [8, _DCT_PX] basis of the 8 lowest frequencies, times 2**20.
_COSINES = np.rint(np.cos(np.pi / 64 * np.outer(np.arange(8), 2 * np.arange(_DCT_PX) + 1)) * 2**20).astype(np.int64)
_MIN_CONTRAST = 4.0  # Standard deviation in grey levels; below it a hash is made of noise.
_INNER = 0.03  # Share cut from every side for the hash that meets a cropped repost.
_MIDDLE = 0.28  # Share cut from top and bottom for the hash that does not see captions.
_BAR_FRACTION = 0.5  # Share of near-white or near-black pixels that makes a row part of a caption bar.
_PLAIN_FRACTION = 0.97  # Likewise for a column of a plain margin.
_MIN_CONTENT = 0.25  # Share of the height or width that must remain between bars.

MAX_DISTANCE = 7  # Bits in which the hashes of an image and its repost may differ.
# Masks of 10 pieces of 6 or 7 bits.
_PIECES = np.array([sum(1 << bit for bit in bits) for bits in np.array_split(range(64), 10)], dtype=np.uint64)
_STRETCH = 32  # Codes that one is compared with before it is asked whether it has enough neighbours.
_CODES_AT_ONCE = 1 << 15  # Bounds the memory: arrays of 2**20 comparisons.
_MAX_NEIGHBOURS = 50
_MAX_OWNERS = 7  # Of each of two nearly equal codes.

Box = tuple[float, float, float, float]  # Left, top, right, bottom as shares of width and height.
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
MIDDLE: Box = (0.0, _MIDDLE, 1.0, 1.0 - _MIDDLE)


def codes(image: Image.Image) -> tuple[int, ...]:
    """64-bit perceptual hashes of an RGB image: whole, less its edges, less caption bars, and its middle.

    Regions without contrast have no hash, so the tuple holds 0 to 4 values.
    Source: pHash as in ImageHash (DCT of a 32x32 grey image, 8x8 low frequencies against their median), but in whole
    numbers: in symmetric images many frequencies are 0, and rounding errors would make other bits on other machines.
    """
    grey = image.convert("L")
    inner: Box = (_INNER, _INNER, 1.0 - _INNER, 1.0 - _INNER)
    regions = dict.fromkeys([WHOLE, inner, content_box(grey), MIDDLE])
    found = (_code(region(grey, box)) for box in regions)
    return tuple(dict.fromkeys(code for code in found if code is not None))


def _code(grey: Image.Image) -> int | None:
    small = grey.resize((_WORK_PX, _WORK_PX), Image.Resampling.BOX)
    if np.asarray(small).std() < _MIN_CONTRAST:
        return None
    levels = np.asarray(small.resize((_DCT_PX, _DCT_PX), Image.Resampling.LANCZOS), dtype=np.int64)
    frequencies = _COSINES @ levels @ _COSINES.T
    bits = (frequencies > np.median(frequencies)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def region(image: Image.Image, box: Box) -> Image.Image:
    """The part of `image` inside `box`."""
    left, top, right, bottom = box
    return image.crop(
        (round(left * image.width), round(top * image.height), round(right * image.width), round(bottom * image.height))
    )


def content_box(grey: Image.Image) -> Box:
    """The image inside its caption bars and plain margins; the whole where there are none or hardly anything else."""
    levels = np.asarray(grey)
    is_plain = (levels >= 235) | (levels <= 20)
    rows = is_plain.mean(axis=1) >= _BAR_FRACTION
    columns = is_plain.mean(axis=0) >= _PLAIN_FRACTION
    top, bottom = _inside(rows)
    left, right = _inside(columns)
    if bottom - top < _MIN_CONTENT * len(rows) or right - left < _MIN_CONTENT * len(columns):
        return WHOLE
    return (left / len(columns), top / len(rows), right / len(columns), bottom / len(rows))


def _inside(is_bar: np.ndarray) -> tuple[int, int]:
    """First and last-plus-one position that is no bar."""
    content = np.flatnonzero(~is_bar)
    return (int(content[0]), int(content[-1]) + 1) if len(content) else (0, 0)


def candidate_pairs(codes_of_images: list[tuple[int, ...]]) -> tuple[np.ndarray, int]:
    """Pairs of images with a hash in common or nearly so.

    Where very many images share nearly one hash, each is paired with those next to it, not with all: enough to link
    them into one set if they are the same, and few enough to be looked at.

    Args:
        codes_of_images: the hashes of each image, see `codes`.

    Returns:
        [n_pairs, 2] positions, the smaller first, each pair once, sorted; and how many hashes lie in such crowds.
    """
    owners = np.repeat(np.arange(len(codes_of_images)), [len(own) for own in codes_of_images])
    flat = np.fromiter((code for own in codes_of_images for code in own), dtype=np.uint64, count=len(owners))
    unique, position = np.unique(flat, return_inverse=True)
    order = np.argsort(position, kind="stable")
    owners, position = owners[order], position[order]
    starts = np.searchsorted(position, np.arange(len(unique) + 1))
    packed = [_packed(*pair) for pair in _neighbours(owners, position)]
    search = NearCodes(unique)
    for left, right in search.pairs():
        packed.append(_packed(*_cross(owners, starts, left, right)))
    is_crowded = search.is_crowded | (np.diff(starts) > _MAX_NEIGHBOURS)
    found = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *packed]))
    pairs = np.stack([found >> np.uint64(32), found & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)
    return pairs[pairs[:, 0] != pairs[:, 1]], int(is_crowded.sum())


def _packed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pairs of positions below 2**32 as one number each, which takes a tenth of the memory of tuples."""
    low, high = np.minimum(first, second).astype(np.uint64), np.maximum(first, second).astype(np.uint64)
    return np.unique((low << np.uint64(32)) | high)


def _neighbours(owners: np.ndarray, position: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each owner of a code with the next ones of the same code; `position` holds the codes, sorted."""
    for step in range(1, _MAX_NEIGHBOURS + 1):
        equal = np.flatnonzero(position[step:] == position[:-step])
        if not len(equal):
            return
        yield owners[equal], owners[equal + step]


def _cross(
    owners: np.ndarray, starts: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The owners of the codes `left` with those of `right`, at most the first few of each."""
    n_first = np.minimum(starts[left + 1] - starts[left], _MAX_OWNERS)
    n_second = np.minimum(starts[right + 1] - starts[right], _MAX_OWNERS)
    n_each = n_first * n_second
    within = np.arange(n_each.sum()) - np.repeat(np.cumsum(n_each) - n_each, n_each)
    per_first = np.repeat(n_second, n_each)
    first = owners[np.repeat(starts[left], n_each) + within // per_first]
    second = owners[np.repeat(starts[right], n_each) + within % per_first]
    return first, second


class NearCodes:
    """Pairs of 64-bit codes that differ in at most 7 bits, found without comparing all with all.

    Cut into 10 pieces, two such codes agree in at least 3 of them, that is in about 19 bits. So for each 3 of the
    pieces the codes are sorted by these alone, and only those that agree there are compared.

    Args:
        unique: [n] distinct uint64 codes, sorted.
        max_neighbours: how many codes a code is paired with before it looks for no more.

    Attributes:
        is_crowded: [n] which codes had enough before all were looked at, once `pairs` has run through.

    Source:
        Manku, Jain, Das Sarma, Detecting Near-Duplicates for Web Crawling, 2007 (doi:10.1145/1242572.1242592).
    """

    def __init__(self, unique: np.ndarray, *, max_neighbours: int = _MAX_NEIGHBOURS) -> None:
        self.is_crowded = np.zeros(len(unique), dtype=bool)
        self._codes = unique
        self._max_neighbours = max_neighbours
        self._n_found = np.zeros(len(unique), dtype=np.int64)

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Arrays of positions in `unique`, left and right; each pair comes once."""
        for chosen in itertools.combinations(range(len(_PIECES)), len(_PIECES) - MAX_DISTANCE):
            kept_bits = self._codes & np.bitwise_or.reduce(_PIECES[list(chosen)])
            order = np.argsort(kept_bits, kind="stable")
            in_order = kept_bits[order]
            is_last = np.append(in_order[1:] != in_order[:-1], True)
            ends = np.flatnonzero(is_last) + 1
            last = np.repeat(ends, np.diff(ends, prepend=0))
            yield from self._search(chosen, order, np.arange(len(order)), np.arange(1, len(order) + 1), last)

    def _search(
        self, chosen: tuple[int, ...], order: np.ndarray, left: np.ndarray, first: np.ndarray, last: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Compare `order[left]` with `order[first:last]` of each, a stretch at a time, until they have enough."""
        while True:
            has_more = first < last
            left, first, last = left[has_more], first[has_more], last[has_more]
            is_full = self._n_found[order[left]] >= self._max_neighbours
            self.is_crowded[order[left[is_full]]] = True
            left, first, last = left[~is_full], first[~is_full], last[~is_full]
            if not len(left):
                return
            for begin in range(0, len(left), _CODES_AT_ONCE):
                part = slice(begin, begin + _CODES_AT_ONCE)
                yield self._compared(chosen, order, left[part], first[part], last[part])
            first = first + _STRETCH

    def _compared(
        self, chosen: tuple[int, ...], order: np.ndarray, left: np.ndarray, first: np.ndarray, last: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        n_each = np.minimum(last - first, _STRETCH)
        within = np.arange(n_each.sum()) - np.repeat(np.cumsum(n_each) - n_each, n_each)
        left, right = np.repeat(order[left], n_each), order[np.repeat(first, n_each) + within]
        differing = self._codes[left] ^ self._codes[right]
        near = np.bitwise_count(differing) <= MAX_DISTANCE
        left, right, differing = left[near], right[near], differing[near]
        for piece in set(range(chosen[-1])) - set(chosen):  # If they agree here, too, the pair has come already.
            is_new = (differing & _PIECES[piece]) != 0
            left, right, differing = left[is_new], right[is_new], differing[is_new]
        np.add.at(self._n_found, left, 1)
        np.add.at(self._n_found, right, 1)
        return left, right
