"""Images of no game at all: what else a folder of memes holds."""

import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from memevit.data.sample import lettering
from memevit.data.sample.brush import Brush, Colour, Size, gradient, mix, on, shade, smoothly

_LOREM = (
    "so today I went to the shop and the man at the till looked at me and said nothing for a whole minute "
    "which is fine but then he gave me two receipts and one of them was for a boat I do not own a boat "
    "I live in the mountains my aunt says this is normal here does anybody know what I should do with it "
).split()


def unrelated(rng: random.Random, size: Size) -> Image.Image:
    """A landscape, a pet, a town, a stick-figure comic, a page of text, a chart, lights, noise or one colour."""
    scenes = (hills, hills, sea, town, pet, pet, _stick_figures, page, page, _chart, lights, noise, plain)
    return rng.choice(scenes)(rng, size)


def _any_colour(rng: random.Random) -> Colour:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def _grain(image: Image.Image, rng: random.Random, strength: int) -> Image.Image:
    """The image with the noise of a camera."""
    noise = np.random.Generator(np.random.PCG64(rng.getrandbits(32)))
    pixels = np.asarray(image).astype(np.int16)
    grain = noise.integers(-strength, strength + 1, (*pixels.shape[:2], 1), dtype=np.int16)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def hills(rng: random.Random, size: Size) -> Image.Image:
    """Hills in haze, like a photograph."""
    sky, low = rng.choice((
        ((120, 160, 210), (236, 226, 214)), ((240, 190, 140), (250, 230, 200)), ((160, 170, 180), (220, 222, 224)),
        ((40, 50, 90), (150, 130, 150)),
    ))  # fmt: skip
    image = gradient(size, sky, low)
    pen, land = ImageDraw.Draw(image), rng.choice(((60, 84, 60), (84, 76, 56), (60, 66, 84)))
    for layer in range(5):
        level, points = size[1] * (40 + 12 * layer) // 100, []
        for x in range(0, size[0] + 8, 8):
            level += rng.randrange(-3, 4) * max(1, size[1] // 300)
            points.append((x, level))
        pen.polygon([(0, size[1]), *points, (size[0], size[1])], fill=mix(low, land, 20 + 18 * layer))
    return _grain(image.filter(ImageFilter.GaussianBlur(max(1, size[0] // 400))), rng, 9)


def sea(rng: random.Random, size: Size) -> Image.Image:
    """The sun over water."""
    top, low = rng.choice(
        (((70, 80, 140), (250, 170, 110)), ((90, 160, 220), (230, 240, 250)), ((20, 24, 50), (90, 90, 130)))
    )
    image = gradient(size, top, low)
    whole = on(image, 0.5, 1.0, 1.0)
    whole.oval(rng.uniform(-0.4, 0.4), 0.5, 0.1, 0.1, mix(low, (255, 250, 220), 70))
    image.paste(gradient((size[0], size[1] // 2), mix(low, top, 40), shade(top, 60)), (0, size[1] - size[1] // 2))
    for _ in range(160):
        y = rng.random() ** 2 * 0.5
        whole.line(
            [(x := rng.uniform(-1, 1), y), (x + 0.02 + 0.1 * (0.5 - y), y)],
            mix(low, top, rng.randrange(70)),
            thick=0.004,
        )
    return _grain(image.filter(ImageFilter.GaussianBlur(1)), rng, 7)


def town(rng: random.Random, size: Size) -> Image.Image:
    """Houses of a large town with lit windows."""
    image = gradient(size, *rng.choice((((30, 36, 70), (190, 120, 110)), ((150, 180, 210), (226, 226, 226)))))
    pen = ImageDraw.Draw(image)
    for layer in range(3):
        x, wall = 0, shade((150, 150, 160), 70 - 18 * layer)
        while x < size[0]:
            wide, top = size[0] // rng.randrange(9, 18), size[1] * rng.randrange(25 + 12 * layer, 70 + 8 * layer) // 100
            pen.rectangle((x, top, x + wide, size[1]), fill=wall)
            cell = max(4, wide // 5)
            for row in range(top + cell, size[1], cell * 2):
                for column in range(x + cell // 2, x + wide - cell // 2, cell * 3 // 2):
                    if rng.random() < 0.4:
                        pen.rectangle((column, row, column + cell // 2, row + cell), fill=(240, 214, 140))
            x += wide
    return _grain(image.filter(ImageFilter.GaussianBlur(1)), rng, 8)


def pet(rng: random.Random, size: Size) -> Image.Image:
    """A furry animal that looks out of the image, soft as in a photo taken too near."""
    image = gradient(size, _any_colour(rng), _any_colour(rng))
    fur = rng.choice(((196, 150, 100), (90, 84, 84), (226, 220, 210), (150, 110, 80)))
    brush = on(image, rng.uniform(0.35, 0.65), 1.0, rng.uniform(0.7, 0.95))
    brush.oval(0, 0.05, 0.45, 0.45, shade(fur, 85))
    for side in (-1, 1):
        brush.shape([(side * 0.06, 0.84), (side * 0.30, 0.72), (side * 0.32, 1.05)], shade(fur, 90))
        brush.shape([(side * 0.14, 0.86), (side * 0.27, 0.78), (side * 0.29, 0.98)], (200, 150, 150))
    brush.oval(0, 0.62, 0.34, 0.28, fur)
    for _ in range(260):
        x, y = rng.uniform(-0.4, 0.4), rng.uniform(0, 0.9)
        if x * x + (y - 0.5) ** 2 < 0.16:
            brush.line([(x, y), (x * 1.08, y - 0.05)], shade(fur, rng.randrange(75, 118)), thick=0.008)
    _muzzle(brush, rng)
    return _grain(image.filter(ImageFilter.GaussianBlur(max(1, size[0] // 250))), rng, 10)


def _muzzle(brush: Brush, rng: random.Random) -> None:
    eye = rng.choice(((190, 190, 70), (110, 160, 200), (120, 80, 40)))
    for side in (-1, 1):
        brush.oval(side * 0.14, 0.66, 0.07, 0.06, eye, edge=(30, 24, 24), thick=0.015)
        brush.oval(side * 0.14, 0.66, 0.02, 0.055, (10, 10, 10))
        for k in range(3):
            brush.line([(side * 0.08, 0.52), (side * 0.42, 0.58 - 0.06 * k)], (240, 240, 240), thick=0.006)
    brush.shape([(-0.04, 0.56), (0.04, 0.56), (0, 0.51)], (190, 110, 110))
    brush.line([(0, 0.51), (0, 0.47), (-0.06, 0.44)], (60, 40, 40), thick=0.012)
    brush.line([(0, 0.47), (0.06, 0.44)], (60, 40, 40), thick=0.012)


def _stick_figures(rng: random.Random, size: Size) -> Image.Image:
    return smoothly(_stick_drawing, rng, size)


def _stick_drawing(rng: random.Random, size: Size) -> Image.Image:
    """Two or three people of lines, drawn by somebody in a hurry."""
    image, ink = Image.new("RGB", size, rng.choice(((255, 255, 255), (250, 246, 230), (226, 238, 250)))), (30, 30, 34)
    for x in rng.sample((0.2, 0.4, 0.6, 0.8), rng.randrange(2, 4)):
        figure = on(image, x, rng.uniform(0.85, 0.95), rng.uniform(0.5, 0.65))
        figure.oval(0, 0.86, 0.13, 0.13, rng.choice(((255, 255, 255), (250, 220, 120))), edge=ink, thick=0.02)
        figure.line([(0, 0.73), (0, 0.32)], ink)
        for side in (-1, 1):
            figure.line([(0, 0.32), (side * 0.16, 0)], ink)
            figure.line([(0, 0.62), (side * 0.22, rng.uniform(0.3, 0.85))], ink)
            figure.oval(side * 0.05, 0.89, 0.015, 0.02, ink)
        figure.smile(0, 0.82, 0.06, rng.choice((0.04, -0.04)), ink)
    return image


def page(rng: random.Random, size: Size) -> Image.Image:
    """A screenshot of a long message or of a terminal."""
    paper, ink = rng.choice(
        (("white", "#222222"), ("#1e1e1e", "#c8d0c8"), ("#fdf6e3", "#586e75"), ("#36393f", "#dcddde"))
    )
    image = Image.new("RGB", size, paper)
    step, y = max(14, size[1] // rng.randrange(12, 26)), size[1] // 20
    pen, font = ImageDraw.Draw(image), lettering.font(step * 7 // 10)
    while y < size[1] - step:
        start, n = rng.randrange(len(_LOREM) - 12), max(2, size[0] // (step * 3))
        pen.text(
            (size[0] // 18, y),
            " ".join(_LOREM[start : start + (n if rng.random() < 0.85 else n // 2)]),
            fill=ink,
            font=font,
        )
        y += step
    return image


def _chart(rng: random.Random, size: Size) -> Image.Image:
    """Bars, or the slices of a cake."""
    image = Image.new("RGB", size, (252, 252, 250))
    pen, n = ImageDraw.Draw(image), rng.randrange(3, 10)
    if rng.random() < 0.4:
        r, start = min(size) * 2 // 5, 0
        for k in range(n):
            end = 360 if k == n - 1 else start + (360 - start) * rng.randrange(15, 60) // 100
            box = (size[0] // 2 - r, size[1] // 2 - r, size[0] // 2 + r, size[1] // 2 + r)
            pen.pieslice(box, start, end, fill=_any_colour(rng), outline="white", width=3)
            start = end
        return image
    bar = _any_colour(rng)
    for k in range(n):
        x, top = size[0] * (10 + 80 * k // n) // 100, size[1] * rng.randrange(15, 80) // 100
        pen.rectangle((x, top, x + size[0] * 6 // (10 * n), size[1] * 9 // 10), fill=bar)
    pen.line((size[0] // 12, size[1] * 9 // 10, size[0] * 95 // 100, size[1] * 9 // 10), fill="#282828", width=3)
    return image


def lights(rng: random.Random, size: Size) -> Image.Image:
    """Lamps far out of focus."""
    image = Image.new("RGB", size, rng.choice(((24, 20, 30), (60, 40, 30), (20, 40, 60))))
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        x, y, r = rng.randrange(size[0]), rng.randrange(size[1]), size[1] * rng.randrange(2, 12) // 100
        pen.ellipse((x - r, y - r, x + r, y + r), fill=mix(_any_colour(rng), (255, 230, 180), 40))
    return image.filter(ImageFilter.GaussianBlur(max(2, size[0] // 90)))


def noise(rng: random.Random, size: Size) -> Image.Image:
    """Noise, coarse or fine, in colour or grey, or waves."""
    noise = np.random.Generator(np.random.PCG64(rng.getrandbits(32)))
    cell, depth = rng.choice((1, 4, 24)), rng.choice((1, 3))
    cells = noise.integers(0, 256, (math.ceil(size[1] / cell), math.ceil(size[0] / cell), depth), dtype=np.uint8)
    return Image.fromarray(np.repeat(cells, 4 - depth, axis=2)[:, :, :3].copy()).resize(size, Image.Resampling.NEAREST)


def plain(rng: random.Random, size: Size) -> Image.Image:
    """One colour, or two that run into each other."""
    first = _any_colour(rng)
    return gradient(size, first, first if rng.random() < 0.5 else _any_colour(rng))
