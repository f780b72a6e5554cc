"""What stands around in the village and on its beach."""

import math
import random

from memevit.data.sample.brush import FURS, Brush, Mood, mix, shade

_CREAM = (252, 246, 226)


def tree(brush: Brush, rng: random.Random, colours: Mood) -> None:
    """A round tree, often with fruit."""
    brush.shape([(-0.10, 0), (0.10, 0), (0.07, 0.5), (-0.07, 0.5)], mix(colours.wall, (110, 74, 50), 60))
    leaves = shade(colours.plant, rng.randrange(90, 112))
    for x, y, r in ((-0.26, 0.56, 0.26), (0.26, 0.56, 0.26), (0, 0.80, 0.30), (0, 0.58, 0.26)):
        brush.oval(x, y - 0.03, r, r, shade(leaves, 78))
        brush.oval(x, y, r, r, leaves)
    brush.oval(-0.06, 0.88, 0.16, 0.13, shade(leaves, 118))
    if rng.random() < 0.6:
        fruit = rng.choice(((226, 60, 54), (250, 170, 60), (240, 130, 150), (236, 220, 110)))
        for x, y in ((-0.26, 0.56), (0.25, 0.52), (0.02, 0.78)):
            brush.oval(x, y, 0.075, 0.075, fruit, edge=shade(fruit, 70), thick=0.015)
            brush.oval(x - 0.02, y + 0.025, 0.02, 0.02, shade(fruit, 140))


def fir(brush: Brush, rng: random.Random, colours: Mood) -> None:
    """A pointed tree of three tiers."""
    brush.box(-0.06, 0, 0.06, 0.25, mix(colours.wall, (110, 74, 50), 60))
    for k in range(3):
        y, half = 0.18 + 0.24 * k, 0.36 - 0.09 * k
        brush.shape([(-half, y), (half, y), (0.06, y + 0.36), (-0.06, y + 0.36)], shade(colours.plant, 78 + 14 * k))


def house(brush: Brush, rng: random.Random, colours: Mood) -> None:
    """A round-edged hut with a bulging roof, a door in the middle and two round windows."""
    wall, roof = mix(colours.wall, rng.choice(FURS), 30), rng.choice((colours.accent, shade(colours.plant, 85)))
    brush.box(-0.46, 0, 0.46, 0.62, wall, round_by=0.1)
    brush.box(-0.46, 0, 0.46, 0.08, shade(wall, 75), round_by=0.03)
    brush.shape([(-0.62, 0.52), (-0.44, 0.86), (-0.2, 1.02), (0.2, 1.02), (0.44, 0.86), (0.62, 0.52)], roof)
    for k in range(3):
        brush.smile(0, 0.62 + 0.14 * k, 0.55 - 0.12 * k, -0.12, shade(roof, 80), thick=0.025)
    brush.box(0.24, 0.9, 0.36, 1.16, shade(wall, 70))
    door = rng.choice(((120, 80, 56), (84, 120, 150), (170, 70, 60)))
    brush.oval(0, 0.30, 0.14, 0.14, door)
    brush.box(-0.14, 0, 0.14, 0.30, door)
    brush.oval(0.08, 0.2, 0.02, 0.02, (250, 220, 110))
    for side in (-1, 1):
        brush.oval(side * 0.30, 0.34, 0.095, 0.095, (252, 236, 160), edge=shade(wall, 60), thick=0.03)
        brush.line([(side * 0.30, 0.25), (side * 0.30, 0.43)], shade(wall, 60), thick=0.02)


def flowers(brush: Brush, rng: random.Random, colours: Mood) -> None:
    """Three flowers of five petals."""
    for x in (-0.4, 0.0, 0.4):
        petal = rng.choice(((250, 250, 246), (240, 120, 140), (250, 210, 90), (150, 130, 220), (236, 90, 70)))
        brush.line([(x, 0), (x, 0.26)], shade(colours.plant, 85), thick=0.03)
        for k in range(5):
            turn = k * 1.2566
            brush.oval(x + 0.075 * math.cos(turn), 0.3 + 0.075 * math.sin(turn), 0.06, 0.06, petal)
        brush.oval(x, 0.3, 0.04, 0.04, (240, 180, 60))


def rock(brush: Brush, rng: random.Random, colours: Mood) -> None:
    """A stone with a lit side."""
    grey = mix(colours.wall, (150, 150, 150), 50)
    brush.shape([(-0.26, 0), (-0.22, 0.2), (-0.06, 0.34), (0.14, 0.3), (0.26, 0.12), (0.24, 0)], grey)
    brush.shape([(-0.22, 0.2), (-0.06, 0.34), (0.14, 0.3), (-0.04, 0.22)], shade(grey, 120))


def fence(brush: Brush, rng: random.Random, colours: Mood) -> None:
    """A low fence of seven boards."""
    wood = mix(colours.wall, _CREAM, 40)
    for y in (0.12, 0.26):
        brush.box(-0.6, y, 0.6, y + 0.05, shade(wood, 85))
    for k in range(-3, 4):
        brush.box(k * 0.18 - 0.05, 0, k * 0.18 + 0.05, 0.38, wood, round_by=0.05)


def palm(brush: Brush, colours: Mood) -> None:
    """A leaning palm with two nuts."""
    brush.line([(0, 0), (0.03, 0.3), (0.10, 0.56), (0.2, 0.78)], mix(colours.wall, (140, 100, 66), 60), thick=0.08)
    for reach, drop in ((-0.5, 0.12), (-0.38, -0.10), (0.5, 0.10), (0.36, -0.12), (0.05, -0.24), (0.1, 0.3)):
        tip = (0.2 + reach, 0.78 - drop)
        brush.shape(
            [(0.2, 0.82), (0.2 + reach / 2, 0.92 - drop / 3), tip, (0.2 + reach / 2, 0.80 - drop / 2)], colours.plant
        )
    for x in (0.14, 0.24):
        brush.oval(x, 0.74, 0.05, 0.05, (120, 80, 50))


def shell(brush: Brush, rng: random.Random) -> None:
    """A fan-shaped shell."""
    colour = rng.choice(((250, 200, 190), (240, 230, 210), (220, 180, 220), (250, 150, 110)))
    brush.shape([(-0.1, 0), (-0.6, 0.6), (-0.2, 0.9), (0.2, 0.9), (0.6, 0.6), (0.1, 0)], colour)
    for x in (-0.3, 0, 0.3):
        brush.line([(0, 0.05), (x, 0.8)], shade(colour, 78), thick=0.06)


def window(brush: Brush, rng: random.Random) -> None:
    """A window with a cross of bars."""
    brush.box(-0.5, 0, 0.5, 1, _CREAM, round_by=0.08)
    brush.box(-0.42, 0.08, 0.42, 0.92, rng.choice(((150, 206, 240), (30, 36, 80), (250, 180, 120))))
    brush.line([(0, 0), (0, 1)], _CREAM, thick=0.06)
    brush.line([(-0.5, 0.5), (0.5, 0.5)], _CREAM, thick=0.06)
