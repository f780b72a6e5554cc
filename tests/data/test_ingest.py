"""What becomes of single files when they are decoded and stored."""

from memevit import decoding, manifest
from tests.conftest import run_data_prep, write_classes

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
