"""The files of a model page: what of a model folder is published, under which names, and which of them are ours."""

import hashlib
import json
import logging
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memevit import files, pixels, results
from memevit.errors import UserError
from memevit.hub import description as words
from memevit.hub import model_page
from memevit.hub.dataset_page import without_folders
from memevit.hub.description import Description
from memevit.hub.model_page import CONFIG_FILE, EXAMPLES_DIR, Example, Links
from memevit.portable import open_set
from memevit.results import CARD_FILE, CONFUSION_FILE, CURVES_FILE, GROWTH_FILE, KNOWN_SCORES_FILE

logger = logging.getLogger(__name__)

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")

_COPIED = re.compile(
    r"config\.json|generation_config\.json|(pre)?processor_config\.json|open_set\.safetensors|predictions\.csv"
    rf"|{WEIGHTS.pattern}|model\.safetensors\.index\.json"
)
_REWRITTEN = (results.RESULTS_FILE, results.RUN_FILE)
_RENDERED = (CARD_FILE, CONFUSION_FILE, CURVES_FILE, GROWTH_FILE, KNOWN_SCORES_FILE)
# The pipeline that answers `unknown`, of models with statistics for it.
_CODE = {path.name: path for path in (*(Path(open_set.__file__).with_name(name) for name in (
    "pipeline.py", "open_set.py", "features.py")), Path(pixels.__file__))}  # fmt: skip
# As transformers.js names them, and the resampling of Python in JavaScript.
ONNX_FULL, ONNX_HALF, ONNX_RESIZE = "onnx/model.onnx", "onnx/model_fp16.onnx", "onnx/resize.js"
_EXAMPLE = re.compile(rf"{EXAMPLES_DIR}/[\w.-]+")
_MAX_NAMED = 5
_OPEN_LICENSES = (
    *("cc0-", "cc-by-", "pddl", "odc-by", "odbl", "mit", "apache-2.0", "bsd", "gpl", "lgpl", "agpl", "wtfpl"),
    *("unlicense", "ofl-1.1", "mpl-2.0", "isc", "zlib"),
)


@dataclass(frozen=True)
class OnnxFiles:
    """What JavaScript needs, by path on the Hub, and `section`, what results.json and the card say about it."""

    paths: Mapping[str, Path]
    section: Mapping[str, Any]


def may_be_shown(license_id: str | None) -> bool:
    """Whether images under this licence may be shown, cut to size, on the page of a model.

    Example:
        >>> may_be_shown("cc-by-4.0"), may_be_shown("cc-by-nd-4.0"), may_be_shown("other"), may_be_shown(None)
        (True, False, False, False)
    """
    return bool(license_id) and license_id.startswith(_OPEN_LICENSES) and "-nd" not in license_id


def copy_examples(
    paths: Sequence[Path], labels: Sequence[int], class_names: Sequence[str], folder: Path, *, n: int
) -> list[Path]:
    """Copy up to `n` images into `folder`, of as many classes as possible, named by their class.

    Args:
        paths: of the images.
        labels: class id of each.
        class_names: position is the class id.
        folder: where the copies go.
        n: how many.
    """
    seen: Counter[int] = Counter()
    ranked = []
    for path, label in zip(paths, labels, strict=True):
        ranked.append((seen[label], label, path))
        seen[label] += 1
    copies = []
    for rank, label, path in sorted(ranked)[:n]:
        tag = words.as_tag(class_names[label]) or f"class-{label}"
        copies.append(folder / f"{tag}_{rank + 1}{path.suffix.lower()}")
        shutil.copyfile(path, copies[-1])
    return copies


def is_ours(path_in_repo: str) -> bool:
    """Whether a file of a model repository is one that we put there, and may remove when it is outdated.

    Example:
        >>> is_ours("model-00002-of-00003.safetensors"), is_ours("LICENSE"), is_ours("examples/doom_1.jpg")
        (True, False, True)
    """
    known = (*_REWRITTEN, *_RENDERED, *_CODE, ONNX_FULL, ONNX_HALF, ONNX_RESIZE)
    return bool(_COPIED.fullmatch(path_in_repo) or _EXAMPLE.fullmatch(path_in_repo)) or path_in_repo in known


def assemble(
    model_dir: Path,
    target_dir: Path,
    *,
    description: Description,
    links: Links,
    license_id: str | None = None,
    figures: Mapping[str, bytes] | None = None,
    examples: Sequence[Example] = (),
    onnx: OnnxFiles | None = None,
) -> None:
    """Fill the empty folder `target_dir` with what is published of `model_dir`.

    The card is rendered anew. Local folders in results.json and run.json are cut down to the last name.

    Args:
        model_dir: a model folder that finetune_vit.py wrote.
        target_dir: where the files go.
        description: title, sentence and tags.
        links: names on the Hub.
        license_id: licence of the model, if it is not that of a known backbone.
        figures: PNG files by name, drawn anew: what lies in the model folder may be anything.
        examples: images that may be published.
        onnx: the model for JavaScript.

    Raises:
        UserError: `model_dir` is no model folder.
    """
    if not (model_dir / CONFIG_FILE).is_file():
        raise UserError(f"{model_dir} holds no model (no {CONFIG_FILE}). finetune_vit.py --output_dir writes one.")
    left_out = []
    for path in sorted(model_dir.iterdir()):
        if path.is_file() and _COPIED.fullmatch(path.name):
            shutil.copyfile(path, target_dir / path.name)
        elif path.name not in (*_REWRITTEN, *_RENDERED):
            left_out.append(path.name)
    if model_page.has_open_set(model_dir):
        _add_pipeline(target_dir)
    for name, source in onnx.paths.items() if onnx else ():
        (target_dir / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target_dir / name)
    for name, content in (
        (results.RESULTS_FILE, results.read(model_dir) | ({"onnx": onnx.section} if onnx else {})),
        (results.RUN_FILE, results.read_run(model_dir)),
    ):
        text = json.dumps(without_folders(content), indent=2, ensure_ascii=False)
        files.write_text(target_dir / name, text + "\n")
    for name, content in (figures or {}).items():
        files.write_bytes(target_dir / name, content)
    for example in examples:
        (target_dir / EXAMPLES_DIR).mkdir(exist_ok=True)
        shutil.copyfile(example.path, target_dir / example.path_in_repo)
    model_page.write(target_dir, description=description, links=links, license_id=license_id, examples=examples)
    if left_out:
        more = f" and {len(left_out) - _MAX_NAMED} more" if len(left_out) > _MAX_NAMED else ""
        logger.info("Not part of a model page, left out: %s%s", ", ".join(left_out[:_MAX_NAMED]), more)


def _add_pipeline(target_dir: Path) -> None:
    """Add the code of the pipeline that answers `unknown`, and its name in config.json."""
    for name, path in _CODE.items():
        shutil.copyfile(path, target_dir / name)
    path = target_dir / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8")) | {"custom_pipelines": open_set.CUSTOM_PIPELINES}
    files.write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")


def known_images(figures: Mapping[str, bytes], examples: Sequence[Example]) -> dict[str, str]:
    """SHA-256 of the images that belong on a page, by path: the figures that were drawn and the examples."""
    drawn = {name: hashlib.sha256(content).hexdigest() for name, content in figures.items()}
    return drawn | {example.path_in_repo: files.sha256_of(example.path) for example in examples}
