"""A drawn stand-in for the Kaggle data: memes in the folder layout of `andrewmvd/doom-crossing`, with all its troubles.

It proves that the machinery works; it says nothing of the accuracy on real memes.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from memevit.data.sample import adventure, awkward, maze, memes, posts, unrelated, village, wear
from memevit.data.sample.brush import Scene

_SCENES: dict[str, Scene] = {
    "doom": maze.corridor,
    "animal_crossing": village.village,
    "genshin_impact": adventure.adventure,
    "unrelated": unrelated.unrelated,
}
_GAMES = ("doom", "animal_crossing")
_HELD_APART = ("genshin_impact", "unrelated")
_CSV_NAMES = {"doom": "doom_crossing_dataset.csv", "animal_crossing": "animal_crossing_dataset.csv"}
_REPOST_SHARE, _NEW_CAPTION_SHARE, _TEXT_SHARE, _CROSSOVER_SHARE = 0.06, 0.04, 0.03, 0.04
_PNG_SHARE, _LARGEST_PNG_PX = 0.25, 1600
_N_IN_BOTH = 3  # Files that `_share` puts into each class folder.
_N_ON_TOP = len(awkward.BROKEN) + 1  # And the image that lies twice in its folder.
_FEWEST = 8  # New images, reposts and new captions of each game, however small the sample.
_JPEG_QUALITY, _REPOST_JPEG_QUALITY = (70, 95), (35, 80)


@dataclass
class _Folder:
    """A class folder while it is filled, and the names in it."""

    path: Path
    class_name: str
    seed: int
    progress: tqdm
    names: list[str] = field(default_factory=list)

    def rng(self, *what: object) -> random.Random:
        """Random numbers for one purpose, whatever else is drawn."""
        return random.Random(f"{self.seed}/{self.class_name}/{'/'.join(map(str, what))}")

    def add(self, content: bytes, suffix: str, stem: str | None = None) -> None:
        """Write a file under a name as the download of a post has it."""
        letters = self.rng("name", len(self.names))
        name = f"{stem or posts.post_id(letters)}.{suffix}"
        while name in self.names:
            name = f"{posts.post_id(letters)}.{suffix}"
        (self.path / name).write_bytes(content)
        self.names.append(name)
        self.progress.update()


def draw(target_dir: Path, *, seed: int = 0, n_per_class: int = 320, n_held_apart: int = 120) -> None:
    """Draw the sample into `target_dir`, with a progress bar on stderr.

    Writes `doom-crossing/` (two class folders and two CSV files, as on Kaggle) and `held_apart/` with images of a
    third game, `genshin_impact`, and of none, `unrelated`. The same arguments give the same bytes with the same
    Pillow, whatever the machine.

    Among the images of each game are reposts, the same image with another caption, posts of text alone and images
    of both games. One image lies in both class folders byte for byte, one saved anew, one as the notice that an
    image was removed, and one lies twice in the first. Each kind of `awkward.KINDS` is there once.

    Args:
        target_dir: a new or empty folder.
        seed: of all random numbers.
        n_per_class: images of each game, about; those in both classes and the broken files come on top.
        n_held_apart: images of the third game, and of none.
    """
    root = target_dir / "doom-crossing"
    n_files = 2 * n_per_class + 2 * n_held_apart + _N_ON_TOP
    with tqdm(total=n_files, desc="Drawing", unit="image", mininterval=0.5) as progress:
        folders = [_new_folder(root / name, name, seed, progress) for name in _GAMES]
        for folder, kinds in zip(folders, awkward.KINDS, strict=True):
            n_special = len(kinds.keys() - set(awkward.BROKEN)) + _N_IN_BOTH
            _fill(folder, max(_FEWEST, n_per_class - n_special))
        _share(*folders)
        for folder, kinds in zip(folders, awkward.KINDS, strict=True):
            _add_awkward(folder, kinds)
            posts.write_csv(root / _CSV_NAMES[folder.class_name], folder.class_name, folder.names, folder.rng)
        for name in _HELD_APART:
            folder = _new_folder(target_dir / "held_apart" / name, name, seed, progress)
            for number in range(n_held_apart):
                _add_new(folder, number)


def _new_folder(path: Path, class_name: str, seed: int, progress: tqdm) -> _Folder:
    path.mkdir(parents=True, exist_ok=True)
    return _Folder(path, class_name, seed, progress)


def _fill(folder: _Folder, n: int) -> None:
    n_reposts, n_captions = max(1, round(n * _REPOST_SHARE)), max(1, round(n * _NEW_CAPTION_SHARE))
    n_new = n - n_reposts - n_captions
    for number in range(n_new):
        _add_new(folder, number)
    for number in range(n_reposts):
        rng = folder.rng("repost", number)
        image = wear.reposted(_meme(folder, rng.randrange(n_new)), rng)
        folder.add(awkward.saved(image, "JPEG", quality=rng.randrange(*_REPOST_JPEG_QUALITY)), "jpg")
    for number in range(n_captions):
        rng = folder.rng("caption", number)
        image = _meme(folder, rng.randrange(n_new), words=f"new {number}")
        folder.add(awkward.saved(image, "JPEG", quality=rng.randrange(*_JPEG_QUALITY)), "jpg")


def _add_new(folder: _Folder, number: int) -> None:
    rng, image = folder.rng("file", number), _meme(folder, number)
    if rng.random() < _PNG_SHARE and max(image.size) <= _LARGEST_PNG_PX:
        folder.add(awkward.saved(image, "PNG", compress_level=3), "png")
    else:
        folder.add(awkward.saved(image, "JPEG", quality=rng.randrange(*_JPEG_QUALITY)), "jpg")


def _meme(folder: _Folder, number: int, *, words: str = "first") -> Image.Image:
    """The meme of that number; other `words` give the same image another caption."""
    rng, chance = folder.rng("meme", number), folder.rng("kind", number).random()
    idea = memes.Idea(_SCENES[folder.class_name], folder.class_name, rng, folder.rng("words", number, words))
    is_game = folder.class_name in _GAMES
    if is_game and chance < _TEXT_SHARE:
        return memes.text_only(idea)
    if is_game and chance < _TEXT_SHARE + _CROSSOVER_SHARE:
        other = next(name for name in _GAMES if name != folder.class_name)
        return wear.worn(memes.crossover(idea, _SCENES[other]), rng)
    return wear.worn(rng.choice(memes.FORMS)(idea), rng)


def _share(first: _Folder, second: _Folder) -> None:
    """Put one image into both classes, byte for byte and saved anew, and one twice into the first."""
    rng = first.rng("shared")
    of_both = []
    for number in range(2):
        words = first.rng("shared words", number)
        idea = memes.Idea(_SCENES[first.class_name], first.class_name, first.rng("shared", number), words)
        of_both.append(memes.crossover(idea, _SCENES[second.class_name]))
    exact = awkward.saved(of_both[0], "JPEG", quality=rng.randrange(*_JPEG_QUALITY))
    removed = awkward.saved(memes.removed_placeholder(), "PNG")
    for folder, quality in ((first, _JPEG_QUALITY[1]), (second, _REPOST_JPEG_QUALITY[0])):
        folder.add(exact, "jpg")
        folder.add(awkward.saved(of_both[1], "JPEG", quality=quality), "jpg")
        folder.add(removed, "png")
    twice = first.path / first.names[0]
    first.add(twice.read_bytes(), twice.suffix.removeprefix("."))


def _add_awkward(folder: _Folder, kinds: dict[str, awkward.Awkward]) -> None:
    def image_of(kind: str) -> Image.Image:
        rng = folder.rng("awkward", kind)
        return memes.captioned(memes.Idea(_SCENES[folder.class_name], folder.class_name, rng, rng))

    for content, suffix, stem in awkward.files(kinds, image_of):
        folder.add(content, suffix, stem)
