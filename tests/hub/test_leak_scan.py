"""Nothing goes up that should stay here: the scan is tried with planted pickles, images, secrets and paths."""

import base64
import io
import json
import pickle
import struct
import zipfile

import pytest
from PIL import Image

from memevit import files
from memevit.errors import UserError
from memevit.hub import checks, leak_scan
from memevit.hub.model_repo import is_ours


def image(image_format):
    content = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(content, image_format)
    return content.getvalue()


def zipped(name):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, b"x")
    return content.getvalue()


def safetensors(header, tail=b"\0" * 8):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tail


class Danger:
    def __reduce__(self):
        return print, ("run",)


PLANTED = [
    ("weights.json", pickle.dumps({"a": Danger()}), "is a pickle"),
    ("weights.txt", pickle.dumps(Danger(), protocol=0), "is a pickle"),
    ("model.bin", b"anything", "which pickles have"),
    ("archive.dat", zipped("archive/data.pkl"), "an archive that holds a pickle"),
    ("model.safetensors", pickle.dumps([1]), "is a pickle"),
    ("model.safetensors", b"\0" * 100, "is no safetensors file"),
    ("a.jpg", image("JPEG"), "image"),
    ("a.json", image("PNG"), "image"),
    ("thumb.txt", image("GIF"), "image"),
    ("meme.dat", image("WEBP"), "image"),
    ("scan.dat", image("BMP"), "image"),
    ("scan.tif", image("TIFF"), "image"),
    ("open_set.safetensors", safetensors({}, b"\0" * 64 + image("PNG")), "image"),
    ("report.html", b'<img src="data:image/jpeg;base64,' + base64.b64encode(image("JPEG")) + b'">', "image"),
    ("results.json", b'{"thumb": "' + base64.b64encode(image("JPEG")) + b'"}', "image"),
    ("run.json", b'{"token": "hf_' + b"AbCdEfGhIjKlMnOpQrStUvWxYz012345" + b'"}', "a Hugging Face token"),
    ("run.json", b'{"Authorization": "Bearer abcdefghijklmnop1234"}', "an authorization header"),
    ("notes.md", b"-----BEGIN RSA PRIVATE KEY-----", "a private key"),
    ("kaggle.json", b'{"username":"jane","key":"0123456789abcdef0123456789abcdef"}', "a Kaggle token"),
    ("run.json", b'"https://jane:secret@example.org/data"', "a password in an address"),
    ("run.json", b'"AKIAIOSFODNN7EXAMPLE"', "an AWS key"),
    ("run.json", b'{"dataset": "/home/jane/memes"}', "names a folder of this machine in line 1: /home/jane"),
    ("README.md", b"ok\nfrom `/mnt/data/x.csv`", "in line 2"),
    ("config.json", b'{"_name_or_path": "C:\\\\Users\\\\jane\\\\vit"}', "names a folder of this machine"),
    ("run.json", b'{"a": "~/memes"}', "names a folder of this machine"),
    ("model.safetensors", safetensors({"__metadata__": {"from": "/Users/jane/vit"}}), "names a folder"),
]


@pytest.mark.parametrize(("name", "content", "found"), PLANTED)
def test_what_was_planted_is_found(tmp_path, name, content, found):
    (tmp_path / name).write_bytes(content)
    lines = leak_scan.findings(tmp_path)
    assert any(found in line and line.startswith(name) for line in lines), lines


def test_secrets_are_not_repeated_in_the_message(tmp_path):
    (tmp_path / "run.json").write_text("hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345")
    assert "hf_" not in "".join(leak_scan.findings(tmp_path))


def test_the_token_of_this_machine_is_found_whatever_it_looks_like(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "no-usual-form")
    (tmp_path / "model.safetensors").write_bytes(safetensors({}, b"xx no-usual-form xx"))
    assert leak_scan.findings(tmp_path) == ["model.safetensors holds the token of this machine"]


def test_a_secret_across_two_windows_is_found(tmp_path):
    tail = b"\0" * (leak_scan._WINDOW_BYTES - 10) + b" hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345 "
    (tmp_path / "model.safetensors").write_bytes(safetensors({}, tail))
    assert leak_scan.findings(tmp_path) == ["model.safetensors holds a Hugging Face token"]


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "link.json").symlink_to("/etc/hostname")
    assert leak_scan.findings(tmp_path) == ["link.json is a link"]


def test_harmless_content_passes(tmp_path):
    (tmp_path / "README.md").write_text("See https://huggingface.co/data/x, and/or train/doom/a.jpg; 3/4 of /r/doom.")
    (tmp_path / "run.json").write_text('{"key": "0123456789abcdef", "hf_token": null, "path": "data/run.json"}')
    (tmp_path / "model.safetensors").write_bytes(safetensors({"w": {"dtype": "F32", "shape": [2]}}))
    (tmp_path / "empty.txt").touch()
    assert leak_scan.findings(tmp_path) == []


def test_an_image_passes_only_where_it_is_meant_and_as_it_was_made(tmp_path):
    (tmp_path / "confusion_matrix.png").write_bytes(image("PNG"))
    known = {"confusion_matrix.png": files.sha256_of(tmp_path / "confusion_matrix.png")}
    assert leak_scan.findings(tmp_path, known_images=known) == []
    (tmp_path / "confusion_matrix.png").write_bytes(image("PNG") + b"x")
    assert leak_scan.findings(tmp_path, known_images=known) == ["confusion_matrix.png is or holds an image"]
    assert leak_scan.findings(tmp_path, may_hold_images=True) == []


def test_everything_that_is_wrong_is_told_at_once():
    with pytest.raises(UserError, match="a; b; c; d; e; and 2 more"):
        checks.refuse(list("abcdefg"), "me/games")
    checks.refuse([], "me/games")


def test_only_our_own_files_may_be_deleted():
    names = ("README.md", "model.safetensors", "LICENSE", ".gitattributes", "a/config.json")
    assert [is_ours(name) for name in names] == [True, True, False, False, False]
