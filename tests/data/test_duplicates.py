"""Which images are grouped, which are dropped, and how local features find and align them."""

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from benchmarks import captioned_images
from memevit.data import duplicates, ingest, keypoints, proposals
from memevit.data.layout import SourceFile
from memevit.data.sample import memes
from tests.conftest import draw_image


def related(images, tmp_path):
    """`duplicates.relate` for images saved as PNG."""
    found = []
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
        found.append(SourceFile(tmp_path, f"{number}.png", f"{number}.png", "all"))
    scans = ingest.scan_all(found, tmp_path / "stored", max_side=512, n_processes=1)
    return duplicates.relate(scans, tmp_path / "stored", n_processes=1)


@pytest.mark.parametrize("style", [*captioned_images.CAPTIONS, *captioned_images.REPOSTS])
def test_copies_with_captions_frames_or_mirrored_are_one_group_apart_from_others(tmp_path, style):
    change = (captioned_images.CAPTIONS | captioned_images.REPOSTS)[style]
    image, other = draw_image(1, size=(400, 320)), draw_image(2, size=(400, 320))
    rng = random.Random(0)
    relations = related([image, change(image, rng), change(other, rng), other], tmp_path)
    assert relations.group[0] == relations.group[1]
    assert relations.group[2] == relations.group[3]
    assert relations.group[0] != relations.group[2]


@pytest.mark.parametrize("seed", [3, 4, 6])
def test_two_captions_that_cover_much_of_one_image_do_not_hide_it(tmp_path, seed):
    image, rng = draw_image(seed, size=(400, 320)), random.Random(seed)
    captioned = [change(image, rng) for change in (captioned_images.outlined_capitals, captioned_images.watermark)]
    relations = related(captioned, tmp_path)
    assert relations.group[0] == relations.group[1]
    assert relations.same[0] != relations.same[1]


@pytest.mark.parametrize("style", ["outlined capitals", "bar above", "watermark"])
def test_one_caption_on_different_images_relates_nothing(tmp_path, style):
    images = [draw_image(seed, size=(400, 320)) for seed in (6, 7, 8)]
    captioned = [captioned_images.CAPTIONS[style](image, random.Random(0)) for image in images]
    assert related(captioned, tmp_path).pairs == []


def test_a_mirrored_copy_is_grouped_and_not_the_same(tmp_path):
    image = draw_image(3, size=(300, 240))
    relations = related([image, ImageOps.mirror(image)], tmp_path)
    assert relations.group[0] == relations.group[1]
    assert relations.same[0] != relations.same[1]


def test_two_frames_of_an_animation_are_grouped_and_not_the_same(tmp_path):
    frames = [draw_image(4, size=(300, 240)) for _ in range(2)]
    ImageDraw.Draw(frames[0]).line((150, 120, 170, 150), fill="black", width=9)  # An arm, lowered
    ImageDraw.Draw(frames[1]).line((150, 120, 172, 94), fill="black", width=9)  # and lifted.
    relations = related(frames, tmp_path)
    assert relations.group[0] == relations.group[1]
    assert relations.same[0] != relations.same[1]


def test_a_recoloured_image_is_grouped_and_not_the_same(tmp_path):
    image = draw_image(5, size=(300, 240))
    levels = np.asarray(image).astype(int)
    levels[..., 0] += 12
    levels[..., 2] -= 12
    recoloured = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    relations = related([image, recoloured], tmp_path)
    assert relations.group[0] == relations.group[1]
    assert relations.same[0] != relations.same[1]


def test_one_frame_around_different_images_relates_nothing(tmp_path):
    framed = [ImageOps.expand(draw_image(seed, size=(300, 240)), 30, "navy") for seed in (6, 7, 8)]
    assert related(framed, tmp_path).pairs == []


@pytest.mark.parametrize("frame", [memes.on_phone, memes.on_handheld])
def test_one_device_around_different_images_relates_nothing(tmp_path, frame):
    def shown(seed):
        def scene(rng, size):
            return draw_image(seed, size=size)

        return frame(memes.Idea(scene, "doom", random.Random(0), random.Random(seed)))

    assert related([shown(seed) for seed in (6, 7, 8)], tmp_path).pairs == []


def test_mirroring_keeps_the_low_bits_of_a_code_and_turns_the_others():
    descriptors = np.random.default_rng(0).random((20, 128), dtype=np.float32)
    # Rows, columns, directions; mirrored, columns run backwards and direction t becomes pi - t.
    mirrored = descriptors.reshape(20, 4, 4, 8)[:, :, ::-1][..., (4 - np.arange(8)) % 8].reshape(20, 128)
    codes, of_mirrored = keypoints._codes(descriptors), keypoints._codes(mirrored)
    assert np.array_equal(codes ^ of_mirrored, np.full(20, ~keypoints.MIRROR_FREE))
    plain, across = proposals.code_distance(codes, of_mirrored)
    assert plain.tolist() == [64 - 36] * 20
    assert across.tolist() == [0] * 20


def planted(codes, places, sizes):
    features = np.zeros(len(codes), dtype=keypoints.FEATURE)
    features["code"], features["size"] = codes, sizes
    features["x"], features["y"] = (keypoints.PLACE_STEPS * np.asarray(places)).T
    return features


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_scale_and_shift_are_found_from_common_features(is_mirrored):
    random_ = np.random.default_rng(0)
    codes = random_.integers(0, 1 << 64, 40, dtype=np.uint64)
    places = random_.integers(5, 60, (8, 2))
    first = planted(codes[:8], places, 32)
    moved = places * [-2 if is_mirrored else 2, 2] + [130 if is_mirrored else 10, 4]
    second = planted(codes[:8] ^ (~keypoints.MIRROR_FREE if is_mirrored else np.uint64(0)), moved, 48)  # An octave.
    unrelated = planted(codes[20:36], random_.integers(5, 100, (16, 2)), 32)
    features = np.concatenate([first, unrelated, second])
    found, n_passed_over = proposals.aligned_pairs(features, np.array([8, 16, 8]))
    ((pair, alignment),) = found.items()
    assert (pair, alignment.is_mirrored, alignment.n_features, n_passed_over) == ((0, 2), is_mirrored, 8, 0)
    expected = (2.0, 130.0 if is_mirrored else 10.0, 4.0)
    assert (alignment.scale, alignment.shift_x, alignment.shift_y) == pytest.approx(expected)


def test_words_that_are_on_all_images_do_not_pair_all_with_all_and_hide_no_template(monkeypatch):
    monkeypatch.setattr(proposals, "_N_ALIGNED", 8)
    monkeypatch.setattr(proposals, "_N_COMPARED", 2)
    random_ = np.random.default_rng(0)
    n_images, n_common, n_own = 60, 12, 12
    words = planted(
        random_.integers(0, 1 << 64, n_common, dtype=np.uint64), random_.integers(5, 100, (n_common, 2)), 32
    )
    images = []
    for _ in range(n_images):
        codes, places = random_.integers(0, 1 << 64, n_own, dtype=np.uint64), random_.integers(5, 120, (n_own, 2))
        worn = words.copy()
        worn["code"] ^= np.uint64(1) << random_.integers(0, 64, n_common, dtype=np.uint64)
        images.append(np.concatenate([worn, planted(codes, places, 32)]))
    images[50][n_common:] = images[7][n_common:]
    found, n_passed_over = proposals.aligned_pairs(np.concatenate(images), np.full(n_images, n_common + n_own))
    assert len(found) <= n_images * proposals._N_COMPARED
    assert len(found) + n_passed_over > 10 * n_images
    assert found[7, 50].n_features == n_common + n_own


def test_images_without_features_are_paired_with_none():
    assert proposals.aligned_pairs(np.empty(0, dtype=keypoints.FEATURE), np.array([0, 0])) == ({}, 0)
    assert keypoints.describe(Image.new("RGB", (64, 64), "white")) == b""


def test_the_frequencies_of_codes_are_in_balance():
    images = [draw_image(seed, size=(200, 160)) for seed in range(20)]
    features = np.frombuffer(b"".join(map(keypoints.describe, images)), dtype=keypoints.FEATURE)
    bits = (features["code"][:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert len(features) > 500
    assert 0.2 < bits.mean(axis=0).min() <= bits.mean(axis=0).max() < 0.8
