"""Decode every file once: reject what can't be used, store the rest at training size, and fingerprint it."""

import functools
import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from memevit import decoding, pixels
from memevit.data import hashes, keypoints, metadata_free
from memevit.data.layout import SourceFile
from memevit.errors import UserError
from memevit.files import CHUNK_BYTES, explained_disk_errors
from memevit.pixels import DecodedImage

HASH_DIGITS = 16  # Of a source file's SHA-256, in the name of its stored image.
MIN_SIDE_PX = 8  # Half a patch of a ViT/16; nothing can be seen in less.
JPEG_QUALITY = 95
DARK_BELOW = 32  # Of 255: nothing can be made out, as in 12 bits that a file presents as 16.
_COPIED_FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_REDUCING_GAP = 3.0  # Pillow: "almost indistinguishable from fair resampling", at a third of the time.


@dataclass(slots=True)
class Scan:
    """What decoding one source file showed.

    `problem` is empty for a usable image; then `stored` names its file in the staging folder, `pixel_digest` is that
    of its RGB pixels at stored size and `codes` are perceptual hashes (see `hashes`), `features`
    local ones (see `keypoints`).
    """

    name: str
    problem: str = ""
    sha256: str = ""
    n_bytes: int = 0
    image_format: str = ""
    mode: str = ""
    width_px: int = 0
    height_px: int = 0
    notes: str = ""
    pixel_digest: bytes = b""
    codes: tuple[int, ...] = ()
    features: bytes = b""
    stored: str = ""


def scan_all(found: list[SourceFile], staging_dir: Path, *, max_side: int, n_processes: int) -> list[Scan]:
    """Decode every file and write the usable ones into `staging_dir`.

    Args:
        found: the source's files.
        staging_dir: an existing folder for the stored images.
        max_side: longest side of a stored image in pixels.
        n_processes: how many processes decode.

    Returns:
        One scan per file, in the order of `found`.
    """
    staging_dir.mkdir(parents=True, exist_ok=True)
    scan = functools.partial(_scan, staging_dir=staging_dir, max_side=max_side)
    with explained_disk_errors(staging_dir):
        return list(decoding.map_ordered(scan, found, n_processes=n_processes, description="Decoding", failed=_lost))


def _lost(file: SourceFile, reason: str) -> Scan:
    """The scan of a file that crashes or hangs its decoder."""
    try:
        with file.path.open("rb") as opened:
            sha256, n_bytes = _digest(opened)
    except OSError:
        sha256, n_bytes = "", 0
    return Scan(file.name, problem=reason, sha256=sha256, n_bytes=n_bytes)


def require_mostly_readable(found: list[SourceFile], scans: list[Scan], max_reject_fraction: float) -> None:
    """Stop where so much can't be read that something else is wrong.

    Raises:
        UserError: more than `max_reject_fraction` of the files that call themselves images were rejected.
    """
    images = [
        (file, scan) for file, scan in zip(found, scans, strict=True) if file.claims_to_be_image or not scan.problem
    ]
    rejected = [scan for _, scan in images if scan.problem]
    if len(rejected) <= max_reject_fraction * len(images):
        return
    examples = "; ".join(f"{scan.name}: {scan.problem}" for scan in rejected[:3])
    raise UserError(
        f"{len(rejected)} of {len(images)} images can't be used ({examples}). Look at the source; if that is how "
        f"it is, allow it with --max_reject_fraction {len(rejected) / max(len(images), 1) + 0.005:.2f}."
    )


def _scan(file: SourceFile, *, staging_dir: Path, max_side: int) -> Scan:
    scan = Scan(file.name, problem=file.problem)
    if scan.problem:
        return scan
    try:
        with file.path.open("rb") as opened:
            scan.sha256, scan.n_bytes = _digest(opened)
            if scan.n_bytes == 0:
                raise pixels.UnreadableImageError("an empty file")
            opened.seek(0)
            decoded = pixels.decode(opened, at_least_px=max_side)
    except OSError as error:
        scan.problem = f"can't be read: {error.strerror or type(error).__name__}"
    except pixels.UnreadableImageError as error:
        scan.problem = str(error)
    else:
        _store(scan, decoded, file.path, staging_dir, max_side)
    return scan


def _digest(opened: io.BufferedReader) -> tuple[str, int]:
    digest = hashlib.sha256()
    n_bytes = 0
    while chunk := opened.read(CHUNK_BYTES):
        digest.update(chunk)
        n_bytes += len(chunk)
    return digest.hexdigest(), n_bytes


def _store(scan: Scan, decoded: DecodedImage, path: Path, staging_dir: Path, max_side: int) -> None:
    scan.image_format, scan.mode = decoded.image_format, decoded.mode
    scan.width_px, scan.height_px = decoded.width_px, decoded.height_px
    scan.notes = _notes(decoded)
    is_shrunk = max(decoded.width_px, decoded.height_px) > max_side
    image = shrink(decoded, max_side) if is_shrunk else decoded.image
    if min(image.size) < MIN_SIDE_PX:
        at_that_size = f" at {image.width}x{image.height}" if is_shrunk else ""
        scan.problem = (
            f"{decoded.width_px}x{decoded.height_px} pixels: a side is shorter than {MIN_SIDE_PX}{at_that_size}"
        )
        return
    pixel_bytes = image.tobytes()
    content = None if is_shrunk else _without_metadata(decoded, path, pixel_bytes)
    suffix = _COPIED_FORMATS[decoded.image_format] if content else "jpg" if is_shrunk else "png"
    scan.stored = f"{scan.sha256[:HASH_DIGITS]}.{suffix}"
    neighbour = staging_dir / f"{scan.stored}.{os.getpid()}.part"
    image.info = {}  # Pillow writes profiles and comments that it finds there.
    if content:
        neighbour.write_bytes(content)
    elif is_shrunk:
        image.save(neighbour, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        image.save(neighbour, "PNG", compress_level=3)
    neighbour.replace(staging_dir / scan.stored)
    scan.pixel_digest = hashlib.sha256(b"%dx%d" % image.size + pixel_bytes).digest()
    scan.codes, scan.features = hashes.codes(image), keypoints.describe(image)


def shrink(decoded: DecodedImage, max_side: int) -> Image.Image:
    """The image with its longest side at `max_side` pixels and the proportions of the original."""
    scale = max_side / max(decoded.width_px, decoded.height_px)
    size = (max(1, round(decoded.width_px * scale)), max(1, round(decoded.height_px * scale)))
    return decoded.image.resize(size, Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP)


def _without_metadata(decoded: DecodedImage, path: Path, pixel_bytes: bytes) -> bytes | None:
    """The file without metadata and with the same pixels; None if it must be encoded anew."""
    is_plain = decoded.mode == "RGB" and decoded.n_frames == 1
    if not is_plain or decoded.is_rotated or decoded.has_transparency or decoded.image_format not in _COPIED_FORMATS:
        return None
    whole = path.read_bytes()
    content = metadata_free.image_data(whole, decoded.image_format)
    if content is None or content == whole:
        return content
    try:
        is_same = pixels.load_image(io.BytesIO(content)).tobytes() == pixel_bytes
    except pixels.UnreadableImageError:
        is_same = False
    return content if is_same else None


def _notes(decoded: DecodedImage) -> str:
    notes = []
    if decoded.n_frames > 1:
        notes.append(f"first of {decoded.n_frames} frames")
    if decoded.is_rotated:
        notes.append("rotated per EXIF")
    if decoded.has_transparency:
        notes.append("composited on white")
    notes += decoded.notes
    brightest = max(high for _, high in decoded.image.getextrema())
    if brightest < DARK_BELOW:
        notes.append(f"dark, no value above {brightest} of 255")
    return ", ".join(notes)
