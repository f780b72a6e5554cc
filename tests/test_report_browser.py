"""The report in a real browser: corrections, filters, keys, and nothing in the console."""

import csv
import shutil
import time

import pytest

from memevit.evaluation.report import COLUMNS
from tests.conftest import ATTACK
from tests.hub.browser import Browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed"),
]
WATCH = """
window.problems = [];
window.addEventListener("error", event => problems.push(event.message), true);
document.addEventListener("securitypolicyviolation", event => problems.push(event.violatedDirective));
console.error = console.warn = (...words) => problems.push(words.join(" "));
"""
SHOWN = "[...document.querySelectorAll('#mistakes .card')].filter(card => !card.hidden)"


@pytest.fixture
def page(diagnosed, tmp_path):
    browser = Browser(tmp_path / "profile")
    browser.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.open((diagnosed / "model" / "report" / "index.html").as_uri())
    browser.wait_for("document.readyState == 'complete' && document.documentElement.classList.contains('js')")
    yield browser
    browser.close()


def press(page, key):
    page.call("Input.dispatchKeyEvent", type="keyDown", text=key, key=key)
    page.call("Input.dispatchKeyEvent", type="keyUp", key=key)


def test_the_page_loads_nothing_and_shows_no_error(page):
    assert [address for address in page.requested if not address.startswith(("data:", "file:"))] == []
    assert page.value("document.querySelectorAll('img').length") > 3
    assert page.value("[...document.images].every(image => !image.complete || image.naturalWidth > 0)")
    assert page.value("problems.join()") == ""
    assert page.value("document.querySelector('.title').textContent") == ATTACK


def test_filters_show_the_images_that_fit(page):
    n = page.value(f"{SHOWN}.length")
    split = page.value(f"{SHOWN}[0].dataset.split")
    page.value(f"document.querySelector('[name=split]').value = '{split}'")
    page.value("document.querySelector('#filters').dispatchEvent(new Event('change'))")
    assert 0 < page.value(f"{SHOWN}.length") <= n
    assert page.value(f"{SHOWN}.every(card => card.dataset.split == '{split}')")
    page.value("document.querySelector('#filters [type=reset]').click()")
    page.wait_for(f"{SHOWN}.length == {n}")


def test_corrections_survive_a_reload_can_be_undone_and_are_downloaded_for_data_prep(page, tmp_path):
    press(page, "j")
    press(page, "d")
    assert page.value("document.activeElement.dataset.action") == "drop"
    file = page.value("document.activeElement.dataset.file")
    press(page, "j")
    press(page, "e")
    page.call("Page.reload")
    page.wait_for("document.querySelector('#n-corrections').textContent == '2 corrections'")
    page.value("document.querySelector('#undo').click()")
    assert page.value("document.querySelector('#n-corrections').textContent") == "1 correction"
    page.value("document.querySelector('#download').click()")
    path = tmp_path / "corrections.csv"
    until = time.monotonic() + 30
    while not path.is_file() and time.monotonic() < until:
        time.sleep(0.1)
    with path.open(encoding="utf-8", newline="") as content:
        (row,) = csv.DictReader(content)
    assert tuple(row) == COLUMNS
    assert (row["file"], row["action"], len(row["sha256"])) == (file, "drop", 64)


def test_what_a_spreadsheet_would_run_is_quoted_in_the_download(page, tmp_path):
    page.value("document.querySelector('.card').dataset.file = '=1+1,\"a\"'")
    page.value("document.querySelector('.card [data-action=drop]').click()")
    page.value("document.querySelector('#download').click()")
    path = tmp_path / "corrections.csv"
    until = time.monotonic() + 30
    while not path.is_file() and time.monotonic() < until:
        time.sleep(0.1)
    assert path.read_text(encoding="utf-8").splitlines()[1].startswith('"\'=1+1,""a""",drop,')


def test_an_earlier_file_is_added(page, tmp_path):
    earlier = tmp_path / "earlier.csv"
    rows = 'file,action,class,reason,sha256\n"a, b.png",relabel,moss,,\nx.png,keep,,suggested: drop (mostly text),\n'
    earlier.write_text(rows, encoding="utf-8")
    page.upload("#earlier", [earlier])
    page.wait_for("document.querySelector('#n-corrections').textContent == '1 correction'")


@pytest.mark.parametrize("width", [360, 1100])
def test_nothing_is_wider_than_the_screen(page, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    assert page.value("document.documentElement.scrollWidth") <= width
