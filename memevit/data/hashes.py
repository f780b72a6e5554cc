"""Perceptual hashes of pictures, and the search for those that lie close together."""

from collections.abc import Iterator

import imagehash
import numpy as np
from PIL import Image

_WORK_PX = 64  # Side of the grey square from which a hash is taken.
_MIN_CONTRAST = 4.0  # Standard deviation in grey levels; below it a hash is made of noise.
_INNER = 0.03  # Share cut from every side for the hash that meets a cropped repost.
_MIDDLE = 0.28  # Share cut from top and bottom for the hash that does not see captions.
_BAR_FRACTION = 0.5  # Share of near-white or near-black pixels that makes a row part of a caption bar.
_PLAIN_FRACTION = 0.97  # Likewise for a column of a plain margin.
_MIN_CONTENT = 0.25  # Share of the height or width that must remain between bars.

_CHUNK_BITS = 16
_N_CHUNKS = 4
MAX_DISTANCE = 7  # Two 64-bit codes this close agree in one of 4 chunks of 16 bits but for at most one bit.
_PAIRS_AT_ONCE = 1 << 22
_MAX_EQUAL_CODES = 50

Box = tuple[float, float, float, float]  # Left, top, right, bottom as shares of width and height.
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
MIDDLE: Box = (0.0, _MIDDLE, 1.0, 1.0 - _MIDDLE)


def codes(image: Image.Image) -> tuple[int, ...]:
    """64-bit perceptual hashes of an RGB picture: whole, less its edges, less caption bars, and its middle.

    Regions without contrast have no hash, so the tuple holds 0 to 4 values.
    Source: pHash as implemented in ImageHash (DCT of a 32x32 grey picture, 8x8 low frequencies against their median).
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
    bits = imagehash.phash(small).hash.ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def region(image: Image.Image, box: Box) -> Image.Image:
    """The part of `image` inside `box`."""
    left, top, right, bottom = box
    return image.crop(
        (round(left * image.width), round(top * image.height), round(right * image.width), round(bottom * image.height))
    )


def content_box(grey: Image.Image) -> Box:
    """The picture inside its caption bars and plain margins; the whole where there are none or hardly anything else."""
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
    """Pairs of pictures with a hash in common or nearly so.

    Args:
        codes_of_images: the hashes of each picture, see `codes`.

    Returns:
        [n_pairs, 2] positions, the smaller first, each pair once, sorted; and the number of pairs with equal hashes
        that were left out because very many pictures share one hash.
    """
    owners = np.repeat(np.arange(len(codes_of_images)), [len(own) for own in codes_of_images])
    flat = np.fromiter((code for own in codes_of_images for code in own), dtype=np.uint64, count=len(owners))
    unique, position = np.unique(flat, return_inverse=True)
    owners = owners[np.argsort(position, kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(position, minlength=len(unique)))])
    n_left_out = 0
    found: set[tuple[int, int]] = set()
    for code in np.flatnonzero(np.diff(starts) > 1):
        n_left_out += _add_neighbours(owners[starts[code] : starts[code + 1]], found)
    for left, right in near_codes(unique):
        found.update(_cross(owners[starts[left] : starts[left + 1]], owners[starts[right] : starts[right + 1]]))
    pairs = np.array(sorted(found), dtype=np.int64).reshape(-1, 2)
    return pairs, n_left_out


def _add_neighbours(own: np.ndarray, found: set[tuple[int, int]]) -> int:
    """Pair each picture with the next ones that share its hash; returns how many pairs that leaves out."""
    for step in range(1, min(len(own), _MAX_EQUAL_CODES + 1)):
        found.update((min(a, b), max(a, b)) for a, b in zip(own[:-step].tolist(), own[step:].tolist(), strict=True))
    n_beyond = max(0, len(own) - _MAX_EQUAL_CODES - 1)
    return n_beyond * (n_beyond + 1) // 2


def _cross(left: np.ndarray, right: np.ndarray) -> Iterator[tuple[int, int]]:
    for a in left[:_MAX_EQUAL_CODES].tolist():
        for b in right[:_MAX_EQUAL_CODES].tolist():
            if a != b:
                yield min(a, b), max(a, b)


def near_codes(unique: np.ndarray, *, max_distance: int = MAX_DISTANCE) -> np.ndarray:
    """Pairs of 64-bit codes that differ in few bits, found without comparing all with all.

    Two codes within 7 bits agree up to one bit in at least one of four 16-bit chunks, so each code is compared only
    with those that share a chunk, or a chunk with one bit flipped.

    Args:
        unique: [n] distinct uint64 codes.
        max_distance: largest Hamming distance, at most 7.

    Returns:
        [n_pairs, 2] positions in `unique`, the smaller first, each pair once.

    Source:
        Norouzi, Punjani, Fleet, Fast Search in Hamming Space with Multi-Index Hashing, 2012 (arXiv:1307.2982).
    """
    if not 0 <= max_distance <= MAX_DISTANCE:
        raise ValueError(f"max_distance must lie in 0..{MAX_DISTANCE}, got {max_distance}")
    found = [np.empty((0, 2), dtype=np.int64)]
    for chunk in range(_N_CHUNKS):
        keys = ((unique >> np.uint64(chunk * _CHUNK_BITS)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange((1 << _CHUNK_BITS) + 1))
        for flip in [0, *(1 << bit for bit in range(_CHUNK_BITS))]:
            for left, right in _pairs_of_buckets(keys, order, starts, flip):
                near = np.bitwise_count(unique[left] ^ unique[right]) <= max_distance
                found.append(np.stack([left[near], right[near]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0)


def _pairs_of_buckets(
    keys: np.ndarray, order: np.ndarray, starts: np.ndarray, flip: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs whose keys are equal (`flip` 0) or differ by `flip`, in arrays of bounded length."""
    left = order if flip == 0 else order[keys[order] < (keys[order] ^ flip)]
    other = keys[left] ^ flip
    first = np.arange(1, len(left) + 1) if flip == 0 else starts[other]  # With equal keys: those after oneself.
    counts = starts[other + 1] - first
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(left):
        done = ends[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right")))
        n_each = counts[begin:stop]
        within = np.arange(n_each.sum()) - np.repeat(np.cumsum(n_each) - n_each, n_each)
        yield np.repeat(left[begin:stop], n_each), order[np.repeat(first[begin:stop], n_each) + within]
        begin = stop
