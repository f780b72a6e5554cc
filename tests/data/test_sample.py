"""The drawn sample: its layout, its determinism, and the troubles that it promises."""

import ast
import contextlib
import csv
import functools
import hashlib
import io
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from memevit import pixels
from memevit.data import sample
from memevit.data.sample import awkward

GAMES = ("doom", "animal_crossing")
CSVS = {"doom": "doom_crossing_dataset.csv", "animal_crossing": "animal_crossing_dataset.csv"}
N_PER_CLASS, N_HELD_APART = 24, 8


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    target_dir = tmp_path_factory.mktemp("sample")
    sample.draw(target_dir, n_per_class=N_PER_CLASS, n_held_apart=N_HELD_APART)
    return target_dir


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A sample as small as it gets, and what was written to stdout and stderr meanwhile."""
    target_dir, out, err = tmp_path_factory.mktemp("few"), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sample.draw(target_dir, n_per_class=1, n_held_apart=3)
    return target_dir, out.getvalue(), err.getvalue()


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def checksums(folder):
    return Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir())


def files_of_games(root):
    return [path for game in GAMES for path in sorted((root / "doom-crossing" / game).iterdir())]


def is_readable(path):
    try:
        pixels.load_image(path)
    except pixels.UnreadableImageError:
        return False
    return True


@functools.cache
def readable(root):
    return [path for path in files_of_games(root) if is_readable(path)]


def test_the_layout_is_that_of_kaggle_with_two_folders_held_apart(drawn):
    assert sorted(path.name for path in drawn.iterdir()) == ["doom-crossing", "held_apart"]
    assert sorted(path.name for path in (drawn / "doom-crossing").iterdir()) == sorted([*GAMES, *CSVS.values()])
    assert sorted(path.name for path in (drawn / "held_apart").iterdir()) == ["genshin_impact", "unrelated"]


def test_each_folder_holds_as_many_images_as_asked_for(drawn):
    n_files = {path.name: len(list(path.iterdir())) for path in drawn.glob("*/*") if path.is_dir()}
    assert n_files["genshin_impact"] == n_files["unrelated"] == N_HELD_APART
    n_readable = Counter(path.parent.name for path in readable(drawn))
    assert n_readable == {"doom": N_PER_CLASS + 1, "animal_crossing": N_PER_CLASS}  # One lies twice in doom.
    assert n_files["doom"] - n_readable["doom"] == 2
    assert n_files["animal_crossing"] - n_readable["animal_crossing"] == 1


@pytest.mark.parametrize("game", GAMES)
def test_the_csv_lists_every_file_once_the_broken_ones_too(drawn, game):
    with (drawn / "doom-crossing" / CSVS[game]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "subreddit", "id", "title", "ups", "downs", "upvote_ratio", "total_awards_received", "num_comments",
        "created_utc", "filename",
    ]  # fmt: skip
    assert sorted(row["filename"] for row in rows) == sorted(
        path.name for path in (drawn / "doom-crossing" / game).iterdir()
    )


@pytest.mark.parametrize("game", GAMES)
def test_the_values_of_the_csv_are_plausible(drawn, game):
    with (drawn / "doom-crossing" / CSVS[game]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(len(row["id"]) == 6 and row["title"] and row["subreddit"] for row in rows)
    assert all(0.5 < float(row["upvote_ratio"]) <= 1 and int(row["ups"]) >= 0 for row in rows)
    posted = [int(row["created_utc"]) for row in rows]
    assert min(posted) >= 1_577_836_800
    assert 365 * 86_400 < max(posted) - min(posted) < 2 * 365 * 86_400


def test_the_same_seed_gives_the_same_bytes(drawn, tmp_path):
    sample.draw(tmp_path, n_per_class=N_PER_CLASS, n_held_apart=N_HELD_APART)
    assert contents(tmp_path) == contents(drawn)


def test_another_seed_gives_other_images(drawn, tmp_path):
    sample.draw(tmp_path, seed=1, n_per_class=1, n_held_apart=1)
    ours, theirs = (set(contents(root).values()) for root in (drawn, tmp_path))
    placeholder, page, empty = 1, 1, 1
    assert len(ours & theirs) == placeholder + page + empty


def test_an_image_does_not_depend_on_how_many_are_drawn(drawn, few):
    for name in ("genshin_impact", "unrelated"):
        some, many = (contents(root / "held_apart" / name) for root in (few[0], drawn))
        assert len(some) == 3
        assert some.items() <= many.items()


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image.copy(), image.format, getattr(image, "n_frames", 1), image.getexif().get(0x0112)


AWKWARD = {
    "palette": lambda path, image, kind, n_frames, turn: image.mode == "P" and kind == "PNG",
    "transparent": lambda path, image, kind, n_frames, turn: image.mode == "RGBA" and image.getextrema()[3][0] == 0,
    "CMYK": lambda path, image, kind, n_frames, turn: image.mode == "CMYK",
    "turned": lambda path, image, kind, n_frames, turn: turn == 6,
    "animated GIF": lambda path, image, kind, n_frames, turn: kind == "GIF" and n_frames > 1,
    "animated WEBP": lambda path, image, kind, n_frames, turn: kind == "WEBP" and n_frames > 1,
    "upper-case suffix": lambda path, image, kind, n_frames, turn: path.suffix == ".JPG",
    "unicode name": lambda path, image, kind, n_frames, turn: not path.name.isascii() and " " in path.name,
    "name with test": lambda path, image, kind, n_frames, turn: "test" in path.name,
    "name with train": lambda path, image, kind, n_frames, turn: "train" in path.name,
    "tiny": lambda path, image, kind, n_frames, turn: max(image.size) <= 48,
    "grey with alpha": lambda path, image, kind, n_frames, turn: image.mode == "LA",
    "one bit": lambda path, image, kind, n_frames, turn: image.mode == "1",
    "16-bit grey": lambda path, image, kind, n_frames, turn: image.mode == "I;16" and image.getextrema()[1] > 255,
    "misnamed": lambda path, image, kind, n_frames, turn: kind == "PNG" and path.suffix == ".jpg",
    "very tall": lambda path, image, kind, n_frames, turn: image.height > 6 * image.width,
    "large": lambda path, image, kind, n_frames, turn: max(image.size) >= 3000 and image.height < 6 * image.width,
}


@pytest.fixture(scope="module")
def kinds(drawn):
    """The awkward kinds of all files."""
    seen = [(path, *opened(path)) for path in readable(drawn)]
    return {name for name, is_kind in AWKWARD.items() if any(is_kind(*one) for one in seen)}


@pytest.mark.parametrize("name", AWKWARD)
def test_a_small_sample_holds_each_awkward_kind_that_decodes(kinds, name):
    assert name in kinds


def test_every_kind_that_is_promised_is_tested():
    assert {name for one in awkward.KINDS for name in one} == {*AWKWARD, *awkward.BROKEN}


def test_three_files_are_broken_each_in_its_own_way(drawn):
    broken = {path.suffix: path for path in files_of_games(drawn) if not is_readable(path) and path.stat().st_size == 0}
    assert list(broken) == [".png"]
    page, truncated = sorted(
        (path for path in files_of_games(drawn) if not is_readable(path) and path.stat().st_size),
        key=lambda path: path.stat().st_size,
    )
    with pytest.raises(UnidentifiedImageError):
        Image.open(page)
    assert page.suffix == truncated.suffix == ".jpg"
    assert page.read_bytes().startswith(b"<!DOCTYPE html>")
    with Image.open(truncated) as image, pytest.raises(OSError, match="truncated"):
        image.load()


def test_one_image_and_the_removed_notice_lie_in_both_classes_byte_for_byte(drawn):
    first, second = (checksums(drawn / "doom-crossing" / game) for game in GAMES)
    both = first.keys() & second.keys()
    sizes = [path for path in readable(drawn) if hashlib.sha256(path.read_bytes()).hexdigest() in both]
    assert len(both) == 2
    assert sorted({Image.open(path).size == (161, 81) for path in sizes}) == [False, True]


def test_one_image_lies_twice_in_its_class(drawn):
    assert sorted(checksums(drawn / "doom-crossing" / "doom").values())[-2:] == [1, 2]
    assert set(checksums(drawn / "doom-crossing" / "animal_crossing").values()) == {1}


def thumbnails(paths):
    """[n, 768] values of each image at 16x16 px."""
    small = [pixels.load_image(path).resize((16, 16), Image.Resampling.BOX) for path in paths]
    return np.array([np.asarray(one, dtype=np.int16).ravel() for one in small])


def test_one_image_of_both_classes_was_saved_anew(drawn):
    first, second = ([path for path in readable(drawn) if path.parent.name == game] for game in GAMES)
    gaps = np.abs(thumbnails(first)[:, None] - thumbnails(second)[None]).mean(axis=2)  # [n_first, n_second]
    alike = [(first[i], second[j]) for i, j in zip(*np.nonzero(gaps < 2), strict=True)]
    assert len(alike) == 3  # The removed notice, the exact copy, and the one saved anew.
    assert sum(one.read_bytes() != other.read_bytes() for one, other in alike) == 1


@pytest.mark.parametrize("game", GAMES)
def test_some_images_are_reposts_in_another_size(drawn, game):
    paths = [path for path in readable(drawn) if path.parent.name == game]
    small = thumbnails(paths)
    gaps = np.abs(small[:, None] - small[None]).mean(axis=2) + 255 * np.eye(len(paths))
    closest = [(paths[i], paths[j]) for i, j in zip(*np.nonzero(gaps < 12), strict=True)]
    assert any(Image.open(one).size != Image.open(other).size for one, other in closest)


def test_drawing_shows_its_progress_on_stderr_and_says_nothing_else(few):
    _, out, err = few
    assert out == ""
    assert "Drawing" in err


def test_drawing_needs_only_numpy_pillow_and_tqdm():
    imported = set()
    for path in sorted(Path(sample.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    assert imported - sys.stdlib_module_names == {"PIL", "memevit", "numpy", "tqdm"}
