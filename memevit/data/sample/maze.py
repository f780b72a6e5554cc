"""First person in a maze, in coarse pixels: textured walls, demons, a weapon and a status bar."""

import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from memevit.data.sample import demons, textures
from memevit.data.sample.brush import Colour, Mood, Size, gradient, mix, mood, on, shade

_MOODS = {
    **{"ember": 5, "steel": 4, "brick": 4, "toxic": 4, "night": 3, "sunset": 3, "autumn": 3, "spring": 4},
    **{"pastel": 3, "sand": 3, "snow": 2},
}
_MAP_SIDE = 12
_STEPS_PER_CELL = 24
_CELL = 256 * _STEPS_PER_CELL  # Rays walk through the maze in whole numbers: the same on every machine.
_FIGURES = {
    "0": (7, 5, 5, 5, 7), "1": (2, 6, 2, 2, 7), "2": (7, 1, 7, 4, 7), "3": (7, 1, 3, 1, 7), "4": (5, 5, 7, 1, 1),
    "5": (7, 4, 7, 1, 7), "6": (7, 4, 7, 5, 7), "7": (7, 1, 2, 2, 2), "8": (7, 5, 7, 5, 7), "9": (7, 5, 7, 1, 7),
    "%": (5, 1, 2, 4, 5),
}  # fmt: skip


@dataclass(frozen=True)
class _View:
    """What each column of the image sees; all arrays are [W]."""

    steps: np.ndarray
    across: np.ndarray
    is_side: np.ndarray
    step_x: np.ndarray
    step_y: np.ndarray
    eye: int
    light_percent: int


def corridor(rng: random.Random, size: Size) -> Image.Image:
    """A maze, a lava field or a soldier, seen through the eyes of somebody with a weapon."""
    rows = rng.choice((100, 100, 150, 200))
    small = (min(400, max(70, rows * size[0] // size[1])), rows)
    colours = mood(rng, _MOODS)
    bar = rows * 15 // 100 if rng.random() < 0.75 else 0
    chance = rng.random()
    image = Image.new("RGB", small)
    view = (small[0], rows - bar)
    if chance < 0.68:
        image.paste(_maze(rng, view, colours))
    elif chance < 0.90:
        image.paste(_arena(rng, view, colours))
    else:
        image.paste(demons.soldier_portrait(rng, view, colours))
        bar = bar if rng.random() < 0.2 else 0
        image = image.crop((0, 0, small[0], view[1] + bar))
    if bar:
        _status_bar(image, rng, bar)
    way = Image.Resampling.NEAREST if rng.random() < 0.65 else Image.Resampling.BICUBIC
    return image.resize(size, way)


def _maze(rng: random.Random, size: Size, colours: Mood) -> Image.Image:
    view = max(_look(rng, size[0]), _look(rng, size[0]), key=lambda one: one.steps.sum())  # Not into a corner.
    image = _backdrop(rng, size, colours)
    pixels = np.asarray(image).astype(np.int64)
    is_open = rng.random() < 0.4  # No ceiling: the sky is seen.
    for side, colour in (("floor", colours.ground), ("ceiling", shade(colours.wall, 70))):
        if side == "floor" or not is_open:
            _lay_plane(pixels, rng, view, colour, is_floor=side == "floor")
    _build_walls(pixels, rng, view, colours.wall)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    _people(image, rng, view, colours)
    _hold_weapon(image, rng, colours)
    return image


def _look(rng: random.Random, width: int) -> _View:
    """Cast one ray per column through a random maze."""
    maze = np.array([[rng.random() < 0.24 for _ in range(_MAP_SIDE)] for _ in range(_MAP_SIDE)])
    maze[[0, -1], :] = maze[:, [0, -1]] = True
    cell = _MAP_SIDE // 2
    maze[cell - 1 : cell + 1, cell - 1 : cell + 1] = False
    eye = cell * _CELL - _CELL // 3
    angle = rng.randrange(360)
    ahead_x, ahead_y = (round(256 * turn(math.radians(angle))) for turn in (math.cos, math.sin))
    slant = 2 * np.arange(width) - width  # [W], left to right
    step_x, step_y = ahead_x - ahead_y * slant * 6 // (10 * width), ahead_y + ahead_x * slant * 6 // (10 * width)
    steps = np.arange(1, _MAP_SIDE * _STEPS_PER_CELL * 3 // 2)[:, None]
    x, y = eye + step_x * steps, eye + step_y * steps  # [steps, W]
    last = _MAP_SIDE - 1
    hit = maze[np.clip(y // _CELL, 0, last), np.clip(x // _CELL, 0, last)].argmax(axis=0)  # [W]
    columns = np.arange(width)
    x, y = x[hit, columns], y[hit, columns]
    is_side = np.minimum(x % _CELL, _CELL - x % _CELL) < np.minimum(y % _CELL, _CELL - y % _CELL)
    across = np.where(is_side, y, x) % _CELL * textures.SIDE_PX // _CELL
    return _View(hit + 1, across, is_side.astype(int), step_x, step_y, eye, rng.choice((100, 120, 150, 190)))


def _backdrop(rng: random.Random, size: Size, colours: Mood) -> Image.Image:
    """Sky and far mountains, sometimes a moon."""
    image = gradient(size, colours.sky, colours.haze)
    pen = ImageDraw.Draw(image)
    if rng.random() < 0.4:
        x, y, r = rng.randrange(size[0]), rng.randrange(4, 4 + size[1] // 5), size[1] // rng.randrange(9, 16)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=mix(colours.haze, (255, 250, 230), 50))
    for layer in (2, 1):
        ridge, x = [(0, size[1])], 0
        while x < size[0] + 20:
            ridge.append((x, size[1] // 2 - rng.randrange(2, 2 + size[1] * layer // 9)))
            x += rng.randrange(4, 22)
        pen.polygon([*ridge, (x, size[1])], fill=mix(colours.haze, shade(colours.wall, 45), 90 - 30 * layer))
    return image


def _lay_plane(pixels: np.ndarray, rng: random.Random, view: _View, colour: Colour, *, is_floor: bool) -> None:
    """Paint the floor below the horizon, or the ceiling above it."""
    height, middle = len(pixels), len(pixels) // 2
    below = np.arange(1, height - middle + 1)
    distance = height * _STEPS_PER_CELL // (2 * below)  # [H/2], in steps
    make = textures.liquid if is_floor and rng.random() < 0.3 else textures.floor
    tile = make(rng, colour)
    x = (view.eye + view.step_x * distance[:, None]) % _CELL * textures.SIDE_PX // _CELL
    y = (view.eye + view.step_y * distance[:, None]) % _CELL * textures.SIDE_PX // _CELL
    light = np.clip(3200 // (distance + 14), 40, 112)[:, None, None]
    painted = tile[y, x] * light * view.light_percent // 10_000
    if is_floor:
        pixels[middle:] = painted[: height - middle]
    else:
        pixels[:middle] = painted[:middle][::-1]


def _build_walls(pixels: np.ndarray, rng: random.Random, view: _View, colour: Colour) -> None:
    height = len(pixels)
    walls = np.stack([textures.wall(rng, colour), textures.wall(rng, shade(colour, 78))])
    tall = height * _STEPS_PER_CELL // np.maximum(view.steps, 7)  # [W]
    rows = np.arange(height)[:, None]
    v = (2 * rows - height + tall) * textures.SIDE_PX // (2 * tall)  # [H, W]
    seen = (v >= 0) & (v < textures.SIDE_PX)
    light = np.clip(3600 // (view.steps + 18), 34, 118)[:, None]
    painted = (
        walls[view.is_side, np.clip(v, 0, textures.SIDE_PX - 1), view.across] * light * view.light_percent // 10_000
    )
    pixels[seen] = painted[seen]


def _people(image: Image.Image, rng: random.Random, view: _View, colours: Mood) -> None:
    """Demons and things to pick up, where the maze is deep enough for them."""
    height = image.height
    depths = sorted((rng.randrange(20, 90) for _ in range(rng.choice((0, 1, 1, 2, 2, 3)))), reverse=True)
    for depth in depths:
        places = np.flatnonzero(view.steps > depth)
        depth = depth if len(places) else 26
        column = int(places[rng.randrange(len(places))]) if len(places) else image.width // 2
        unit = min(1.15, _STEPS_PER_CELL * 1.0 / depth)
        brush = on(image, column / image.width, 0.5 + 0.5 * unit * 0.92, unit * 0.85)
        if rng.random() < 0.75:
            demons.demon(brush, rng, colours)
        else:
            demons.pickup(brush.at(0, 0, 0.5), rng)
    if height >= 150 and rng.random() < 0.3:
        on(image, 0.5, 0.5, 0.02).oval(0, 0, 1, 1, None, edge=(240, 240, 240))


def _arena(rng: random.Random, size: Size, colours: Mood) -> Image.Image:
    """Open ground under a wide sky with pillars, a pentagram on the floor and one large demon."""
    view = _look(rng, size[0])
    pixels = np.asarray(_backdrop(rng, size, colours)).astype(np.int64)
    _lay_plane(pixels, rng, view, rng.choice((colours.ground, colours.accent)), is_floor=True)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    for _ in range(rng.randrange(2, 6)):
        depth = rng.randrange(12, 40)
        demons.pillar(on(image, rng.random(), 0.5 + depth / 100, depth / 60), rng, colours.wall)
    if rng.random() < 0.6:
        demons.floor_pentagram(on(image, 0.5, 0.8, 0.34), rng)
    for _ in range(rng.choice((1, 1, 2))):
        demons.demon(on(image, rng.uniform(0.25, 0.75), 0.86, rng.uniform(0.5, 0.8)), rng, colours)
    if rng.random() < 0.6:
        _hold_weapon(image, rng, colours)
    return image


def _hold_weapon(image: Image.Image, rng: random.Random, colours: Mood) -> None:
    """A barrel at the middle of the lower edge, sometimes firing."""
    if rng.random() < 0.2:
        return
    brush = on(image, 0.5 + rng.randrange(-5, 6) / 100, 1.0, 0.36)
    demons.weapon(brush, rng, mix((110, 110, 118), colours.wall, 30))


def _status_bar(image: Image.Image, rng: random.Random, bar: int) -> None:
    """Numbers in boxes and a face that has seen better days."""
    width, top = image.width, image.height - bar
    grey, ink = rng.choice(((104, 100, 96), (70, 84, 110), (120, 92, 70), (60, 60, 64))), rng.choice(
        ((196, 32, 24), (240, 200, 70), (120, 220, 120), (230, 230, 230))
    )  # fmt: skip
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, top, width, image.height), fill=grey)
    pen.line((0, top, width, top), fill=shade(grey, 140), width=max(1, bar // 12))
    dot = max(1, bar // 9)
    slots = 4 if width > 8 * bar else 2
    for slot in range(slots):
        left = width * (2 * slot + 1) // (2 * slots) - 6 * dot if slots > 2 else width * (1 + 6 * slot) // 10
        left += (slot >= slots // 2) * bar // 2 - (slot < slots // 2) * bar // 2
        pen.rectangle((left - dot, top + dot, left + 12 * dot, image.height - dot), fill=shade(grey, 60))
        value = f"{rng.randrange(1, 201)}" + ("%" if slot % 2 and width > 9 * bar else "")
        _write_figures(pen, value[:3], (left, top + (bar - 5 * dot) // 2), dot, ink)
    demons.face(on(image, 0.5, 1.0, bar / image.height), rng, grey)


def _write_figures(pen: ImageDraw.ImageDraw, value: str, corner: tuple[int, int], dot: int, ink: Colour) -> None:
    for number, figure in enumerate(value):
        for row, bits in enumerate(_FIGURES[figure]):
            for bit in range(3):
                if bits >> (2 - bit) & 1:
                    x, y = corner[0] + (number * 4 + bit) * dot, corner[1] + row * dot
                    pen.rectangle((x, y, x + dot - 1, y + dot - 1), fill=ink)
