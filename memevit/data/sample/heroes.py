"""Heroes with long hair and capes, in flat light and shadow. All of them are our own; no character is copied."""

import math
import random

from memevit.data.sample.brush import Brush, Colour, mix, shade

NAMES = ("Aurelle", "Kaien", "Sorrel", "Mirai", "Tavi", "Noelani", "Rook", "Isolde")
ELEMENTS: tuple[Colour, ...] = (
    *((226, 90, 60), (80, 160, 240), (100, 206, 176), (180, 120, 226), (140, 200, 80), (160, 216, 236), (228, 180, 70)),
)
_SKIN, _LINE = (252, 226, 206), (70, 56, 72)
_HAIRS: tuple[Colour, ...] = (
    *((246, 220, 130), (150, 90, 60), (110, 150, 220), (230, 110, 90), (240, 240, 250), (90, 70, 130), (240, 160, 190)),
)
_CLOTHES: tuple[tuple[Colour, Colour], ...] = (
    *(((250, 246, 236), (90, 130, 200)), ((70, 70, 96), (220, 180, 90)), ((150, 60, 60), (240, 220, 180))),
    *(((80, 140, 110), (245, 240, 220)), ((236, 200, 120), (120, 70, 60)), ((110, 90, 160), (236, 226, 250))),
)


def hero(brush: Brush, rng: random.Random) -> None:
    """Somebody one unit tall: cape, long hair, coat, large eyes."""
    hair, (cloth, trim) = rng.choice(_HAIRS), rng.choice(_CLOTHES)
    sway = rng.uniform(-0.14, 0.14)
    cape = [
        (-0.08, 0.74),
        (0.08, 0.74),
        (0.22 + sway, 0.22),
        (0.08 + sway, 0.28),
        (-0.05 + sway, 0.18),
        (-0.2 + sway, 0.26),
    ]
    brush.shape(cape, trim, edge=shade(trim, 55))
    brush.shape([cape[0], cape[1], cape[3], cape[4]], shade(trim, 80))
    _back_hair(brush, rng, hair, sway)
    for side in (-1, 1):
        brush.shape([(side * 0.015, 0.42), (side * 0.085, 0.42), (side * 0.075, 0.12), (side * 0.03, 0.12)], _SKIN)
        brush.shape([(side * 0.02, 0.2), (side * 0.085, 0.2), (side * 0.09, 0), (side * 0.02, 0)], shade(trim, 70))
    _arms(brush, rng, cloth, trim)
    brush.shape([(-0.075, 0.75), (0.075, 0.75), (0.06, 0.55), (0.15, 0.33), (-0.15, 0.33), (-0.06, 0.55)], cloth,
                edge=shade(cloth, 55))  # fmt: skip
    brush.shape([(0.0, 0.75), (0.075, 0.75), (0.06, 0.55), (0.15, 0.33), (0.03, 0.33)], shade(cloth, 84))
    brush.line([(-0.15, 0.345), (0.15, 0.345)], trim, thick=0.02)
    brush.line([(-0.06, 0.55), (0.06, 0.55)], trim, thick=0.03)
    brush.shape([(0, 0.72), (-0.03, 0.66), (0, 0.62), (0.03, 0.66)], rng.choice(ELEMENTS))
    _head(brush, rng, hair, rng.choice(ELEMENTS))


def _back_hair(brush: Brush, rng: random.Random, hair: Colour, sway: float) -> None:
    length = rng.choice((0.62, 0.45, 0.32))
    if rng.random() < 0.3:  # Two tails.
        for side in (-1, 1):
            end = side * 0.16 + sway
            tail = [(side * 0.08, 0.92), (side * 0.2, 0.9), (end + side * 0.1, length), (end, length + 0.1)]
            brush.shape(tail, hair, edge=shade(hair, 60))
        return
    points = [(-0.12, 0.9), (0.12, 0.9), (0.15 + sway / 2, length + 0.1), (0.09 + sway, length)]
    points += [(0.03 + sway, length + 0.06), (-0.04 + sway, length - 0.03), (-0.14 + sway / 2, length + 0.08)]
    brush.shape(points, shade(hair, 85), edge=shade(hair, 60))


def _arms(brush: Brush, rng: random.Random, cloth: Colour, trim: Colour) -> None:
    for side in (-1, 1):
        up = rng.random() < 0.25
        hand = (side * 0.2, 0.86) if up else (side * 0.17, 0.47)
        elbow = (side * 0.16, 0.66)
        brush.line([(side * 0.06, 0.72), elbow, hand], shade(cloth, 92), thick=0.05)
        brush.oval(*hand, 0.025, 0.025, _SKIN)
        if side == 1 and rng.random() < 0.5:
            tip = (hand[0] + 0.14, hand[1] + 0.42)
            brush.line([hand, tip], (214, 224, 236), thick=0.026)
            brush.line([(hand[0] - 0.05, hand[1] + 0.07), (hand[0] + 0.09, hand[1] + 0.03)], trim, thick=0.025)


def _head(brush: Brush, rng: random.Random, hair: Colour, eye: Colour) -> None:
    """An animated-film face: pointed chin, large eyes, hair in strands with a band of light."""
    edge = shade(hair, 60)
    brush.box(-0.02, 0.73, 0.02, 0.8, shade(_SKIN, 85))
    brush.oval(0, 0.885, 0.115, 0.115, hair, edge=edge, thick=0.008)
    brush.shape([(-0.09, 0.90), (0.09, 0.90), (0.08, 0.82), (0.025, 0.765), (-0.025, 0.765), (-0.08, 0.82)], _SKIN)
    for side in (-1, 1):
        x = side * 0.043
        brush.oval(x, 0.842, 0.022, 0.029, (255, 255, 255))
        brush.oval(x, 0.840, 0.017, 0.026, shade(eye, 75))
        brush.oval(x, 0.830, 0.011, 0.013, mix(eye, (255, 255, 255), 40))
        brush.oval(x - 0.006, 0.852, 0.006, 0.007, (255, 255, 255))
        brush.smile(x, 0.848, 0.025, -0.026, _LINE, thick=0.009)
    mouth = rng.random()
    if mouth < 0.3:
        brush.oval(0, 0.792, 0.014, 0.012, (190, 80, 80))
    else:
        brush.smile(0, 0.796, 0.016, 0.010 if mouth < 0.8 else -0.010, (170, 90, 90), thick=0.006)
    for k in range(-2, 3):
        x = k * 0.042
        brush.shape([(x - 0.036, 0.95), (x + 0.036, 0.95), (x + 0.01 * (k % 2), 0.855 + 0.008 * abs(k))], hair)
    for side in (-1, 1):
        brush.shape([(side * 0.07, 0.95), (side * 0.118, 0.92), (side * 0.105, 0.74), (side * 0.085, 0.80)], hair)
    brush.smile(0, 0.90, 0.08, -0.07, mix(hair, (255, 255, 255), 55), thick=0.012)
    ornament = rng.randrange(3)
    if ornament == 0:
        star(brush.at(0.09, 0.95, 0.07), (255, 220, 110))
    elif ornament == 1:
        for side in (-1, 1):
            brush.shape([(side * 0.04, 0.98), (side * 0.10, 0.95), (side * 0.11, 1.06)], hair, edge=edge)


def glider(brush: Brush, rng: random.Random) -> None:
    """Wings of cloth with ribs, and somebody below them."""
    colour, rib = rng.choice(ELEMENTS), (236, 214, 160)
    for side in (-1, 1):
        wing = [(0, 1.0), (side * 0.42, 1.16), (side * 0.95, 1.0), (side * 0.72, 0.94), (side * 0.5, 0.98)]
        wing += [(side * 0.32, 0.88), (side * 0.12, 0.9)]
        brush.shape(wing, colour if side < 0 else shade(colour, 84), edge=shade(colour, 55))
        for corner in wing[3:6]:
            brush.line([(0, 1.0), corner], rib, thick=0.014)
        brush.line([wing[0], wing[1], wing[2]], rib, thick=0.03)
        brush.line([(side * 0.1, 0.62), (side * 0.22, 0.95)], rib, thick=0.012)
    hero(brush.at(0, 0.05, 0.85), rng)


def companion(brush: Brush, rng: random.Random) -> None:
    """A small floating spirit with a crown of light."""
    glow = rng.choice(ELEMENTS)
    brush.oval(0, 0.95, 0.34, 0.08, None, edge=mix(glow, (255, 255, 255), 50), thick=0.06)
    brush.shape([(-0.3, 0.4), (0.3, 0.4), (0.5, -0.2), (0.1, 0.0), (-0.1, -0.25), (-0.25, 0.0), (-0.5, -0.1)], glow)
    brush.oval(0, 0.5, 0.34, 0.32, mix(glow, (255, 255, 255), 75))
    for side in (-1, 1):
        brush.oval(side * 0.13, 0.48, 0.05, 0.09, _LINE)
        brush.oval(side * 0.14, 0.52, 0.02, 0.03, (255, 255, 255))


def slime(brush: Brush, rng: random.Random) -> None:
    """A drop of an element with a face."""
    colour = rng.choice(ELEMENTS)
    brush.shape([(-0.5, 0), (-0.58, 0.3), (-0.3, 0.72), (0, 0.9), (0.3, 0.72), (0.58, 0.3), (0.5, 0)], colour,
                edge=shade(colour, 55))  # fmt: skip
    brush.oval(-0.18, 0.56, 0.15, 0.12, mix(colour, (255, 255, 255), 60))
    for side in (-1, 1):
        brush.shape([(side * 0.10, 0.30), (side * 0.32, 0.40), (side * 0.26, 0.22)], (255, 255, 255))
    for k in range(3):
        brush.shape([(-0.1 + 0.1 * k, 0.86), (0.0 + 0.1 * k, 0.84), (-0.12 + 0.14 * k, 1.12)], shade(colour, 80))


def star(brush: Brush, colour: Colour) -> None:
    """Four long points and four short ones."""
    points = []
    for k in range(16):
        reach = (1.0, 0.25, 0.45, 0.25)[k % 4] * 0.55
        points.append((reach * math.sin(k * math.pi / 8), reach * math.cos(k * math.pi / 8)))
    brush.shape(points, colour)


def emblem(brush: Brush, kind: int, colour: Colour) -> None:
    """The sign of an element: a drop, a flame, a spiral, a crystal or a leaf."""
    light = mix(colour, (255, 255, 255), 35)
    kind %= 5
    if kind == 0:
        brush.shape([(0, 0.7), (0.4, -0.1), (0.2, -0.5), (-0.2, -0.5), (-0.4, -0.1)], light)
    elif kind == 1:
        brush.shape([(-0.1, 0.75), (0.35, 0.1), (0.3, -0.4), (0, -0.1), (-0.3, -0.4), (-0.4, 0.1)], light)
    elif kind == 2:
        for r in (0.6, 0.35):
            brush.oval(0, 0, r, r, None, edge=light, thick=0.14)
    elif kind == 3:
        brush.shape([(0, 0.7), (0.5, 0), (0, -0.7), (-0.5, 0)], light)
        brush.shape([(0, 0.7), (0.5, 0), (0, -0.7)], colour)
    else:
        brush.shape([(-0.5, -0.5), (-0.4, 0.3), (0.5, 0.6), (0.3, -0.3)], light)
        brush.line([(-0.5, -0.5), (0.4, 0.5)], colour, thick=0.12)
