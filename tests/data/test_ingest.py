"""What becomes of single files when they are decoded and stored."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from memevit import decoding, manifest, pixels
from memevit.data import ingest, metadata_free
from memevit.data.layout import SourceFile
from tests.conftest import draw_image, run_data_prep, write_classes

# Python runs this at the start of every process that has its folder in PYTHONPATH: a Pillow plugin with real crashes.
HOSTILE_PLUGIN = """
import os, signal, time
from PIL import Image, ImageFile
class Hostile(ImageFile.ImageFile):
    format = "HOSTILE"
    def _open(self):
        if self.fp.read(5) == b"CRASH":
            os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(600)
Image.register_open("HOSTILE", Hostile, lambda start: start[:5] in (b"CRASH", b"HANGS"))
"""


@pytest.mark.usefixtures("decoder_processes")
def test_files_that_crash_or_hang_their_decoder_are_rejected_rows_and_the_rest_is_prepared(tmp_path, monkeypatch):
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "sitecustomize.py").write_text(HOSTILE_PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "plugin"))
    source = write_classes(tmp_path / "source", n=10)
    (source / "moss" / "crash.png").write_bytes(b"CRASH" * 9)
    (source / "moss" / "hang.png").write_bytes(b"HANGS" * 9)
    ask = decoding._Decoder.ask

    def impatient(self, item):
        monkeypatch.setattr(decoding, "TIMEOUT_S", 0.5 if item.own_name == "hang.png" else 60.0)
        return ask(self, item)

    monkeypatch.setattr(decoding._Decoder, "ask", impatient)
    assert run_data_prep("--source", source, "--output_dir", tmp_path / "data", "--num_proc", 1) == 0
    rows = {row.source: row for row in manifest.read(tmp_path / "data")}
    assert rows["moss/crash.png"].reason == decoding.CRASHED
    assert rows["moss/hang.png"].reason == decoding.TOO_SLOW
    assert rows["moss/hang.png"].n_bytes == 45
    assert sum(row.status == manifest.KEPT for row in rows.values()) == 30


def scanned(path, content, *, max_side=512):
    """The scan of a file with this content, and its stored bytes."""
    path.mkdir(exist_ok=True)
    (path / "file").write_bytes(content)
    file = SourceFile(path, "file", "moss/file", "moss")
    scan = ingest._scan(file, staging_dir=path, max_side=max_side)
    return scan, (path / scan.stored).read_bytes() if scan.stored else b""


def saved(image, image_format, **options):
    content = io.BytesIO()
    image.save(content, image_format, **options)
    return content.getvalue()


def rgb(content):
    return np.asarray(pixels.load_image(io.BytesIO(content)))


def secrets():
    """Options that put the word SECRET into every place that Pillow can write."""
    exif = Image.Exif()
    exif[0x010F] = "SECRET"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("note", "SECRET")
    texts.add_itxt("more", "SECRET", zip=True)
    common = {"exif": exif, "icc_profile": b"SECRET" * 30, "xmp": b"<x>SECRET</x>"}
    return {
        "JPEG": common | {"comment": b"SECRET", "progressive": True},
        "PNG": common | {"pnginfo": texts},
        "WEBP": common | {"lossless": True},
    }


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_metadata_and_bytes_after_the_end_are_cut_out_and_the_compressed_pixels_stay(tmp_path, image_format):
    options = {"progressive": True} if image_format == "JPEG" else {"lossless": True}
    bare = saved(draw_image(1), image_format, **options)
    full = saved(draw_image(1), image_format, **secrets()[image_format]) + b"SECRET trailer"
    assert full.count(b"SECRET") >= 3
    scan, stored = scanned(tmp_path, full)
    assert b"SECRET" not in stored
    assert len(stored) <= len(bare) + 20
    assert scan.stored.endswith({"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}[image_format])
    assert np.array_equal(rgb(stored), rgb(full))
    assert scanned(tmp_path / "again", stored)[1] == stored


@pytest.mark.parametrize("max_side", [512, 64])
@pytest.mark.parametrize("mode", ["P", "RGBA", "L", "RGB"])
def test_images_that_are_encoded_anew_take_no_metadata_along(tmp_path, mode, max_side):
    full = saved(draw_image(1).convert(mode), "PNG", **secrets()["PNG"])
    assert b"SECRET" not in scanned(tmp_path, full, max_side=max_side)[1]
    with Image.open(tmp_path / scanned(tmp_path, full, max_side=max_side)[0].stored) as image:
        assert not {"icc_profile", "comment", "exif", "xmp"} & image.info.keys()


def test_a_rotated_photo_keeps_its_rotation_and_loses_the_rest(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "SECRET"
    full = saved(draw_image(1, size=(96, 72)), "JPEG", exif=exif)
    scan, stored = scanned(tmp_path, full)
    assert (scan.width_px, scan.height_px, scan.notes) == (72, 96, "rotated per EXIF")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(stored))), rgb(full))
    assert b"SECRET" not in stored


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_blocks": 2}, {"keep_rgb": True}])
def test_a_jpeg_without_metadata_is_stored_byte_for_byte(tmp_path, options):
    full = saved(draw_image(1), "JPEG", **options)
    assert scanned(tmp_path, full)[1] == full


@pytest.mark.parametrize("cut", [2, 40, 700])
def test_a_file_of_damaged_structure_is_not_taken_apart(cut):
    full = saved(draw_image(1), "JPEG", comment=b"SECRET")
    assert metadata_free.image_data(full[:-cut], "JPEG") is None
    assert metadata_free.image_data(full, "JPEG") is not None


def test_a_dark_image_is_noted(tmp_path):
    grey = np.full((20, 20), 4095, np.uint16)
    assert scanned(tmp_path, saved(Image.fromarray(grey), "PNG"))[0].notes == "dark, no value above 15 of 255"
    assert scanned(tmp_path, saved(draw_image(1), "PNG"))[0].notes == ""
