"""The web page: drop or paste pictures, read the game and the probabilities. It runs here and in a Space on the Hub.

It imports nothing of this project, for in the Space only this file and its neighbours are there.
"""

import base64
import contextlib
import html
import io
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    import gradio

# What is said about a file: probabilities by class, or in words why it can't be read.
Answer = Mapping[str, float] | str
Classify = Callable[[Path], tuple[Answer, Image.Image | None]]

MAX_PICTURES = 30  # At once.
MAX_SHOWN_CLASSES = 5
MAX_LISTED_CLASSES = 12
THUMBNAIL_PX = 192
UPLOADS_LIVE_S = 600  # An upload that was never asked about is deleted after so long.

_FONTS = ("system-ui", "sans-serif")
_CSS = """
.memes { display: grid; gap: 0.75rem; }
.meme { display: flex; gap: 1rem; align-items: flex-start; padding: 0.75rem; border-radius: 0.5rem;
        border: 1px solid var(--border-color-primary); background: var(--block-background-fill); }
.meme img { width: 6rem; height: 6rem; object-fit: contain; flex: none; border-radius: 0.25rem; }
.meme > div { flex: 1; min-width: 0; overflow-wrap: anywhere; }
.meme .game { font-size: 1.25rem; font-weight: 600; }
.meme .file { font-size: 0.8rem; color: var(--body-text-color-subdued); }
.meme dl { display: grid; grid-template-columns: minmax(5rem, 2fr) 3fr 3.5rem; gap: 0.15rem 0.6rem; margin: 0.4rem 0 0;
           align-items: center; }
.meme dt, .meme dd { margin: 0; font-size: 0.9rem; }
.meme dd.share { text-align: right; font-variant-numeric: tabular-nums; }
.meme .bar { height: 0.6rem; border-radius: 0.3rem; background: var(--border-color-primary); overflow: hidden; }
.meme .bar i { display: block; height: 100%; background: var(--color-accent); }
#examples, #examples .grid-wrap { min-height: 0; height: auto; overflow: visible; }
#examples .grid-container { grid-template-columns: repeat(6, minmax(0, 1fr)); padding: 0.5rem; }
#examples .thumbnail-item { aspect-ratio: 4 / 3; }
@media (max-width: 40rem) { #examples .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
@media (max-width: 30rem) { .meme img { width: 4rem; height: 4rem; } .meme { gap: 0.6rem; } }
"""

# What is pasted anywhere on the page takes the way of what is chosen.
_PASTE = """
<script>
document.addEventListener("paste", (event) => {
  const input = document.querySelector("input[type=file]");
  if (!input || !event.clipboardData.files.length) return;
  const chosen = new DataTransfer();
  for (const file of event.clipboardData.files) chosen.items.add(file);
  input.files = chosen.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  event.preventDefault();
});
</script>
"""


@contextlib.contextmanager
def served(
    classify: Classify,
    *,
    title: str,
    about: str,
    examples: Sequence[Path] = (),
    max_file_bytes: int = 20_000_000,
    **launch_options: Any,
) -> Iterator[str]:
    """Serve the page while the context lasts; uploads lie in a folder that goes away with it.

    Args:
        classify: what to say about a picture file, with a small picture of it or None.
        title: of the page.
        about: a sentence or two below the title, in Markdown.
        examples: pictures to try.
        max_file_bytes: a larger upload is refused.
        launch_options: for Gradio: server_name, server_port, inbrowser.

    Yields:
        The address.

    Raises:
        OSError: the port is taken, where one was named.
    """
    with tempfile.TemporaryDirectory(prefix="uploads-") as folder, _environment(GRADIO_TEMP_DIR=folder, no_proxy="*"):
        logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks itself whether it is up.
        page = build(classify, title=title, about=about, examples=examples)
        import gradio

        # Its own fonts come from this machine too, but a page in the fonts of the reader is lighter.
        theme = gradio.themes.Default(font=_FONTS, font_mono=("ui-monospace", "monospace"))
        try:
            _, address, _ = page.launch(
                max_file_size=max_file_bytes,
                theme=theme,
                css=_CSS,
                head=_PASTE,
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
    """Set what Gradio reads whenever it needs it; what it asks others for is off."""
    before = dict(os.environ)
    os.environ.update(own, GRADIO_ANALYTICS_ENABLED="False")
    try:
        yield
    finally:
        for name in (*own, "GRADIO_ANALYTICS_ENABLED"):
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


def build(classify: Classify, *, title: str, about: str, examples: Sequence[Path] = ()) -> "gradio.Blocks":
    """The page as Gradio blocks, see `served`."""
    import gradio

    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(60, UPLOADS_LIVE_S)) as page:
        gradio.Markdown(f"# {html.escape(title)}\n\n{about}")
        pictures = gradio.Gallery(
            label="Drop, paste or choose pictures", type="filepath", sources=["upload"], interactive=True,
            file_types=["image"], height=240,
        )  # fmt: skip
        answers = gradio.HTML(padding=False)
        pictures.upload(
            lambda chosen: (None, answer_uploads(classify, uploaded(chosen or []))),
            pictures,
            [pictures, answers],
            api_name="classify",
            preprocess=False,  # `uploaded` wants the value as the browser sends it.
        )
        if examples:
            _add_examples(classify, examples, answers)
    return page


def _add_examples(classify: Classify, examples: Sequence[Path], answers: "gradio.HTML") -> None:
    import gradio

    gradio.set_static_paths(list(examples))  # Served from where they lie, not from among the uploads.
    gradio.Markdown("Or try one of these drawn examples:")
    shown = gradio.Gallery(
        [str(path) for path in examples], label="Examples", elem_id="examples", show_label=False, interactive=False,
        columns=3, object_fit="contain", height="auto", allow_preview=False, buttons=[],
    )  # fmt: skip

    def chosen(event: gradio.SelectData) -> str:
        path = examples[event.index]
        return _cards([_card(path.name, *classify(path))])

    shown.select(chosen, None, answers, api_visibility="private")


def uploaded(chosen: Sequence[Mapping[str, Any]]) -> list[Path]:
    """The files of a gallery's value that are uploads and still there, and nothing else of this machine."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
    paths = [Path((one.get("image") or one["video"])["path"]).resolve() for one in chosen]
    return [path for path in paths if path.is_relative_to(folder) and path.is_file()]


def answer_uploads(classify: Classify, paths: Sequence[Path]) -> str:
    """What is said about uploaded files, as HTML; the files are deleted."""
    try:
        found = _cards([_card(path.name, *classify(path)) for path in paths[:MAX_PICTURES]])
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # The folder that Gradio makes for every upload.
                path.parent.rmdir()
    note = f"<p>Only the first {MAX_PICTURES} of {len(paths)} pictures were looked at.</p>"
    return found + (note if len(paths) > MAX_PICTURES else "")


def wait() -> None:
    """Return when the process is asked to stop, by Ctrl-C or SIGTERM, so that what was opened can be closed."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()


def listed(class_names: Sequence[str]) -> str:
    """The classes as text, the first of them where there are many.

    Example:
        >>> listed(["animal_crossing", "doom"])
        'animal crossing and doom'
    """
    names = [html.escape(name.replace("_", " ")) for name in class_names]
    if len(names) > MAX_LISTED_CLASSES:
        names[MAX_LISTED_CLASSES:] = [f"{len(names) - MAX_LISTED_CLASSES} more"]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _cards(cards: Sequence[str]) -> str:
    return f'<div class="memes">{"".join(cards)}</div>'


def _card(name: str, answer: Answer, picture: Image.Image | None) -> str:
    """One picture and what is said about it."""
    image = f'<img alt="" src="{_thumbnail(picture)}">' if picture else ""
    file = f'<div class="file">{html.escape(name)}</div>'
    if isinstance(answer, str):
        return (
            f'<div class="meme">{image}<div><div class="game">unreadable</div>{html.escape(answer)}{file}</div></div>'
        )
    ordered = sorted(answer.items(), key=lambda one: -one[1])
    best = html.escape(ordered[0][0].replace("_", " "))
    bars = "".join(
        f'<dt>{html.escape(label.replace("_", " "))}</dt><dd class="bar"><i style="width:{share:.2%}"></i></dd>'
        f'<dd class="share" data-class="{html.escape(label)}" data-share="{share:.6f}">{share:.1%}</dd>'
        for label, share in ordered[:MAX_SHOWN_CLASSES]
    )
    return f'<div class="meme">{image}<div><div class="game">{best}</div>{file}<dl>{bars}</dl></div></div>'


def _thumbnail(picture: Image.Image) -> str:
    """A small JPEG as an address that holds its own data: no file is left for it."""
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
