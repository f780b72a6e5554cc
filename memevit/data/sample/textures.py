"""What the walls and floors of the maze are made of: squares of 32 pixels, drawn in whole numbers."""

import random

import numpy as np

from memevit.data.sample.brush import Colour

SIDE_PX = 32


def wall(rng: random.Random, colour: Colour) -> np.ndarray:
    """[32, 32, 3] bricks, riveted plates, flesh, a pentagram, planks or a lamp in a panel."""
    rows, columns = np.mgrid[0:SIDE_PX, 0:SIDE_PX]
    pattern = rng.choice((_bricks, _bricks, _plates, _plates, _flesh, _pentagram, _planks, _lamp))
    return _painted(rng, colour, pattern(rows, columns))


def floor(rng: random.Random, colour: Colour) -> np.ndarray:
    """[32, 32, 3] tiles, slabs or plain ground."""
    rows, columns = np.mgrid[0:SIDE_PX, 0:SIDE_PX]
    patterns = (
        lambda: 100 - 30 * ((rows < 1) | (columns < 1)),
        lambda: 100 - 25 * ((rows // 16 + columns // 16) % 2),
        lambda: 100 - 12 * ((rows * 7 + columns * 13) % 5 == 0),
    )
    return _painted(rng, colour, rng.choice(patterns)())


def liquid(rng: random.Random, colour: Colour) -> np.ndarray:
    """[32, 32, 3] lava, slime or water: a bright net on a dark ground."""
    rows, columns = np.mgrid[0:SIDE_PX, 0:SIDE_PX]
    wave = abs((rows + columns // 2) % 16 - 8) + abs((columns - rows // 3) % 16 - 8)
    return _painted(rng, colour, np.where(wave > 9, 60, np.where(wave > 5, 100, 150)))


def _painted(rng: random.Random, colour: Colour, light_percent: np.ndarray) -> np.ndarray:
    grain = np.random.Generator(np.random.PCG64(rng.getrandbits(32))).integers(-13, 14, (SIDE_PX, SIDE_PX))
    return np.clip(np.array(colour) * (light_percent + grain)[:, :, None] // 100, 0, 255)


def _bricks(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    joint = (rows % 8 == 0) | ((columns + rows // 8 % 2 * 8) % 16 == 0)
    return np.where(joint, 55, np.where(rows % 8 == 1, 118, 100))


def _plates(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    y, x = rows % 16, columns % 16
    rivet = ((y - 3) ** 2 + (x - 3) ** 2 < 3) | ((y - 12) ** 2 + (x - 12) ** 2 < 3)
    return np.where((y == 0) | (x == 0), 45, np.where((y == 1) | (x == 1), 130, np.where(rivet, 70, 100)))


def _flesh(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    bend = abs((columns % 16) - 8) + rows // 2 + 3 * (columns // 11 % 2)
    return np.where(bend % 9 < 3, 60, np.where(bend % 9 == 5, 128, 100))


def _pentagram(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    y, x = rows - 16, columns - 16
    ring = abs(y * y + x * x - 150) < 28
    inside = y * y + x * x < 150
    rays = (abs(y + 4) < 1) | (abs(3 * x - y - 12) < 3) | (abs(3 * x + y + 12) < 3)
    rays |= (abs(3 * x - 4 * y + 16) < 4) | (abs(3 * x + 4 * y - 16) < 4)
    return np.where(ring | (inside & rays), 165, np.where((rows == 0) | (columns == 0), 50, 80))


def _planks(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    gap = columns % 8 == 0
    knot = (columns % 8 - 4) ** 2 + ((rows + columns // 8 * 11) % 24 - 8) ** 2 < 5
    return np.where(gap, 50, np.where(knot, 70, 96 + columns % 8 * 2))


def _lamp(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    lamp = (abs(columns - 16) < 4) & (abs(rows - 14) < 9)
    return np.where(lamp, 190, np.where((rows % 16 == 0) | (columns % 32 < 2), 50, 90))
