"""Colours that all styles share, and a brush that draws a thing in that thing's own measure."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Size = tuple[int, int]
Point = tuple[float, float]
Scene = Callable[[random.Random, Size], Image.Image]

_SMOOTHED_SIDE_PX = 800  # Up to this side a scene is drawn twice as large and reduced, which smooths its edges.


@dataclass(frozen=True)
class Mood:
    """The colours of a place at one time of day and year."""

    sky: Colour
    haze: Colour
    ground: Colour
    wall: Colour
    plant: Colour
    accent: Colour


# The games share these on purpose, each with weights of its own: colour hints at the game and doesn't give it away.
_MOODS: dict[str, Mood] = {
    "spring": Mood((104, 176, 240), (206, 232, 250), (112, 190, 92), (226, 204, 160), (64, 150, 72), (232, 96, 84)),
    "autumn": Mood((150, 180, 210), (240, 214, 170), (176, 128, 64), (150, 96, 60), (206, 106, 40), (170, 50, 40)),
    "night": Mood((14, 18, 48), (46, 58, 108), (42, 68, 64), (84, 78, 104), (34, 76, 66), (232, 196, 92)),
    "snow": Mood((150, 180, 206), (226, 234, 242), (222, 230, 238), (140, 150, 166), (90, 130, 130), (200, 70, 70)),
    "sunset": Mood((112, 58, 110), (250, 160, 100), (140, 92, 84), (168, 104, 84), (90, 84, 60), (250, 200, 90)),
    "ember": Mood((40, 8, 8), (176, 52, 24), (84, 40, 34), (124, 62, 48), (110, 60, 30), (236, 110, 40)),
    "toxic": Mood((40, 60, 40), (112, 150, 80), (76, 92, 60), (112, 116, 84), (96, 160, 50), (130, 220, 60)),
    "steel": Mood((70, 90, 120), (150, 170, 190), (96, 104, 112), (120, 132, 148), (70, 120, 130), (80, 150, 230)),
    "sand": Mood((112, 198, 232), (232, 240, 226), (232, 210, 150), (200, 170, 120), (90, 160, 90), (240, 150, 90)),
    "brick": Mood((110, 70, 50), (170, 120, 90), (130, 84, 56), (150, 70, 56), (96, 110, 70), (220, 180, 120)),
    "pastel": Mood(
        (190, 210, 240), (250, 224, 230), (190, 220, 180), (236, 210, 220), (150, 200, 160), (240, 150, 180)
    ),
}
FURS: tuple[Colour, ...] = (
    *((200, 176, 140), (236, 226, 210), (150, 96, 62), (240, 200, 160), (120, 170, 200), (236, 160, 170)),
    *((128, 128, 124), (70, 62, 74), (124, 170, 96), (232, 190, 84), (190, 84, 60), (150, 124, 190)),
)  # fmt: skip


def mood(rng: random.Random, weights: Mapping[str, int]) -> Mood:
    """One of the moods named in `weights`, each colour a little lighter or darker."""
    found = _MOODS[rng.choices(list(weights), list(weights.values()))[0]]
    return Mood(*(shade(colour, rng.randrange(85, 116)) for colour in vars(found).values()))


def shade(colour: Colour, percent: int) -> Colour:
    """`colour` darker (below 100) or lighter (above).

    Example:
        >>> shade((100, 50, 200), 150)
        (150, 75, 255)
    """
    red, green, blue = (min(255, part * percent // 100) for part in colour)
    return red, green, blue


def mix(first: Colour, second: Colour, percent: int) -> Colour:
    """`first` with so many per cent of `second` in it.

    Example:
        >>> mix((0, 0, 0), (200, 100, 50), 50)
        (100, 50, 25)
    """
    red, green, blue = ((a * (100 - percent) + b * percent) // 100 for a, b in zip(first, second, strict=True))
    return red, green, blue


def gradient(size: Size, top: Colour, bottom: Colour) -> Image.Image:
    """An image that runs from one colour to another, in whole numbers."""
    rows = np.arange(size[1])[:, None]
    column = (np.array(top) * (size[1] - rows) + np.array(bottom) * rows) // size[1]  # [H, 3]
    return Image.fromarray(column.astype(np.uint8)[:, None]).resize(size, Image.Resampling.NEAREST)


def smoothly(scene: Scene, rng: random.Random, size: Size) -> Image.Image:
    """`scene` with soft edges, or, seldom, in the coarse pixels of an old console."""
    if rng.random() < 0.12:
        coarse = (max(1, size[0] * 150 // max(size)), max(1, size[1] * 150 // max(size)))
        return scene(rng, (coarse[0] * 2, coarse[1] * 2)).resize(coarse, Image.Resampling.BOX).resize(
            size, Image.Resampling.NEAREST
        )  # fmt: skip
    if max(size) > _SMOOTHED_SIDE_PX:
        return scene(rng, size)
    return scene(rng, (size[0] * 2, size[1] * 2)).reduce(2)


@dataclass(frozen=True)
class Brush:
    """Draws where a thing stands: (0, 0) is its foot, y grows upwards, and 1 is `unit` pixels.

    Every corner is rounded to a whole pixel before Pillow sees it.
    """

    pen: ImageDraw.ImageDraw
    x: float
    foot: float
    unit: float

    def at(self, x: float, y: float, unit: float = 1.0) -> "Brush":
        """A brush for a part of the thing."""
        return Brush(self.pen, self.x + x * self.unit, self.foot - y * self.unit, self.unit * unit)

    def _pixels(self, points: Sequence[Point]) -> list[tuple[int, int]]:
        return [(round(self.x + x * self.unit), round(self.foot - y * self.unit)) for x, y in points]

    def _frame(self, left: float, bottom: float, right: float, top: float) -> tuple[int, int, int, int]:
        (x0, y1), (x1, y0) = self._pixels([(min(left, right), bottom), (max(left, right), top)])
        return x0, min(y0, y1), x1, max(y0, y1)

    def oval(
        self, x: float, y: float, rx: float, ry: float, fill: Colour | None, *, edge: Colour | None = None,
        thick: float = 0.02,
    ) -> None:  # fmt: skip
        """An ellipse around (x, y)."""
        width = max(1, round(thick * self.unit))
        self.pen.ellipse(self._frame(x - rx, y - ry, x + rx, y + ry), fill=fill, outline=edge, width=width)

    def box(
        self, left: float, bottom: float, right: float, top: float, fill: Colour | None, *, round_by: float = 0.0,
        edge: Colour | None = None,
    ) -> None:  # fmt: skip
        """A rectangle, its corners rounded by `round_by`."""
        frame = self._frame(left, bottom, right, top)
        radius = min(round(round_by * self.unit), (frame[2] - frame[0]) // 2, (frame[3] - frame[1]) // 2)
        width = max(1, round(0.02 * self.unit))
        self.pen.rounded_rectangle(frame, radius=max(0, radius), fill=fill, outline=edge, width=width)

    def shape(self, points: Sequence[Point], fill: Colour, *, edge: Colour | None = None) -> None:
        """A polygon."""
        corners = self._pixels(points)
        self.pen.polygon(corners, fill=fill)
        if edge is not None:
            self.pen.line([*corners, corners[0]], fill=edge, width=max(1, round(0.02 * self.unit)))

    def line(self, points: Sequence[Point], fill: Colour, *, thick: float = 0.03) -> None:
        """A line through the points."""
        self.pen.line(self._pixels(points), fill=fill, width=max(1, round(thick * self.unit)), joint="curve")

    def smile(self, x: float, y: float, rx: float, ry: float, fill: Colour, *, thick: float = 0.02) -> None:
        """The lower half of an ellipse's edge; the upper half if `ry` is negative."""
        angles = (20, 160) if ry > 0 else (200, 340)
        width = max(1, round(thick * self.unit))
        self.pen.arc(self._frame(x - rx, y - abs(ry), x + rx, y + abs(ry)), *angles, fill=fill, width=width)


def on(image: Image.Image, x: float, foot: float, unit: float) -> Brush:
    """A brush for a thing at (`x`, `foot`), in shares of the sides of `image`, that is `unit` of its height tall."""
    return Brush(ImageDraw.Draw(image), x * image.width, foot * image.height, unit * image.height)
