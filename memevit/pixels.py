"""One way from a file to RGB pixels, for training, evaluation, sorting and the web page alike.

The rules are those of `pipeline("image-classification")`: EXIF rotation applied, first frame, RGB, no colour
management (an ICC profile is ignored). Two cases where that pipeline loses information differ: transparency is
composited on white (it drops the alpha channel), and grey values of 16 bits or of floats are scaled (it clips them).
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

# A decoded RGB image of this size takes 270 MB; Pillow's own warning starts at the same number.
MAX_IMAGE_PIXELS = 89_478_485
_PROGRAMS = {"EPS", "WMF"}  # Pillow would hand them to Ghostscript or to Windows.
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}
# How to rotate an image upright, by its EXIF orientation. `ImageOps.exif_transpose` gives the same pixels, but fails on
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
_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE = 258, 281  # TIFF tags.
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"sBIT", b"eXIf", b"IDAT", b"IEND"}
_BRIGHTEST_EXPOSURE = 16.0  # A floating-point value above it counts levels and is no light relative to white.


class UnreadableImageError(Exception):
    """The file is not an image that can be decoded; the text says why, in words for `manifest.csv`."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image and what it was in the file.

    `image` is RGB and upright. `width_px` and `height_px` are those of the upright original, which is larger than
    `image` where that was decoded at reduced scale. `notes` say in words what was converted, with loss or by a guess.
    """

    image: Image.Image
    image_format: str
    mode: str
    width_px: int
    height_px: int
    n_frames: int
    is_rotated: bool
    has_transparency: bool
    notes: tuple[str, ...]


def load_image(source: Path | BinaryIO) -> Image.Image:
    """The upright RGB pixels of the first frame of `source`, at full size.

    Raises:
        UnreadableImageError: not an image, damaged, or larger than `MAX_IMAGE_PIXELS`.
    """
    return decode(source).image


def decode(
    source: Path | BinaryIO, *, at_least_px: int | None = None, shorter_at_least_px: int | None = None
) -> DecodedImage:
    """Decode the first frame of `source` completely.

    Args:
        source: a path or an open binary file.
        at_least_px: when set, a JPEG may be decoded at 1/2, 1/4 or 1/8 scale as long as its longer side stays at or
            above this number of pixels.
        shorter_at_least_px: the same for its shorter side.

    Raises:
        UnreadableImageError: not an image, damaged, or larger than `MAX_IMAGE_PIXELS`.
    """
    longer_and_shorter_px = (at_least_px, shorter_at_least_px)
    try:
        return _opened(source, longer_and_shorter_px)
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError:
        raise UnreadableImageError(f"more than {2 * MAX_IMAGE_PIXELS:,} pixels") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # Pillow's own errors have no number.
            raise UnreadableImageError(f"can't be opened: {error.strerror}") from None
        # On damaged files Pillow's decoders raise whatever their code happens to: a fuzzer saw struct.error,
        # AttributeError, RuntimeError, NotImplementedError and ZeroDivisionError besides those that one expects.
        with contextlib.suppress(Exception):  # The file may have gone meanwhile.
            if (essential := _essential_png(source)) is not None:
                return _opened(essential, longer_and_shorter_px)
        if isinstance(error, UnidentifiedImageError):
            raise UnreadableImageError(_unidentified(source)) from None
        raise UnreadableImageError(f"damaged: {error}" if str(error) else "damaged") from error


_Least = tuple[int | None, int | None]  # Pixels that the longer and the shorter side keep at least.


def _opened(source: Path | BinaryIO, least: _Least) -> DecodedImage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels decide here.
        with Image.open(source) as file:
            return _decoded(file, least)


@contextlib.contextmanager
def _bytes_of(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """`source` from its first byte."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        file.seek(0)
        yield file


def _unidentified(source: Path | BinaryIO) -> str:
    """What a file is that no decoder knows; a HEIC photo is one where Pillow has no plugin for it."""
    start = b""
    with contextlib.suppress(OSError), _bytes_of(source) as file:
        start = file.read(12)
    return "HEIC, which Pillow can't decode" if start[4:8] == b"ftyp" and start[8:] in _HEIC_BRANDS else "not an image"


def _essential_png(source: Path | BinaryIO) -> BinaryIO | None:
    """A PNG without the chunks that don't touch its pixels; None if `source` is none, or has no others.

    Pillow refuses a whole file for long or damaged texts, profiles and dates in it.
    """
    with _bytes_of(source) as file:
        if file.read(len(_PNG_SIGNATURE)) != _PNG_SIGNATURE:
            return None
        kept, is_smaller = [_PNG_SIGNATURE], False
        while len(start := file.read(8)) == 8:
            n_bytes, name = int.from_bytes(start[:4], "big"), start[4:]
            if name in _PIXEL_CHUNKS:
                kept += [start, file.read(n_bytes + 4)]
            else:
                file.seek(n_bytes + 4, 1)
                is_smaller = True
    return io.BytesIO(b"".join(kept)) if is_smaller else None


def _decoded(file: Image.Image, least: _Least) -> DecodedImage:
    if file.format in _PROGRAMS:
        raise UnreadableImageError(f"{file.format} files are programs that draw, not images")
    width_px, height_px = file.size
    if width_px * height_px > MAX_IMAGE_PIXELS:
        raise UnreadableImageError(f"{width_px}x{height_px} is more than {MAX_IMAGE_PIXELS:,} pixels")
    image_format, mode = file.format or "unknown", file.mode
    n_bits = _declared_bits(file) if mode in _GREY_16_BIT_MODES else 16
    if image_format == "JPEG":
        _decode_smaller(file, least)
    file.load()
    turn = _UPRIGHT.get(_orientation(file))
    upright = file if turn is None else file.transpose(turn)
    if upright.size != file.size:
        width_px, height_px = height_px, width_px
    has_transparency = file.has_transparency_data
    image, notes = _rgb(upright, n_bits)
    if image is file and isinstance(getattr(type(file), "n_frames", None), property):
        image = file.copy()  # Counting frames goes through the file and leaves other pixels in it.
    return DecodedImage(
        image=image,
        image_format=image_format,
        mode=mode,
        width_px=width_px,
        height_px=height_px,
        n_frames=_count_frames(file),
        is_rotated=turn is not None,
        has_transparency=has_transparency,
        notes=notes,
    )


def _declared_bits(file: Image.Image) -> int:
    """How many of the 16 bits of a grey value are used, as far as the file says: medical and scientific ones use 12."""
    if file.format == "TIFF":
        bits, highest = (file.tag_v2.get(tag, (16,)) for tag in (_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE))
        if bits[0] < 16:
            return bits[0]
        highest = highest if isinstance(highest, int) else highest[0]
        return highest.bit_length() if _MAX_SAMPLE_VALUE in file.tag_v2 and 255 < highest < 65535 else 16
    if file.format == "PNG":
        place = file.fp.tell()
        try:
            return _significant_bits(file.fp)
        finally:
            file.fp.seek(place)
    return 16


def _significant_bits(file: BinaryIO) -> int:
    """The first number in the sBIT chunk of a PNG, 16 where there is none."""
    file.seek(len(_PNG_SIGNATURE))
    while len(start := file.read(8)) == 8 and start[4:] != b"IDAT":
        if start[4:] == b"sBIT":
            return file.read(1)[0]
        file.seek(int.from_bytes(start[:4], "big") + 4, 1)
    return 16


def _orientation(file: Image.Image) -> int:
    """The EXIF tag, 1 (upright) where the EXIF data is damaged: the pixels are still fine."""
    try:
        return file.getexif().get(0x0112, 1)
    except Exception:  # As in `decode`.
        return 1


def _count_frames(file: Image.Image) -> int:
    """Frames in a file whose first one has been decoded, 1 where the later ones are damaged."""
    try:
        return getattr(file, "n_frames", 1)
    except Exception:  # As in `decode`.
        return 1


def _decode_smaller(file: Image.Image, least: _Least) -> None:
    sides = [(side, px) for side, px in zip((max(file.size), min(file.size)), least, strict=True) if px is not None]
    for scale in (8, 4, 2) if sides else ():
        if all(side // scale >= px for side, px in sides):
            file.draft("RGB" if file.mode == "RGB" else file.mode, (file.width // scale, file.height // scale))
            return


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` in RGB, transparency composited on white, grey of 16 bits and of floats scaled to 8 bits."""
    return _rgb(image, 16)[0]


def _rgb(image: Image.Image, n_bits: int) -> tuple[Image.Image, tuple[str, ...]]:
    """`image` in RGB, and what was done to its values.

    Args:
        image: in any mode.
        n_bits: of a grey value of 16 bits, how many are used.
    """
    if image.mode in _GREY_16_BIT_MODES or (image.mode == "I" and image.getextrema()[1] > 255):
        values = np.asarray(image).astype(np.float64)
        is_narrow = n_bits < 16 and values.max(initial=0) < 2**n_bits  # Else they fill the 16 bits, as PNG demands.
        highest = 2**n_bits - 1 if is_narrow else 65535 if values.max(initial=0) <= 65535 else values.max()
        return _grey(values * (256 / (highest + 1))), (f"{n_bits} bits in 16",) if is_narrow else ()
    if image.mode == "F":
        return _grey_of_floats(np.asarray(image))
    if image.has_transparency_data:
        return _on_white(image), ()
    return (image if image.mode == "RGB" else image.convert("RGB")), ()  # Which would copy.


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    if rgba.getextrema()[3] == (255, 255):  # An alpha channel that hides nothing.
        return rgba.convert("RGB")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    """An RGB image of grey `values`, the part after the point cut off."""
    return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")


def _grey_of_floats(values: np.ndarray) -> tuple[Image.Image, tuple[str, ...]]:
    """An image of floating-point grey, which declares no range.

    Values in 0..1 are fractions of white; whole numbers up to 255 or 65535 are those of 8 or 16 bits, and so are others
    too large for an exposure. Everything else is stretched from the lowest to the highest value. What is not finite is
    black.
    """
    finite = np.isfinite(values)
    values = np.where(finite, values, 0.0).astype(np.float64)
    low, high = values.min(initial=0.0), values.max(initial=0.0)
    is_integer_like = high > _BRIGHTEST_EXPOSURE or bool((values == np.rint(values)).all())
    if low >= 0.0 and high <= 1.0:
        return _grey(values * 255), ("float values 0 to 1 scaled",)
    if low >= 0.0 and high <= 255.0 and is_integer_like:
        return _grey(values), ()
    if low >= 0.0 and high <= 65535.0 and is_integer_like:
        return _grey(values / 256), ("float values of 16 bits scaled",)
    return _grey((values - low) * (255 / (high - low))), (f"float values {low:.3g} to {high:.3g} stretched",)
