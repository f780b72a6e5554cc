import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from memevit import pixels
from tests.conftest import draw_image


def saved(image, image_format, **options):
    content = io.BytesIO()
    image.save(content, image_format, **options)
    content.seek(0)
    return content


def test_transparency_is_composited_on_white():
    image = Image.new("RGBA", (10, 10), (200, 0, 0, 0))
    image.putpixel((3, 3), (200, 0, 0, 255))
    loaded = pixels.load_image(saved(image, "PNG"))
    assert loaded.mode == "RGB"
    assert loaded.getpixel((0, 0)) == (255, 255, 255)
    assert loaded.getpixel((3, 3)) == (200, 0, 0)


def test_a_transparent_palette_colour_is_composited_on_white():
    image = Image.new("P", (10, 10), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((5, 5), 0)
    loaded = pixels.load_image(saved(image, "PNG", transparency=1))
    assert loaded.getpixel((0, 0)) == (255, 255, 255)
    assert loaded.getpixel((5, 5)) == (0, 0, 0)


def test_16_bit_grey_is_scaled_not_clipped():
    levels = np.array([[0, 0x1234], [0x8000, 0xFFFF]], dtype=np.uint16)
    loaded = pixels.load_image(saved(Image.fromarray(levels), "PNG"))
    assert [loaded.getpixel(place)[0] for place in ((0, 0), (1, 0), (0, 1), (1, 1))] == [0, 0x12, 0x80, 0xFF]


def test_exif_rotation_is_applied():
    image = Image.new("RGB", (20, 10), "white")
    image.putpixel((0, 0), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    loaded = pixels.decode(saved(image, "PNG", exif=exif))
    assert loaded.image.size == (10, 20)
    assert (loaded.width_px, loaded.height_px) == (10, 20)
    assert loaded.is_rotated
    assert loaded.image.getpixel((9, 0)) == (0, 0, 0)


def test_the_first_frame_of_an_animation_is_used():
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    for image_format in ("GIF", "WEBP"):
        options = {"lossless": True} if image_format == "WEBP" else {}
        content = saved(frames[0], image_format, save_all=True, append_images=frames[1:], duration=90, **options)
        decoded = pixels.decode(content)
        assert decoded.n_frames == 3
        assert decoded.image.getpixel((8, 8)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(mode):
    image = draw_image(1).convert("L").convert("F").convert(mode) if mode in ("I", "F") else draw_image(1)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode not in ("I", "F"):
        image = image.convert(mode)
    image_format = {"CMYK": "JPEG", "F": "TIFF", "I": "TIFF"}.get(mode, "PNG")
    assert pixels.load_image(saved(image, image_format)).mode == "RGB"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image"),
        (b"<html><body>404</body></html>", "not an image"),
        (saved(draw_image(2, size=(400, 300)), "JPEG").getvalue()[:3000], "damaged"),
        (saved(draw_image(2, size=(400, 300)), "PNG").getvalue()[:3000], "damaged"),
    ],
)
def test_what_can_not_be_decoded_says_why(content, reason):
    with pytest.raises(pixels.UnreadableImageError, match=reason):
        pixels.load_image(io.BytesIO(content))


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    bomb = saved(Image.new("1", (20_000, 20_000)), "PNG")
    with pytest.raises(pixels.UnreadableImageError, match="pixels"):
        pixels.load_image(bomb)


def test_a_missing_file_is_unreadable_and_names_no_path(tmp_path):
    with pytest.raises(pixels.UnreadableImageError, match="No such file") as caught:
        pixels.load_image(tmp_path / "gone.jpg")
    assert str(tmp_path) not in str(caught.value)


def test_a_large_jpeg_is_decoded_at_reduced_scale_but_never_below_the_wanted_size():
    content = saved(draw_image(3, size=(1920, 1080)), "JPEG")
    decoded = pixels.decode(content, at_least_px=512)
    assert (decoded.width_px, decoded.height_px) == (1920, 1080)
    assert decoded.image.size == (960, 540)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (saved(draw_image(1), "EPS").getvalue(), "EPS files are programs that draw"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, which Pillow can't decode"),
    ],
)
def test_what_pillow_does_not_decode_by_itself_is_named(content, reason):
    with pytest.raises(pixels.UnreadableImageError, match=reason):
        pixels.load_image(io.BytesIO(content))


def test_any_error_of_a_decoder_makes_a_file_unreadable():
    dds = bytearray(saved(draw_image(1), "DDS").getvalue())
    dds[80:84] = b"\0\x18\0\0"  # Flags of no known pixel format: NotImplementedError.
    with pytest.raises(pixels.UnreadableImageError, match="damaged: Unknown pixel format"):
        pixels.load_image(io.BytesIO(dds))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "DDS"])
def test_damage_anywhere_gives_pixels_or_a_reason(image_format):
    random = np.random.default_rng(0)
    whole = saved(draw_image(1, size=(40, 32)), image_format).getvalue()
    n_unreadable = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for at in random.integers(0, min(len(whole), 160), 3):
            damaged[at] = random.integers(0, 256)
        try:
            assert pixels.load_image(io.BytesIO(damaged)).mode == "RGB"
        except pixels.UnreadableImageError:
            n_unreadable += 1
    assert n_unreadable > 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_pillow_would(orientation):
    image = draw_image(5, size=(40, 28))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(image, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(content)))
    assert np.array_equal(np.asarray(pixels.load_image(content)), expected)


def uint16(levels):
    return Image.fromarray(np.array(levels, dtype=np.uint16))


def with_chunk(png, name, data):
    """A PNG with one more chunk before its pixels."""
    chunk = len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
    at = png.index(b"IDAT") - 4
    return png[:at] + chunk + png[at:]


@pytest.mark.parametrize("image_format", ["TIFF", "GIF"])
def test_the_first_page_is_read_whatever_has_happened_to_the_later_ones(image_format):
    pages = [draw_image(seed, size=(40, 32)) for seed in range(3)]
    first = saved(pages[0], image_format).getvalue()
    whole = saved(pages[0], image_format, save_all=True, append_images=pages[1:]).getvalue()
    expected = np.asarray(pixels.load_image(io.BytesIO(whole)))
    assert pixels.decode(io.BytesIO(whole)).n_frames == 3
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for at in random.integers(len(first) + 10, len(whole), 6):
            damaged[at] = random.integers(0, 256)
        damaged = bytes(damaged[: random.integers(len(first) + 10, len(whole) + 1)])
        assert np.array_equal(np.asarray(pixels.load_image(io.BytesIO(damaged))), expected)


@pytest.mark.parametrize(
    ("values", "levels", "note"),
    [
        ([0.0, 0.5, 1.0], [0, 127, 255], "float values 0 to 1 scaled"),
        ([0.0, 127.5, 255.0], [0, 127, 255], None),
        ([0.0, 3.0, 200.0], [0, 3, 200], None),
        ([0.0, 32768.0, 65535.0], [0, 128, 255], "float values of 16 bits scaled"),
        ([-1.0, 0.0, 1.0], [0, 127, 255], "float values -1 to 1 stretched"),
        ([0.0, 1.25, 2.5], [0, 127, 255], "float values 0 to 2.5 stretched"),
        ([float("nan"), 0.5, float("inf")], [0, 127, 0], "float values 0 to 1 scaled"),
    ],
)
def test_floating_point_grey_becomes_what_its_values_suggest(values, levels, note):
    image = Image.fromarray(np.array([values], dtype=np.float32))
    decoded = pixels.decode(saved(image, "TIFF"))
    assert np.asarray(decoded.image)[0, :, 0].tolist() == levels
    assert decoded.notes == (() if note is None else (note,))


@pytest.mark.parametrize("n_bits", [10, 12])
def test_fewer_bits_in_16_are_scaled_by_the_depth_that_the_file_declares(n_bits):
    highest = 2**n_bits - 1
    image = uint16([[0, 2 ** (n_bits - 1), highest]])
    declared = with_chunk(saved(image, "PNG").getvalue(), b"sBIT", bytes([n_bits]))
    tiff = saved(image, "TIFF", tiffinfo={281: highest})
    for content in (io.BytesIO(declared), tiff):
        decoded = pixels.decode(content)
        assert np.asarray(decoded.image)[0, :, 0].tolist() == [0, 128, 255]
        assert decoded.notes == (f"{n_bits} bits in 16",)


def test_bits_that_fill_the_16_as_png_demands_are_not_scaled_again():
    image = uint16([[0, 0x8000, 0xFFF0]])
    declared = with_chunk(saved(image, "PNG").getvalue(), b"sBIT", bytes([12]))
    assert np.asarray(pixels.load_image(io.BytesIO(declared)))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"zTXt", b"note\0\0" + zlib.compress(bytes(2**21))),
        (b"iTXt", b"note\0\1\0\0\0" + zlib.compress(b"x" * 2**21)),
        (b"iCCP", b"name\0\0" + zlib.compress(bytes(2**21))),
        (b"tIME", b""),
        (b"tEXt", b""),
        (b"pHYs", b"\1"),
    ],
)
def test_a_png_is_read_whatever_is_in_its_texts(name, data):
    png = saved(draw_image(1), "PNG").getvalue()
    odd = with_chunk(png, name, data)
    assert np.array_equal(np.asarray(pixels.load_image(io.BytesIO(odd))), np.asarray(draw_image(1)))
    wrong_sum = odd.replace(name + data, name + data[:-1] + b"!") if data else odd
    assert np.array_equal(np.asarray(pixels.load_image(io.BytesIO(wrong_sum))), np.asarray(draw_image(1)))
