"""The CSV beside a class folder: one made-up post for each file, in the columns of the Kaggle data."""

import csv
import io
import random
import string
from collections.abc import Callable, Sequence
from pathlib import Path

from memevit.data.sample import captions

COLUMNS = (
    *("subreddit", "id", "title", "ups", "downs", "upvote_ratio", "total_awards_received", "num_comments"),
    *("created_utc", "filename"),
)
_ID_LETTERS = 6
_FIRST_POST_UTC_S = 1_577_836_800  # 1 January 2020
_TWO_YEARS_S = 63_000_000
_SUBREDDITS = {
    "doom": ("Doom", "Doom", "DoomEternal", "gaming", "Doomcrossing"),
    "animal_crossing": ("AnimalCrossing", "AnimalCrossing", "ac_newhorizons", "gaming", "Doomcrossing"),
}


def post_id(rng: random.Random) -> str:
    """Six letters and figures, as Reddit numbers its posts."""
    return "".join(rng.choices(string.ascii_lowercase + string.digits, k=_ID_LETTERS))


def write_csv(path: Path, class_name: str, names: Sequence[str], rng_of: Callable[[str, str], random.Random]) -> None:
    """Write one row for each file of `names`, whether or not it can be opened."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(class_name, name, rng_of("post", name)) for name in names)
    path.write_text(text.getvalue(), encoding="utf-8")


def _row(class_name: str, name: str, rng: random.Random) -> dict[str, object]:
    stem, ups = Path(name).stem, min(90_000, 2 ** rng.randrange(14) + rng.randrange(200))
    return {
        "subreddit": rng.choice(_SUBREDDITS[class_name]),
        "id": stem if len(stem) == _ID_LETTERS and stem.isalnum() else post_id(rng),
        "title": captions.title(class_name, rng),
        "ups": ups,
        "downs": 0,
        "upvote_ratio": f"{rng.randrange(60, 101) / 100:.2f}",
        "total_awards_received": max(0, rng.randrange(-12, 5)),
        "num_comments": ups // 20 + rng.randrange(12),
        "created_utc": _FIRST_POST_UTC_S + rng.randrange(_TWO_YEARS_S),
        "filename": name,
    }
