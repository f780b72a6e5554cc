"""Wide land under a big sky, drawn like an animated film: heroes, gliders, floating islands, and drawing lots."""

import random

from PIL import Image, ImageDraw

from memevit.data.sample import heroes, lettering
from memevit.data.sample.brush import Brush, Colour, Mood, Size, gradient, mix, mood, on, shade, smoothly

_MOODS = {"spring": 5, "sunset": 4, "night": 4, "sand": 3, "pastel": 3, "autumn": 2, "snow": 2, "steel": 1}


def adventure(rng: random.Random, size: Size) -> Image.Image:
    """A landscape with a hero, a flight, a portrait, a fight or the moment when the lots are drawn."""
    scene = rng.choice((_landscape, _landscape, _landscape, _flight, _portrait, _fight, _wish, _wish))
    return smoothly(scene, rng, size)


def _country(rng: random.Random, size: Size, colours: Mood) -> Image.Image:
    """Cloud towers, layers of peaks, floating islands and far towers."""
    image = gradient(size, colours.sky, mix(colours.haze, (255, 255, 255), 20))
    if rng.random() < 0.5:
        sun = on(image, rng.random(), rng.uniform(0.15, 0.4), 0.12)
        for r, percent in ((1.5, 25), (1.1, 50), (0.7, 90)):
            sun.oval(0, 0, r, r, mix(colours.haze, (255, 250, 225), percent))
    for _ in range(rng.randrange(2, 6)):
        _cloud(on(image, rng.random(), rng.uniform(0.3, 0.6), rng.uniform(0.08, 0.22)), rng, colours.haze)
    for layer in range(4):
        far = 75 - 22 * layer
        _peaks(image, rng, 0.50 + 0.11 * layer, mix(mix(colours.plant, colours.sky, 30), colours.haze, far), layer)
    for _ in range(rng.randrange(1, 4)):
        _island(on(image, rng.random(), rng.uniform(0.2, 0.45), rng.uniform(0.12, 0.3)), rng, colours)
    return image


def _cloud(brush: Brush, rng: random.Random, haze: Colour) -> None:
    """Flat below, piled up above, with a hard shadow edge."""
    puffs = [(0.45 * k, rng.uniform(0.3, 0.9) * (1 - abs(k) * 0.16)) for k in range(-4, 5)]
    for colour, lift in ((mix(haze, (120, 140, 190), 25), 0.0), (mix(haze, (255, 255, 255), 70), 0.12)):
        for x, r in puffs:
            brush.oval(x, r * 0.7 + lift, r * 0.6, r * 0.8, colour)
    brush.box(-2.1, -0.35, 2.1, 0.06, mix(haze, (120, 140, 190), 12), round_by=0.2)


def _peaks(image: Image.Image, rng: random.Random, level: float, colour: Colour, layer: int) -> None:
    whole, x, points = on(image, 0.0, 1.0, 1.0), -0.1, []
    end = image.width / image.height + 0.2
    while x < end:
        points.append((x, 1 - level + rng.uniform(-0.05, 0.15 - 0.03 * layer)))
        x += rng.uniform(0.06, 0.22)
    whole.shape([(-0.1, 0), *points, (x, points[-1][1]), (x, 0)], colour)
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if y0 > y1 and layer < 2:  # Light falls from the left: the right side of a peak lies in shadow.
            whole.shape([(x0, y0), (x1, y1), (x0 + 0.02, y1)], shade(colour, 88))


def _island(brush: Brush, rng: random.Random, colours: Mood) -> None:
    rock = mix(colours.wall, colours.haze, 35)
    brush.shape([(-0.8, 0), (0.8, 0), (0.5, -0.35), (0.2, -0.42), (0.02, -0.8), (-0.2, -0.4), (-0.55, -0.28)], rock)
    brush.shape([(0.8, 0), (0.5, -0.35), (0.2, -0.42), (0.02, -0.8), (0.1, 0)], shade(rock, 82))
    brush.oval(0, 0.0, 0.84, 0.13, mix(colours.plant, colours.haze, 25))
    for x in (-0.4, 0.05, 0.42):
        if rng.random() < 0.7:
            _tower(brush.at(x, 0.02, rng.uniform(0.6, 1.1)), rng, colours)
    if rng.random() < 0.4:
        brush.box(-0.62, -0.9, -0.54, 0.0, mix(colours.sky, (255, 255, 255), 70))


def _tower(brush: Brush, rng: random.Random, colours: Mood) -> None:
    stone, roof = mix((236, 226, 208), colours.haze, 30), rng.choice(((70, 110, 170), (190, 90, 70), (80, 140, 120)))
    brush.box(-0.10, 0, 0.10, 0.6, stone)
    brush.box(0.03, 0, 0.10, 0.6, shade(stone, 82))
    brush.shape([(-0.16, 0.58), (0.16, 0.58), (0, 0.95)], roof)
    brush.shape([(0.02, 0.58), (0.16, 0.58), (0, 0.95)], shade(roof, 80))
    brush.box(-0.03, 0.35, 0.03, 0.46, (80, 70, 90))


def _landscape(rng: random.Random, size: Size) -> Image.Image:
    image = _country(rng, size, mood(rng, _MOODS))
    heroes.hero(on(image, rng.uniform(0.28, 0.62), rng.uniform(0.94, 1.08), rng.uniform(0.5, 0.8)), rng)
    if rng.random() < 0.5:
        heroes.companion(on(image, rng.uniform(0.15, 0.8), 0.5, 0.16), rng)
    _interface(image, rng)
    return image


def _flight(rng: random.Random, size: Size) -> Image.Image:
    """Somebody hangs below a glider, high above the land."""
    image = _country(rng, size, mood(rng, _MOODS))
    heroes.glider(on(image, rng.uniform(0.3, 0.6), rng.uniform(0.7, 0.85), rng.uniform(0.5, 0.65)), rng)
    _interface(image, rng)
    return image


def _fight(rng: random.Random, size: Size) -> Image.Image:
    """Round slimes, sword arcs and damage numbers."""
    colours = mood(rng, _MOODS)
    image = _country(rng, size, colours)
    for _ in range(rng.randrange(2, 5)):
        heroes.slime(on(image, rng.random(), rng.uniform(0.8, 0.98), rng.uniform(0.14, 0.26)), rng)
    hero = on(image, 0.42, 1.0, 0.62)
    heroes.hero(hero, rng)
    glow = rng.choice(heroes.ELEMENTS)
    for k in range(3):
        hero.smile(0.25, 0.45, 0.46 - 0.05 * k, 0.34 - 0.04 * k, mix(glow, (255, 255, 255), 30 * k), thick=0.035)
    for _ in range(rng.randrange(3, 8)):
        x, y = rng.uniform(0.2, 0.75) * size[0], rng.uniform(0.35, 0.8) * size[1]
        colour = "#{:02x}{:02x}{:02x}".format(*mix(rng.choice(heroes.ELEMENTS), (255, 255, 255), 30))
        box = (x, y, x + size[1] * 0.22, y + size[1] * 0.06)
        lettering.write(image, box, str(rng.randrange(120, 99999)), fill=colour)
    _interface(image, rng)
    return image


def _portrait(rng: random.Random, size: Size) -> Image.Image:
    """The card of a character: bust, name, five stars and an element."""
    element = rng.choice(heroes.ELEMENTS)
    image = gradient(size, shade(element, 45), shade(element, 85))
    pen = ImageDraw.Draw(image)
    for k in range(7):
        x, y = size[0] * 3 // 4, size[1] * 2 // 5
        r = size[1] * (8 + 9 * k) // 100
        pen.ellipse((x - r, y - r, x + r, y + r), outline=mix(shade(element, 80), (255, 255, 255), 22), width=2)
    heroes.hero(on(image, 0.62, 1.75, 1.75), rng)
    box = (size[0] * 0.05, size[1] * 0.14, size[0] * 0.42, size[1] * 0.28)
    lettering.write(image, box, rng.choice(heroes.NAMES), fill="white", is_left=True)
    for k in range(rng.choice((4, 5))):
        heroes.star(on(image, 0.06, 0.34, 0.05).at(1.2 * k + 0.4, 0), (255, 214, 90))
    for k in range(5):
        row = on(image, 0.05, 0.46 + 0.08 * k, 0.05)
        row.box(0, 0, 0.34 * size[0] / size[1] / 0.05, 1.0, shade(element, 60), round_by=0.3)
        row.box(0.2, 0.4, rng.uniform(0.1, 0.32) * size[0] / size[1] / 0.05, 0.6, (250, 246, 230))
    return image


def _wish(rng: random.Random, size: Size) -> Image.Image:
    """A night sky of lots: streaks of light that fall, or the row of cards that they bring."""
    image = gradient(size, (22, 26, 66), rng.choice(((96, 84, 160), (60, 110, 170), (150, 90, 130))))
    for _ in range(90):
        on(image, rng.random(), rng.random(), 0.004).oval(0, 0, rng.uniform(0.3, 1), 1, (220, 226, 255))
    if rng.random() < 0.55:
        for _ in range(rng.choice((1, 4, 10))):
            _streak(on(image, rng.uniform(0.1, 0.6), rng.uniform(0.5, 0.9), rng.uniform(0.3, 0.6)), rng)
        return image
    n = rng.choice((5, 10)) if size[0] >= size[1] else 5
    for k in range(n):
        _card(image, rng, (k + 0.5) / n, 0.9 / n)
    return image


def _streak(brush: Brush, rng: random.Random) -> None:
    colour = rng.choice(((255, 214, 100), (190, 140, 250), (130, 190, 255), (130, 190, 255)))
    for width, percent in ((0.09, 20), (0.055, 50), (0.025, 85)):
        tail = mix(mix((60, 60, 120), colour, 80), (255, 255, 255), percent - 20)
        brush.shape([(1.2, 0.95), (-width / 2, width), (width, -width / 2)], tail)
    heroes.star(brush.at(0, 0, 0.24), mix(colour, (255, 255, 255), 55))


def _card(image: Image.Image, rng: random.Random, x: float, wide: float) -> None:
    element = rng.choice(heroes.ELEMENTS)
    width, height = image.size
    left, right, top, bottom = (
        *(round((x - wide / 2) * width), round((x + wide / 2) * width)),
        *(height // 8, height * 7 // 8),
    )
    card = gradient((max(2, right - left), bottom - top), shade(element, 55), mix(element, (255, 255, 255), 35))
    heroes.hero(on(card, 0.5, 1.05, min(0.85, 2.2 * card.width / card.height)), rng)
    for k in range(rng.choice((3, 4, 4, 5))):
        unit = card.width / 8 / card.height
        heroes.star(on(card, 0.18 + 0.16 * k, 0.95, unit), (255, 220, 110))
    image.paste(card, (left, top))


def _interface(image: Image.Image, rng: random.Random) -> None:
    """Party list at the right, round map at the upper left, skills and health at the lower edge."""
    if rng.random() < 0.2:
        return
    right = on(image, 1.0, 0.0, 0.1)
    for k in range(4):
        row = right.at(-0.8, -2.2 - 1.1 * k)
        row.box(-1.5, -0.32, 0.5, 0.32, (58, 62, 80), round_by=0.3)
        row.oval(0.15, 0, 0.4, 0.4, mix(rng.choice(heroes.ELEMENTS), (255, 255, 255), 30), edge=(250, 250, 250))
        row.oval(0.15, 0.02, 0.2, 0.24, (250, 226, 206))
        row.box(-1.35, -0.12, -1.35 + rng.uniform(0.2, 1.0), 0.0, (150, 220, 90))
    if rng.random() < 0.7:
        chart = on(image, 0.0, 0.0, 0.1).at(1.1, -1.1)
        chart.oval(0, 0, 0.85, 0.85, (120, 150, 130), edge=(240, 236, 220), thick=0.08)
        chart.shape([(0, 0.25), (0.16, -0.2), (0, -0.1), (-0.16, -0.2)], (90, 220, 240))
    element = rng.choice(heroes.ELEMENTS)
    skills = on(image, 1.0, 1.0, 0.1)
    for x, r in ((-2.2, 0.4), (-1.0, 0.55)):
        skills.oval(x, 0.8, r, r, (58, 62, 80), edge=mix(element, (255, 255, 255), 30), thick=0.07)
        heroes.emblem(skills.at(x, 0.8, r), rng.randrange(4), element)
    whole = on(image, 0.5, 0.96, 0.1)
    whole.box(-1.6, 0, 1.6, 0.14, (58, 62, 80), round_by=0.07)
    whole.box(-1.6, 0, rng.uniform(-1.2, 1.6), 0.14, (150, 220, 90), round_by=0.07)
    if rng.random() < 0.5:
        for k, colour in enumerate(heroes.ELEMENTS):
            heroes.emblem(on(image, 0.5, 0.07, 0.035).at(2.2 * (k - 3), 0), k, colour)
