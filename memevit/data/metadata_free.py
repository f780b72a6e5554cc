"""JPEG, PNG and WebP files without metadata, at the level of their segments: the compressed pixels stay as they are.

Removed are EXIF, XMP, IPTC, comments, thumbnails, texts, times, maker's notes and whatever follows the end of the
image. ICC profiles go, too, because nothing here reads them (see `memevit.pixels`) and they hold names and
descriptions; a viewer with colour management may show a wide-gamut image a little paler than before. The numbers that
describe colour in a PNG (gAMA, cHRM, sRGB) stay.
"""

from collections.abc import Iterator

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_SOS, _EOI, _ADOBE, _JFIF, _COMMENT = 0xDA, 0xD9, 0xEE, 0xE0, 0xFE
_APP = range(0xE0, 0xF0)
_RESTART = range(0xD0, 0xD8)
_ADOBE_BYTES = 12  # Of its payload; what follows is no part of the segment's definition.
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = {
    *(b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"),
    *(b"gAMA", b"cHRM", b"sRGB", b"cICP", b"sBIT", b"bKGD", b"pHYs"),
}
_WEBP_PIXELS = {b"VP8 ", b"VP8L"}


def image_data(content: bytes, image_format: str) -> bytes | None:
    """A still image without metadata and without what follows its end.

    Args:
        content: the whole file.
        image_format: JPEG, PNG or WEBP, as Pillow calls it; without transparency and rotation.

    Returns:
        The file, `content` itself if there was nothing to remove; None if its structure is damaged.
    """
    segments = {"JPEG": _jpeg_segments, "PNG": _png_chunks, "WEBP": _webp_parts}[image_format]
    try:
        kept = b"".join(segments(content))
    except (IndexError, ValueError):
        return None
    return content if kept == content else kept


def _jpeg_segments(content: bytes) -> Iterator[bytes]:
    """The segments from which a decoder makes pixels. Source: ITU-T T.81, annex B; T.872 for the Adobe segment."""
    yield _JPEG_START
    at = len(_JPEG_START)
    while True:
        if content[at] != 0xFF:
            raise ValueError("no marker where one must be")
        while content[at + 1] == 0xFF:  # Fill bytes.
            at += 1
        marker = content[at + 1]
        if marker == _EOI:
            yield _JPEG_END
            return
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if end > len(content) or end < at + 4:
            raise ValueError("a segment of impossible length")
        segment = content[at:end]
        if marker == _ADOBE and segment[4:9] == b"Adobe":  # Says how colours are coded.
            yield _shortened(segment, _ADOBE_BYTES)
        elif marker == _JFIF and segment[4:9] == b"JFIF\0":
            yield _shortened(segment[:16] + b"\0\0", 14)  # Without its thumbnail.
        elif marker not in _APP and marker != _COMMENT:
            yield segment
        at = end
        if marker == _SOS:
            end = _end_of_scan(content, at)
            yield content[at:end]
            at = end


def _shortened(segment: bytes, n_bytes: int) -> bytes:
    """A segment with only the first `n_bytes` of its payload."""
    payload = segment[4 : 4 + n_bytes]
    return segment[:2] + (len(payload) + 2).to_bytes(2, "big") + payload


def _end_of_scan(content: bytes, at: int) -> int:
    """Where the compressed data that begin at `at` end: at a marker that is neither a stuffed byte nor a restart."""
    while True:
        at = content.index(b"\xff", at)
        if content[at + 1] != 0 and content[at + 1] not in _RESTART:
            return at
        at += 2


def _png_chunks(content: bytes) -> Iterator[bytes]:
    """The chunks from which a decoder makes pixels and colours. Source: PNG, third edition, chapter 11."""
    yield _PNG_SIGNATURE
    at, name = len(_PNG_SIGNATURE), b""
    while name != b"IEND":
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        name = content[at + 4 : at + 8]
        if len(name) < 4 or end > len(content):
            raise ValueError("a chunk that is cut off")
        if name in _PNG_KEPT:
            yield content[at:end]
        at = end


def _webp_parts(content: bytes) -> Iterator[bytes]:
    """A simple WebP file of the one chunk that holds the pixels. Source: RFC 9649."""
    at = 12
    while at + 8 <= len(content):
        n_bytes = int.from_bytes(content[at + 4 : at + 8], "little")
        end = at + 8 + n_bytes + n_bytes % 2
        if content[at : at + 4] in _WEBP_PIXELS:
            yield b"RIFF" + (end - at + 4).to_bytes(4, "little") + b"WEBP" + content[at:end]
            return
        at = end
    raise ValueError("no pixels")
