"""The Space on the Hub: a web page to try a published model, from the files in `space/`."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import RepoCard, SpaceCardData

from memevit import escape, files, pixels
from memevit.hub import leak_scan
from memevit.hub.description import Description, listed
from memevit.portable import page
from memevit.results import CARD_FILE

GRADIO_VERSION = "6.31.0"  # The oldest that requirements-app.txt allows, and that the tests have run with.
PYTHON_VERSION = "3.11"
_EXAMPLES_DIR = "examples"
_SOURCES = {"app.py": "space_app.py", "page.py": "page.py"}  # Name in the Space: name in portable/.
_MAX_SHORT_DESCRIPTION = 60  # The Hub's limit.
_REQUIREMENTS = ("numpy", "pillow", "safetensors", "torch", "transformers")
_WRITTEN = (CARD_FILE, "requirements.txt", "model.txt", "title.txt", "about.md", "pixels.py", *_SOURCES)
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
        CARD_FILE: _card(model_id, description),
    }.items():
        files.write_text(target_dir / name, f"{text}\n")


def faults(folder: Path, examples: Sequence[Path]) -> list[str]:
    """What must not be published of an assembled Space, a line each; the images among `examples` may be."""
    known = {f"{_EXAMPLES_DIR}/{path.name}": files.sha256_of(path) for path in examples}
    return leak_scan.findings(folder, known_images=known)


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


def _card(model_id: str, description: Description) -> str:
    title = " ".join(escape.terminal(description.title).split())
    data = SpaceCardData(
        title=title,
        emoji="🖼️",
        colorFrom="indigo",
        colorTo="green",
        sdk="gradio",
        sdk_version=GRADIO_VERSION,
        python_version=PYTHON_VERSION,
        app_file="app.py",
        pinned=False,
        license="apache-2.0",
        models=[model_id],
        tags=description.tags or None,
        short_description=short_description(description.class_names),
    )
    return str(
        RepoCard(
            f"---\n{data.to_yaml()}\n---\n\n# {escape.markdown_text(title)}\n\n"
            f"{escape.markdown_text(description.sentence)} The page stores no uploads.\n\n"
            f"It uses the model [{model_id}](https://huggingface.co/{model_id}). While that model is private, give "
            "this Space a secret named `HF_TOKEN` with a token that may read it.\n"
        )
    ).rstrip("\n")
