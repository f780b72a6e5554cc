"""Pairs of images that have local features in common, found without comparing all with all."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from memevit.data import keypoints
from memevit.data.keypoints import MIRROR_FREE, N_MIRROR_FREE_BITS

_N_TABLES = 12
_KEY_BITS = (12, 26)  # Fewest and most bits of a key: about as many keys as there are features.
_MAX_CODE_DISTANCE = 14  # Bits.
_N_NEXT = 8  # Features of one key that each is compared with.
_MIN_SHARED = 2  # Features that a proposed pair has in common.
# Where all images have the same words on them, each has features in common with most others: then it is aligned with
# those that have most, and compared with those of them that agree most.
_N_ALIGNED, _N_COMPARED = 128, 32
_AT_ONCE = 1 << 22  # Features; bounds the memory of a comparison.
_PAIRS_AT_ONCE = 1024

_MIN_CONSISTENT = 3  # Features of one image that lie as in the other.
_SIZE_TOLERANCE = 0.45  # Octaves.
_PLACE_TOLERANCE_PX = 8.0
_CLOSE_PX = 4.0  # From where an alignment puts a feature.
_PLACE_PX = 16.0
_MIN_SPREAD_PX = 6.0  # Features that are all in one spot tell no scale.


@dataclass(frozen=True)
class Alignment:
    """How the first image lies in the second: x' = scale * x + shift_x, in pixels of the working copies.

    A mirrored one has x' = -scale * x + shift_x. `n_features` is the number of features that agree.
    """

    is_mirrored: bool
    scale: float
    shift_x: float
    shift_y: float
    n_features: int


def code_distance(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bits in which codes differ, and in which the first and the mirrored second differ."""
    differing = first ^ second
    common = np.bitwise_count(differing & MIRROR_FREE).astype(np.int8)
    sided = np.bitwise_count(differing & ~MIRROR_FREE).astype(np.int8)
    return common + sided, common + (keypoints.N_CODE_BITS - N_MIRROR_FREE_BITS) - sided


def aligned_pairs(features: np.ndarray, n_each: np.ndarray) -> tuple[dict[tuple[int, int], Alignment], int]:
    """Pairs of images, lower first, whose common features lie alike, and how many more were too many to look at.

    Args:
        features: `keypoints.FEATURE` records of all images, in their order.
        n_each: [n_images] how many belong to each.
    """
    starts = np.concatenate([[0], np.cumsum(n_each)])
    owners = np.repeat(np.arange(len(n_each), dtype=np.uint32), n_each)
    pairs, rareness = sharing_pairs(features["code"].copy(), owners)
    is_aligned = _is_among_best(pairs, rareness, _N_ALIGNED)
    found = list(align(pairs[is_aligned], features, starts))
    ends = np.array([(a, b) for a, b, _ in found], dtype=np.int64).reshape(-1, 2)
    n_features = np.array([alignment.n_features for *_, alignment in found])
    is_compared = _is_among_best(ends, n_features, _N_COMPARED)
    kept = {(a, b): alignment for (a, b, alignment), is_kept in zip(found, is_compared, strict=True) if is_kept}
    return kept, int((~is_aligned).sum() + (~is_compared).sum())


def _is_among_best(pairs: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Whether each of `pairs` [m, 2] is among the `n` with the highest of `values` [m] of one of its images."""
    ends = pairs.T.ravel()
    order = np.lexsort((-np.tile(values, 2), ends))
    begins = np.searchsorted(ends[order], ends[order])
    rank = np.empty(len(ends), dtype=np.int64)
    rank[order] = np.arange(len(ends)) - begins
    return (rank < n).reshape(2, -1).any(axis=0)


def sharing_pairs(features: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n, 2] pairs of images, lower first, with at least `_MIN_SHARED` features in common, mirrored or not.

    And [n] how rare these features are, added up: one that looks like those of 50 images counts 1/50.

    Codes that are near agree in most of their bits. So for each of 12 choices of some bits the features are sorted by
    these alone, and each is compared with those that follow it with the same key.

    Args:
        features: [n_features] codes, by image.
        owners: [n_features] the position of the image that each belongs to, rising.
    """
    both = np.empty(0, dtype=np.uint64)
    for bits in _keys(len(features)):
        both = np.unique(np.concatenate([both, *_shared_features(features, bits)]))
    one, other = (both >> np.uint64(32)).astype(np.int64), (both & np.uint64(0xFFFFFFFF)).astype(np.int64)
    n_like = np.bincount(one, minlength=len(features)) + np.bincount(other, minlength=len(features))
    rareness = (1.0 / np.maximum(n_like[one], n_like[other])).astype(np.float32)
    packed = (owners[one].astype(np.uint64) << np.uint64(32)) | owners[other].astype(np.uint64)
    order = np.argsort(packed, kind="stable")
    found, begins, n_shared = np.unique(packed[order], return_index=True, return_counts=True)
    first, second = found >> np.uint64(32), found & np.uint64(0xFFFFFFFF)
    is_pair = (first != second) & (n_shared >= _MIN_SHARED)
    totals = np.add.reduceat(rareness[order], begins) if len(begins) else rareness
    return np.stack([first, second], axis=1).astype(np.int64)[is_pair], totals[is_pair]


def _keys(n_features: int) -> Iterator[np.ndarray]:
    """The bits of each table's key."""
    n_bits = int(np.clip(np.ceil(np.log2(max(n_features, 1))), *_KEY_BITS))
    random = np.random.default_rng(0)
    for _ in range(_N_TABLES):
        yield random.permutation(N_MIRROR_FREE_BITS)[:n_bits]


def _shared_features(codes: np.ndarray, bits: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs of positions in `codes` with a near code and the same key, as one number each."""
    key = np.zeros(len(codes), dtype=np.uint64)
    for place, bit in enumerate(bits.tolist()):
        key |= ((codes >> np.uint64(bit)) & np.uint64(1)) << np.uint64(32 + place)
    key |= np.arange(len(codes), dtype=np.uint64)
    key.sort()
    for step in range(1, _N_NEXT + 1):
        for begin in range(0, len(key) - step, _AT_ONCE):
            end = min(begin + _AT_ONCE, len(key) - step)
            one, other = key[begin:end], key[begin + step : end + step]
            equal = (one ^ other) >> np.uint64(32) == 0
            one, other = one[equal] & np.uint64(0xFFFFFFFF), other[equal] & np.uint64(0xFFFFFFFF)
            distance = np.minimum(*code_distance(codes[one], codes[other]))
            is_near = distance <= _MAX_CODE_DISTANCE
            yield (one[is_near] << np.uint64(32)) | other[is_near]


def align(pairs: np.ndarray, features: np.ndarray, starts: np.ndarray) -> Iterator[tuple[int, int, Alignment]]:
    """Those of `pairs` whose common features lie alike, up to scale, shift and mirroring.

    Args:
        pairs: [n, 2] positions of images.
        features: `FEATURE` records of all images.
        starts: [n_images + 1] where the features of each image begin.
    """
    for at in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = pairs[at : at + _PAIRS_AT_ONCE]
        first, second = _table(part[:, 0], features, starts), _table(part[:, 1], features, starts)
        plain, mirrored = code_distance(first["code"][:, :, None], second["code"][:, None, :])
        is_there = (first["size"] > 0)[:, :, None] & (second["size"] > 0)[:, None, :]
        best: dict[int, Alignment] = {}
        for distance, is_mirrored in ((plain, False), (mirrored, True)):
            for pair, found in _best(first, second, is_there & (distance <= _MAX_CODE_DISTANCE), is_mirrored):
                if pair not in best or found.n_features > best[pair].n_features:
                    best[pair] = found
        for pair in sorted(best):
            yield int(part[pair, 0]), int(part[pair, 1]), best[pair]


def _table(images: np.ndarray, features: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """[n, N_FEATURES] records of each image, filled up with features of size 0."""
    places = starts[images][:, None] + np.arange(keypoints.N_FEATURES)
    is_own = places < starts[images + 1][:, None]
    table = features[np.where(is_own, places, 0)]
    table["size"][~is_own] = 0
    return table


def _best(
    first: np.ndarray, second: np.ndarray, is_match: np.ndarray, is_mirrored: bool
) -> Iterator[tuple[int, Alignment]]:
    """The alignment that most matches of each pair agree with, if enough do.

    Each match tells a scale and a shift, and the others agree with it or not.
    """
    pair, one, other = np.nonzero(is_match)
    n_of_pair = np.bincount(pair, minlength=len(first))
    is_enough = n_of_pair[pair] >= _MIN_CONSISTENT
    pair, one, other = pair[is_enough], one[is_enough], other[is_enough]
    sign = -1.0 if is_mirrored else 1.0
    place = np.stack([sign * first["x"][pair, one], 1.0 * first["y"][pair, one]], axis=1) / keypoints.PLACE_STEPS
    target = np.stack([second["x"][pair, other], second["y"][pair, other]], axis=1) / keypoints.PLACE_STEPS
    octaves = (second["size"][pair, other].astype(float) - first["size"][pair, one]) / keypoints.SIZE_STEPS
    for number in np.unique(pair).tolist():
        own = slice(*np.searchsorted(pair, (number, number + 1)))
        found = _agreed(place[own], target[own], octaves[own], one[own], other[own])
        if found is not None:
            scale, shift, n = found
            yield number, Alignment(is_mirrored, scale, float(shift[0]), float(shift[1]), n)


def _agreed(
    place: np.ndarray, target: np.ndarray, octaves: np.ndarray, one: np.ndarray, other: np.ndarray
) -> tuple[float, np.ndarray, int] | None:
    """Scale, shift and number of features of the largest set of matches that agree, or None if it is small."""
    scales = 2.0**octaves
    expected = target[:, None] + scales[:, None, None] * (place[None, :] - place[:, None])
    size = np.maximum(1.0, scales)[:, None]
    agrees = (np.abs(expected - target[None, :]).max(axis=2) <= _PLACE_TOLERANCE_PX * size) & (
        np.abs(octaves[:, None] - octaves[None, :]) <= _SIZE_TOLERANCE
    )
    chosen = agrees[agrees.sum(axis=1).argmax()]
    n = min(len(np.unique(one[chosen])), len(np.unique(other[chosen])))
    if n < _MIN_CONSISTENT:
        return None
    place, target = place[chosen], target[chosen]
    centre, target_centre = place.mean(axis=0), target.mean(axis=0)
    spread = ((place - centre) ** 2).sum()
    if spread < len(place) * _MIN_SPREAD_PX**2:
        return None
    scale = float(((place - centre) * (target - target_centre)).sum() / spread)
    return (scale, target_centre - scale * centre, n) if scale > 0 else None


def n_agreeing(first: np.ndarray, second: np.ndarray, alignment: Alignment) -> int:
    """In how many places features of two images look alike and lie as aligned.

    Features within `_PLACE_PX` count once: a logo or a line of words has many of them, all in a few places.

    Args:
        first: `keypoints.FEATURE` records.
        second: those of the other image.
        alignment: how the first lies in the second.
    """
    distance = code_distance(first["code"][:, None], second["code"][None, :])[int(alignment.is_mirrored)]
    sign = -1.0 if alignment.is_mirrored else 1.0
    x = alignment.scale * sign * first["x"] / keypoints.PLACE_STEPS + alignment.shift_x
    y = alignment.scale * first["y"] / keypoints.PLACE_STEPS + alignment.shift_y
    away_x = np.abs(x[:, None] - second["x"][None, :] / keypoints.PLACE_STEPS)
    away_y = np.abs(y[:, None] - second["y"][None, :] / keypoints.PLACE_STEPS)
    sizes = first["size"] / keypoints.SIZE_STEPS + np.log2(alignment.scale)
    octaves = np.abs(sizes[:, None] - second["size"][None, :] / keypoints.SIZE_STEPS)
    tolerance = _CLOSE_PX * max(1.0, alignment.scale)
    agrees = (distance <= _MAX_CODE_DISTANCE) & (np.maximum(away_x, away_y) <= tolerance) & (octaves <= _SIZE_TOLERANCE)
    return min(_n_places(first[agrees.any(axis=1)]), _n_places(second[agrees.any(axis=0)]))


def _n_places(features: np.ndarray) -> int:
    x, y = (features[name] // int(_PLACE_PX * keypoints.PLACE_STEPS) for name in ("x", "y"))
    return len(set(zip(x.tolist(), y.tolist(), strict=True)))
