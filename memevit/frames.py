"""Several frames of an animated image: decoded together, classified one by one, and joined again."""

import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from memevit import pixels
from memevit.decoding import Failure

ANIMATED_FORMATS = {"GIF", "WEBP", "PNG", "AVIF"}  # The pages of a TIFF are no frames.
# Frames are drawn one onto the other, so that all before the last one asked for are decoded: about 20 s.
MAX_DECODED_PIXELS = 20 * pixels.MAX_IMAGE_PIXELS

Result = TypeVar("Result")  # A dataclass with `path`, `probabilities`, `problem`, and perhaps what is unknown.


def decode(
    path: Path,
    render: Callable[[Image.Image], np.ndarray],
    *,
    n_frames: int = 1,
    shorter_at_least_px: int | None = None,
) -> np.ndarray | str:
    """Pixels [n, 3, H, W] uint8 of up to `n_frames` frames of one file, or the reason why there are none.

    Args:
        path: an image; one that is not animated gives n = 1.
        render: pixels [3, H, W] of a decoded RGB image.
        n_frames: evenly spaced over the animation, the first one among them.
        shorter_at_least_px: see `pixels.decode`.
    """
    try:
        first = pixels.decode(path, shorter_at_least_px=shorter_at_least_px)
    except pixels.UnreadableImageError as error:
        return str(error)
    found = [render(first.image)]
    if n_frames > 1 and first.n_frames > 1 and first.image_format in ANIMATED_FORMATS:
        n_readable = max(1, MAX_DECODED_PIXELS // (first.width_px * first.height_px))
        numbers = chosen(min(first.n_frames, n_readable), n_frames)
        with contextlib.suppress(Exception), Image.open(path) as file:  # Damaged later on: what came before counts.
            for number in numbers[1:]:
                file.seek(number)
                found.append(render(pixels.to_rgb(file.copy())))
    return np.stack(found)


def chosen(n_available: int, n_wanted: int) -> list[int]:
    """Numbers of up to `n_wanted` evenly spaced frames, the first one among them.

    Example:
        >>> chosen(100, 4), chosen(2, 4)
        ([0, 25, 50, 75], [0, 1])
    """
    n = min(n_available, n_wanted)
    return [number * n_available // n for number in range(n)]


class Split:
    """Gives the frames of each file one by one, and joins what is said about them.

    Args:
        decoded: a path with the result of `decode`, in order.
    """

    def __init__(self, decoded: Iterable[tuple[Path, np.ndarray | str | Failure]]) -> None:
        self._decoded = decoded
        self._n_frames: deque[int] = deque()

    def __iter__(self) -> Iterator[tuple[Path, np.ndarray | str]]:
        for path, frames in self._decoded:
            if isinstance(frames, Failure):
                frames = frames.reason
            self._n_frames.append(1 if isinstance(frames, str) else len(frames))
            yield from ((path, frames),) if isinstance(frames, str) else ((path, frame) for frame in frames)

    def joined(self, results: Iterator[Result]) -> Iterator[Result]:
        """One result per file from one per frame, in order."""
        for first in results:
            yield joined([first, *(next(results) for _ in range(self._n_frames.popleft() - 1))])


def joined(results: list[Result]) -> Result:
    """What is said about an animation by what is said about its frames.

    Probabilities and scores are means. It is accepted if at least half of its frames are.
    """
    first = results[0]
    if len(results) == 1:
        return first
    changed: dict[str, Any] = {"probabilities": np.mean([one.probabilities for one in results], axis=0)}
    for name in ("known_score", "p_value"):
        if getattr(first, name, None) is not None:
            changed[name] = float(np.mean([getattr(one, name) for one in results]))
    if getattr(first, "accepted", None) is not None:
        rejected = [one for one in results if not one.accepted]
        changed["accepted"] = 2 * len(rejected) <= len(results)
        changed["reason"] = "" if changed["accepted"] else rejected[0].reason
    return dataclasses.replace(first, **changed)
