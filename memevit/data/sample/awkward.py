"""Files of the kinds that break loaders: odd modes, turned, animated, misnamed, huge, tiny and broken ones."""

import io
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, features

_EXIF_ORIENTATION = 0x0112
_TRUNCATED_BYTES = 4000
_NOT_AN_IMAGE = b"<!DOCTYPE html><html><body><h1>404</h1>Not found</body></html>\n"


class Awkward(NamedTuple):
    """One awkward file: what is done to an image of 600x450 px, the suffix, and the name if it matters."""

    make: Callable[[Image.Image], bytes]
    suffix: str
    stem: str | None = None


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    """The bytes of a file that holds `image`."""
    content = io.BytesIO()
    image.save(content, image_format, **options)
    return content.getvalue()


def _jpeg(image: Image.Image) -> bytes:
    return saved(image, "JPEG", quality=85)


def _png(image: Image.Image) -> bytes:
    return saved(image, "PNG", compress_level=3)


def _transparent(image: Image.Image) -> Image.Image:
    """The image with nothing around it."""
    cut, mask = image.convert("RGBA"), Image.new("L", image.size, 0)
    mask.paste(255, (image.width // 8, image.height // 8, image.width * 7 // 8, image.height * 7 // 8))
    cut.putalpha(mask)
    return cut


def _turned(image: Image.Image) -> bytes:
    """Stored on its side, with the EXIF tag that says so."""
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = 6
    return saved(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=88, exif=exif)


def _animated(image: Image.Image, image_format: str) -> bytes:
    small = image.resize((240, 180))
    frames = [small, small.rotate(6), small.rotate(-6)]
    return saved(frames[0], image_format, save_all=True, append_images=frames[1:], duration=200, loop=0)


def _grey_16_bit(image: Image.Image) -> bytes:
    return _png(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257))


def _tall(image: Image.Image) -> Image.Image:
    """A screenshot that was scrolled for long."""
    strip = image.resize((600, 500))
    tall = Image.new("RGB", (600, 4000))
    for number in range(8):
        tall.paste(strip if number % 2 else strip.transpose(Image.Transpose.ROTATE_180), (0, 500 * number))
    return tall


# The first list goes to the first class, the second to the second; 17 kinds that decode and 3 that don't.
KINDS: tuple[dict[str, Awkward], ...] = (
    {
        "palette": Awkward(lambda image: _png(image.convert("P", palette=Image.Palette.ADAPTIVE)), "png"),
        "transparent": Awkward(lambda image: _png(_transparent(image)), "png"),
        "CMYK": Awkward(lambda image: _jpeg(image.convert("CMYK")), "jpg"),
        "turned": Awkward(_turned, "jpg"),
        "animated GIF": Awkward(lambda image: _animated(image, "GIF"), "gif"),
        "upper-case suffix": Awkward(_jpeg, "JPG"),
        "unicode name": Awkward(_jpeg, "jpg", "höllisch gut 😈"),
        "name with test": Awkward(_jpeg, "jpg", "stress test 1"),
        "tiny": Awkward(lambda image: _png(image.resize((48, 40))), "png"),
        "truncated": Awkward(lambda image: _jpeg(image)[:_TRUNCATED_BYTES], "jpg"),
        "page": Awkward(lambda image: _NOT_AN_IMAGE, "jpg"),
    },
    {
        "grey with alpha": Awkward(lambda image: _png(_transparent(image).convert("LA")), "png"),
        "one bit": Awkward(lambda image: _png(image.convert("1")), "png"),
        "16-bit grey": Awkward(_grey_16_bit, "png"),
        "animated WEBP": Awkward(lambda image: _animated(image, "WEBP" if features.check("webp") else "GIF"), "webp"),
        "misnamed": Awkward(_png, "jpg"),
        "name with train": Awkward(_jpeg, "jpeg", "train-ride validation"),
        "very tall": Awkward(lambda image: _jpeg(_tall(image)), "jpg"),
        "large": Awkward(lambda image: _jpeg(image.resize((3200, 2400))), "jpg"),
        "empty": Awkward(lambda image: b"", "png"),
    },
)


BROKEN = ("truncated", "page", "empty")


def files(kinds: dict[str, Awkward], image_of: Callable[[str], Image.Image]) -> Iterator[tuple[bytes, str, str | None]]:
    """Content, suffix and name of one file of each of `kinds`."""
    for name, kind in kinds.items():
        yield kind.make(image_of(name).resize((600, 450))), kind.suffix, kind.stem
