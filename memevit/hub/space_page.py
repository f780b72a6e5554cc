"""The Space on the Hub: a web page to try a published model, which runs on the Hub (Gradio) or in the browser."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import RepoCard, SpaceCardData

from memevit import escape, files, pixels
from memevit.hub import html_page, leak_scan, publish, web_runtime
from memevit.hub.description import Description, listed
from memevit.portable import page
from memevit.results import CARD_FILE

GRADIO_VERSION = "6.31.0"  # The oldest that requirements-app.txt allows, and that the tests have run with.
PYTHON_VERSION = "3.11"
_EXAMPLES_DIR = "examples"
_SOURCES = {"app.py": "space_app.py", "page.py": "page.py"}  # Name in the Space: name in portable/.
_MAX_SHORT_DESCRIPTION = 60  # The Hub's limit.
_REQUIREMENTS = ("numpy", "pillow", "safetensors", "torch", "transformers")
_WRITTEN = (
    *(CARD_FILE, "requirements.txt", "model.txt", "title.txt", "about.md", "pixels.py", *_SOURCES),
    *(html_page.INDEX_FILE, *html_page.BESIDE.values()),
)
_GRADIO = {"sdk": "gradio", "sdk_version": GRADIO_VERSION, "python_version": PYTHON_VERSION, "app_file": "app.py"}
_GRADIO_NOTE = (
    "The page stores no uploads. While the model is private, give this Space a secret named `HF_TOKEN` with a token "
    "that may read it."
)
_STATIC = {"sdk": "static", "app_file": html_page.INDEX_FILE}
_STATIC_NOTE = "The model runs in the browser: images are not uploaded."
_PROJECT_REQUIREMENTS = Path(__file__).parents[2] / "requirements.txt"


def is_ours(path_in_repo: str) -> bool:
    """Whether a file of a Space is one that we put there, and may remove when it is outdated.

    Example:
        >>> is_ours("app.py"), is_ours("examples/doom_1.jpg"), is_ours("mine.py")
        (True, True, False)
    """
    return path_in_repo in _WRITTEN or bool(re.fullmatch(rf"{_EXAMPLES_DIR}/[\w.-]+", path_in_repo))


def assemble(target_dir: Path, *, model_id: str, description: Description, examples: Sequence[Path]) -> None:
    """Fill the empty folder `target_dir` with a Space.

    Args:
        target_dir: where the files go.
        model_id: name of the model on the Hub.
        description: title, sentence and classes of the model.
        examples: images that may be published.
    """
    for name, source in _SOURCES.items():
        shutil.copyfile(Path(page.__file__).with_name(source), target_dir / name)
    shutil.copyfile(pixels.__file__, target_dir / "pixels.py")
    if examples:
        (target_dir / _EXAMPLES_DIR).mkdir()
    for path in examples:
        shutil.copyfile(path, target_dir / _EXAMPLES_DIR / path.name)
    about = f"{escape.markdown_text(description.sentence)} Model: [{model_id}](https://huggingface.co/{model_id})."
    for name, text in {
        "model.txt": model_id,
        "title.txt": " ".join(escape.terminal(description.title).split()),
        "about.md": about,
        "requirements.txt": "\n".join(_requirements()),
        CARD_FILE: _card(model_id, description, _GRADIO, _GRADIO_NOTE),
    }.items():
        files.write_text(target_dir / name, f"{text}\n")


def assemble_static(target_dir: Path, page: html_page.Page, *, model_id: str, description: Description) -> None:
    """Fill the empty folder `target_dir` with a Space that is `page`; see `assemble`."""
    page.write_folder(target_dir)
    files.write_text(target_dir / CARD_FILE, _card(model_id, description, _STATIC, _STATIC_NOTE) + "\n")


def faults(folder: Path, examples: Sequence[Path]) -> list[str]:
    """What must not be published of an assembled Space, a line each; the images among `examples` may be.

    The runtime of a static page is a public package whose checksum was compared; it names folders of its builders.
    """
    known = {f"{_EXAMPLES_DIR}/{path.name}": files.sha256_of(path) for path in examples}
    public = set(web_runtime.SHA256.values())
    own = {name: path for name, path in publish.files_in(folder).items() if files.sha256_of(path) not in public}
    return leak_scan.findings_in(own, known_images=known)


def _requirements() -> list[str]:
    """Those lines of requirements.txt that the Space needs; Gradio comes with it."""
    lines = _PROJECT_REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if re.split(r"[<>=]", line)[0] in _REQUIREMENTS]


def short_description(class_names: Sequence[str]) -> str:
    """What the Space does, in the few letters that the Hub shows on its tile.

    Example:
        >>> short_description(["cat", "dog"]), short_description(["a" * 40, "b" * 40])
        ('Which is it: cat or dog?', 'Classifies images of 2 classes.')
    """
    text = f"Which is it: {' or '.join(listed(class_names).rsplit(' and ', 1))}?"
    is_short = len(text) <= _MAX_SHORT_DESCRIPTION and len(class_names) > 1
    return text if is_short else f"Classifies images of {len(class_names)} classes."


def _card(model_id: str, description: Description, runs_on: Mapping[str, str], note: str) -> str:
    title = " ".join(escape.terminal(description.title).split())
    data = SpaceCardData(
        title=title,
        emoji="🖼️",
        colorFrom="indigo",
        colorTo="green",
        **runs_on,
        pinned=False,
        license="apache-2.0",
        models=[model_id],
        tags=description.tags or None,
        short_description=short_description(description.class_names),
    )
    return str(
        RepoCard(
            f"---\n{data.to_yaml()}\n---\n\n# {escape.markdown_text(title)}\n\n"
            f"{escape.markdown_text(description.sentence)} {note}\n\n"
            f"It uses the model [{model_id}](https://huggingface.co/{model_id}).\n"
        )
    ).rstrip("\n")
