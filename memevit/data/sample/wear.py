"""What happens to an image as it is passed on: tints, greys, over-saturation, crops and new sizes."""

import random

from PIL import Image, ImageChops, ImageEnhance

_LARGE_SIDE_PX = 3000


def worn(image: Image.Image, rng: random.Random) -> Image.Image:
    """A tint, another brightness, greys, or far too much of everything; a third stays as it is."""
    if rng.random() < 0.15:
        image = _lit(image, rng)
    chance = rng.random()
    if chance < 0.10:
        image = image.convert("L").convert("RGB")
    elif chance < 0.20:
        image = _deep_fried(image, rng)
    elif chance < 0.45:
        tint = Image.new("RGB", image.size, (rng.randrange(256), rng.randrange(256), rng.randrange(256)))
        image = Image.blend(image, tint, rng.randrange(8, 30) / 100)
    elif chance < 0.70:
        image = ImageEnhance.Brightness(image).enhance(rng.randrange(55, 135) / 100)
    if rng.random() < 0.08:
        image = _shrunk_and_back(image, rng)
    if rng.random() < 0.012:
        scale = _LARGE_SIDE_PX / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    return image


def _lit(image: Image.Image, rng: random.Random) -> Image.Image:
    """The image with light falling in from a corner, as in a photo of a screen."""
    light = Image.new("L", (2, 2))
    light.putdata([rng.randrange(110, 256) for _ in range(4)])
    return ImageChops.multiply(image, light.resize(image.size, Image.Resampling.BILINEAR).convert("RGB"))


def _deep_fried(image: Image.Image, rng: random.Random) -> Image.Image:
    """Colour and contrast far beyond taste."""
    image = ImageEnhance.Color(image).enhance(rng.choice((2.0, 3.0, 4.0)))
    return ImageEnhance.Contrast(image).enhance(rng.choice((1.4, 1.8)))


def _shrunk_and_back(image: Image.Image, rng: random.Random) -> Image.Image:
    """The softness of a thumbnail that was blown up again."""
    part = rng.randrange(3, 6)
    small = image.resize((max(24, image.width // part), max(24, image.height // part)), Image.Resampling.BILINEAR)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def reposted(image: Image.Image, rng: random.Random) -> Image.Image:
    """The same image again: another size and up to 2 % of each edge gone."""
    width, height = image.size
    left, top, right, bottom = (rng.randrange(21) for _ in range(4))  # In thousandths.
    box = (width * left // 1000, height * top // 1000, width - width * right // 1000, height - height * bottom // 1000)
    part, percent = image.crop(box), rng.randrange(50, 121)
    size = (max(32, part.width * percent // 100), max(32, part.height * percent // 100))
    return part.resize(size, Image.Resampling.BICUBIC)
