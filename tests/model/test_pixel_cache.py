"""The pixel cache: built once, never half, anew when an image or a setting changes, and not at all without room."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memevit import decoding
from memevit.data import imagefolder
from memevit.errors import UserError
from memevit.model import pixel_cache
from memevit.model.geometry import Geometry
from tests.conftest import draw_image

SQUARE = Geometry(resample=int(Image.Resampling.BILINEAR), size=(16, 16))


@pytest.fixture
def request_of(tmp_path):
    (tmp_path / "data").mkdir()
    paths = [tmp_path / "data" / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        draw_image(number).save(path)
    return lambda settings="": pixel_cache.Request("train", paths, SQUARE, (3, 16, 16), f"{SQUARE} {settings}")


@pytest.fixture
def n_decoded(monkeypatch):
    """How many images have been decoded so far, as a list of paths."""
    seen = []
    decoded = decoding.decoded

    def counted(paths, *args, **kwargs):
        seen.extend(paths)
        return decoded(paths, *args, **kwargs)

    monkeypatch.setattr(pixel_cache.decoding, "decoded", counted)
    return seen


def test_pixels_are_decoded_once_and_then_mapped(tmp_path, request_of, n_decoded):
    first = pixel_cache.open_or_build(request_of(), tmp_path / "cache")
    again = pixel_cache.open_or_build(request_of(), tmp_path / "cache")
    assert len(n_decoded) == 6
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable
    for row, path in enumerate(request_of().paths):
        assert np.array_equal(first[row], SQUARE(Image.open(path).convert("RGB")))
        assert np.array_equal(first[row], again[row])


def test_a_changed_image_or_setting_makes_new_pixels_and_the_old_ones_go(tmp_path, request_of, n_decoded):
    cache = tmp_path / "cache"
    before = pixel_cache.open_or_build(request_of(), cache)[2].copy()
    draw_image(99).save(request_of().paths[2])
    after = pixel_cache.open_or_build(request_of(), cache)
    assert not np.array_equal(before, after[2])
    pixel_cache.open_or_build(request_of("other"), cache)
    assert len(n_decoded) == 18
    assert len(list(cache.glob("*.npy"))) == 1


def test_only_the_content_counts_not_the_time_of_a_file(tmp_path, request_of, n_decoded):
    pixel_cache.open_or_build(request_of(), tmp_path / "cache")
    for path in request_of().paths:
        os.utime(path, ns=(1, 1))
    pixel_cache.open_or_build(request_of(), tmp_path / "cache")
    assert len(n_decoded) == 6


def test_what_a_killed_process_left_is_never_used(tmp_path, request_of):
    cache, data = tmp_path / "cache", tmp_path / "data"
    code = f"""
import os, sys
from pathlib import Path
from memevit import decoding
from memevit.model import pixel_cache
from memevit.model.geometry import Geometry
square = Geometry(resample=2, size=(16, 16))
paths = sorted(Path({str(data)!r}).iterdir())
def killed(*args, **kwargs):
    for number, path in enumerate(paths):
        if number == 3: os._exit(9)
        yield path, decoding.decode(path, square)
decoding.decoded = killed
request = pixel_cache.Request("train", paths, square, (3, 16, 16), f"{{square}} ")
pixel_cache.open_or_build(request, Path({str(cache)!r}))
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 9
    assert [path.suffix for path in cache.iterdir() if path.name.startswith("train")] == [".part"]
    levels = pixel_cache.open_or_build(request_of(), cache)
    assert all(level.any() for level in levels)
    assert [path.suffix for path in cache.iterdir() if path.name.startswith("train")] == [".npy"]


def test_two_processes_at_once_build_it_once(tmp_path, request_of):
    code = f"""
import sys
from pathlib import Path
from memevit import decoding
from memevit.model import pixel_cache
from memevit.model.geometry import Geometry
square = Geometry(resample=2, size=(16, 16))
paths = sorted(Path({str(tmp_path / "data")!r}).iterdir())
decoded = decoding.decoded
def counted(*args, **kwargs):
    print("built")
    return decoded(*args, **kwargs)
decoding.decoded = counted
request = pixel_cache.Request("train", paths, square, (3, 16, 16), "")
print(int(pixel_cache.open_or_build(request, Path({str(tmp_path / "cache")!r})).sum()))
"""
    root = Path(__file__).parents[2]
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) for _ in "ab"]
    said = [process.communicate(timeout=120)[0].split() for process in both]
    assert sum("built" in words for words in said) == 1
    assert said[0][-1] == said[1][-1]


def test_without_room_on_the_disk_nothing_is_built_and_it_says_so(tmp_path, request_of, monkeypatch, caplog):
    usage = shutil.disk_usage(tmp_path)
    n_bytes = 6 * 3 * 16 * 16
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda _: usage._replace(free=2 * n_bytes - 1))
    assert pixel_cache.open_or_build(request_of(), tmp_path / "cache") is None
    assert "every epoch decodes them again" in caplog.text
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda _: usage._replace(free=2 * n_bytes))
    assert pixel_cache.open_or_build(request_of(), tmp_path / "cache") is not None


def test_a_folder_that_can_not_be_made_means_no_cache(tmp_path, request_of, caplog):
    (tmp_path / "file").write_text("")
    assert pixel_cache.open_or_build(request_of(), tmp_path / "file" / "cache") is None
    assert "every image is decoded in every epoch" in caplog.text


def test_an_image_that_can_not_be_decoded_is_named_and_leaves_nothing(tmp_path, request_of):
    request_of().paths[3].write_bytes(b"broken")
    with pytest.raises(UserError, match=r"3\.png can't be used for training: not an image"):
        pixel_cache.open_or_build(request_of(), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("train*"))


def test_the_cache_lies_beside_the_dataset_which_stays_as_it_was(trained, prepared):
    cache = pixel_cache.folder_of(prepared)
    assert cache == prepared.with_name("data.cache")
    assert {path.name.split("-")[0] for path in cache.glob("*.npy")} == {"train", "validation", "test"}
    imagefolder.require_replaceable(prepared, overwrite=False)


def test_one_decoding_gives_the_pixels_of_several_requests(tmp_path, request_of, n_decoded):
    small = Geometry(resample=int(Image.Resampling.LANCZOS), size=(8, 12))
    requests = [request_of(), pixel_cache.Request("train-plain", request_of().paths, small, (3, 8, 12), f"{small}")]
    found = pixel_cache.open_or_build_all(requests, tmp_path / "cache")
    assert len(n_decoded) == 6
    for row, path in enumerate(requests[0].paths):
        image = Image.open(path).convert("RGB")
        assert np.array_equal(found["train"][row], SQUARE(image))
        assert np.array_equal(found["train-plain"][row], small(image))
    pixel_cache.open_or_build(request_of("other"), tmp_path / "cache")  # Replaces those of its own name alone.
    pixel_cache.open_or_build_all(requests[1:], tmp_path / "cache")
    assert len(n_decoded) == 12


def test_where_there_is_room_for_one_request_the_first_one_gets_it(tmp_path, request_of, monkeypatch):
    usage, n_bytes = shutil.disk_usage(tmp_path), 6 * 3 * 16 * 16
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda _: usage._replace(free=2 * n_bytes))
    other = pixel_cache.Request("train-plain", request_of().paths, SQUARE, (3, 16, 16), "other")
    found = pixel_cache.open_or_build_all([request_of(), other], tmp_path / "cache")
    assert {name: pixels is None for name, pixels in found.items()} == {"train": False, "train-plain": True}


def test_pixels_are_cached_on_a_system_without_fallocate_too(tmp_path, request_of, monkeypatch):
    monkeypatch.delattr(pixel_cache.os, "posix_fallocate", raising=False)
    found = pixel_cache.open_or_build(request_of(), tmp_path / "cache")
    for row, path in enumerate(request_of().paths):
        assert np.array_equal(found[row], SQUARE(Image.open(path).convert("RGB")))
