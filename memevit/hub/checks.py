"""Checks of a model page: of the assembled folder before anything is sent, and of what comes back from the Hub."""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from huggingface_hub import ModelCard

from memevit import files, quiet, results
from memevit.errors import UserError
from memevit.hub import leak_scan, model_page, model_repo, retry
from memevit.hub.remote import Hub, Published, Repository
from memevit.portable import open_set
from memevit.results import CARD_FILE

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4  # Between two ways to the same probability on one machine.
RECORD_TOLERANCE = 0.02  # Between this machine and the one that wrote predictions.csv.
RECORD_TOLERANCE_HALF_PRECISION = 0.1
N_DRAWN_IMAGES = 12
MAX_TEST_IMAGES = 100
_MAX_LISTED = 5


class Classified(Protocol):
    """What a classifier says about a file: `probabilities` [C], or None, and whether the image is known."""

    path: Path
    probabilities: np.ndarray | None
    accepted: bool | None
    known_score: float | None


@dataclass(frozen=True)
class Reference:
    """What the local model says: `paths` of images, `class_names`, and `probabilities` [n, C] in their order.

    `known_scores` and `accepted` are [n], None if the model does not tell unknown images.
    """

    paths: list[Path]
    class_names: list[str]
    probabilities: np.ndarray
    known_scores: np.ndarray | None = None
    accepted: np.ndarray | None = None

    @classmethod
    def of(cls, class_names: list[str], found: Sequence[Classified]) -> "Reference":
        """From what a classifier says about files; those that it can't read are left out."""
        known = [one for one in found if one.probabilities is not None]
        decided = {}
        if known and known[0].accepted is not None:
            decided["known_scores"] = np.array([one.known_score for one in known])
            decided["accepted"] = np.array([one.accepted for one in known], dtype=bool)
        probabilities = np.asarray([one.probabilities for one in known])
        return cls([one.path for one in known], class_names, probabilities, **decided)


def check(folder: Path, reference: Reference, *, images: Mapping[str, str] | None = None) -> None:
    """Check everything that can be wrong with the page in `folder`, and report all of it at once.

    Args:
        folder: what `model_repo.assemble` wrote.
        reference: what the local model says about some images.
        images: SHA-256 by path of the images that belong there.

    Raises:
        UserError: something is wrong; nothing has been sent.
    """
    found = leak_scan.findings(folder, known_images=images)
    found += _config_faults(folder)
    found += _card_faults((folder / CARD_FILE).read_text(encoding="utf-8"))
    refuse(found, folder.name)
    problem = difference(str(folder), reference) or open_set_difference(str(folder), folder, reference)
    refuse([problem] if problem else [], folder.name)


def refuse(found: Sequence[str], what: str) -> None:
    """Raise when something was found.

    Raises:
        UserError: `found` is not empty.
    """
    if found:
        more = f"; and {len(found) - _MAX_LISTED} more" if len(found) > _MAX_LISTED else ""
        listed = "; ".join(found[:_MAX_LISTED])
        raise UserError(f"Nothing was published, {what} is not fit for it: {listed}{more}. Mend that and try again.")


def _config_faults(folder: Path) -> Iterator[str]:
    config = _json(folder / model_page.CONFIG_FILE)
    if not any((folder / name).is_file() for name in model_repo.PROCESSOR_FILES):
        yield f"the image processor ({model_repo.PROCESSOR_FILES[0]}) is missing"
    if not any(model_repo.WEIGHTS.fullmatch(path.name) for path in folder.iterdir()):
        yield "the weights (model.safetensors) are missing"
    if not any("ImageClassification" in name for name in config.get("architectures") or []):
        yield f"config.json names no image classification model, but {config.get('architectures')}"
    if "auto_map" in config:
        yield "config.json asks for code of its own (auto_map), which a plain pipeline() refuses to run"
    names = config.get("id2label") or {}
    ordered = [names.get(str(label)) for label in range(len(names))]
    if len(names) < 2 or None in ordered or len(set(ordered)) != len(ordered):
        yield f"config.json has no proper id2label: {names}"
    elif placeholders := [name for name in ordered if str(name).startswith("LABEL_") or not str(name).strip()]:
        yield f"the classes have no names, but {placeholders[0]!r}: train with class folders that have names"
    elif {name: int(label) for name, label in (config.get("label2id") or {}).items()} != {
        name: label for label, name in enumerate(ordered)
    }:
        yield "label2id in config.json is not the inverse of id2label"
    yield from _class_faults(folder, ordered)


def _class_faults(folder: Path, names: list[str | None]) -> Iterator[str]:
    recorded = (results.read(folder).get("confusion_matrix") or {}).get("class_names")
    if recorded is not None and recorded != names:
        yield f"results.json is about the classes {recorded[:_MAX_LISTED]}, the model knows {names[:_MAX_LISTED]}"


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path.name} is damaged ({error}). Restore the file or train again.") from error


def _card_faults(text: str) -> Iterator[str]:
    try:
        data = ModelCard(text).data.to_dict()
    except Exception as error:  # Whatever a YAML reader may say.
        yield f"the front matter of {CARD_FILE} can't be read ({error})"
        return
    for key, expected in (("pipeline_tag", model_page.PIPELINE_TAG), ("library_name", model_page.LIBRARY)):
        if data.get(key) != expected:
            yield f"{key} in {CARD_FILE} is {data.get(key)!r}, expected {expected!r}"
    for key in ("license", "tags", "model-index"):
        if not data.get(key):
            yield f"{key} is missing in {CARD_FILE}"


def probabilities(model: str, paths: Sequence[Path], class_names: Sequence[str], **options: Any) -> np.ndarray:
    """[n, C] probabilities as a stranger gets them, from `pipeline("image-classification")` with `options`.

    Raises:
        UserError: `model` can't be loaded that way, or knows other classes.
    """
    from transformers import pipeline

    try:
        with quiet.loading():
            classifier = pipeline("image-classification", model=model, device="cpu", **options)
        answers = classifier([str(path) for path in paths], top_k=len(class_names))
    except Exception as error:  # Transformers raises anything, from OSError to KeyError.
        raise UserError(
            f'pipeline("image-classification") can\'t use {Path(model).name}: {retry.brief(str(error))}'
        ) from error
    rows = []
    for answer in answers:
        by_name = {one["label"]: one["score"] for one in answer}
        if set(by_name) != set(class_names):
            raise UserError(f"{Path(model).name} answers with {sorted(by_name)}, expected {sorted(class_names)}.")
        rows.append([by_name[name] for name in class_names])
    return np.asarray(rows, dtype=np.float64).reshape(-1, len(class_names))


def difference(model: str, reference: Reference, **options: Any) -> str:
    """What `model`, loaded as strangers do, says otherwise than the local model; "" when they agree.

    Args:
        model: a folder or a name on the Hub.
        reference: what the local model says.
        options: for `pipeline`: revision, token, model_kwargs.

    Raises:
        UserError: it can't be loaded at all.
    """
    own = probabilities(model, reference.paths, reference.class_names, **options)
    largest = float(np.abs(own - reference.probabilities).max())
    if not largest <= TOLERANCE:  # Also when it is no number.
        return f"loaded back it gives other probabilities than the local model, by up to {largest:.2g}"
    ordered = np.sort(reference.probabilities, axis=1)
    is_clear = ordered[:, -1] - ordered[:, -2] > 2 * TOLERANCE
    if (own.argmax(axis=1) != reference.probabilities.argmax(axis=1))[is_clear].any():
        return "loaded back it gives other classes than the local model"
    logger.info("Loaded back, the model says the same about %d images (largest difference %.1g)", len(own), largest)
    return ""


def open_set_difference(model: str, statistics: Path, reference: Reference, **options: Any) -> str:
    """What the published pipeline that answers `unknown` says otherwise than the local model; "" when they agree.

    Args:
        model: a folder or a name on the Hub.
        statistics: folder with the statistics of `model`.
        reference: what the local model says.
        options: for `pipeline`: revision, token, model_kwargs.

    Raises:
        UserError: it can't be loaded at all.
    """
    if reference.known_scores is None:
        return ""
    from transformers import pipeline

    try:
        with quiet.loading():
            classifier = pipeline(
                open_set.PIPELINE_TASK, model=model, device="cpu", trust_remote_code=True, statistics=str(statistics),
                **options,
            )  # fmt: skip
        answers = classifier([str(path) for path in reference.paths])
    except Exception as error:  # Transformers raises anything, from OSError to KeyError.
        raise UserError(f"pipeline({open_set.PIPELINE_TASK!r}) can't use {Path(model).name}: {error}") from error
    own = np.array([one["known_score"] for one in answers])
    scale = np.maximum(np.abs(reference.known_scores), 1.0)
    largest = float((np.abs(own - reference.known_scores) / scale).max())
    if not largest <= TOLERANCE:
        return f"loaded back it gives other known scores than the local model, by up to {largest:.2g}"
    thresholds = np.array([one["threshold"] for one in answers])
    is_clear = np.abs(own - thresholds) > TOLERANCE * scale
    if (np.array([one["accepted"] for one in answers]) != reference.accepted)[is_clear].any():
        return "loaded back it accepts other images than the local model"
    return ""


def some_of(paths: Sequence[Path], *, n: int = MAX_TEST_IMAGES) -> list[Path]:
    """`n` of `paths`, evenly spread, or all where there are fewer.

    Example:
        >>> [path.name for path in some_of([Path(str(number)) for number in range(10)], n=3)]
        ['0', '3', '6']
    """
    return [paths[position * len(paths) // n] for position in range(n)] if len(paths) > n else list(paths)


def drawn_images(folder: Path, *, n: int = N_DRAWN_IMAGES) -> list[Path]:
    """Draw `n` images of many colours and sizes into `folder`, for a check without the test images."""
    from PIL import Image

    paths = []
    for number in range(n):
        random = np.random.default_rng(number)
        grid = random.integers(0, 256, (random.integers(2, 9), random.integers(2, 9), 3)).astype(np.uint8)
        size = (int(random.integers(40, 500)), int(random.integers(40, 500)))
        path = folder / f"drawn_{number:02}.png"
        Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths


def agrees_with_record(
    model_dir: Path, recorded: dict[str, dict[str, float]], dataset_dir: Path, reference: Reference
) -> None:
    """See that predictions.csv, from which the numbers on the card come, was made by this model.

    Args:
        model_dir: the model folder.
        recorded: probability by class name of each file in predictions.csv.
        dataset_dir: to which those file names are relative.
        reference: what the local model says about some of those files.

    Raises:
        UserError: it says something else.
    """
    training = results.read(model_dir).get("training") or {}
    is_half = training.get("precision") in ("fp16", "bf16")
    tolerance = RECORD_TOLERANCE_HALF_PRECISION if is_half else RECORD_TOLERANCE
    for path, own in zip(reference.paths, reference.probabilities, strict=True):
        row = recorded.get(path.absolute().relative_to(dataset_dir.absolute()).as_posix())
        if row is None or set(row) != set(reference.class_names):
            raise UserError(
                f"{model_dir / results.PREDICTIONS_FILE} knows nothing of {path.name}, or other classes. Is "
                f"{dataset_dir} the dataset that this model was trained on?"
            )
        largest = max(abs(row[name] - value) for name, value in zip(reference.class_names, own, strict=True))
        if largest > tolerance:
            raise UserError(
                f"{model_dir / results.PREDICTIONS_FILE} gives {path.name} other probabilities than the model, by "
                f"{largest:.2g}: the numbers on the card are not about these weights. Run finetune_vit.py again."
            )


def load_back(
    hub: Hub, repo: Repository, published: Published, contents: Mapping[str, Path], reference: Reference
) -> None:
    """Fetch a published model as a stranger does, with an empty cache, and compare it with the local one.

    Args:
        hub: where from.
        repo: of the model.
        published: the version to fetch.
        contents: the files that were sent, by path.
        reference: what the local model says about some images.

    Raises:
        UserError: it can't be fetched, or something else comes back.
    """
    with tempfile.TemporaryDirectory() as cache_dir:
        sizes = {path: file.stat().st_size for path, file in contents.items()}
        snapshot = hub.fetch(repo, published.commit, sizes, cache_dir)
        fetched = {path: snapshot / path for path in contents}
        damaged = [
            path
            for path, file in fetched.items()
            if not file.is_file() or files.sha256_of(file) != files.sha256_of(contents[path])
        ]
        problem = f"other bytes came back in {', '.join(damaged)}" if damaged else ""
        problem = problem or hub.patience.call(
            f"loading {repo.repo_id} by its name",
            lambda: _difference(hub, repo, published, snapshot, reference, cache_dir),
        )
    if problem:
        raise UserError(
            f"{repo.repo_id} was sent, but differs from the local model: {problem}. The version {published.commit} "
            "has no tag; don't use it, and run the command again."
        )


def _difference(
    hub: Hub, repo: Repository, published: Published, snapshot: Path, reference: Reference, cache_dir: str
) -> str:
    """See `difference`; a connection that breaks comes out as it is, so that it can be tried again."""
    options = {"revision": published.commit, "token": hub.token, "model_kwargs": {"cache_dir": cache_dir}}
    try:
        return difference(repo.repo_id, reference, **options) or open_set_difference(
            repo.repo_id, snapshot, reference, **options
        )
    except UserError as error:
        cause = error.__cause__
        if cause is None or not retry.is_transient(cause):
            raise
    raise cause  # Not from within the handler, which would cut off what it came from.
