"""Pictures in three drawing styles, and pictures of something else. Everything is invented; no game's art is used."""

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Size = tuple[int, int]
Scene = Callable[[random.Random, Size], Image.Image]

_LOW_RES = (160, 100)  # The corridors are drawn this small and blown up, pixels and all.
_VIEW_HEIGHT = 84  # Above the status bar.
_MAP_SIDE = 9

# Both games' pictures take their colours from this one box: colour must not give the game away.
_PAINTS: list[Colour] = [
    *((124, 82, 54), (128, 128, 120), (92, 120, 168), (150, 60, 48), (112, 148, 88), (200, 176, 140), (84, 72, 108)),
    *((150, 206, 240), (36, 40, 84), (236, 178, 120), (196, 214, 228), (128, 204, 220), (70, 40, 44), (124, 182, 92)),
    *((48, 78, 60), (176, 120, 64), (228, 236, 240), (232, 208, 150), (64, 140, 72), (236, 92, 80), (240, 200, 96)),
    *((240, 200, 160), (168, 110, 72), (120, 170, 200), (230, 150, 160), (30, 30, 36), (236, 228, 210), (190, 92, 44)),
]


def _paint(rng: random.Random) -> Colour:
    return _shade(rng.choice(_PAINTS), rng.uniform(0.75, 1.15))


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (max(0, min(255, round(part * factor))) for part in colour)
    return red, green, blue


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _gradient(size: Size, top: Colour, bottom: Colour) -> Image.Image:
    ramp = np.linspace(0.0, 1.0, size[1])[:, None, None]
    column = np.array(top) + (np.array(bottom) - np.array(top)) * ramp
    return Image.fromarray(np.broadcast_to(column.round().astype(np.uint8), (size[1], size[0], 3)).copy())


# --- First person in a maze -------------------------------------------------------------------------------------------


def corridor(rng: random.Random, size: Size) -> Image.Image:
    """A maze seen in first person: textured walls, a creature, a weapon and a status bar, in coarse pixels."""
    wall, ceiling, floor = (_paint(rng) for _ in range(3))
    image = Image.new("RGB", _LOW_RES)
    image.paste(_gradient((_LOW_RES[0], _VIEW_HEIGHT // 2), ceiling, _shade(ceiling, 0.6)), (0, 0))
    image.paste(_gradient((_LOW_RES[0], _VIEW_HEIGHT // 2), _shade(floor, 0.5), floor), (0, _VIEW_HEIGHT // 2))
    distances = _draw_walls(image, rng, wall)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.choice((0, 1, 1, 2))):
        scale = rng.uniform(0.5, 1.0) * min(1.0, 2.2 / max(0.8, float(np.median(distances))))
        _demon(pen, rng, rng.randrange(30, 130), _VIEW_HEIGHT - rng.randrange(6, 16), 26 + 44 * scale)
    if rng.random() < 0.75:
        _weapon(pen, rng)
    if rng.random() < 0.8:
        _status_bar(pen, rng)
    else:
        image = image.crop((0, 0, _LOW_RES[0], _VIEW_HEIGHT))
    return image.resize(size, Image.Resampling.NEAREST)


def _texture(rng: random.Random, colour: Colour) -> np.ndarray:
    """[32, 32, 3] bricks, plates or flesh."""
    noise = np.random.default_rng(rng.getrandbits(32))
    grain = noise.normal(0.0, 0.10, (32, 32, 1))
    y, x = np.mgrid[0:32, 0:32]
    kind = rng.randrange(4)
    if kind == 0:
        lines = (y % 8 == 0) | ((x + (y // 8 % 2) * 8) % 16 == 0)
    elif kind == 1:
        lines = (y % 16 < 2) | (x % 16 < 2) | (((x % 16 - 8) ** 2 + (y % 16 - 8) ** 2) < 5)
    elif kind == 2:
        lines = np.sin(x / 2.3 + 3 * np.sin(y / 5.1)) > 0.55
    else:
        lines = (abs((x - 16) + (y - 16)) < 2) | (abs((x - 16) - (y - 16)) < 2) | (y % 31 == 0)
    light = 1.0 + grain - 0.45 * lines[:, :, None]
    return np.clip(np.array(colour) * light, 0, 255)


def _draw_walls(image: Image.Image, rng: random.Random, colour: Colour) -> np.ndarray:
    """Cast a ray per column through a random maze; returns the distances."""
    maze = [
        [x in (0, _MAP_SIDE - 1) or y in (0, _MAP_SIDE - 1) or rng.random() < 0.28 for x in range(_MAP_SIDE)]
        for y in range(_MAP_SIDE)
    ]
    eye_x = eye_y = _MAP_SIDE / 2
    maze[int(eye_y)][int(eye_x)] = False
    angle = rng.randrange(0, 628) / 100.0
    textures = [_texture(rng, colour), _texture(rng, _shade(colour, 0.8))]
    pixels = np.asarray(image).astype(np.float64)
    distances = np.empty(_LOW_RES[0])
    for column in range(_LOW_RES[0]):
        bend = (column / _LOW_RES[0] - 0.5) * 1.1
        step_x, step_y = math.cos(angle + bend) * 0.03, math.sin(angle + bend) * 0.03
        x, y, steps = eye_x, eye_y, 0
        while not maze[int(y)][int(x)]:
            x, y, steps = x + step_x, y + step_y, steps + 1
        distance = max(0.35, steps * 0.03 * math.cos(bend))
        is_side = min(x % 1, 1 - x % 1) < min(y % 1, 1 - y % 1)
        height = min(4 * _VIEW_HEIGHT, int(_VIEW_HEIGHT * 0.95 / distance))
        rows = np.arange(_VIEW_HEIGHT)
        inside = rows[abs(rows - _VIEW_HEIGHT // 2) * 2 < height]
        v = ((inside - (_VIEW_HEIGHT - height) // 2) * 32 // height) % 32
        u = int((y if is_side else x) * 32) % 32
        pixels[inside, column] = textures[is_side][v, u] * min(1.0, 1.25 / (0.6 + 0.35 * distance))
        distances[column] = distance
    image.paste(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)))
    return distances


def _demon(pen: ImageDraw.ImageDraw, rng: random.Random, x: int, foot: int, height: float) -> None:
    skin = _paint(rng)
    dark, half, top = _shade(skin, 0.55), height * 0.30, foot - height
    pen.polygon([(x - half, foot), (x - half * 0.5, foot - height * 0.4), (x - half * 0.1, foot)], fill=dark)
    pen.polygon([(x + half, foot), (x + half * 0.5, foot - height * 0.4), (x + half * 0.1, foot)], fill=dark)
    pen.ellipse((x - half, top + height * 0.22, x + half, foot - height * 0.2), fill=skin)
    for side in (-1, 1):
        pen.polygon(
            [
                (x + side * half * 0.9, top + height * 0.4),
                (x + side * half * 1.7, top + height * 0.75),
                (x + side * half * 1.2, top + height * 0.78),
            ],
            fill=skin,
        )
        pen.polygon(
            [
                (x + side * half * 0.5, top + height * 0.12),
                (x + side * half * 1.0, top - height * 0.06),
                (x + side * half * 0.2, top + height * 0.04),
            ],
            fill=(232, 220, 190),
        )
    pen.ellipse((x - half * 0.62, top, x + half * 0.62, top + height * 0.34), fill=_shade(skin, 1.15))
    eye = rng.choice([(255, 232, 64), (255, 64, 32), (120, 255, 120)])
    for side in (-0.3, 0.3):
        pen.rectangle(
            (x + half * side - 1, top + height * 0.12, x + half * side + 1, top + height * 0.12 + 2), fill=eye
        )
    mouth = top + height * 0.22
    pen.rectangle((x - half * 0.4, mouth, x + half * 0.4, mouth + height * 0.07), fill=(40, 8, 8))
    for tooth in range(4):
        left = x - half * 0.4 + tooth * half * 0.2
        pen.polygon(
            [(left, mouth), (left + half * 0.2, mouth), (left + half * 0.1, mouth + height * 0.06)],
            fill=(240, 240, 220),
        )


def _weapon(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
    x, metal = 80 + rng.randrange(-8, 9), _paint(rng)
    width = rng.choice((5, 7, 10))
    pen.polygon(
        [
            (x - width, _VIEW_HEIGHT - 26),
            (x + width, _VIEW_HEIGHT - 26),
            (x + width * 2, _VIEW_HEIGHT),
            (x - width * 2, _VIEW_HEIGHT),
        ],
        fill=metal,
    )
    pen.polygon(
        [
            (x - width // 2, _VIEW_HEIGHT - 26),
            (x, _VIEW_HEIGHT - 26),
            (x - width // 2, _VIEW_HEIGHT),
            (x - width, _VIEW_HEIGHT),
        ],
        fill=_shade(metal, 1.4),
    )
    pen.ellipse((x - 3, _VIEW_HEIGHT - 29, x + 3, _VIEW_HEIGHT - 24), fill=(24, 24, 28))
    if rng.random() < 0.3:
        points = [
            (
                x + math.cos(k * 0.63) * (12 if k % 2 else 5),
                _VIEW_HEIGHT - 30 + math.sin(k * 0.63) * (12 if k % 2 else 5),
            )
            for k in range(10)
        ]
        pen.polygon([(round(a), round(b)) for a, b in points], fill=(255, 220, 96))


_DIGITS = {
    "0": "757",
    "1": "262",
    "2": "647",
    "3": "747",
    "4": "571",
    "5": "763",
    "6": "467",
    "7": "711",
    "8": "777",
    "9": "771",
    "%": "525",
}  # Three rows of three bits: coarse, but figures.


def _status_bar(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
    grey = _paint(rng)
    pen.rectangle((0, _VIEW_HEIGHT, 159, 99), fill=grey)
    for left, value in (
        (4, f"{rng.randrange(0, 300)}"),
        (38, f"{rng.randrange(1, 200)}%"),
        (104, f"{rng.randrange(0, 200)}%"),
    ):
        pen.rectangle((left - 2, _VIEW_HEIGHT + 1, left + 28, 98), outline=_shade(grey, 0.6))
        for number, digit in enumerate(value):
            for row, bits in enumerate(_DIGITS[digit]):
                for bit in range(3):
                    if int(bits) >> (2 - bit) & 1:
                        a, b = left + number * 7 + bit * 2, _VIEW_HEIGHT + 4 + row * 3
                        pen.rectangle((a, b, a + 1, b + 2), fill=(188, 28, 20))
    pen.rectangle((74, _VIEW_HEIGHT + 1, 88, 98), fill=_shade(grey, 0.5))
    pen.ellipse((76, _VIEW_HEIGHT + 2, 86, 98), fill=(204, 152, 112))
    for eye in (78, 83):
        pen.rectangle((eye, _VIEW_HEIGHT + 6, eye + 1, _VIEW_HEIGHT + 7), fill=(20, 20, 20))
    pen.line((78, 96, 84, 96 - rng.randrange(0, 3)), fill=(90, 30, 20))


# --- A village seen over a rolling horizon ----------------------------------------------------------------------------


def village(rng: random.Random, size: Size) -> Image.Image:
    """Round animals among houses and trees on a rolled ground, or in a room; sometimes one of them speaks."""
    if rng.random() < 0.25:
        return _room(rng, size)
    width, height = size
    sky, ground, leaves, accent = (_paint(rng) for _ in range(4))
    image = _gradient(size, _shade(sky, 0.85), _mix(sky, (255, 255, 255), 0.3))
    pen = ImageDraw.Draw(image)
    horizon = round(height * rng.uniform(0.18, 0.42))
    pen.ellipse((-width * 0.6, horizon, width * 1.6, height * 3), fill=ground)
    _grass(pen, rng, size, horizon, ground)
    if rng.random() < 0.5:
        _water(pen, rng, size, sky)
    things = sorted((rng.uniform(0.12, 0.95), rng.choice("tttthff")) for _ in range(rng.randrange(5, 11)))
    for depth, thing in things:
        x, foot = rng.uniform(0.02, 0.98) * width, horizon + depth * (height - horizon)
        scale = height * (0.10 + 0.22 * depth)
        {"t": _tree, "h": _house, "f": _flower}[thing](pen, rng, x, foot, scale, leaves, accent)
    for _ in range(rng.randrange(1, 4)):
        _villager(
            pen, rng, rng.uniform(0.15, 0.85) * width, height * rng.uniform(0.7, 0.98), height * rng.uniform(0.25, 0.45)
        )
    return image


def _grass(pen: ImageDraw.ImageDraw, rng: random.Random, size: Size, horizon: int, ground: Colour) -> None:
    darker, side = _shade(ground, 0.93), max(6, size[0] // 40)
    for row, y in enumerate(range(horizon + side, size[1], side * 2)):
        for x in range((row % 2) * side, size[0], side * 2):
            if rng.random() < 0.8:
                pen.polygon([(x, y), (x + side, y), (x + side // 2, y - side)], fill=darker)


def _water(pen: ImageDraw.ImageDraw, rng: random.Random, size: Size, sky: Colour) -> None:
    blue, x = _mix(sky, _paint(rng), 0.6), rng.uniform(-0.2, 0.9) * size[0]
    pen.ellipse((x, size[1] * 0.55, x + size[0] * 0.5, size[1] * 0.85), fill=_shade(blue, 1.2))
    pen.ellipse((x + size[0] * 0.02, size[1] * 0.565, x + size[0] * 0.48, size[1] * 0.84), fill=blue)


def _tree(
    pen: ImageDraw.ImageDraw, rng: random.Random, x: float, foot: float, scale: float, leaves: Colour, accent: Colour
) -> None:
    pen.rectangle((x - scale * 0.1, foot - scale * 0.5, x + scale * 0.1, foot), fill=_shade(accent, 0.5))
    for dx, dy, radius in ((-0.3, 0.6, 0.33), (0.3, 0.6, 0.33), (0.0, 0.9, 0.38)):
        a, b, r = x + dx * scale, foot - dy * scale, radius * scale
        pen.ellipse((a - r, b - r, a + r, b + r), fill=leaves)
        pen.ellipse((a - r * 0.6, b - r * 0.8, a + r * 0.2, b - r * 0.1), fill=_shade(leaves, 1.2))
    if rng.random() < 0.6:
        for dx, dy in ((-0.32, 0.6), (0.3, 0.52), (0.05, 0.92)):
            r = scale * 0.08
            pen.ellipse(
                (x + dx * scale - r, foot - dy * scale - r, x + dx * scale + r, foot - dy * scale + r), fill=accent
            )


def _house(
    pen: ImageDraw.ImageDraw, rng: random.Random, x: float, foot: float, scale: float, leaves: Colour, accent: Colour
) -> None:
    half, wall = scale * 0.7, _paint(rng)
    pen.rounded_rectangle((x - half, foot - scale * 0.8, x + half, foot), radius=scale * 0.12, fill=wall)
    pen.polygon(
        [(x - half * 1.25, foot - scale * 0.7), (x, foot - scale * 1.4), (x + half * 1.25, foot - scale * 0.7)],
        fill=accent,
    )
    pen.rounded_rectangle(
        (x - half * 0.25, foot - scale * 0.5, x + half * 0.25, foot), radius=scale * 0.1, fill=(120, 80, 56)
    )
    for side in (-0.65, 0.65):
        pen.ellipse(
            (x + half * side - scale * 0.12, foot - scale * 0.55, x + half * side + scale * 0.12, foot - scale * 0.31),
            fill=(250, 236, 160),
        )


def _flower(
    pen: ImageDraw.ImageDraw, rng: random.Random, x: float, foot: float, scale: float, leaves: Colour, accent: Colour
) -> None:
    pen.line((x, foot, x, foot - scale * 0.3), fill=leaves, width=max(1, round(scale * 0.05)))
    petal, r = _paint(rng), scale * 0.09
    for k in range(5):
        a, b = x + math.cos(k * 1.257) * r * 1.2, foot - scale * 0.35 + math.sin(k * 1.257) * r * 1.2
        pen.ellipse((a - r, b - r, a + r, b + r), fill=petal)
    pen.ellipse(
        (x - r * 0.6, foot - scale * 0.35 - r * 0.6, x + r * 0.6, foot - scale * 0.35 + r * 0.6), fill=(250, 230, 120)
    )


def _villager(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, foot: float, scale: float) -> None:
    fur, cloth = (
        _paint(rng),
        rng.choice([(90, 140, 200), (220, 100, 110), (250, 210, 110), (120, 180, 120)]),
    )
    r, head = scale * 0.34, foot - scale * 0.62
    ears = rng.choice(("round", "long", "pointed"))
    for side in (-1, 1):
        ear = x + side * r * 0.7
        if ears == "round":
            pen.ellipse((ear - r * 0.4, head - r * 1.25, ear + r * 0.4, head - r * 0.45), fill=fur)
        elif ears == "long":
            pen.rounded_rectangle(
                (ear - r * 0.22, head - r * 2.1, ear + r * 0.22, head - r * 0.4), radius=r * 0.2, fill=fur
            )
        else:
            pen.polygon(
                [
                    (ear - r * 0.35, head - r * 0.5),
                    (ear + side * r * 0.25, head - r * 1.5),
                    (ear + r * 0.35, head - r * 0.4),
                ],
                fill=fur,
            )
        pen.ellipse(
            (x + side * r * 0.55 - r * 0.2, foot - r * 0.25, x + side * r * 0.55 + r * 0.2, foot),
            fill=_shade(fur, 0.85),
        )
    pen.rounded_rectangle((x - r * 0.6, head + r * 0.6, x + r * 0.6, foot - r * 0.08), radius=r * 0.35, fill=cloth)
    pen.ellipse((x - r, head - r, x + r, head + r * 0.9), fill=fur)
    pen.ellipse((x - r * 0.45, head + r * 0.05, x + r * 0.45, head + r * 0.65), fill=_mix(fur, (255, 255, 255), 0.5))
    for side in (-0.45, 0.45):
        pen.ellipse(
            (x + r * side - r * 0.16, head - r * 0.35, x + r * side + r * 0.16, head + r * 0.12), fill=(36, 28, 28)
        )
        pen.ellipse(
            (x + r * side - r * 0.02, head - r * 0.28, x + r * side + r * 0.1, head - r * 0.12), fill=(255, 255, 255)
        )
    pen.ellipse((x - r * 0.12, head + r * 0.08, x + r * 0.12, head + r * 0.22), fill=(90, 50, 50))
    pen.arc(
        (x - r * 0.22, head + r * 0.15, x + r * 0.22, head + r * 0.5),
        20,
        160,
        fill=(90, 50, 50),
        width=max(1, round(r * 0.06)),
    )


def _room(rng: random.Random, size: Size) -> Image.Image:
    width, height = size
    wall, boards = _paint(rng), _paint(rng)
    image = Image.new("RGB", size, wall)
    pen = ImageDraw.Draw(image)
    floor, board = round(height * 0.45), max(8, height // 12)
    for row, y in enumerate(range(floor, height, board)):
        pen.rectangle((0, y, width, y + board), fill=_shade(boards, 0.9 + 0.12 * (row % 2)))
    for k in range(rng.randrange(2, 6)):
        x, w = rng.uniform(0, 0.85) * width, width * rng.uniform(0.1, 0.24)
        colour = _paint(rng)
        y = floor + (height - floor) * rng.uniform(-0.25, 0.5)
        pen.rounded_rectangle((x, y, x + w, y + w * 0.8), radius=w * 0.12, fill=colour)
        pen.rounded_rectangle(
            (x + w * 0.1, y + w * 0.1, x + w * 0.9, y + w * (0.4 if k % 2 else 0.3)),
            radius=w * 0.06,
            fill=_shade(colour, 1.2),
        )
    pen.ellipse((width * 0.25, height * 0.68, width * 0.75, height * 0.95), fill=_mix(wall, (220, 90, 90), 0.5))
    for _ in range(rng.randrange(1, 4)):
        _villager(
            pen, rng, rng.uniform(0.2, 0.8) * width, height * rng.uniform(0.75, 0.96), height * rng.uniform(0.3, 0.48)
        )
    return image


# --- Wide land under a big sky, drawn like an animated film -----------------------------------------------------------


def adventure(rng: random.Random, size: Size) -> Image.Image:
    """Floating islands and towers under a big sky, a figure with long hair and cape, party list and element icons."""
    width, height = size
    top, low = rng.choice(
        [
            ((92, 150, 226), (220, 236, 250)),
            ((70, 60, 130), (250, 170, 150)),
            ((24, 30, 70), (96, 110, 170)),
            ((120, 190, 180), (250, 240, 200)),
        ]
    )
    image = _gradient(size, top, low)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randrange(3, 7)):
        _cloud(pen, rng, size, _mix(low, (255, 255, 255), 0.5))
    for k in range(4):
        _ridge(pen, rng, size, 0.5 + 0.12 * k, _mix(low, rng.choice([(60, 110, 90), (90, 130, 70)]), 0.25 + 0.22 * k))
    for _ in range(rng.randrange(1, 4)):
        _island(pen, rng, size)
    if rng.random() < 0.3:
        _star_streaks(pen, rng, size)
    _heroine(pen, rng, width * rng.uniform(0.3, 0.6), height * rng.uniform(0.92, 1.05), height * rng.uniform(0.45, 0.7))
    if rng.random() < 0.8:
        _party_list(pen, rng, size)
    return image


def _cloud(pen: ImageDraw.ImageDraw, rng: random.Random, size: Size, colour: Colour) -> None:
    x, y, r = rng.uniform(0, 1) * size[0], rng.uniform(0.05, 0.45) * size[1], size[1] * rng.uniform(0.03, 0.08)
    for k in range(5):
        pen.ellipse((x + k * r - r, y - r * (1 - abs(k - 2) * 0.25), x + k * r + r, y + r * 0.6), fill=colour)


def _ridge(pen: ImageDraw.ImageDraw, rng: random.Random, size: Size, level: float, colour: Colour) -> None:
    heights = [level + rng.uniform(-0.08, 0.06) for _ in range(9)]
    points = [(size[0] * k / 8, size[1] * share) for k, share in enumerate(heights)]
    pen.polygon([(0, size[1]), *points, (size[0], size[1])], fill=colour)


def _island(pen: ImageDraw.ImageDraw, rng: random.Random, size: Size) -> None:
    x, y, w = rng.uniform(0.05, 0.8) * size[0], rng.uniform(0.12, 0.4) * size[1], size[0] * rng.uniform(0.08, 0.2)
    pen.polygon(
        [(x, y), (x + w, y), (x + w * 0.7, y + w * 0.35), (x + w * 0.45, y + w * 0.6), (x + w * 0.2, y + w * 0.3)],
        fill=(124, 104, 96),
    )
    pen.ellipse((x - w * 0.04, y - w * 0.1, x + w * 1.04, y + w * 0.1), fill=(116, 176, 96))
    for k in range(rng.randrange(1, 4)):
        left, tall = x + w * (0.2 + 0.22 * k), w * rng.uniform(0.2, 0.6)
        pen.rectangle((left, y - tall, left + w * 0.1, y), fill=(226, 216, 200))
        pen.polygon(
            [(left - w * 0.03, y - tall), (left + w * 0.05, y - tall - w * 0.16), (left + w * 0.13, y - tall)],
            fill=(90, 110, 170),
        )


def _star_streaks(pen: ImageDraw.ImageDraw, rng: random.Random, size: Size) -> None:
    for _ in range(rng.randrange(2, 7)):
        x, y, far = rng.uniform(0.2, 1) * size[0], rng.uniform(0, 0.4) * size[1], size[0] * rng.uniform(0.15, 0.4)
        colour = rng.choice([(255, 220, 120), (200, 150, 250), (150, 200, 255)])
        pen.polygon([(x, y), (x - far, y + far * 0.6), (x - far * 0.97, y + far * 0.6 + size[1] * 0.015)], fill=colour)
        pen.regular_polygon((x - far, y + far * 0.6, max(3, size[1] * 0.02)), 4, rotation=45, fill=(255, 255, 255))


def _heroine(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, foot: float, scale: float) -> None:
    hair = rng.choice([(246, 220, 130), (150, 90, 60), (110, 150, 220), (230, 110, 90), (240, 240, 250), (90, 70, 130)])
    cloth, trim = rng.choice(
        [
            ((250, 246, 236), (90, 130, 200)),
            ((70, 70, 96), (220, 180, 90)),
            ((150, 60, 60), (240, 220, 180)),
            ((80, 140, 110), (245, 240, 220)),
        ]
    )
    head, r, sway = foot - scale * 0.86, scale * 0.10, scale * rng.uniform(-0.2, 0.2)
    pen.polygon(
        [
            (x - r * 0.6, foot - scale * 0.7),
            (x + r * 0.6, foot - scale * 0.7),
            (x + sway + scale * 0.22, foot - scale * 0.15),
            (x + sway - scale * 0.22, foot - scale * 0.12),
        ],
        fill=trim,
    )
    pen.polygon(
        [
            (x - r, head - r * 0.3),
            (x + r, head - r * 0.3),
            (x + r * 1.5 + sway, foot - scale * 0.36),
            (x - r * 1.3 + sway, foot - scale * 0.4),
        ],
        fill=hair,
    )
    for side in (-1, 1):
        pen.polygon(
            [
                (x + side * r * 0.2, foot - scale * 0.4),
                (x + side * r * 0.9, foot - scale * 0.4),
                (x + side * r * 0.8, foot),
                (x + side * r * 0.35, foot),
            ],
            fill=_shade(cloth, 0.6),
        )
        pen.line(
            (x + side * r * 0.7, foot - scale * 0.66, x + side * r * 2.0, foot - scale * 0.42),
            fill=cloth,
            width=max(2, round(r * 0.5)),
        )
    pen.polygon(
        [
            (x - r * 0.9, foot - scale * 0.72),
            (x + r * 0.9, foot - scale * 0.72),
            (x + r * 1.6, foot - scale * 0.34),
            (x - r * 1.6, foot - scale * 0.34),
        ],
        fill=cloth,
    )
    pen.polygon(
        [
            (x - r * 0.9, foot - scale * 0.72),
            (x, foot - scale * 0.72),
            (x - r * 0.4, foot - scale * 0.34),
            (x - r * 1.6, foot - scale * 0.34),
        ],
        fill=_shade(cloth, 0.82),
    )
    pen.ellipse((x - r * 0.85, head - r * 0.9, x + r * 0.85, head + r), fill=(252, 226, 206))
    pen.pieslice((x - r, head - r * 1.15, x + r, head + r * 0.9), 180, 360, fill=hair)
    for k in range(-2, 3):
        pen.polygon(
            [
                (x + k * r * 0.4 - r * 0.25, head - r * 0.2),
                (x + k * r * 0.4 + r * 0.25, head - r * 0.2),
                (x + k * r * 0.42, head + r * 0.15),
            ],
            fill=hair,
        )
    for side in (-0.4, 0.4):
        pen.ellipse((x + r * side - r * 0.14, head + r * 0.1, x + r * side + r * 0.14, head + r * 0.48), fill=trim)


def _party_list(pen: ImageDraw.ImageDraw, rng: random.Random, size: Size) -> None:
    width, height = size
    r = height * 0.035
    for k in range(4):
        y = height * (0.25 + 0.11 * k)
        pen.rounded_rectangle((width * 0.84, y - r, width * 0.985, y + r), radius=r, fill=(60, 66, 84))
        pen.ellipse((width * 0.95 - r, y - r, width * 0.95 + r, y + r), fill=_paint(rng), outline=(255, 255, 255))
        pen.rectangle(
            (width * 0.855, y + r * 0.2, width * (0.86 + 0.05 * rng.random()), y + r * 0.5), fill=(140, 220, 90)
        )
    for k in range(7):
        x, colour = (
            width * (0.3 + 0.06 * k),
            [
                (226, 90, 60),
                (80, 170, 240),
                (110, 210, 180),
                (190, 120, 230),
                (150, 210, 80),
                (170, 220, 240),
                (230, 180, 70),
            ][k],
        )
        pen.ellipse(
            (x - r * 0.6, height * 0.05 - r * 0.6, x + r * 0.6, height * 0.05 + r * 0.6),
            outline=colour,
            width=max(2, round(r * 0.25)),
        )


# --- Something else ---------------------------------------------------------------------------------------------------


def unrelated(rng: random.Random, size: Size) -> Image.Image:
    """A picture of no game: hills in haze, noise, a plain colour, a chart, or blurred lights."""
    return rng.choice((_hills, _hills, _lights, _lights, _chart, _noise, _plain))(rng, size)


def _hills(rng: random.Random, size: Size) -> Image.Image:
    noise = np.random.default_rng(rng.getrandbits(32))
    image = _gradient(size, rng.choice([(120, 160, 210), (240, 190, 140), (160, 170, 180)]), (236, 226, 214))
    pen = ImageDraw.Draw(image)
    for k in range(5):
        walk = np.cumsum(noise.normal(0, 1, 60))
        walk = (walk - walk.mean()) / (walk.std() + 1e-6) * size[1] * 0.04 + size[1] * (0.4 + 0.13 * k)
        points = [(size[0] * i / 59, float(y)) for i, y in enumerate(walk)]
        shade = 200 - 36 * k
        pen.polygon([(0, size[1]), *points, (size[0], size[1])], fill=(shade - 30, shade, shade - 10))
    return image.filter(ImageFilter.GaussianBlur(max(1, size[0] // 300)))


def _lights(rng: random.Random, size: Size) -> Image.Image:
    image = Image.new("RGB", size, rng.choice([(24, 20, 30), (60, 40, 30), (20, 40, 60)]))
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        x, y, r = rng.uniform(0, 1) * size[0], rng.uniform(0, 1) * size[1], size[1] * rng.uniform(0.02, 0.12)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=tuple(rng.randrange(60, 256) for _ in range(3)))
    return image.filter(ImageFilter.GaussianBlur(max(2, size[0] // 60)))


def _chart(rng: random.Random, size: Size) -> Image.Image:
    image = Image.new("RGB", size, (252, 252, 250))
    pen = ImageDraw.Draw(image)
    n = rng.randrange(4, 12)
    for k in range(n):
        x, top = size[0] * (0.1 + 0.8 * k / n), size[1] * rng.uniform(0.15, 0.8)
        pen.rectangle((x, top, x + size[0] * 0.6 / n, size[1] * 0.9), fill=rng.choice([(70, 120, 180), (220, 120, 60)]))
    pen.line((size[0] * 0.08, size[1] * 0.9, size[0] * 0.95, size[1] * 0.9), fill=(40, 40, 40), width=2)
    return image


def _noise(rng: random.Random, size: Size) -> Image.Image:
    cells = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (size[1] // 4 + 1, size[0] // 4 + 1, 3))
    return Image.fromarray(cells.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)


def _plain(rng: random.Random, size: Size) -> Image.Image:
    return Image.new("RGB", size, tuple(rng.randrange(0, 256) for _ in range(3)))
