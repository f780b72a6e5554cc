import imagehash
import numpy as np
import pytest
from PIL import Image

from memevit.data import duplicates, hashes
from tests.conftest import draw_image


def near_pairs(codes, **options):
    """What `NearCodes` finds, as a sorted list."""
    return sorted(
        (int(min(a, b)), int(max(a, b)))
        for left, right in hashes.NearCodes(codes, **options).pairs()
        for a, b in zip(left, right, strict=True)
    )


def all_near_pairs(codes, max_distance):
    distances = np.bitwise_count(codes[:, None] ^ codes[None, :])
    return [(int(a), int(b)) for a, b in np.argwhere(distances <= max_distance) if a < b]


def scattered(random, centres, n_each, n_flips):
    codes = np.repeat(centres, n_each)
    for _ in range(n_flips):
        codes ^= np.uint64(1) << random.integers(0, 64, len(codes), dtype=np.uint64)
    return np.unique(codes)


def test_the_search_finds_each_near_pair_once_and_no_other():
    random = np.random.default_rng(0)
    codes = scattered(random, random.integers(0, 1 << 64, 60, dtype=np.uint64), 12, 5)
    expected = all_near_pairs(codes, 7)
    assert len(expected) > 300
    assert near_pairs(codes, max_neighbours=1000) == expected


def test_codes_that_differ_by_7_bits_are_found_wherever_the_bits_are():
    random = np.random.default_rng(1)
    first = random.integers(0, 1 << 64, 300, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in random.choice(64, 7, replace=False)) for _ in first]
    second = first ^ np.array(flips, dtype=np.uint64)
    codes = np.unique(np.concatenate([first, second]))
    expected = np.sort(np.stack([np.searchsorted(codes, first), np.searchsorted(codes, second)], axis=1), axis=1)
    assert near_pairs(codes) == sorted(map(tuple, expected.tolist()))


def test_images_are_paired_by_equal_and_by_near_hashes():
    codes = [(0b1111, 1 << 40), (1 << 63 | 0b1010101,), (0b1111,), (), (0b0111,), (1 << 63 | 0b1010101, 0xFFFF << 30)]
    pairs, n_crowded = hashes.candidate_pairs(codes)
    # 0 and 2 share a hash; 4 is one bit from both. 1 and 5 share one.
    assert {(0, 2), (0, 4), (2, 4), (1, 5)} <= {tuple(pair) for pair in pairs.tolist()}
    assert all(a < b and 3 not in (a, b) for a, b in pairs.tolist())
    assert n_crowded == 0


def test_without_hashes_there_are_no_pairs():
    pairs, n_crowded = hashes.candidate_pairs([(), (), ()])
    assert pairs.shape == (0, 2)
    assert n_crowded == 0


@pytest.mark.parametrize("n_flips", [0, 2])
def test_a_crowd_becomes_one_set_of_few_pairs_and_is_reported(n_flips):
    random = np.random.default_rng(2)
    crowd = [1234567] * 1000
    if n_flips:
        crowd = scattered(random, np.array([1234567], dtype=np.uint64), 5_000, n_flips).tolist()
    pairs, n_crowded = hashes.candidate_pairs([(code,) for code in crowd])
    assert len(pairs) < 100 * len(crowd)
    assert len(set(duplicates.components(len(crowd), pairs.tolist()).tolist())) == 1
    assert n_crowded >= 1


def test_the_hash_is_that_of_imagehash():
    for seed in range(30):
        grey = draw_image(seed, size=(64, 64)).convert("L")
        expected = int(str(imagehash.phash(grey)), 16)
        assert hashes.codes(grey.convert("RGB"))[0] == expected


def test_frequencies_that_a_symmetric_image_lacks_give_no_bits_by_chance():
    half = np.asarray(draw_image(3, size=(32, 64)).convert("L"))
    symmetric = Image.fromarray(np.concatenate([half, half[:, ::-1]], axis=1)).convert("RGB")
    code = hashes.codes(symmetric)[0]
    bits = np.array([int(bit) for bit in f"{code:064b}"]).reshape(8, 8)
    odd = bits[:, 1::2]  # Horizontal frequencies that change sign when left and right are exchanged.
    assert len(np.unique(odd)) == 1


def test_plain_images_have_no_hash():
    assert hashes.codes(Image.new("RGB", (64, 64), "white")) == ()
    assert hashes.codes(Image.new("RGB", (8, 8), "black")) == ()


def test_caption_bars_and_margins_are_not_part_of_the_content():
    image = draw_image(4, size=(200, 150))
    framed = Image.new("RGB", (240, 250), "white")
    framed.paste(image, (20, 80))
    left, top, right, bottom = hashes.content_box(framed.convert("L"))
    assert (left, right) == pytest.approx((20 / 240, 220 / 240), abs=0.02)
    assert (top, bottom) == pytest.approx((80 / 250, 230 / 250), abs=0.02)
    assert set(hashes.codes(framed)) & set(hashes.codes(image))
