"""A village of round animals: out on the rolled ground, on the beach, in a room, or close up and talking."""

import random

from PIL import Image, ImageChops, ImageDraw

from memevit.data.sample import garden, lettering, villagers
from memevit.data.sample.brush import Colour, Mood, Size, gradient, mix, mood, on, shade, smoothly

_MOODS = {
    **{"spring": 5, "autumn": 4, "night": 5, "sand": 3, "brick": 4, "sunset": 4, "pastel": 3, "snow": 2},
    **{"steel": 3, "ember": 2, "toxic": 2},
}
_INDOOR_MOODS = {"brick": 6, "ember": 4, "autumn": 3, "night": 2, "steel": 3, "pastel": 1, "toxic": 2, "sand": 1}
_CREAM, _INK = (252, 246, 226), "#68543f"
_LINES = (
    "Have you seen / my other shoe?", "I dug up something / strange today!", "Bells, bells, bells. / You owe me some.",
    "The sea is loud / at night, isn't it?", "I made soup. / It has eyes.", "You look tired, / little neighbour.",
    "Want to trade / a pear for a sofa?", "Somebody shook / MY tree again.", "It's a fossil! / It bit me!",
    "Nice weather for / paying a loan!",
)  # fmt: skip


def village(rng: random.Random, size: Size) -> Image.Image:
    """One of the places of the village, sometimes with a speech bubble or the clock."""
    scene = rng.choice((_outdoors, _outdoors, _outdoors, _beach, _room, _room, _talk, _museum, _pockets))
    return smoothly(scene, rng, size)


def _outdoors(rng: random.Random, size: Size) -> Image.Image:
    image = _meadow(rng, size)
    return _with_overlay(_lit(image, rng), rng)


def _meadow(rng: random.Random, size: Size) -> Image.Image:
    colours = mood(rng, _MOODS)
    image = gradient(size, colours.sky, colours.haze)
    horizon = rng.randrange(18, 42) / 100
    _sky_things(image, rng, colours, horizon)
    _roll_ground(image, rng, horizon, colours.ground)
    if rng.random() < 0.45:
        _river(image, rng, horizon, mix(colours.sky, (90, 180, 220), 50))
    for depth in sorted(rng.random() for _ in range(rng.randrange(6, 14))):
        foot, tall = horizon + 0.06 + depth * 0.75 * (1 - horizon), 0.14 + 0.3 * depth
        things = (
            garden.tree,
            garden.tree,
            garden.tree,
            garden.fir,
            garden.house,
            garden.flowers,
            garden.flowers,
            garden.rock,
            garden.fence,
        )
        rng.choice(things)(on(image, rng.uniform(0.02, 0.98), foot, tall), rng, colours)
    _people(image, rng, rng.randrange(1, 4))
    return image


def _sky_things(image: Image.Image, rng: random.Random, colours: Mood, horizon: float) -> None:
    for _ in range(rng.randrange(0, 4)):
        cloud = on(image, rng.random(), horizon * rng.uniform(0.3, 0.9), 0.07)
        for x, r in ((-0.9, 0.5), (0, 0.8), (0.9, 0.55)):
            cloud.oval(x, r * 0.6, r * 1.1, r * 0.8, mix(colours.haze, (255, 255, 255), 55))
    if max(colours.sky) < 90:
        for _ in range(24):
            on(image, rng.random(), horizon * rng.random(), 0.004).oval(0, 0, 1, 1, (250, 244, 210))
    if rng.random() < 0.15:  # A present on a balloon.
        balloon = on(image, rng.random(), horizon * 0.8, 0.16)
        balloon.line([(0, 0.2), (0, 0.6)], (240, 240, 240))
        balloon.oval(0, 0.8, 0.22, 0.26, colours.accent)
        balloon.box(-0.14, 0, 0.14, 0.24, (230, 190, 90), round_by=0.04)


def _roll_ground(image: Image.Image, rng: random.Random, horizon: float, colour: Colour) -> None:
    """Ground that curves away like a barrel, with a pattern of small triangles."""
    width, height = image.size
    pen = ImageDraw.Draw(image)
    top = round(horizon * height)
    pen.ellipse((-width * 3 // 4, top, width * 7 // 4, height * 3), fill=colour)
    darker, row, y = shade(colour, 92), 0, top + height // 20
    while y < height:
        side = max(3, (y - top + height // 12) // 12)  # Larger as it comes nearer.
        for x in range(row % 2 * side, width + side, 2 * side):
            sag = (2 * x - width) ** 2 * height // (18 * width * width)
            corners = [(x, y + sag), (x + side, y + sag), (x + side // 2, y + sag - side * 3 // 4)]
            if sag < y - top - height // 24:
                pen.polygon(corners, fill=darker)
        row, y = row + 1, y + side * 3 // 2
    if rng.random() < 0.35:
        path = on(image, rng.uniform(0.2, 0.8), 1.0, 1 - horizon)
        path.shape(
            [(-0.25, 0), (0.25, 0), (0.10, 0.5), (0.16, 0.9), (0.10, 0.9), (-0.02, 0.5)], mix(colour, _CREAM, 45)
        )


def _river(image: Image.Image, rng: random.Random, horizon: float, colour: Colour) -> None:
    brush = on(image, rng.uniform(0.0, 1.0), horizon + 0.45 * (1 - horizon), 1 - horizon)
    wide = rng.uniform(0.3, 0.7)
    brush.oval(0, 0, wide * 1.06, 0.19, shade(colour, 75))
    brush.oval(0, -0.01, wide, 0.17, colour)
    for k in range(3):
        x = wide * (0.5 * k - 0.6)
        brush.smile(x, -0.02 - 0.03 * k, 0.08, -0.03, shade(colour, 130), thick=0.012)


def _people(image: Image.Image, rng: random.Random, n: int) -> None:
    places = sorted((rng.randrange(66, 99) / 100, rng.randrange(14, 87) / 100) for _ in range(n))
    for foot, x in places:
        villagers.villager(on(image, x, foot, rng.randrange(28, 50) / 100), rng)


def _beach(rng: random.Random, size: Size) -> Image.Image:
    colours = mood(rng, {"sand": 5, "spring": 2, "sunset": 3, "night": 2, "pastel": 2, "steel": 1, "autumn": 1})
    image = gradient(size, colours.sky, colours.haze)
    sea = mix(colours.sky, (40, 130, 190), 45)
    whole = on(image, 0.5, 1.0, 1.0)
    whole.box(-3, 0, 3, 0.72, sea)
    for _ in range(14):
        x, y = rng.uniform(-1, 1), rng.uniform(0.45, 0.7)
        whole.smile(x, y, 0.05, -0.015, shade(sea, 128), thick=0.006)
    sand = mix(colours.ground, (240, 220, 170), 40)
    for reach, colour in ((0.47, (250, 250, 250)), (0.44, shade(sand, 86)), (0.41, sand)):
        whole.oval(0, -0.6, 2.2, 0.6 + reach, colour)
    for _ in range(rng.randrange(1, 4)):
        garden.palm(on(image, rng.random(), rng.uniform(0.62, 0.8), rng.uniform(0.35, 0.6)), colours)
    for _ in range(rng.randrange(3, 9)):
        garden.shell(on(image, rng.random(), rng.uniform(0.72, 0.98), 0.05), rng)
    _people(image, rng, rng.randrange(1, 3))
    return _with_overlay(_lit(image, rng), rng)


def _room(rng: random.Random, size: Size) -> Image.Image:
    colours = mood(rng, _INDOOR_MOODS)
    image = Image.new("RGB", size, colours.wall)
    whole = on(image, 0.5, 1.0, 1.0)
    papered = shade(colours.wall, 108)
    for k in range(-12, 13):
        if rng.random() < 0.9:
            whole.box(k * 0.16, 0.5, k * 0.16 + 0.07, 1.0, papered)
    floor = mix(colours.ground, (150, 110, 80), 35)
    for row in range(9):
        whole.box(-3, 0.56 - 0.065 * (row + 1), 3, 0.56 - 0.065 * row, shade(floor, 94 + 10 * (row % 2)))
    whole.box(-3, 0.55, 3, 0.60, shade(colours.wall, 60))
    rug = mix(colours.accent, colours.wall, 30)
    whole.oval(0, 0.22, 0.52, 0.17, rug, edge=_CREAM, thick=0.012)
    whole.oval(0, 0.22, 0.36, 0.11, None, edge=_CREAM, thick=0.008)
    for x in (0.08, 0.30, 0.70, 0.92):
        if rng.random() < 0.85:
            things = villagers.FURNITURE
            rng.choice(things)(on(image, x, rng.uniform(0.5, 0.62), rng.uniform(0.26, 0.42)), rng, colours)
    if rng.random() < 0.7:
        garden.window(on(image, rng.uniform(0.3, 0.7), 0.36, 0.26), rng)
    _people(image, rng, rng.randrange(1, 4))
    return _with_overlay(_lit(image, rng), rng)


def _talk(rng: random.Random, size: Size) -> Image.Image:
    """A villager close up, talking."""
    colours = mood(rng, _MOODS)
    image = gradient(size, colours.sky, colours.haze)
    _roll_ground(image, rng, 0.4, colours.ground)
    for x in (0.12, 0.88):
        rng.choice((garden.tree, garden.house, garden.fir))(on(image, x, 0.66, 0.42), rng, colours)
    villagers.villager(on(image, 0.5, 1.0, rng.uniform(0.8, 0.95)), rng)
    _speech(image, rng)
    return image


def _museum(rng: random.Random, size: Size) -> Image.Image:
    """A skeleton dug up by somebody, on its stand."""
    colours = mood(rng, _INDOOR_MOODS)
    image = gradient(size, shade(colours.wall, 60), shade(colours.wall, 85))
    whole = on(image, 0.5, 1.0, 1.0)
    whole.box(-3, 0, 3, 0.3, shade(colours.ground, 70))
    for x in (-0.5, 0.5):
        whole.shape([(x * 0.2, 1.0), (x * 0.5, 1.0), (x * 1.2, 0.2), (x * 0.4, 0.2)], shade(colours.wall, 100))
    whole.box(-0.55, 0.16, 0.55, 0.30, mix(colours.wall, (110, 80, 60), 50), round_by=0.03)
    villagers.skeleton(on(image, 0.5, 0.7, 0.5), rng)
    _people(image, rng, rng.randrange(1, 3))
    return _with_overlay(_lit(image, rng), rng)


def _pockets(rng: random.Random, size: Size) -> Image.Image:
    """The bag of things somebody carries, in a cream bubble over the scene."""
    image = _lit(_meadow(rng, size), rng)
    whole = on(image, 0.5, 0.5, 1.0)
    half = min(0.46, 0.46 * size[0] / size[1])
    whole.box(-half, -0.26, half, 0.32, _CREAM, round_by=0.12)
    for row in range(3):
        for column in range(5):
            x, y = half * (column - 2) * 0.38, 0.18 - 0.17 * row
            whole.oval(x, y, half * 0.16, half * 0.16, (236, 226, 200))
            if rng.random() < 0.8:
                villagers.item(whole.at(x, y - half * 0.1, half * 0.24), rng)
    return image


def _lit(image: Image.Image, rng: random.Random) -> Image.Image:
    """The scene by day, or at dusk, in rain, by lamplight or at night."""
    if rng.random() < 0.45:
        return image
    light = rng.choice(((150, 130, 170), (130, 136, 150), (200, 140, 90), (96, 108, 170), (120, 84, 70)))
    return ImageChops.multiply(image, Image.new("RGB", image.size, light))


def _with_overlay(image: Image.Image, rng: random.Random) -> Image.Image:
    if rng.random() < 0.4:
        _speech(image, rng)
    elif rng.random() < 0.4:
        clock = on(image, 0.03, 0.97, 0.16)
        clock.box(0, 0, 2.2, 0.9, _CREAM, round_by=0.3)
        text = f"{rng.randrange(1, 13)}:{rng.randrange(60):02d} {rng.choice(('am', 'pm'))}"
        box = (clock.x + 0.2 * clock.unit, clock.foot - 0.8 * clock.unit, clock.x + 2 * clock.unit, clock.foot)
        lettering.write(image, (*box[:3], clock.foot - 0.1 * clock.unit), text, fill=_INK)
    return image


def _speech(image: Image.Image, rng: random.Random) -> None:
    """A bulging cream bubble at the lower edge with a coloured name tag on its shoulder."""
    width, height = image.size
    left, top, right, bottom = width * 8 // 100, height * 70 // 100, width * 92 // 100, height * 96 // 100
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((left, top, right, bottom), radius=(bottom - top) * 45 // 100, fill=_CREAM)
    pen.ellipse((left + width // 12, top - height // 40, right - width // 12, bottom), fill=_CREAM)
    inner = (left + width // 9, top + height // 30, right - width // 9, bottom - height // 40)
    lettering.write(image, inner, rng.choice(_LINES), fill=_INK)
    tag = rng.choice(("#f7a45c", "#8cc8f0", "#f092a8", "#a8d678", "#c7a5e8", "#e8d264"))
    tag_box = (left + width // 30, top - height // 22, left + width // 3, top + height // 24)
    pen.rounded_rectangle(tag_box, radius=(tag_box[3] - tag_box[1]) // 2, fill=tag)
    name = rng.choice(villagers.NAMES)
    lettering.write(image, (tag_box[0] + 8, tag_box[1], tag_box[2] - 8, tag_box[3]), name, fill="white")
