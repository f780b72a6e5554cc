"""Files of the kinds that break loaders: odd modes, turned, animated, misnamed, huge, tiny and broken ones."""

import io
import random
from collections.abc import Callable
from typing import Protocol

from PIL import Image

from memevit.data.sample import memes, scenes


class Folder(Protocol):
    """What the awkward files are added to."""

    class_name: str

    def add(self, content: bytes, suffix: str, *, stem: str | None = None) -> None:
        """Write one more file."""


Maker = Callable[[Image.Image], bytes]


def _saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, image_format, **options)
    return content.getvalue()


def _transparent(image: Image.Image) -> Image.Image:
    """The picture in an ellipse, nothing around it."""
    cut = image.convert("RGBA")
    mask = Image.new("L", image.size, 0)
    mask.paste(255, (image.width // 8, image.height // 8, image.width * 7 // 8, image.height * 7 // 8))
    cut.putalpha(mask)
    return cut


def _turned(image: Image.Image) -> bytes:
    """Stored on its side, with the EXIF tag that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return _saved(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=88, exif=exif)


def _animated(image: Image.Image, image_format: str) -> bytes:
    frames = [image.resize((240, 180)), image.rotate(6).resize((240, 180)), image.rotate(-6).resize((240, 180))]
    return _saved(frames[0], image_format, save_all=True, append_images=frames[1:], duration=200, loop=0)


def _grey_16_bit(image: Image.Image) -> bytes:
    import numpy as np

    levels = np.asarray(image.convert("L")).astype(np.uint16) * 257
    return _saved(Image.fromarray(levels), "PNG")


# Kind: how it is made, suffix, name; the first list goes to the first class, the second to the second.
_KINDS: tuple[dict[str, tuple[Maker, str, str | None]], ...] = (
    {
        "palette": (lambda image: _saved(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"), "png", None),
        "transparent": (lambda image: _saved(_transparent(image), "PNG"), "png", None),
        "CMYK": (lambda image: _saved(image.convert("CMYK"), "JPEG", quality=85), "jpg", None),
        "turned": (_turned, "jpg", None),
        "animated GIF": (lambda image: _animated(image, "GIF"), "gif", None),
        "upper-case suffix": (lambda image: _saved(image, "JPEG", quality=85), "JPG", None),
        "unicode name": (lambda image: _saved(image, "JPEG", quality=85), "jpg", "höllisch gut 😈"),
        "name with test": (lambda image: _saved(image, "JPEG", quality=85), "jpg", "stress test 1"),
        "tiny": (lambda image: _saved(image.resize((48, 40)), "PNG"), "png", None),
        "truncated": (lambda image: _saved(image, "JPEG", quality=85)[:4000], "jpg", None),
        "page": (lambda image: b"<!DOCTYPE html><html><body><h1>404</h1>Not found</body></html>\n", "jpg", None),
    },
    {
        "grey with alpha": (lambda image: _saved(_transparent(image).convert("LA"), "PNG"), "png", None),
        "one bit": (lambda image: _saved(image.convert("1"), "PNG"), "png", None),
        "16-bit grey": (_grey_16_bit, "png", None),
        "animated WEBP": (lambda image: _animated(image, "WEBP"), "webp", None),
        "misnamed": (lambda image: _saved(image, "PNG", compress_level=3), "jpg", None),
        "name with train": (lambda image: _saved(image, "JPEG", quality=85), "jpeg", "train-ride validation"),
        "very tall": (lambda image: _saved(_tall(image), "JPEG", quality=80), "jpg", None),
        "large": (lambda image: _saved(image.resize((3200, 2400)), "JPEG", quality=80), "jpg", None),
        "empty": (lambda image: b"", "png", None),
    },
)


def _tall(image: Image.Image) -> Image.Image:
    """A screenshot that was scrolled for long."""
    strip = image.resize((600, 500))
    tall = Image.new("RGB", (600, 4000))
    for number in range(8):
        tall.paste(strip if number % 2 else strip.transpose(Image.Transpose.ROTATE_180), (0, 500 * number))
    return tall


def add_to(folder: Folder, rng: random.Random, *, is_first: bool) -> None:
    """Add one file of each kind that this class gets."""
    scene = scenes.corridor if folder.class_name == "doom" else scenes.village
    for make, suffix, stem in _KINDS[0 if is_first else 1].values():
        image = memes.captioned(scene, rng, rng, folder.class_name).resize((600, 450))
        folder.add(make(image), suffix, stem=stem)
