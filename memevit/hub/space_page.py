"""The Space on the Hub: a web page to try a published model, from the files in `space/`."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import RepoCard, SpaceCardData

from memevit import files, pixels
from memevit.hub import leak_scan
from memevit.portable import page

GRADIO_VERSION = "6.31.0"  # The oldest that requirements-app.txt allows, and that the tests have run with.
PYTHON_VERSION = "3.11"
CARD_FILE = "README.md"
_EXAMPLES_DIR = "examples"
_SOURCES = ("app.py", "page.py")
_REQUIREMENTS = ("numpy", "pillow", "safetensors", "torch", "transformers")
_WRITTEN = (CARD_FILE, "requirements.txt", "model.txt", "about.md", "pixels.py", *_SOURCES)
_PROJECT_REQUIREMENTS = Path(__file__).parents[2] / "requirements.txt"


def is_ours(path_in_repo: str) -> bool:
    """Whether a file of a Space is one that we put there, and may remove when it is outdated.

    Example:
        >>> is_ours("app.py"), is_ours("examples/doom_1.jpg"), is_ours("mine.py")
        (True, True, False)
    """
    return path_in_repo in _WRITTEN or bool(re.fullmatch(rf"{_EXAMPLES_DIR}/[\w.-]+", path_in_repo))


def assemble(target_dir: Path, *, model_id: str, class_names: Sequence[str], examples: Sequence[Path]) -> None:
    """Fill the empty folder `target_dir` with a Space.

    Args:
        target_dir: where the files go.
        model_id: name of the model on the Hub.
        class_names: of the model.
        examples: pictures that may be published.
    """
    for name in _SOURCES:
        shutil.copyfile(Path(page.__file__).with_name(name), target_dir / name)
    shutil.copyfile(pixels.__file__, target_dir / "pixels.py")
    (target_dir / _EXAMPLES_DIR).mkdir()
    for path in examples:
        shutil.copyfile(path, target_dir / _EXAMPLES_DIR / path.name)
    about = f"Which game is a meme about? This model knows {page.listed(class_names)}."
    for name, text in {
        "model.txt": model_id,
        "about.md": f"{about} It is [{model_id}](https://huggingface.co/{model_id}).",
        "requirements.txt": "\n".join(_requirements()),
        CARD_FILE: _card(model_id, about),
    }.items():
        files.write_text(target_dir / name, f"{text}\n")


def faults(folder: Path, examples: Sequence[Path]) -> list[str]:
    """What must not be published of an assembled Space, a line each; the pictures among `examples` may be."""
    known = {f"{_EXAMPLES_DIR}/{path.name}": files.sha256_of(path) for path in examples}
    return leak_scan.findings(folder, known_pictures=known)


def _requirements() -> list[str]:
    """Those lines of requirements.txt that the Space needs; Gradio comes with it."""
    lines = _PROJECT_REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if re.split(r"[<>=]", line)[0] in _REQUIREMENTS]


def _card(model_id: str, about: str) -> str:
    name = model_id.split("/")[-1]
    data = SpaceCardData(
        title=name,
        emoji="🎮",
        colorFrom="indigo",
        colorTo="green",
        sdk="gradio",
        sdk_version=GRADIO_VERSION,
        python_version=PYTHON_VERSION,
        app_file="app.py",
        pinned=False,
        license="apache-2.0",
        models=[model_id],
        short_description="Drop a meme and see which game it is about.",
    )
    return str(
        RepoCard(
            f"---\n{data.to_yaml()}\n---\n\n# {name}\n\n{about} The page keeps no uploads.\n\n"
            f"It uses [{model_id}](https://huggingface.co/{model_id}). While that model is private, give this Space a "
            "secret named `HF_TOKEN` with a token that may read it.\n"
        )
    ).rstrip("\n")
