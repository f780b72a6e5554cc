"""The web page: drop or paste images, read the class and the probabilities. It runs here and in a Space on the Hub.

It imports nothing of this project: a Space holds only this file and its neighbours.
"""

import base64
import contextlib
import html
import io
import logging
import os
import signal
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from PIL import Image

if TYPE_CHECKING:
    import gradio

logger = logging.getLogger(__name__)


class Judged(NamedTuple):
    """What the model says about an image; one of none of the classes has `rejected_as`, its label, and a reason."""

    by_class: Mapping[str, float]
    known_score: float | None = None
    rejected_as: str = ""
    reason: str = ""


Answer = Judged | str  # A sentence where a file can't be read.
Classify = Callable[[Path], tuple[Answer, Image.Image | None]]
WriteZip = Callable[[BinaryIO, Sequence[tuple[Path, Answer]]], None]

MAX_IMAGES = 100  # At once.
MAX_SHOWN_CLASSES = 5
THUMBNAIL_PX = 192
UPLOADS_LIVE_S = 600  # An upload that was never classified is deleted after this time, and so is a zip.

_FONTS = ("system-ui", "sans-serif")
_CSS = """
.answers { display: grid; gap: 0.75rem; }
#too-large { margin: 0; color: var(--error-text-color, #b91c1c); }
.answer { display: flex; gap: 1rem; align-items: flex-start; padding: 0.75rem; border-radius: 0.5rem;
        border: 1px solid var(--border-color-primary); background: var(--block-background-fill); }
.answer img { width: 6rem; height: 6rem; object-fit: contain; flex: none; border-radius: 0.25rem; }
.answer > div { flex: 1; min-width: 0; overflow-wrap: anywhere; }
.answer .class { font-size: 1.25rem; font-weight: 600; }
.answer .file { font-size: 0.8rem; color: var(--body-text-color-subdued); }
.answer dl { display: grid; grid-template-columns: minmax(5rem, 2fr) 3fr 3.5rem; gap: 0.15rem 0.6rem;
             margin: 0.4rem 0 0; align-items: center; }
.answer dt, .answer dd { margin: 0; font-size: 0.9rem; }
.answer dd.share { text-align: right; font-variant-numeric: tabular-nums; }
.answer .bar { height: 0.6rem; border-radius: 0.3rem; background: var(--border-color-primary); overflow: hidden; }
.answer .bar i { display: block; height: 100%; background: var(--color-accent); }
#examples, #examples .grid-wrap { min-height: 0; height: auto; overflow: visible; }
#examples .grid-container { grid-template-columns: repeat(6, minmax(0, 1fr)); padding: 0.5rem; }
#examples .thumbnail-item { aspect-ratio: 4 / 3; }
@media (max-width: 40rem) { #examples .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
@media (max-width: 30rem) { .answer img { width: 4rem; height: 4rem; } .answer { gap: 0.6rem; } }
"""

# Files that are chosen, dropped or pasted anywhere on the page take one way, without those that are too large: the
# server refuses a whole request when one of its files is.
_SCRIPT = """
<script>
(() => {
  const limit = MAX_FILE_BYTES, text = "MAX_FILE_TEXT", ours = new WeakSet();
  const say = (tooLarge) => {
    const note = document.getElementById("too-large");
    const size = (file) => (file.size / 1e6).toFixed(file.size < 1e7 ? 1 : 0) + " MB";
    const names = tooLarge.map((file) => file.name + " (" + size(file) + ")").join(", ");
    if (note) note.textContent = names && "Left out, larger than " + text + ": " + names;
  };
  const take = (files) => {
    const input = document.querySelector("input[type=file]"), chosen = new DataTransfer();
    const all = Array.from(files);
    all.filter((file) => file.size <= limit).forEach((file) => chosen.items.add(file));
    say(all.filter((file) => file.size > limit));
    if (!input || !chosen.files.length) { if (input) input.value = ""; return; }
    input.files = chosen.files;
    const event = new Event("change", { bubbles: true });
    ours.add(event);
    input.dispatchEvent(event);
  };
  const stop = (event) => { event.preventDefault(); event.stopImmediatePropagation(); };
  document.addEventListener("change", (event) => {
    if (ours.has(event) || !event.target.matches("input[type=file]")) return;
    stop(event);
    take(event.target.files);
  }, true);
  document.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    stop(event);
    take(event.dataTransfer.files);
  }, true);
  document.addEventListener("dragover", (event) => event.preventDefault(), true);
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    stop(event);
    take(event.clipboardData.files);
  }, true);
})();
</script>
"""
_TEXTS = {"upload_text.drop_gallery": "Drop images here", "upload_text.click_to_upload": "Click to choose"}


@contextlib.contextmanager
def served(
    classify: Classify,
    *,
    title: str,
    about: str,
    examples: Sequence[Path] = (),
    write_zip: WriteZip | None = None,
    max_file_bytes: int = 20_000_000,
    **launch_options: Any,
) -> Iterator[str]:
    """Serve the page while the context lasts; uploads are in a folder that is deleted afterwards.

    Args:
        classify: what to say about an image file, with the image itself or None.
        title: of the page, as plain text.
        about: a sentence or two below the title, in Markdown.
        examples: images to try.
        write_zip: writes a zip of images sorted by their answers; None where the page does not offer that.
        max_file_bytes: a larger upload is refused.
        launch_options: for Gradio: server_name, server_port, inbrowser.

    Yields:
        The URL of the page.

    Raises:
        OSError: the port is taken, where one was named.
    """
    with tempfile.TemporaryDirectory(prefix="uploads-") as folder, _environment(GRADIO_TEMP_DIR=folder, no_proxy="*"):
        _keep_quiet_and_offline()
        logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks itself whether it is up.
        page = build(classify, title=title, about=about, examples=examples, write_zip=write_zip)
        import gradio

        # Its own fonts come from this machine too, but a page in the fonts of the reader is lighter.
        theme = gradio.themes.Default(font=_FONTS, font_mono=("ui-monospace", "monospace"))
        try:
            _, address, _ = page.launch(
                max_file_size=max_file_bytes,
                theme=theme,
                css=_CSS,
                head=_SCRIPT.replace("MAX_FILE_BYTES", str(max_file_bytes)).replace(
                    "MAX_FILE_TEXT", readable_size(max_file_bytes)
                ),
                i18n=gradio.I18n(en=_TEXTS),
                footer_links=[],
                prevent_thread_lock=True,
                quiet=True,
                run_history=False,
                share=False,
                ssr_mode=False,
                **launch_options,
            )
            yield address
        finally:
            page.close(verbose=False)


@contextlib.contextmanager
def _environment(**own: str) -> Iterator[None]:
    """Set what Gradio reads whenever it needs it; its requests to others are off."""
    before = dict(os.environ)
    os.environ.update(own, GRADIO_ANALYTICS_ENABLED="False")
    try:
        yield
    finally:
        for name in (*own, "GRADIO_ANALYTICS_ENABLED"):
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


def _keep_quiet_and_offline() -> None:
    """Make Gradio's server fetch no URL and print no traceback for a malformed call.

    Gradio downloads whatever URL a request names, and prints the traceback of every error; there is no option for
    either. A bug in `classify` is still logged with its traceback, see `_answered`.
    """
    import safehttpx
    from gradio import processing_utils, queueing, routes

    async def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("this server fetches no URLs")

    processing_utils.async_ssrf_protected_get = processing_utils.async_ssrf_protected_download = refuse
    safehttpx.async_validate_url = refuse

    def log_briefly(*_: Any, **__: Any) -> None:
        logger.warning("A call was refused: %s", " ".join(str(sys.exception()).split())[:200])

    brief = types.SimpleNamespace(print_exc=log_briefly)
    queueing.traceback = routes.traceback = brief
    server_log = logging.getLogger("uvicorn.error")
    if _without_traceback not in server_log.filters:
        server_log.addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info, record.exc_text = None, None
    return True


def readable_size(n_bytes: int) -> str:
    """A file size in decimal units.

    Example:
        >>> readable_size(20_000_000), readable_size(1_500_000), readable_size(900)
        ('20 MB', '1.5 MB', '900 bytes')
    """
    return f"{n_bytes / 1e6:.3g} MB" if n_bytes >= 100_000 else f"{n_bytes} bytes"


def build(
    classify: Classify, *, title: str, about: str, examples: Sequence[Path] = (), write_zip: WriteZip | None = None
) -> "gradio.Blocks":
    """The page as Gradio blocks, see `served`."""
    import gradio

    def answer(chosen: Any, is_zip_wanted: bool = False) -> tuple[None, str, Any]:
        shown, zipped = answer_uploads(classify, uploaded(chosen), write_zip if is_zip_wanted else None)
        return None, shown, gradio.DownloadButton(value=zipped, visible=zipped is not None)

    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(60, UPLOADS_LIVE_S)) as page:
        gradio.HTML(f"<h1>{html.escape(title)}</h1>", padding=False)
        gradio.Markdown(about)
        images = gradio.Gallery(
            label="Drop, paste or choose images", type="filepath", sources=["upload"], interactive=True,
            file_types=["image"], height=240,
        )  # fmt: skip
        gradio.HTML('<p id="too-large" role="status"></p>', padding=False)
        is_zip_wanted = gradio.Checkbox(
            label="Also make a zip of the images, sorted into folders",
            info=f"It can be downloaded for {UPLOADS_LIVE_S // 60} minutes, then it is deleted.",
            visible=write_zip is not None,
        )
        zipped = gradio.DownloadButton("Download the sorted images", visible=False, variant="primary")
        answers = gradio.HTML(padding=False)
        images.upload(
            answer,
            [images, is_zip_wanted],
            [images, answers, zipped],
            api_name="classify",
            preprocess=False,  # `uploaded` wants the value as the browser sends it.
        )
        if examples:
            _add_examples(classify, examples, answers)
    return page


def _add_examples(classify: Classify, examples: Sequence[Path], answers: "gradio.HTML") -> None:
    import gradio

    gradio.set_static_paths(list(examples))  # Served from where they lie, not from among the uploads.
    gradio.Markdown("Or try one of these examples:")
    shown = gradio.Gallery(
        [str(path) for path in examples], label="Examples", elem_id="examples", show_label=False, interactive=False,
        columns=3, object_fit="contain", height="auto", allow_preview=False, buttons=[],
    )  # fmt: skip

    def chosen(event: gradio.SelectData) -> str:
        path = examples[event.index]
        return _cards([_card(path.name, *_answered(classify, path))])

    shown.select(chosen, None, answers, api_visibility="private")


def uploaded(chosen: Any) -> list[Path]:
    """The files of a gallery's value that are uploads and still there, and nothing else of this machine.

    Raises:
        gradio.Error: `chosen` is not the value of a gallery.
    """
    import gradio

    folder = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
    try:
        paths = [Path((one.get("image") or one["video"])["path"]).resolve() for one in chosen or []]
    except (AttributeError, KeyError, TypeError, ValueError, OSError, RuntimeError):
        raise gradio.Error("Expected a list of uploaded images.", print_exception=False) from None
    return [path for path in paths if path.is_relative_to(folder) and path.is_file()]


def answer_uploads(
    classify: Classify, paths: Sequence[Path], write_zip: WriteZip | None = None
) -> tuple[str, str | None]:
    """The answers for uploaded files as HTML, and a zip of them where `write_zip` is given; the files are deleted."""
    cards, answered = [], []
    try:
        for path in paths[:MAX_IMAGES]:
            answer, image = _answered(classify, path)
            cards.append(_card(path.name, answer, image))
            answered.append((path, answer))
        zipped = _zipped(write_zip, answered) if write_zip and answered else None
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # The folder that Gradio makes for every upload.
                path.parent.rmdir()
    note = f"<p>Only the first {MAX_IMAGES} of {len(paths)} images were classified.</p>"
    return _cards(cards) + (note if len(paths) > MAX_IMAGES else ""), zipped


def _zipped(write_zip: WriteZip, answered: Sequence[tuple[Path, Answer]]) -> str:
    """A zip among the uploads, where Gradio deletes it in time."""
    from gradio import processing_utils

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sorted.zip"
        with path.open("wb") as output:
            write_zip(output, answered)
        return processing_utils.save_file_to_cache(path, os.environ["GRADIO_TEMP_DIR"])


def wait() -> None:
    """Return when the process is asked to stop, by Ctrl-C or SIGTERM, so that what was opened can be closed."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()


def _answered(classify: Classify, path: Path) -> tuple[Answer, Image.Image | None]:
    """The answer for one file; a bug is logged and does not take the answers for other files with it."""
    try:
        return classify(path)
    except Exception:
        logger.exception("The model failed on an image")
        return "The model failed on this image; the log says why.", None


def _cards(cards: Sequence[str]) -> str:
    return f'<div class="answers">{"".join(cards)}</div>'


def _card(name: str, answer: Answer, image: Image.Image | None) -> str:
    """One image and the answer for it."""
    shown = f'<img alt="" src="{_thumbnail(image)}">' if image else ""
    file = f'<div class="file">{html.escape(name)}</div>'
    if isinstance(answer, str):
        why = f'<div class="class">unreadable</div>{html.escape(answer)}'
        return f'<div class="answer">{shown}<div>{why}{file}</div></div>'
    ordered = sorted(answer.by_class.items(), key=lambda one: -one[1])
    best, why = html.escape(answer.rejected_as or ordered[0][0].replace("_", " ")), ""
    if answer.rejected_as:
        why = f"<div>{html.escape(answer.reason)}; if it were one of the classes:</div>"
    bars = "".join(
        f'<dt>{html.escape(label.replace("_", " "))}</dt><dd class="bar"><i style="width:{share:.2%}"></i></dd>'
        f'<dd class="share" data-class="{html.escape(label)}" data-share="{share:.6f}">{share:.1%}</dd>'
        for label, share in ordered[:MAX_SHOWN_CLASSES]
    )
    return f'<div class="answer">{shown}<div><div class="class">{best}</div>{why}{file}<dl>{bars}</dl></div></div>'


def _thumbnail(image: Image.Image) -> str:
    """A small JPEG as a data: URL, so that no file is left for it."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
