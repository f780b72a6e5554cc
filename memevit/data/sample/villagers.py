"""Who lives in the village and what they own. All of it is our own; no character of any game is copied."""

import random

from memevit.data.sample.brush import FURS, Brush, Colour, Mood, mix, shade

NAMES = ("Pebble", "Mochi", "Bruno", "Tilda", "Waffle", "Olive", "Gus", "Fern", "Biscuit", "Otto")
_INK = (40, 30, 32)
_CREAM = (252, 246, 226)
_CLOTHS: tuple[Colour, ...] = (
    *(
        (90, 140, 200),
        (220, 100, 110),
        (250, 210, 110),
        (120, 180, 120),
        (160, 120, 190),
        (90, 84, 96),
        (240, 240, 236),
    ),
)


def villager(brush: Brush, rng: random.Random) -> None:
    """An animal with a large round head on a small body, one unit tall."""
    fur, cloth = shade(rng.choice(FURS), rng.randrange(92, 108)), rng.choice(_CLOTHS)
    kind = rng.choice(("cat", "bear", "rabbit", "dog", "bird", "frog"))
    brush.oval(0, 0.0, 0.26, 0.04, shade(mix(fur, (70, 90, 60), 60), 60))
    for side in (-1, 1):
        brush.oval(side * 0.10, 0.04, 0.075, 0.045, shade(fur, 82))
        brush.oval(side * 0.21, 0.24, 0.055, 0.10, fur)
        if rng.random() < 0.2:
            brush.oval(side * 0.21, 0.24, 0.055, 0.10, shade(cloth, 90))
    brush.shape([(-0.12, 0.42), (0.12, 0.42), (0.20, 0.08), (-0.20, 0.08)], cloth)
    if rng.random() < 0.5:
        for y in (0.16, 0.27):
            brush.box(-0.175 + y / 8, y, 0.175 - y / 8, y + 0.045, shade(cloth, 75))
    _ears(brush, kind, fur)
    brush.oval(0, 0.62, 0.32, 0.28, fur)
    _face(brush, rng, kind, fur)
    if rng.random() < 0.25:
        _hat(brush, rng)
    if rng.random() < 0.3:
        _tool(brush, rng)


def _ears(brush: Brush, kind: str, fur: Colour) -> None:
    inner = mix(fur, (250, 170, 170), 55)
    for side in (-1, 1):
        if kind == "cat":
            brush.shape([(side * 0.06, 0.86), (side * 0.30, 0.70), (side * 0.27, 1.0)], fur)
            brush.shape([(side * 0.13, 0.84), (side * 0.26, 0.76), (side * 0.245, 0.93)], inner)
        elif kind == "bear":
            brush.oval(side * 0.22, 0.85, 0.11, 0.11, fur)
            brush.oval(side * 0.22, 0.85, 0.06, 0.06, inner)
        elif kind == "rabbit":
            brush.oval(side * 0.13, 1.02, 0.075, 0.22, fur)
            brush.oval(side * 0.13, 1.02, 0.035, 0.16, inner)
        elif kind == "dog":
            brush.oval(side * 0.30, 0.64, 0.09, 0.18, shade(fur, 72))
        elif kind == "frog":
            brush.oval(side * 0.17, 0.86, 0.11, 0.11, fur)


def _face(brush: Brush, rng: random.Random, kind: str, fur: Colour) -> None:
    """Large eyes, pink cheeks and a small mouth; angry, sleepy or glad."""
    if kind in ("cat", "bear", "dog"):
        brush.oval(0, 0.52, 0.15, 0.11, mix(fur, (255, 255, 255), 55))
    look = rng.choice(("wide", "wide", "wide", "sleepy", "angry", "glad"))
    high = 0.86 if kind == "frog" else 0.66
    for side in (-1, 1):
        x = side * (0.17 if kind == "frog" else 0.135)
        brush.oval(side * 0.22, 0.53, 0.055, 0.035, mix(fur, (250, 120, 120), 50))
        if look == "glad":
            brush.smile(x, high - 0.02, 0.06, -0.07, _INK, thick=0.025)
            continue
        brush.oval(x, high, 0.065, 0.085, (255, 255, 255), edge=_INK, thick=0.012)
        brush.oval(x, high - 0.01, 0.048, 0.065, _INK)
        brush.oval(x + 0.018, high + 0.025, 0.018, 0.022, (255, 255, 255))
        if look == "sleepy":
            brush.box(x - 0.07, high + 0.01, x + 0.07, high + 0.09, shade(fur, 88))
        elif look == "angry":
            brush.line([(x - side * 0.07, high + 0.06), (x + side * 0.07, high + 0.13)], _INK, thick=0.03)
    if kind == "bird":
        beak = (246, 176, 60)
        brush.shape([(-0.09, 0.57), (0.09, 0.57), (0, 0.43)], beak)
        brush.line([(-0.07, 0.53), (0.07, 0.53)], shade(beak, 70), thick=0.012)
        return
    brush.oval(0, 0.565, 0.035, 0.024, _INK if kind != "rabbit" else (236, 130, 140))
    if rng.random() < 0.25:
        brush.oval(0, 0.49, 0.05, 0.04, (150, 50, 56))
    else:
        brush.smile(0, 0.53, 0.06, 0.055, _INK, thick=0.018)


def _hat(brush: Brush, rng: random.Random) -> None:
    colour = rng.choice(_CLOTHS)
    if rng.random() < 0.5:
        brush.oval(0, 0.86, 0.30, 0.06, shade(colour, 80))
        brush.box(-0.16, 0.86, 0.16, 1.04, colour, round_by=0.08)
    else:
        for k in range(-2, 3):
            brush.oval(k * 0.10, 0.88 - abs(k) * 0.025, 0.06, 0.06, rng.choice(_CLOTHS))


def _tool(brush: Brush, rng: random.Random) -> None:
    """A net, a rod, an axe or a shovel in the right hand."""
    brush.line([(0.24, 0.12), (0.40, 0.80)], (150, 104, 66), thick=0.03)
    kind = rng.randrange(4)
    if kind == 0:
        brush.oval(0.44, 0.92, 0.12, 0.14, (236, 240, 244), edge=(90, 150, 90), thick=0.025)
    elif kind == 1:
        brush.line([(0.40, 0.80), (0.56, 0.60), (0.56, 0.2)], (240, 240, 240), thick=0.012)
        brush.oval(0.56, 0.18, 0.03, 0.04, (230, 60, 60))
    elif kind == 2:
        brush.shape([(0.36, 0.86), (0.56, 0.84), (0.54, 0.62), (0.37, 0.70)], (176, 184, 192))
    else:
        brush.shape([(0.34, 0.80), (0.50, 0.76), (0.52, 1.0), (0.42, 1.06)], (160, 168, 176))


def _bed(brush: Brush, rng: random.Random, colours: Mood) -> None:
    cloth = rng.choice(_CLOTHS)
    brush.box(-0.55, 0, 0.55, 0.34, mix(colours.wall, (130, 90, 60), 60), round_by=0.06)
    brush.box(-0.55, 0, -0.45, 0.7, mix(colours.wall, (130, 90, 60), 75), round_by=0.05)
    brush.box(-0.45, 0.16, 0.55, 0.46, cloth, round_by=0.1)
    brush.box(-0.44, 0.34, -0.14, 0.56, (250, 248, 240), round_by=0.09)


def _sofa(brush: Brush, rng: random.Random, colours: Mood) -> None:
    cloth = rng.choice(_CLOTHS)
    brush.box(-0.5, 0.1, 0.5, 0.75, shade(cloth, 86), round_by=0.14)
    brush.box(-0.44, 0.14, 0.44, 0.40, cloth, round_by=0.08)
    for side in (-1, 1):
        brush.box(side * 0.6, 0.05, side * 0.42, 0.52, shade(cloth, 94), round_by=0.08)


def _lamp(brush: Brush, rng: random.Random, colours: Mood) -> None:
    brush.line([(0, 0), (0, 0.8)], (120, 90, 64), thick=0.05)
    brush.oval(0, 0.02, 0.16, 0.04, (120, 90, 64))
    brush.shape([(-0.26, 0.66), (0.26, 0.66), (0.15, 1.0), (-0.15, 1.0)], (250, 226, 150))


def _plant(brush: Brush, rng: random.Random, colours: Mood) -> None:
    for x in (-0.3, -0.15, 0, 0.15, 0.3):
        brush.shape([(0, 0.3), (x - 0.05, 0.62), (x * 1.5, 0.95 - abs(x)), (x + 0.06, 0.6)], (84, 150, 84))
    brush.shape([(-0.2, 0.34), (0.2, 0.34), (0.14, 0), (-0.14, 0)], (200, 110, 76))


def _table(brush: Brush, rng: random.Random, colours: Mood) -> None:
    wood = mix(colours.wall, (150, 106, 70), 70)
    for x in (-0.36, 0.3):
        brush.box(x, 0, x + 0.07, 0.4, shade(wood, 75))
    brush.oval(0, 0.42, 0.5, 0.12, wood)
    item(brush.at(0, 0.44, 0.36), rng)


def _shelf(brush: Brush, rng: random.Random, colours: Mood) -> None:
    wood = mix(colours.wall, (140, 96, 64), 70)
    brush.box(-0.42, 0, 0.42, 1.1, wood, round_by=0.04)
    for y in (0.1, 0.6):
        brush.box(-0.36, y, 0.36, y + 0.4, shade(wood, 55))
        for k in range(6):
            brush.box(-0.34 + 0.11 * k, y, -0.25 + 0.11 * k, y + rng.uniform(0.22, 0.36), rng.choice(_CLOTHS))


def _television(brush: Brush, rng: random.Random, colours: Mood) -> None:
    brush.box(-0.42, 0.1, 0.42, 0.78, rng.choice(_CLOTHS), round_by=0.14)
    brush.box(-0.34, 0.2, 0.2, 0.68, (60, 76, 84), round_by=0.1)
    brush.shape([(-0.28, 0.5), (-0.16, 0.62), (-0.08, 0.62), (-0.28, 0.4)], (150, 176, 186))
    for y in (0.54, 0.38):
        brush.oval(0.3, y, 0.05, 0.05, _CREAM)
    for side in (-1, 1):
        brush.line([(0, 0.78), (side * 0.2, 1.05)], _INK, thick=0.025)


FURNITURE = (_bed, _sofa, _lamp, _plant, _table, _shelf, _television)


def item(brush: Brush, rng: random.Random) -> None:
    """Something to carry: a fruit, a fish, a bag of bells, a leaf, a fossil or a mushroom."""
    rng.choice((_fruit, _fish, _bell_bag, _leaf, _fossil, _mushroom))(brush, rng)


def _fruit(brush: Brush, rng: random.Random) -> None:
    colour = rng.choice(((226, 60, 54), (250, 170, 60), (240, 140, 160)))
    brush.oval(0, 0.4, 0.38, 0.38, colour)
    brush.shape([(0, 0.76), (0.3, 1.0), (0.12, 0.74)], (90, 160, 80))
    brush.oval(-0.12, 0.52, 0.09, 0.09, shade(colour, 140))


def _fish(brush: Brush, rng: random.Random) -> None:
    colour = rng.choice(((90, 140, 190), (210, 110, 80), (130, 140, 120)))
    brush.shape([(0.2, 0.4), (0.56, 0.64), (0.56, 0.16)], shade(colour, 82))
    brush.oval(-0.06, 0.4, 0.40, 0.22, colour)
    brush.oval(-0.28, 0.45, 0.05, 0.05, _INK)


def _bell_bag(brush: Brush, rng: random.Random) -> None:
    brush.oval(0, 0.34, 0.40, 0.34, (226, 196, 130))
    brush.shape([(-0.18, 0.86), (0.18, 0.86), (0.1, 0.6), (-0.1, 0.6)], (206, 170, 100))
    brush.oval(0, 0.34, 0.18, 0.18, (250, 214, 70), edge=(190, 140, 40), thick=0.05)


def _leaf(brush: Brush, rng: random.Random) -> None:
    brush.shape([(0, 0), (-0.36, 0.36), (-0.2, 0.76), (0.1, 0.86), (0.38, 0.5), (0.2, 0.14)], (110, 180, 90))
    brush.line([(0, 0), (0.06, 0.7)], (70, 130, 60), thick=0.06)


def _fossil(brush: Brush, rng: random.Random) -> None:
    brush.oval(0, 0.4, 0.40, 0.40, (196, 176, 140))
    for r in (0.28, 0.17, 0.07):
        brush.oval(0.03, 0.38, r, r, None, edge=(130, 104, 76), thick=0.06)


def _mushroom(brush: Brush, rng: random.Random) -> None:
    brush.box(-0.12, 0, 0.12, 0.44, _CREAM, round_by=0.08)
    brush.shape([(-0.44, 0.38), (-0.3, 0.7), (0, 0.84), (0.3, 0.7), (0.44, 0.38)], (214, 80, 64))
    for x in (-0.18, 0.16):
        brush.oval(x, 0.58, 0.08, 0.07, _CREAM)


def skeleton(brush: Brush, rng: random.Random) -> None:
    """A friendly dinosaur in bones, one unit tall."""
    bone = (236, 228, 206)
    brush.line([(-0.75, 0.30), (-0.45, 0.40), (-0.1, 0.5), (0.2, 0.52), (0.42, 0.74), (0.5, 0.9)], bone, thick=0.05)
    for k in range(6):
        x = -0.16 + 0.07 * k
        brush.smile(x, 0.38, 0.06, -0.16, bone, thick=0.025)
        brush.line([(x - 0.05, 0.36), (x - 0.02, 0.22)], bone, thick=0.025)
    for x in (-0.22, -0.12, 0.20, 0.28):
        brush.line([(x, 0.44), (x + 0.05, 0.22), (x - 0.02, 0.0)], bone, thick=0.045)
    brush.shape([(0.42, 0.98), (0.56, 1.04), (0.84, 0.90), (0.84, 0.84), (0.46, 0.84)], bone)
    brush.shape([(0.48, 0.80), (0.80, 0.80), (0.78, 0.76), (0.50, 0.74)], bone)
    brush.oval(0.56, 0.94, 0.035, 0.035, _INK)
