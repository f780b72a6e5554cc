"""Who and what is met in the maze. All of it is our own; no creature of any game is copied."""

import math
import random

from PIL import Image

from memevit.data.sample.brush import Brush, Colour, Mood, Size, gradient, mix, on, shade

_BONE = (232, 220, 190)
_DARK = (30, 10, 12)
_HIDES: tuple[Colour, ...] = (
    *((150, 96, 62), (168, 60, 48), (112, 120, 84), (128, 116, 124), (196, 150, 110), (92, 92, 140), (214, 130, 140)),
    *((84, 130, 90),),
)


def demon(brush: Brush, rng: random.Random, colours: Mood) -> None:
    """A horned brute, a burning skull, a winged maw or a boar."""
    hide = mix(rng.choice(_HIDES), colours.haze, 15)
    eye = rng.choice(((255, 232, 64), (255, 64, 32), (140, 255, 120), (250, 250, 250)))
    rng.choice((_brute, _brute, _brute, _burning_skull, _winged_maw, _boar))(brush, rng, hide, eye)


def _brute(brush: Brush, rng: random.Random, hide: Colour, eye: Colour) -> None:
    dark = shade(hide, 60)
    lift = rng.uniform(0.0, 0.2)
    for side in (-1, 1):
        brush.shape([(side * 0.04, 0.32), (side * 0.26, 0.32), (side * 0.22, 0), (side * 0.07, 0)], dark)
        brush.shape([(side * 0.05, 0), (side * 0.30, 0), (side * 0.20, 0.06)], _DARK)
        hand = 0.34 + lift * (1 + side)
        brush.shape([(side * 0.24, 0.74), (side * 0.33, 0.66), (side * 0.42, hand), (side * 0.32, hand)], hide)
        for claw in range(3):
            x = side * (0.33 + 0.04 * claw)
            brush.shape([(x - 0.015, hand), (x + 0.02, hand), (x, hand - 0.08)], _BONE)
        if rng.random() < 0.5:
            brush.shape([(side * 0.2, 0.78), (side * 0.38, 0.92), (side * 0.28, 0.70)], _BONE)
    brush.shape([(-0.30, 0.74), (0.30, 0.74), (0.20, 0.28), (-0.20, 0.28)], hide)
    brush.shape([(-0.12, 0.70), (0.12, 0.70), (0.08, 0.34), (-0.08, 0.34)], shade(hide, 120))
    for rib in range(3):
        brush.line([(-0.10, 0.62 - 0.1 * rib), (0.10, 0.62 - 0.1 * rib)], dark, thick=0.015)
    _horned_head(brush.at(0, 0.70, 0.34), hide, eye, rng.uniform(0.1, 0.5))


def _horned_head(brush: Brush, hide: Colour, eye: Colour, spread: float) -> None:
    """A head one unit high with its chin at the foot."""
    for side in (-1, 1):
        tip = (side * (0.55 + spread), 1.25)
        brush.shape([(side * 0.20, 0.80), (side * 0.48, 0.62), (side * (0.62 + spread / 2), 0.95), tip], _BONE)
    brush.shape([(-0.46, 0.74), (-0.24, 0.96), (0.24, 0.96), (0.46, 0.74), (0.36, 0.10), (-0.36, 0.10)], hide)
    brush.shape([(-0.46, 0.74), (0.0, 0.58), (0.46, 0.74), (0.40, 0.56), (0.0, 0.48), (-0.40, 0.56)], shade(hide, 55))
    for side in (-1, 1):
        brush.shape([(side * 0.10, 0.50), (side * 0.36, 0.62), (side * 0.30, 0.46)], eye)
    brush.shape([(-0.06, 0.44), (0.06, 0.44), (0.10, 0.36), (-0.10, 0.36)], shade(hide, 45))
    _jaws(brush, 0.32, 0.30, 0.22)


def _jaws(brush: Brush, half: float, top: float, deep: float) -> None:
    brush.box(-half, top - deep, half, top, (56, 8, 12))
    n_teeth = 5
    for tooth in range(n_teeth):
        left = -half + 2 * half * tooth / n_teeth
        right = left + 2 * half / n_teeth
        brush.shape([(left, top), (right, top), ((left + right) / 2, top - deep * 0.55)], _BONE)
        brush.shape([(left, top - deep), (right, top - deep), ((left + right) / 2, top - deep * 0.5)], _BONE)


def _burning_skull(brush: Brush, rng: random.Random, hide: Colour, eye: Colour) -> None:
    fire = rng.choice(((255, 150, 40), (110, 200, 255), (150, 240, 90)))
    for colour, size in ((shade(fire, 70), 0.36), (fire, 0.30), (mix(fire, (255, 255, 220), 60), 0.24)):
        points = []
        for k in range(18):
            reach = size * (1.0 if k % 2 else rng.uniform(1.15, 1.7))
            points.append((reach * math.cos(k * 0.349), 0.58 + reach * math.sin(k * 0.349)))
        brush.shape(points, colour)
    brush.oval(0, 0.62, 0.21, 0.20, _BONE)
    brush.box(-0.13, 0.36, 0.13, 0.5, shade(_BONE, 88))
    for side in (-1, 1):
        brush.oval(side * 0.09, 0.60, 0.065, 0.075, _DARK)
        brush.oval(side * 0.09, 0.60, 0.02, 0.02, eye)
    brush.shape([(0, 0.55), (-0.03, 0.49), (0.03, 0.49)], _DARK)
    for tooth in range(-2, 3):
        brush.line([(tooth * 0.05, 0.37), (tooth * 0.05, 0.45)], _DARK, thick=0.015)


def _winged_maw(brush: Brush, rng: random.Random, hide: Colour, eye: Colour) -> None:
    up = rng.uniform(0.75, 1.0)
    for side in (-1, 1):
        wing = [(side * 0.2, 0.6), (side * 0.7, up), (side * 0.62, 0.55), (side * 0.48, 0.62), (side * 0.42, 0.42)]
        brush.shape(wing, shade(hide, 60))
        brush.line(wing[:2], _DARK, thick=0.02)
    brush.oval(0, 0.55, 0.31, 0.30, hide)
    brush.oval(-0.06, 0.62, 0.20, 0.18, shade(hide, 116))
    for side in (-1, 1):
        brush.shape([(side * 0.12, 0.82), (side * 0.22, 0.76), (side * 0.26, 0.98)], _BONE)
        brush.oval(side * 0.12, 0.66, 0.06, 0.06, eye)
        brush.oval(side * 0.11, 0.65, 0.02, 0.045, _DARK)
    _jaws(brush, 0.22, 0.54, 0.2)


def _boar(brush: Brush, rng: random.Random, hide: Colour, eye: Colour) -> None:
    dark = shade(hide, 60)
    for x in (-0.30, -0.14, 0.14, 0.30):
        brush.box(x - 0.06, 0, x + 0.06, 0.30, dark)
    brush.oval(0, 0.42, 0.40, 0.26, hide)
    for spike in range(-3, 4):
        x, y = spike * 0.11, 0.66 - abs(spike) * 0.03
        brush.shape([(x - 0.05, y - 0.03), (x + 0.05, y - 0.03), (x, y + 0.14)], _BONE)
    brush.oval(0, 0.36, 0.24, 0.22, shade(hide, 112))
    _jaws(brush, 0.18, 0.32, 0.16)
    for side in (-1, 1):
        brush.shape([(side * 0.16, 0.30), (side * 0.24, 0.28), (side * 0.26, 0.46)], _BONE)
        brush.shape([(side * 0.05, 0.44), (side * 0.17, 0.50), (side * 0.14, 0.42)], eye)


def pickup(brush: Brush, rng: random.Random) -> None:
    """A barrel, a box with a cross, a key or a skull on a pole."""
    kind = rng.randrange(4)
    if kind == 0:
        brush.box(-0.22, 0, 0.22, 0.7, (96, 104, 84), round_by=0.06)
        for y in (0.15, 0.5):
            brush.box(-0.22, y, 0.22, y + 0.06, (60, 66, 52))
        brush.oval(0, 0.68, 0.2, 0.06, (120, 210, 60))
    elif kind == 1:
        brush.box(-0.3, 0, 0.3, 0.36, (226, 226, 220))
        brush.box(-0.05, 0.06, 0.05, 0.30, (206, 40, 40))
        brush.box(-0.14, 0.13, 0.14, 0.23, (206, 40, 40))
    elif kind == 2:
        colour = rng.choice(((220, 40, 40), (60, 110, 240), (240, 210, 60)))
        brush.oval(0, 0.5, 0.14, 0.14, None, edge=colour, thick=0.07)
        brush.box(-0.03, 0, 0.03, 0.38, colour)
        brush.box(0, 0.02, 0.13, 0.08, colour)
    else:
        brush.box(-0.03, 0, 0.03, 1.0, (96, 70, 50))
        brush.oval(0, 1.05, 0.17, 0.17, _BONE)
        for side in (-1, 1):
            brush.oval(side * 0.07, 1.05, 0.04, 0.05, _DARK)


def pillar(brush: Brush, rng: random.Random, colour: Colour) -> None:
    """A column of stone with a fire or a skull on it."""
    brush.box(-0.16, 0, 0.16, 1.0, shade(colour, 80))
    brush.box(-0.16, 0, -0.06, 1.0, shade(colour, 105))
    for y in (0.0, 0.92):
        brush.box(-0.22, y, 0.22, y + 0.1, shade(colour, 62))
    if rng.random() < 0.5:
        brush.shape([(-0.14, 1.02), (-0.08, 1.25), (0, 1.12), (0.05, 1.4), (0.14, 1.02)], (250, 150, 50))
    else:
        brush.oval(0, 1.14, 0.13, 0.13, _BONE)
        for side in (-1, 1):
            brush.oval(side * 0.05, 1.14, 0.035, 0.045, _DARK)


def floor_pentagram(brush: Brush, rng: random.Random) -> None:
    """A star in a circle, lying on the ground."""
    glow = rng.choice(((255, 60, 30), (255, 170, 60), (110, 255, 120), (110, 190, 255)))
    brush.oval(0, 0, 1.0, 0.36, None, edge=glow, thick=0.05)
    tips = [(0.95 * math.sin(k * 2.513), 0.34 * math.cos(k * 2.513)) for k in range(6)]
    brush.line(tips, glow, thick=0.05)


def weapon(brush: Brush, rng: random.Random, metal: Colour) -> None:
    """Two barrels, one fat barrel or a saw, held up from the lower edge."""
    light, dark, glove = shade(metal, 130), shade(metal, 55), rng.choice(((120, 84, 60), (70, 96, 66), (60, 60, 66)))
    kind = rng.randrange(3)
    if rng.random() < 0.25 and kind < 2:
        points = [
            (math.cos(k * 0.449) * (0.34 if k % 2 else 0.16), 0.9 + math.sin(k * 0.449) * (0.34 if k % 2 else 0.16))
            for k in range(14)
        ]
        brush.shape(points, (255, 214, 90))
        brush.oval(0, 0.9, 0.13, 0.13, (255, 250, 220))
    if kind == 0:
        for side in (-1, 1):
            brush.shape([(side * 0.01, 0.86), (side * 0.13, 0.86), (side * 0.26, 0), (side * 0.01, 0)], metal)
            brush.line([(side * 0.05, 0.84), (side * 0.09, 0)], light, thick=0.04)
            brush.oval(side * 0.07, 0.86, 0.06, 0.05, dark)
    elif kind == 1:
        brush.shape([(-0.20, 0.72), (0.20, 0.72), (0.40, 0), (-0.40, 0)], metal)
        brush.shape([(-0.20, 0.72), (-0.08, 0.72), (-0.16, 0), (-0.40, 0)], light)
        brush.oval(0, 0.72, 0.20, 0.13, dark)
        brush.oval(0, 0.72, 0.12, 0.08, rng.choice(((20, 20, 24), (90, 230, 110), (110, 170, 255))))
    else:
        brush.shape([(-0.12, 0.95), (0.12, 0.95), (0.16, 0.3), (-0.16, 0.3)], light)
        for tooth in range(6):
            for side in (-1, 1):
                y = 0.35 + 0.1 * tooth
                brush.shape([(side * 0.13, y), (side * 0.13, y + 0.08), (side * 0.21, y + 0.05)], dark)
        brush.box(-0.34, 0, 0.34, 0.34, rng.choice(((206, 120, 40), (170, 50, 40), metal)))
    brush.oval(-0.34, 0.06, 0.18, 0.2, glove)
    brush.oval(0.34, 0.02, 0.18, 0.2, shade(glove, 85))


def face(brush: Brush, rng: random.Random, grey: Colour) -> None:
    """The face in the status bar, one unit high."""
    skin, hair = (
        rng.choice(((216, 164, 124), (150, 104, 76), (238, 200, 170))),
        rng.choice(((110, 72, 40), (40, 32, 30))),
    )
    brush.box(-0.48, 0, 0.48, 0.97, shade(grey, 45))
    brush.oval(0, 0.46, 0.34, 0.44, skin)
    brush.box(-0.34, 0.62, 0.34, 0.92, hair, round_by=0.2)
    for side in (-1, 1):
        brush.box(side * 0.06, 0.46, side * 0.24, 0.60, (250, 250, 250))
        brush.box(side * 0.10, 0.46, side * 0.18, 0.58, (30, 40, 60))
        brush.line([(side * 0.04, 0.62), (side * 0.28, 0.68)], hair, thick=0.06)
    brush.box(-0.16, 0.14, 0.16, 0.24, (120, 30, 26) if rng.random() < 0.5 else (240, 236, 226))
    if rng.random() < 0.5:
        brush.line([(0.14, 0.66), (0.20, 0.2)], (190, 20, 20), thick=0.08)


def soldier_portrait(rng: random.Random, size: Size, colours: Mood) -> Image.Image:
    """A soldier in plate armour among demons."""
    image = gradient(size, colours.sky, colours.haze)
    for _ in range(rng.randrange(3, 7)):
        where = on(image, rng.random(), rng.uniform(0.7, 1.0), rng.uniform(0.35, 0.6))
        demon(where, rng, Mood(*(shade(colour, 80) for colour in vars(colours).values())))
    plate = mix(rng.choice(((96, 112, 70), (110, 100, 88), (90, 104, 120), (150, 140, 120))), colours.wall, 25)
    brush = on(image, 0.5 + rng.randrange(-12, 13) / 100, 1.05, 1.0)
    visor = rng.choice(((120, 220, 240), (250, 180, 80), (140, 230, 140)))
    for side in (-1, 1):
        brush.shape(
            [(side * 0.14, 0.46), (side * 0.50, 0.40), (side * 0.56, 0.1), (side * 0.30, 0.0)], shade(plate, 80)
        )
        brush.oval(side * 0.42, 0.36, 0.17, 0.13, plate, edge=shade(plate, 45))
    brush.shape([(-0.34, 0.44), (0.34, 0.44), (0.28, 0), (-0.28, 0)], plate)
    brush.shape([(-0.22, 0.36), (-0.02, 0.36), (-0.03, 0.14), (-0.18, 0.14)], shade(plate, 70))
    brush.shape([(0.22, 0.36), (0.02, 0.36), (0.03, 0.14), (0.18, 0.14)], shade(plate, 70))
    brush.shape([(-0.22, 0.70), (-0.16, 0.92), (0.16, 0.92), (0.22, 0.70), (0.16, 0.42), (-0.16, 0.42)], plate)
    brush.shape([(-0.16, 0.92), (0.0, 0.92), (-0.04, 0.42), (-0.16, 0.42), (-0.22, 0.70)], shade(plate, 118))
    brush.shape(
        [(-0.19, 0.74), (0.19, 0.74), (0.15, 0.58), (0.05, 0.58), (0, 0.54), (-0.05, 0.58), (-0.15, 0.58)], _DARK
    )
    brush.shape([(-0.16, 0.72), (0.16, 0.72), (0.13, 0.61), (-0.13, 0.61)], visor)
    brush.shape([(-0.16, 0.72), (-0.02, 0.72), (-0.10, 0.61), (-0.13, 0.61)], mix(visor, (255, 255, 255), 60))
    for slit in range(3):
        brush.box(-0.07 + 0.06 * slit, 0.44, -0.05 + 0.06 * slit, 0.52, _DARK)
    return image
