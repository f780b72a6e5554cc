"""A drawn stand-in for the Kaggle data: memes in the folder layout of `andrewmvd/doom-crossing`, with all its troubles.

It proves that the machinery works; it says nothing of the accuracy on real memes.
"""

import csv
import io
import random
import string
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from memevit.data.sample import awkward, memes, scenes
from memevit.data.sample.scenes import Scene

_SCENES: dict[str, Scene] = {
    "doom": scenes.corridor,
    "animal_crossing": scenes.village,
    "genshin_impact": scenes.adventure,
    "unrelated": scenes.unrelated,
}
_GAMES = ("doom", "animal_crossing")
_CSV_NAMES = {"doom": "doom_crossing_dataset.csv", "animal_crossing": "animal_crossing_dataset.csv"}
_CSV_COLUMNS = (
    *("subreddit", "id", "title", "ups", "downs", "upvote_ratio", "total_awards_received", "num_comments"),
    *("created_utc", "filename"),
)
_FIRST_POST_UTC = 1_577_836_800  # 1 January 2020
_TWO_YEARS_S = 63_000_000
_REPOST_SHARE, _NEW_CAPTION_SHARE, _TEXT_SHARE, _CROSSOVER_SHARE = 0.06, 0.04, 0.03, 0.04


@dataclass
class _Folder:
    """A class folder while it is filled, and the names in it."""

    path: Path
    class_name: str
    seed: int
    names: list[str] = field(default_factory=list)

    def rng(self, *what: object) -> random.Random:
        """Random numbers for one purpose, whatever else is drawn."""
        return random.Random(f"{self.seed}/{self.class_name}/{'/'.join(map(str, what))}")

    def add(self, content: bytes, suffix: str, *, stem: str | None = None) -> None:
        """Write a file under a name as the download of a post has it."""
        letters = self.rng("name", len(self.names))
        stem = stem or "".join(letters.choices(string.ascii_lowercase + string.digits, k=6))
        name = f"{stem}.{suffix}"
        if name in self.names:
            name = f"{stem}{len(self.names)}.{suffix}"
        (self.path / name).write_bytes(content)
        self.names.append(name)


def draw(target_dir: Path, *, seed: int = 0, n_per_class: int = 320, n_held_apart: int = 120) -> None:
    """Draw the sample into `target_dir`, with a progress bar on stderr.

    Writes `doom-crossing/` (two class folders and two CSV files, as on Kaggle) and `held_apart/` with pictures of a
    third game, `genshin_impact`, and of none, `unrelated`. The same arguments give the same bytes.

    Args:
        target_dir: a new or empty folder.
        seed: of all random numbers.
        n_per_class: pictures of each game, about; broken files come on top.
        n_held_apart: pictures of the third game, and of none.
    """
    root = target_dir / "doom-crossing"
    with tqdm(total=2 * n_per_class + 2 * n_held_apart, desc="Drawing", unit="image", mininterval=0.5) as progress:
        folders = [_new_folder(root / name, name, seed) for name in _GAMES]
        for folder in folders:
            _fill(folder, n_per_class, progress)
        _share(folders)
        for folder in folders:
            awkward.add_to(folder, folder.rng("awkward"), is_first=folder is folders[0])
            _write_csv(root / _CSV_NAMES[folder.class_name], folder)
        for name in ("genshin_impact", "unrelated"):
            folder = _new_folder(target_dir / "held_apart" / name, name, seed)
            for number in range(n_held_apart):
                folder.add(_encoded(_meme(folder, number), folder.rng("file", number)), "jpg")
                progress.update()


def _new_folder(path: Path, class_name: str, seed: int) -> _Folder:
    path.mkdir(parents=True, exist_ok=True)
    return _Folder(path, class_name, seed)


def _fill(folder: _Folder, n: int, progress: tqdm) -> None:
    n_reposts, n_captions = max(1, round(n * _REPOST_SHARE)), max(1, round(n * _NEW_CAPTION_SHARE))
    n_new = n - n_reposts - n_captions
    for number in range(n_new):
        rng = folder.rng("file", number)
        is_png = rng.random() < 0.25
        folder.add(_encoded(_meme(folder, number), rng, is_png=is_png), "png" if is_png else "jpg")
        progress.update()
    for number in range(n_reposts):
        rng = folder.rng("repost", number)
        folder.add(_encoded(memes.reposted(_meme(folder, rng.randrange(n_new)), rng), rng, low=40), "jpg")
        progress.update()
    for number in range(n_captions):
        rng = folder.rng("caption", number)
        folder.add(_encoded(_meme(folder, rng.randrange(n_new), words=f"new {number}"), rng), "jpg")
        progress.update()


def _meme(folder: _Folder, number: int, *, words: str = "first") -> Image.Image:
    """The meme of that number; other `words` give the same picture another caption."""
    rng, spoken = folder.rng("meme", number), folder.rng("words", number, words)
    scene, chance = _SCENES[folder.class_name], rng.random()
    if folder.class_name in _GAMES and chance < _TEXT_SHARE:
        return memes.text_only(scene, rng, spoken, folder.class_name)
    if folder.class_name in _GAMES and chance < _TEXT_SHARE + _CROSSOVER_SHARE:
        other = next(name for name in _GAMES if name != folder.class_name)
        image = memes.crossover([scene, _SCENES[other]], rng, spoken, folder.class_name)
    else:
        image = rng.choice(memes.FORMS)(scene, rng, spoken, folder.class_name)
    return memes.worn(image, rng)


def _encoded(image: Image.Image, rng: random.Random, *, is_png: bool = False, low: int = 70) -> bytes:
    content = io.BytesIO()
    if is_png:
        image.save(content, "PNG", compress_level=3)
    else:
        image.save(content, "JPEG", quality=rng.randrange(low, 95))
    return content.getvalue()


def _share(folders: list[_Folder]) -> None:
    """Put one picture into both classes, byte for byte and saved anew, and one twice into the same class."""
    first = folders[0]
    image, rng = _meme(first, 10_000), first.rng("shared")
    exact, again = _encoded(image, rng), _encoded(memes.reposted(_meme(first, 10_001), rng), rng)
    original = _encoded(_meme(first, 10_001), rng)
    for number, folder in enumerate(folders):
        folder.add(exact, "jpg")
        folder.add(again if number else original, "jpg")
        folder.add(_encoded(memes.removed_placeholder(), folder.rng("removed"), is_png=True), "png")
    twice = (first.path / first.names[0]).read_bytes()
    first.add(twice, first.names[0].rsplit(".", 1)[1])


def _write_csv(path: Path, folder: _Folder) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for number, name in enumerate(folder.names):
        rng = folder.rng("post", number)
        subreddit = "Doom" if folder.class_name == "doom" else "AnimalCrossing"
        title, ups = memes.caption(folder.class_name, rng), round(rng.paretovariate(0.7) * 10)
        when = _FIRST_POST_UTC + rng.randrange(_TWO_YEARS_S)
        post_id = "".join(rng.choices(string.ascii_lowercase + string.digits, k=6))
        ratio = rng.randrange(60, 101) / 100
        writer.writerow(
            [subreddit, post_id, title, min(ups, 90_000), 0, ratio, rng.randrange(4), ups // 20, when, name]
        )
    path.write_text(text.getvalue(), encoding="utf-8")
