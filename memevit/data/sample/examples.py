"""A few images of the sample, to try a model with."""

import random
from collections.abc import Iterable
from pathlib import Path

from memevit.data.sample import maze, memes, unrelated, village

_MAX_SIDE_PX = 512
_SHOWN = (("doom", maze.corridor), ("animal_crossing", village.village), ("unrelated", unrelated.unrelated))
_FORMS = (memes.captioned, memes.with_bar)


def fits(class_names: Iterable[str]) -> bool:
    """Whether a model that knows these classes should be tried with these images.

    Example:
        >>> fits(["animal_crossing", "doom"]), fits(["cat", "dog"])
        (True, False)
    """
    return {name for name, _ in _SHOWN} - {"unrelated"} <= set(class_names)


def draw_examples(target_dir: Path, *, seed: int = 0) -> list[Path]:
    """Draw two memes of each game and two of none into `target_dir`; the same seed gives the same bytes."""
    paths = []
    for name, scene in _SHOWN:
        for number, form in enumerate(_FORMS, start=1):
            rng = random.Random(f"{seed}/example/{name}/{number}")
            image = form(memes.Idea(scene, name, rng, rng)).convert("RGB")
            image.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX))
            path = target_dir / f"{name}_{number}.jpg"
            image.save(path, "JPEG", quality=85)
            paths.append(path)
    return paths
