"""How long the HTML page of a model takes to its first answer in a browser, and how many images it classifies a second.

    python push_to_hub.py --model model/ --html memes.html
    python -m benchmarks.web_page --model model/ --page memes.html

Chromium without a window opens the page from disk. Cold: a new profile, from the address to "Ready." and to the answer
for one image. Warm: the same page opened again. Then it gets all images at once, in turns with sort_memes.py's
classifier in this process, which is warm as well. Writes benchmarks/results/web_page_cpu.json.
"""

import functools
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import timing
from memevit import cli
from memevit.model.classifier import Classifier
from tests.hub.browser import Browser

PAGE, PYTHON = "the page", "sort_memes.py"
_READY = "document.getElementById('status')?.textContent === 'Ready.'"


@dataclass
class PageArguments:
    """Which page is opened, with how many images."""

    model: Path = field(metadata={"help": "Model folder that the page was made of."})
    page: Path = field(metadata={"help": "What push_to_hub.py --html wrote."})
    n_images: int = field(default=128, metadata={"help": "Images that are classified at once."})
    width_px: int = field(default=640, metadata={"help": "Of these images."})
    repeats: int = field(default=5, metadata={"help": "Rounds; the median counts."})
    work_dir: Path = field(default=Path("runs/benchmarks"), metadata={"help": "For the images; kept."})
    output: Path | None = field(default=None, metadata={"help": "Another file for the numbers."})


def main(args: PageArguments) -> None:
    """Measure the page, and Python beside it."""
    size = (args.width_px, args.width_px * 9 // 16)
    paths = timing.draw_memes(args.work_dir / f"memes-{args.width_px}", args.n_images, size=size)
    starts = {"cold": [], "warm": []}
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            browser = Browser(Path(profile))
            for kind in starts:
                starts[kind].append(_to_first_answer(browser, args.page, paths[0]))
            browser.close()
    classifier = Classifier.load(args.model)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(Path(profile))
        _to_first_answer(browser, args.page, paths[0])
        sides = {
            PAGE: functools.partial(_rate_of_page, browser, paths),
            PYTHON: functools.partial(_rate_of_python, classifier, paths),
        }
        rates = timing.in_turns(sides, args.repeats)
        browser.close()
    found = {"page_mb": round(args.page.stat().st_size / 1e6, 1), "seconds": starts, "images_per_s": rates}
    table = [["page", "to Ready, cold", "first answer, cold", "to Ready, warm", "first answer, warm", *rates, "ratio"]]
    medians = [f"{statistics.median(one[which] for one in starts[kind]):.2f} s" for kind in starts for which in (0, 1)]
    speeds = [f"{statistics.median(rates[side]):.1f} images/s" for side in sides]
    table.append([f"{found['page_mb']} MB", *medians, *speeds, f"{timing.ratio(rates, PAGE, PYTHON):.2f}"])
    timing.publish("web_page", args, found, table)


def _to_first_answer(browser: Browser, page: Path, image: Path) -> tuple[float, float]:
    """Seconds from opening the page until it is ready, and until it has answered for one image after that."""
    start = time.perf_counter()
    browser.open(page.resolve().as_uri())
    browser.wait_for(_READY)
    ready = time.perf_counter() - start
    return ready, ready + _answered(browser, [image], before=0)


def _answered(browser: Browser, paths: list[Path], *, before: int) -> float:
    """Seconds until the page has answered for all of `paths`, when it has answered for `before` others."""
    start = time.perf_counter()
    browser.upload("#files", paths)
    browser.wait_for(f"document.querySelectorAll('#results li').length === {before + len(paths)}")
    seconds = time.perf_counter() - start
    assert not browser.value("document.querySelectorAll('#results .unreadable').length"), "an image was not read"
    return seconds


def _rate_of_page(browser: Browser, paths: list[Path]) -> float:
    before = int(browser.value("document.querySelectorAll('#results li').length"))
    return len(paths) / _answered(browser, paths, before=before)


def _rate_of_python(classifier: Classifier, paths: list[Path]) -> float:
    start = time.perf_counter()
    n = sum(1 for _ in classifier.classify(paths))
    return n / (time.perf_counter() - start)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, PageArguments, doc=__doc__))
