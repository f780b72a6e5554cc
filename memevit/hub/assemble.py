"""The folder that goes up: the files of a model page, copied from a model folder, and nothing else."""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

from memevit import files, results
from memevit.errors import UserError
from memevit.hub import figure, model_page

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
_COPIED = re.compile(
    r"config\.json|generation_config\.json|(pre)?processor_config\.json|open_set\.safetensors|predictions\.csv"
    rf"|{WEIGHTS.pattern}|model\.safetensors\.index\.json"
)
_REWRITTEN = (results.RESULTS_FILE, results.RUN_FILE)
_RENDERED = (model_page.CARD_FILE, figure.CONFUSION_FILE)
_MAX_NAMED = 5


def is_ours(path_in_repo: str) -> bool:
    """Whether a file of a model repository is one that we put there, and may remove when it is outdated.

    Example:
        >>> is_ours("model-00002-of-00003.safetensors"), is_ours("LICENSE"), is_ours("open_set.safetensors")
        (True, False, True)
    """
    return bool(_COPIED.fullmatch(path_in_repo)) or path_in_repo in (*_REWRITTEN, *_RENDERED)


def assemble(
    model_dir: Path,
    target_dir: Path,
    *,
    repo_id: str,
    license_id: str | None = None,
    published_data: model_page.PublishedData | None = None,
) -> None:
    """Fill the empty folder `target_dir` with what is published of `model_dir`.

    The card is rendered anew. Local folders in results.json and run.json are cut down to the last name.

    Args:
        model_dir: a model folder that finetune_vit.py wrote.
        target_dir: where the files go.
        repo_id: name on the Hub.
        license_id: licence of the model, if it is not that of a known backbone.
        published_data: dataset on the Hub that the model was trained on, if there is one.

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
    for name, content in (
        (results.RESULTS_FILE, results.read(model_dir)),
        (results.RUN_FILE, results.read_run(model_dir)),
    ):
        text = json.dumps(_without_folders(content), indent=2, ensure_ascii=False)
        files.write_text(target_dir / name, text + "\n")
    model_page.write(target_dir, repo_id=repo_id, license_id=license_id, published_data=published_data)
    if left_out:
        more = f" and {len(left_out) - _MAX_NAMED} more" if len(left_out) > _MAX_NAMED else ""
        logger.info("Not part of a model page, left out: %s%s", ", ".join(left_out[:_MAX_NAMED]), more)


def _without_folders(value: Any) -> Any:
    """`value` with absolute paths cut down to their last part: where a file lay here is nobody's business."""
    if isinstance(value, dict):
        return {key: _without_folders(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_without_folders(own) for own in value]
    if isinstance(value, str) and re.fullmatch(r"(/|~/|[A-Za-z]:[\\/]).+", value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value
