"""The model as one HTML file, in a real browser and by its parts."""

import functools
import http.server
import json
import re
import shutil
import socket
import threading
import urllib.error
import urllib.request

import pytest

from memevit.commands import web_page
from memevit.errors import UserError
from memevit.hub import html_page, web_runtime
from tests.conftest import run_push
from tests.hub import firefox
from tests.hub.browser import Browser

INFO = {"class_names": ["</script><b>", "doom"], "processor": {"size": [32, 32]}, "open_set": None}


def test_names_and_titles_of_strangers_stay_text():
    text = html_page.render(INFO, embedded={}, title="<script>alert(1)</script>", about='"><img>')
    assert "<script>alert" not in text
    assert "<img>" not in text
    found = re.search(r'<script type="application/json" id="model-info">(.*?)</script>', text, re.DOTALL)
    assert json.loads(found[1]) == INFO


def test_the_page_may_ask_no_other_host_for_anything():
    text = html_page.render(INFO, embedded={}, title="t", about="a")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy
    assert "connect-src data: blob:;" in policy
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text)
    hosted = html_page.render(INFO | {"files": html_page.BESIDE}, title="t", about="a")
    assert "connect-src 'self' data: blob:;" in hosted
    assert ("works offline" in text, "works offline" in hosted) == (True, False)


def test_a_runtime_that_was_not_tested_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        web_runtime.folder(tmp_path)
    for name in web_runtime.SHA256:
        (tmp_path / name).write_bytes(b"other")
    with pytest.raises(UserError, match="other checksum"):
        web_runtime.folder(tmp_path)


def test_without_npm_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="--web_runtime"):
        web_runtime.folder()


def test_html_and_repo_id_exclude_each_other(tmp_path, trained, capsys):
    assert run_push("--model", trained, "--html", tmp_path / "page.html", "--repo_id", "me/games") == 2
    assert "--html publishes nothing" in capsys.readouterr().err
    assert run_push("--model", trained) == 2
    assert "--repo_id is missing" in capsys.readouterr().err


@pytest.fixture(scope="module")
def address(tmp_path_factory, trained):
    """Of the page of `trained`, by how it is published: as one file, or as a Space at a server."""
    pytest.importorskip("onnxscript")
    if not (web_runtime._cache_dir() / f"{web_runtime.PACKAGE}-{web_runtime.VERSION}").is_dir():
        pytest.skip("needs a page that was made once with --html: tests fetch nothing")
    folder = tmp_path_factory.mktemp("page")
    assert run_push("--model", trained, "--html", folder / "images.html") == 0
    model = shutil.copytree(trained, folder / "model")
    assert run_push("--model", model, "--repo_id", "me/games", "--dry_run", "--space", "static") == 0
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder / "model.upload-demo")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"file": (folder / "images.html").as_uri(), "http": f"http://127.0.0.1:{server.server_address[1]}/"}
        server.shutdown()


def opened(name, profile):
    """A browser of that name, or a skipped test."""
    if (firefox.PROGRAM if name == "firefox" else shutil.which("chromium")) is None:
        pytest.skip(f"needs {'Firefox' if name == 'firefox' else 'Chromium'}")
    if name == "firefox":
        return firefox.Firefox(profile)
    is_phone = name == "phone"
    return Browser(profile, width=390 if is_phone else 1100, is_phone=is_phone)


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["file", "http"])
@pytest.mark.parametrize("name", ["chromium", "phone", "firefox"])
def test_the_page_answers_as_python_does(tmp_path, address, trained, prepared, name, kind):
    from memevit.model.classifier import Classifier

    paths = sorted((prepared / "test").rglob("*.png"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    browser = opened(name, tmp_path / "profile")
    try:
        browser.open(address[kind])
        browser.wait_for("document.getElementById('status')?.textContent === 'Ready.'")
        browser.upload("#files", [*paths, broken])
        browser.wait_for(f"document.querySelectorAll('#results li').length === {len(paths) + 1}")
        rows = json.loads(browser.value(_ROWS))
        assert browser.value("document.documentElement.scrollWidth <= window.innerWidth")
        asked = [one for one in browser.requested if not one.startswith((address[kind], "file:", "blob:", "data:"))]
    finally:
        browser.close()
    assert asked == []
    classifier = Classifier.load(trained)
    for one, row in zip(classifier.classify(paths), rows, strict=False):
        assert row["label"] == (row["shares"][0][0] if one.accepted else "unknown")
        shares = dict(row["shares"])
        assert [shares[name] for name in classifier.class_names] == pytest.approx(one.probabilities, abs=1e-4)
    assert rows[-1]["label"] == "unreadable"


_ROWS = """
JSON.stringify([...document.querySelectorAll('#results li')].map((item) => ({
  label: item.querySelector('.label').textContent,
  shares: [...item.querySelectorAll('dt')].map((name, i) =>
    [name.textContent, parseFloat(item.querySelectorAll('.bar i')[i].style.width) / 100]),
})))
"""


def test_a_page_is_served_also_to_those_who_leave_early(tmp_path, capfd):
    page = tmp_path / "index.html"
    page.write_bytes(b"x" * 20_000_000)
    with web_page.served(page, host="127.0.0.1", port=0) as address:
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        for _ in range(3):
            with socket.create_connection((host, int(port))) as visitor:
                visitor.sendall(b"GET / HTTP/1.0\r\n\r\n")
                visitor.recv(100)
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD")) as answer:
            assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "20000000", b"")
        with urllib.request.urlopen(address) as answer:
            assert len(answer.read()) == 20_000_000
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}other")
    assert "Traceback" not in capfd.readouterr().err
