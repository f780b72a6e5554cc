"""app.py and the Space: the page as it is served, asked over HTTP, and in a browser (with -m browser)."""

import contextlib
import csv
import html
import io
import json
import os
import re
import runpy
import socket
import sys
import threading
import time
import types
import zipfile
import zlib
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

import app
from memevit.arguments import AppArguments
from memevit.commands import app_answers
from memevit.hub import description, space_page
from memevit.portable import page
from tests.conftest import draw_image, run_script, run_sort

# Gradio uses what pandas 3 calls old.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*:pandas.errors.Pandas4Warning")

MAX_FILE_MB = 1


def run_app(*argv):
    return run_script(app, *argv, groups=(AppArguments,))


def words(*class_names):
    return description.describe({"data": {"classes": class_names}}, name="me/games")


class Served:
    """A page that runs in a thread until `stop`."""

    def __init__(self, start, monkeypatch, module) -> None:
        self.hosts, self._stopped, started = set(), threading.Event(), threading.Event()
        lookup, served = socket.getaddrinfo, module.served

        def noted(host, *rest, **options):
            self.hosts.add(host)
            return lookup(host, *rest, **options)

        @contextlib.contextmanager
        def watched(*args, **options):
            with served(*args, **options) as address:
                if not started.is_set():  # Else it is a later page of another test.
                    self.address, self.folder = address, Path(os.environ["GRADIO_TEMP_DIR"])
                    started.set()
                yield address

        monkeypatch.setattr(socket, "getaddrinfo", noted)
        monkeypatch.setattr(module, "served", watched)
        monkeypatch.setattr(module, "wait", self._stopped.wait)
        self._thread = threading.Thread(target=start, daemon=True)
        self._thread.start()
        assert started.wait(60)
        self._http = httpx2.Client(base_url=self.address, timeout=60)

    def stop(self) -> None:
        self._http.close()
        self._stopped.set()
        self._thread.join(60)

    def get(self, path: str) -> str:
        return self._http.get(path).raise_for_status().text

    def upload(self, *files: tuple[str, bytes]) -> httpx2.Response:
        return self._http.post("gradio_api/upload", files=[("files", file) for file in files])

    def classify(self, *files: tuple[str, bytes]) -> str:
        """The HTML that the page shows after these files were chosen."""
        return self.ask(self.upload(*files).raise_for_status().json())

    def ask(self, paths: list[str]) -> str:
        return self._asked(paths, is_zip_wanted=False)[1]

    def zipped(self, *files: tuple[str, bytes]) -> dict[str, bytes]:
        """The zip that is offered for these files, as contents by name."""
        offered = self._asked(self.upload(*files).raise_for_status().json(), is_zip_wanted=True)[2]
        with zipfile.ZipFile(io.BytesIO(self._http.get(offered["value"]["url"]).raise_for_status().content)) as found:
            return {name: found.read(name) for name in found.namelist()}

    def _asked(self, paths: list[str], *, is_zip_wanted: bool) -> list:
        chosen = [{"image": {"path": one, "meta": {"_type": "gradio.FileData"}}, "caption": None} for one in paths]
        event = self._http.post("gradio_api/call/classify", json={"data": [chosen, is_zip_wanted]}).json()["event_id"]
        answer = self._http.get(f"gradio_api/call/classify/{event}").text
        assert "event: complete" in answer, answer
        return json.loads(answer.split("data: ", 1)[1].splitlines()[0])


@pytest.fixture(scope="module")
def served(model_dir):
    with pytest.MonkeyPatch.context() as monkeypatch:
        argv = ("--model", model_dir, "--port", 0, "--max_file_mb", MAX_FILE_MB)
        found = Served(lambda: run_app(*argv), monkeypatch, page)
        yield found
        found.stop()


def shares(shown):
    """Probabilities by class of every image on the page."""
    cards = shown.split('<div class="answer">')[1:]
    return [
        {html.unescape(name): float(share) for name, share in re.findall(r'data-class="(.*?)" data-share="(.*?)"', one)}
        for one in cards
    ]


def content_of(image, image_format="PNG"):
    content = io.BytesIO()
    image.save(content, image_format)
    return content.getvalue()


def transparent():
    image = draw_image(3).convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.uint8([0, 128, 255, 40]), (72, 24))))
    return image


FILES = {
    "plain.jpg": content_of(draw_image(1), "JPEG"),
    "transparent.png": content_of(transparent()),
    "grey16.png": content_of(Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 15)),
    "palette.gif": content_of(draw_image(2).convert("P"), "GIF"),
}


def by_sorting(model_dir, folder):
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    assert run_sort("--model", model_dir, "--output", folder / "rows.csv", *[folder / name for name in FILES]) == 0
    with (folder / "rows.csv").open(newline="") as file:
        return [
            {n.removeprefix("p_"): float(row[n]) for n in row if n.startswith("p_")} for row in csv.DictReader(file)
        ]


def agree(found, expected):
    assert len(found) == len(expected) == len(FILES)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(abs(one[name] - other[name]) < 1e-4 for name in one)
    return True


def test_the_page_says_what_sorting_says_about_odd_files_too(served, model_dir, tmp_path):
    assert agree(shares(served.classify(*FILES.items())), by_sorting(model_dir, tmp_path))


def test_what_cannot_be_read_is_said_beside_the_others(served):
    shown = served.classify(("a.png", FILES["plain.jpg"]), ("b.png", b"<html>"), ("<b>c.png", FILES["palette.gif"]))
    assert [len(one) for one in shares(shown)] == [3, 0, 3]
    assert "not an image" in shown
    assert "<b>" not in shown


def test_an_image_that_would_fill_the_memory_is_not_decoded(served):
    small = content_of(Image.new("1", (8, 8)))
    header = b"IHDR" + (10_000).to_bytes(4, "big") * 2 + small[24:29]
    bomb = small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:]
    assert "10000x10000 is more than 89,478,485 pixels" in served.classify(("bomb.png", bomb))


def test_a_file_over_the_limit_is_refused(served):
    answer = served.upload(("large.jpg", FILES["plain.jpg"] + bytes(MAX_FILE_MB * 1_000_000)))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "data",
    [[7], [[7]], [[{}]], [[{"image": 7}]], [[{"image": {}}]], [], [None, None], "text", [[{"image": {"path": "\0"}}]]],
)
def test_a_malformed_call_is_refused_without_a_traceback(served, capfd, data):
    event = served._http.post("gradio_api/call/classify", json={"data": [*data, False]})
    if event.status_code == 200:
        served._http.get(f"gradio_api/call/classify/{event.json()['event_id']}")
    served._http.post("gradio_api/call/classify", content=b"{")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_url_in_a_file_route_or_a_call_is_not_looked_up(served, capfd):
    for url in ("http://foreign.example/a.png", "https://foreign.example/a.png"):
        assert served._http.get(f"gradio_api/file={url}").status_code == 403
        with pytest.raises(AssertionError, match="event: error"):
            served.ask([url])
    assert served.hosts <= {"127.0.0.1", "localhost"}
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_bug_on_one_image_is_logged_and_leaves_the_others(tmp_path, caplog):
    paths = [tmp_path / "good.png", tmp_path / "bad.png"]
    for path in paths:
        path.write_bytes(FILES["plain.jpg"])

    def classify(path):
        return (page.Judged({"cat": 1.0}), None) if path.name == "good.png" else 1 / 0

    shown, _ = page.answer_uploads(classify, paths)
    assert shares(shown) == [{"cat": 1.0}, {}]
    assert "The model failed on this image" in shown
    assert "ZeroDivisionError" in caplog.text


def test_the_page_says_what_the_model_knows_and_draws_no_foreign_examples(served):
    start = served.get("")
    assert "Tells images of 3 classes apart: coral, moss and slate." in start
    assert "examples/" not in start
    assert "doom" not in start


def test_no_upload_is_kept(served):
    served.classify(*FILES.items())
    served.classify(("broken.png", b"no image"))
    assert [path for path in served.folder.rglob("*") if path.is_file()] == []


def test_images_come_back_in_a_zip_sorted_by_their_answers(model_dir, prepared, monkeypatch):
    found = Served(lambda: run_app("--model", model_dir, "--port", 0), monkeypatch, page)
    names = ["a.png", "b.png", "broken.png", "same.png", "same.png"]
    images = [content_of(draw_image(seed)) for seed in range(5)]
    images[2] = b"no image"
    contents = found.zipped(*zip(names, images, strict=True))
    rows = list(csv.DictReader(io.StringIO(contents.pop("answers.csv").decode())))
    kept = [path for path in found.folder.rglob("*") if path.is_file()]
    found.stop()
    assert [path.name for path in kept] == ["sorted.zip"]
    assert [row["file"] for row in rows] == names
    assert [contents[row["placed"]] for row in rows] == images
    assert rows[2]["placed"] == "unreadable/broken.png"
    assert all(row["placed"].split("/")[0] == row["label"] for row in rows)
    assert rows[4]["placed"].endswith("/same_2.png" if rows[3]["label"] == rows[4]["label"] else "/same.png")
    assert {row["label"] for row in rows} - {"unreadable"} <= {"coral", "moss", "slate"}


def test_an_image_of_none_of_the_classes_is_in_its_own_folder_of_the_zip(tmp_path):
    (tmp_path / "odd.png").write_bytes(FILES["plain.jpg"])
    told = types.SimpleNamespace(class_names=["cat", "dog"], open_set=object())
    answer = page.Judged({"cat": 0.75, "dog": 0.25}, -2.5, "unknown", "unlike the others")
    output = io.BytesIO()
    app_answers.zip_writer(told)(output, [(tmp_path / "odd.png", answer)])
    with zipfile.ZipFile(output) as found:
        assert found.namelist() == ["unknown/odd.png", "answers.csv"]
        (row,) = csv.DictReader(io.TextIOWrapper(found.open("answers.csv")))
    assert (row["label"], row["predicted"], row["known_score"], row["accepted"], row["reason"], row["p_dog"]) == (
        "unknown", "cat", "-2.5", "false", "unlike the others", "0.25",
    )  # fmt: skip


def test_no_file_but_an_upload_is_looked_at_or_deleted(served, tmp_path):
    (tmp_path / "private.jpg").write_bytes(FILES["plain.jpg"])
    with pytest.raises(AssertionError, match="event: error"):
        served.ask([str(tmp_path / "private.jpg")])
    chosen = [{"image": {"path": f"{served.folder}/../{tmp_path}/private.jpg"}, "caption": None}]
    assert page.uploaded(chosen) == []
    assert (tmp_path / "private.jpg").is_file()


def test_images_that_were_answered_before_the_page_was_cleared_are_left_out(served):
    (first,) = served.upload(("first.jpg", FILES["plain.jpg"])).json()
    served.ask([first])
    (second,) = served.upload(("second.jpg", FILES["plain.jpg"])).json()
    shown = served.ask([first, second])
    assert ["second.jpg" in one for one in shown.split('<div class="answer">')[1:]] == [True]


@pytest.mark.skipif(sys.platform != "linux", reason="sockets are read from Linux's /proc")
def test_it_listens_on_this_machine_only(served):
    port = int(served.address.rstrip("/").rsplit(":", 1)[1])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    assert listening == {f"0100007F:{port:04X}"}


def test_the_page_asks_nobody_else_for_anything(served):
    served.classify(*FILES.items())
    assert served.hosts <= {"127.0.0.1", "localhost"}
    text = served.get("/")
    loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=\"([^\"]*)\"", text)
    assert len(loaded) >= 3
    own = (served.address, "./", "/", "data:", "#")
    assert [address for address in loaded if address and not address.startswith(own)] == []
    assert '"analytics_enabled":false' in text
    styles = served.get("theme.css")
    assert "system-ui" in styles
    assert not re.findall(r"(?:@import\s+|url\()[\"']?(?:https?:)?//", styles)


def test_at_the_end_nothing_is_left(model_dir, monkeypatch):
    found = Served(lambda: run_app("--model", model_dir, "--port", 0), monkeypatch, page)
    found.upload(("never asked about.png", FILES["transparent.png"]))
    assert list(found.folder.rglob("*.png"))
    found.stop()
    assert not found.folder.exists()


def test_a_space_runs_from_its_own_files_and_says_the_same(model_dir, tmp_path, monkeypatch):
    examples = [tmp_path / "drawn.png"]
    draw_image(4).save(examples[0])
    space = tmp_path / "space"
    space.mkdir()
    space_page.assemble(space, model_id="me/games", description=words("coral", "moss", "slate"), examples=examples)
    assert space_page.faults(space, examples) == []
    assert all(space_page.is_ours(path.relative_to(space).as_posix()) for path in space.rglob("*") if path.is_file())
    (space / "model.txt").write_text(f"{model_dir}\n")
    monkeypatch.syspath_prepend(space)
    for name in ("page", "pixels"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import page as flat_page

    found = Served(lambda: runpy.run_path(str(space / "app.py"), run_name="__main__"), monkeypatch, flat_page)
    said = shares(found.classify(*FILES.items()))
    found.stop()
    assert agree(said, by_sorting(model_dir, tmp_path))
    assert (space / "examples" / "drawn.png").is_file()


def test_what_a_space_is_made_of_is_in_its_requirements(tmp_path):
    space_page.assemble(tmp_path, model_id="me/games", description=words("a", "b"), examples=[])
    names = {re.split("[<>=]", line)[0] for line in (tmp_path / "requirements.txt").read_text().split()}
    assert names == {"numpy", "pillow", "safetensors", "torch", "transformers"}
    wanted = Path("requirements-app.txt").read_text()
    assert f"gradio>={space_page.GRADIO_VERSION.rsplit('.', 1)[0]}," in wanted
    front = (tmp_path / "README.md").read_text()
    assert f"sdk_version: {space_page.GRADIO_VERSION}" in front
    assert "me/games" in front


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--port", "99999"), "--port must lie between 0 and 65535"),
        (("--max_file_mb", "0"), "--max_file_mb must be at least 1"),
        (("--model", "nowhere"), "nowhere holds no model"),
    ],
)
def test_wrong_options_are_told_in_a_sentence(model_dir, capsys, argv, message):
    assert run_app("--model", model_dir, *argv) == 2
    assert message in capsys.readouterr().err


def test_a_port_in_use_is_named(model_dir, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert run_app("--model", model_dir, "--port", port) == 2
    assert f"Can't serve on 127.0.0.1:{port}" in capsys.readouterr().err


def test_without_gradio_it_says_what_to_install(model_dir, capsys, monkeypatch):
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None)
    assert run_app("--model", model_dir) == 2
    assert "pip install -r requirements-app.txt" in capsys.readouterr().err


def test_many_classes_and_many_images_are_cut_short(tmp_path):
    assert description.listed([f"game_{number}" for number in range(40)]).endswith("game 11 and 28 more")
    paths = [tmp_path / f"{number}.png" for number in range(page.MAX_IMAGES + 2)]
    for path in paths:
        path.write_bytes(FILES["plain.jpg"])
    shown, _ = page.answer_uploads(lambda path: (page.Judged({f"c{n}": 1 / 9 for n in range(9)}), None), paths)
    assert [len(one) for one in shares(shown)] == [page.MAX_SHOWN_CLASSES] * page.MAX_IMAGES
    assert f"Only the first {page.MAX_IMAGES} of {page.MAX_IMAGES + 2} images" in shown
    assert not any(path.exists() for path in paths)


PASTE = """
(() => {
  const pasted = new DataTransfer();
  const raw = Uint8Array.from(atob("%s"), (one) => one.charCodeAt(0));
  pasted.items.add(new File([raw], "pasted.png", { type: "image/png" }));
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: pasted, bubbles: true }));
})()
"""


@pytest.mark.browser
@pytest.mark.parametrize(("width", "is_phone"), [(1100, False), (390, True)])
def test_the_page_in_a_browser_takes_files_and_pastes(served, tmp_path, width, is_phone):
    import base64

    from tests.hub.browser import Browser

    (tmp_path / "meme.png").write_bytes(FILES["transparent.png"])
    (tmp_path / "broken.png").write_bytes(b"no image")
    shown = "document.querySelector('.answers')?.innerText || ''"
    browser = Browser(tmp_path / "profile", width=width, is_phone=is_phone)
    try:
        browser.open(served.address)
        browser.wait_for("!!document.querySelector('input[type=file]')")
        assert "Drop images here" in browser.value("document.body.innerText")
        (tmp_path / "large.png").write_bytes(FILES["transparent.png"] + bytes(MAX_FILE_MB * 1_000_000))
        browser.upload("input[type=file]", [tmp_path / n for n in ("meme.png", "large.png", "broken.png")])
        browser.wait_for(f"({shown}).includes('meme.png') && ({shown}).includes('not an image')")
        assert browser.value("document.getElementById('too-large').innerText") == (
            "Left out, larger than 1 MB: large.png (1.0 MB)"
        )
        browser.wait_for("!!document.querySelector('input[type=file]')")
        browser.value(PASTE % base64.b64encode(content_of(draw_image(9))).decode())
        browser.wait_for(f"({shown}).includes('pasted.png')")
        time.sleep(0.5)
        browser.screenshot(Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"page_{width}.png")
        assert browser.value("document.documentElement.scrollWidth <= window.innerWidth")
        assert [one for one in browser.requested if not one.startswith((served.address, "data:", "blob:"))] == []
    finally:
        browser.close()
    assert [path for path in served.folder.rglob("*") if path.is_file()] == []
