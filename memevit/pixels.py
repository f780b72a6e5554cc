"""One way from a file to RGB pixels, for training, evaluation, sorting and the web page alike.

The rules are those of `pipeline("image-classification")`: EXIF rotation applied, first frame, RGB. Two cases where
that pipeline loses information differ: transparency is laid on white (it drops the alpha channel) and 16-bit grey is
scaled (it clips).
"""

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

# A decoded RGB picture of this size takes 270 MB; Pillow's own warning starts at the same number.
MAX_IMAGE_PIXELS = 89_478_485
_PROGRAMS = {"EPS", "WMF"}  # Pillow would hand them to Ghostscript or to Windows.
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}
# How to turn a picture upright, by its EXIF orientation. `ImageOps.exif_transpose` gives the same pixels, but fails on
# photos whose other EXIF tags can't be written back.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_16_BIT_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}


class UnreadableImageError(Exception):
    """The file is no picture we can decode; the text says why, in words for `manifest.csv`."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture and what it was in the file.

    `image` is RGB, upright. `width_px` and `height_px` are those of the upright original, which `image` may fall short
    of when it was decoded at reduced scale.
    """

    image: Image.Image
    image_format: str
    mode: str
    width_px: int
    height_px: int
    n_frames: int
    is_rotated: bool
    has_transparency: bool
    has_metadata: bool


def load_image(source: Path | BinaryIO) -> Image.Image:
    """The upright RGB pixels of the first frame of `source`, at full size.

    Raises:
        UnreadableImageError: not a picture, damaged, or larger than `MAX_IMAGE_PIXELS`.
    """
    return load_picture(source).image


def load_picture(source: Path | BinaryIO, *, at_least_px: int | None = None) -> Picture:
    """Decode `source` completely.

    Args:
        source: a path or an open binary file.
        at_least_px: when set, a JPEG may be decoded at 1/2, 1/4 or 1/8 scale as long as its longer side stays at or
            above this number of pixels.

    Raises:
        UnreadableImageError: not a picture, damaged, or larger than `MAX_IMAGE_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels decide here.
            with Image.open(source) as file:
                return _decode(file, at_least_px)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError(_unidentified(source)) from None
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UnreadableImageError(f"can't be opened: {error.strerror}") from None
    except Image.DecompressionBombError:
        raise UnreadableImageError(f"more than {2 * MAX_IMAGE_PIXELS:,} pixels") from None
    except Exception as error:
        # On damaged files Pillow's decoders raise whatever their code happens to: a fuzzer saw struct.error,
        # AttributeError, RuntimeError, NotImplementedError and ZeroDivisionError besides those that one expects.
        raise UnreadableImageError(f"damaged: {error}" if str(error) else "damaged") from error


def _unidentified(source: Path | BinaryIO) -> str:
    """What a file is that no decoder knows; a HEIC photo is one where Pillow has no plugin for it."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        file.seek(0)
        start = file.read(12)
    return "HEIC, which Pillow can't decode" if start[4:8] == b"ftyp" and start[8:] in _HEIC_BRANDS else "not an image"


def _decode(file: Image.Image, at_least_px: int | None) -> Picture:
    if file.format in _PROGRAMS:
        raise UnreadableImageError(f"{file.format} is a program that draws, not a picture")
    width_px, height_px = file.size
    if width_px * height_px > MAX_IMAGE_PIXELS:
        raise UnreadableImageError(f"{width_px}x{height_px} is more than {MAX_IMAGE_PIXELS:,} pixels")
    image_format, mode = file.format or "unknown", file.mode
    n_frames = _count_frames(file)
    if at_least_px is not None and image_format == "JPEG":
        _decode_smaller(file, at_least_px)
    file.load()
    turn = _UPRIGHT.get(_orientation(file))
    upright = file if turn is None else file.transpose(turn)
    if upright.size != file.size:
        width_px, height_px = height_px, width_px
    has_metadata = bool(getattr(file, "text", None)) or any(  # PNG alone has texts.
        key in file.info for key in ("exif", "xmp", "photoshop", "comment")
    )
    return Picture(
        image=to_rgb(upright),
        image_format=image_format,
        mode=mode,
        width_px=width_px,
        height_px=height_px,
        n_frames=n_frames,
        is_rotated=turn is not None,
        has_transparency=file.has_transparency_data,
        has_metadata=has_metadata,
    )


def _orientation(file: Image.Image) -> int:
    """The EXIF tag, 1 (upright) where the EXIF data is damaged: the pixels are still fine."""
    try:
        return file.getexif().get(0x0112, 1)
    except Exception:  # As in `load_picture`.
        return 1


def _count_frames(file: Image.Image) -> int:
    """Frames in the file, 1 where the later ones are damaged: only the first is ever used."""
    try:
        n_frames = getattr(file, "n_frames", 1)
        file.seek(0)
    except (EOFError, OSError, SyntaxError, ValueError):
        return 1
    return n_frames


def _decode_smaller(file: Image.Image, at_least_px: int) -> None:
    longest = max(file.size)
    for scale in (8, 4, 2):
        if longest // scale >= at_least_px:
            file.draft("RGB" if file.mode == "RGB" else file.mode, (file.width // scale, file.height // scale))
            return


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` in RGB, with transparency on white and 16-bit grey scaled to 8 bits."""
    if image.mode in _GREY_16_BIT_MODES or (image.mode == "I" and image.getextrema()[1] > 255):
        return _scaled_grey(image).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")  # Which would copy.


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    if rgba.getextrema()[3] == (255, 255):  # An alpha channel that hides nothing.
        return rgba.convert("RGB")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _scaled_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    return Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))
