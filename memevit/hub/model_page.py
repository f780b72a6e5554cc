"""A model page: the card rendered from results.json, and the folder that goes up.

Every number on the card is in results.json. A later piece of evidence gets a section of the card by being there: for
each key of `LATER_SECTIONS` that results.json has, `sections/<key>.md.j2` is rendered with the key's content as
`section`; without such a template, content with a list `measurements` (and maybe `title` and `summary`) becomes a
table. Templates escape names with the filters `plain`, `code` and `identifier`.
"""

import functools
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

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from memevit import escape, files, pixels, results
from memevit.errors import UserError
from memevit.hub import description as words
from memevit.hub.dataset_page import without_folders
from memevit.hub.description import Description
from memevit.portable import open_set
from memevit.results import CARD_FILE, CONFUSION_FILE, CURVES_FILE, GROWTH_FILE, KNOWN_SCORES_FILE

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
PIPELINE_TAG = "image-classification"
LIBRARY, LIBRARY_JS = "transformers", "transformers.js"
UNKNOWN_LICENSE = "unknown"  # One of the Hub's identifiers.
# In the order of the page, with the title where the section brings none.
LATER_SECTIONS = {
    "open_set": "Unknown images",
    "calibration": "Calibration",
    "evidence": "What the answers rest on",
    "shortcuts": "Shortcuts",
    "failures": "Mistakes",
    "growth": "Classes added later",
}
# What a section must hold for its own template; with less it is a table of measurements.
_OWN_SECTION = {
    "open_set": {"reject_label", "per_class", "sources"},
    "growth": {"old_classes", "new_classes", "head"},
}
MAX_NAMED_CLASSES = 12  # In the first sentence.
MAX_CLASSES_IN_INDEX = 50  # With their own entries in the model-index.
MAX_SHOWN_ANSWERS = 3  # Of a sample output.

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
# Of transformers.js 4.3, among those that finetune_vit.py trains.
_IN_TRANSFORMERS_JS = {
    *("beit", "convnext", "convnextv2", "deit", "dinov2", "dinov2_with_registers", "efficientnet", "hiera", "ijepa"),
    *("mobilevit", "mobilevitv2", "pvt", "resnet", "swin", "vit", "vit_msn"),
}
_EXAMPLES_DIR = "examples"
_EXAMPLE = re.compile(rf"{_EXAMPLES_DIR}/[\w.-]+")
_MAX_NAMED = 5
_TEMPLATES_DIR = Path(__file__).parent
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)
_APACHE_BACKBONES = ("google/vit-", "facebook/deit-", "microsoft/swin-", "facebook/dinov2-")
_OPEN_LICENSES = (
    *("cc0-", "cc-by-", "pddl", "odc-by", "odbl", "mit", "apache-2.0", "bsd", "gpl", "lgpl", "agpl", "wtfpl"),
    *("unlicense", "ofl-1.1", "mpl-2.0", "isc", "zlib"),
)
_METRICS_ON_THE_HUB = {"accuracy", "f1", "precision", "recall"}
_METRIC_TYPES = {"macro_f1": "f1"}  # Names in results.json to names at hf.co/metrics, where they differ.
_METRIC_NAMES = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "auroc_known_against_unknown": "AUROC, known against unknown images",
    "false_rejection": "Known images called unknown",
    "ece_15_equal_mass": "ECE, 15 bins of equal mass",
}


@dataclass(frozen=True)
class Links:
    """Names on the Hub, None where there is nothing: `version` is the tag that the lines of code pin."""

    repo_id: str | None = None
    version: str | None = None
    dataset_repo_id: str | None = None
    dataset_license: str | None = None
    space_repo_id: str | None = None
    base_model: str | None = None
    project_url: str | None = None
    year: int | None = None


@dataclass(frozen=True)
class Example:
    """An image that may be published, and what the model says about it: probability by class name."""

    path: Path
    probabilities: Mapping[str, float]

    @property
    def path_in_repo(self) -> str:
        """Where it lies on the Hub."""
        return f"{_EXAMPLES_DIR}/{self.path.name}"

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The most probable classes, as a pipeline prints them."""
        ordered = sorted(self.probabilities.items(), key=lambda one: -one[1])[:MAX_SHOWN_ANSWERS]
        return [{"label": label, "score": round(float(score), 3)} for label, score in ordered]


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
    if has_open_set(model_dir):
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
        (target_dir / _EXAMPLES_DIR).mkdir(exist_ok=True)
        shutil.copyfile(example.path, target_dir / example.path_in_repo)
    write(target_dir, description=description, links=links, license_id=license_id, examples=examples)
    if left_out:
        more = f" and {len(left_out) - _MAX_NAMED} more" if len(left_out) > _MAX_NAMED else ""
        logger.info("Not part of a model page, left out: %s%s", ", ".join(left_out[:_MAX_NAMED]), more)


def has_open_set(model_dir: Path) -> bool:
    """Whether a model has the statistics by which it answers `unknown`."""
    if not (model_dir / open_set.FILE).is_file():
        return False
    return bool(json.loads((model_dir / CONFIG_FILE).read_text(encoding="utf-8")).get(open_set.KEY))


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


def write(
    model_dir: Path,
    *,
    description: Description | None = None,
    links: Links | None = None,
    license_id: str | None = None,
    examples: Sequence[Example] = (),
) -> None:
    """Write README.md into `model_dir`, see `render`."""
    text = render(model_dir, description=description, links=links, license_id=license_id, examples=examples)
    files.write_text(model_dir / CARD_FILE, text)


def render(
    model_dir: Path,
    *,
    description: Description | None = None,
    links: Links | None = None,
    license_id: str | None = None,
    examples: Sequence[Example] = (),
) -> str:
    """The model card as text; it shows those of the figures that lie in `model_dir`.

    Args:
        model_dir: a model folder with results.json.
        description: title, sentence and tags; made from results.json when None.
        links: names on the Hub, for the lines of code and the links; the folder's name when None.
        license_id: licence of the model; that of the backbone when None and known.
        examples: images in `examples/`, with what the model says about them.

    Raises:
        UserError: there is no results.json.
    """
    found = results.read(model_dir)
    links = links or Links()
    name = links.repo_id or model_dir.resolve().name.removesuffix(files.partial_of(Path("x")).name.removeprefix("x"))
    description = description or words.describe(found, name=name)
    training = found.get("training") or {}
    license_id = license_id or known_license(training)
    model_type = _model_type(model_dir)
    is_for_js = bool(found.get("onnx")) and model_type in _IN_TRANSFORMERS_JS
    front = _front_matter(
        found, name, description, links, license_id=license_id, examples=examples, is_for_js=is_for_js
    )
    scores = _scores(found.get("measurements") or [])
    environment = _environment()
    is_probe = training.get("method") == results.PROBE
    drawn = {
        f"{name.removesuffix('.png')}_file": name if (model_dir / name).is_file() else None
        for name in (CONFUSION_FILE, CURVES_FILE, GROWTH_FILE, KNOWN_SCORES_FILE)
    }
    body = environment.get_template("model_card.md.j2").render(
        name=name,
        description=description,
        links=links,
        examples=examples if links.repo_id else [],
        license_id=license_id,
        model_type=model_type,
        is_for_js=is_for_js,
        base_model=describe_base_model(training, links.base_model),
        data_license=links.dataset_license or (found.get("data") or {}).get("license"),
        scores=[
            row | {"subject": results.SAVED_PROBE} if is_probe and row["subject"] == results.MODEL else row
            for row in scores
        ],
        headline=_headline(scores),
        choice=(training.get("choice") or {}).get("summary"),
        not_beaten=_not_beaten(found, scores),
        has_open_set=bool(found.get("open_set")),
        max_named=MAX_NAMED_CLASSES,
        confusion_file=drawn["confusion_matrix_file"],
        curves_file=None if is_probe else drawn["learning_curves_file"],
        is_probe=is_probe,
        settings=_settings(training),
        author=links.repo_id.split("/")[0] if links.repo_id else None,
        later=[
            text
            for key, title in LATER_SECTIONS.items()
            if (
                text := _later_section(
                    environment,
                    key,
                    title,
                    found.get(key),
                    name=name,
                    version=links.version,
                    pipeline=bool(links.repo_id) and has_open_set(model_dir),
                    known_scores_file=drawn["known_scores_file"],
                    growth_file=drawn["growth_file"],
                )
            )
        ],
        **{key: found.get(key) or {} for key in ("training", "data", "per_class", "confusion_matrix", "seeds", "onnx")},
    )
    return f"---\n{front.to_yaml()}\n---\n\n{body.strip()}\n"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES_DIR),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown; names go through `plain`, `code` or `identifier`.
    )
    environment.filters |= {
        "plain": plain,
        "class_name": lambda name: plain(words.readable(str(name))),
        "listed": lambda names: plain(words.listed(names)),
        "code": code,
        "identifier": identifier,
        "bibtex": bibtex,
        "share": share,
        "quoted": lambda text: json.dumps(str(text)),
        "megabytes": lambda n_bytes: f"{n_bytes / 1e6:.3g} MB",
    }
    return environment


def plain(text: object) -> str:
    r"""A name as Markdown text that can't open a table cell, a tag or a link.

    Example:
        >>> plain("a|b <script> *c*")
        'a\\|b &lt;script&gt; \\*c\\*'
    """
    return escape.markdown_text(" ".join(str(text).split()))


def code(text: object) -> str:
    """A name for the inside of backticks.

    Example:
        >>> code("a`b")
        "a'b"
    """
    return escape.terminal(" ".join(str(text).split())).replace("`", "'").replace("|", "¦")


def identifier(text: object) -> str:
    """A licence or another identifier as it is; anything else as `plain` text.

    Example:
        >>> identifier("cc-by-4.0"), identifier("a<b")
        ('cc-by-4.0', 'a&lt;b')
    """
    return str(text) if _IDENTIFIER.fullmatch(str(text)) else plain(text)


def bibtex(text: object) -> str:
    """Text for a field of a citation.

    Example:
        >>> bibtex("{Cats} & dogs")
        'Cats dogs'
    """
    return " ".join(re.sub(r"[^\w\s.,:/-]", " ", escape.terminal(str(text))).split())


def share(value: float | None) -> str:
    """A share with three decimals, as in the tables.

    Example:
        >>> share(0.93749), share(None)
        ('0.937', '')
    """
    return "" if value is None else f"{value:.3f}"


def count(value: float) -> str:
    """A large number in few digits.

    Example:
        >>> count(2716931), count(85800194), count(16931), count(999)
        ('2.7 M', '86 M', '17 k', '999')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size * 0.9995:
            return f"{value / size:.1f} {unit}" if value < 9.95 * size else f"{value / size:.0f} {unit}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """A time in the unit that people would use.

    Example:
        >>> duration(12.3), duration(743), duration(9000)
        ('12 s', '12 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _settings(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rows of the table of settings, as Markdown."""
    rows = (
        ("hardware", "hardware", plain), ("seconds", "training time", duration), ("n_epochs", "epochs", _number),
        ("n_steps", "steps", _number), ("best_step", "step of the chosen checkpoint", _number),
        ("batch_size", "effective batch size", _number), ("learning_rate", "peak learning rate (top block)", _number),
        ("precision", "precision", identifier), ("image_size", "input resolution in pixels", _number),
        ("n_parameters", "parameters", count), ("n_trainable_parameters", "trained parameters", count),
        ("seed", "seed", _number),
    )  # fmt: skip
    found = []
    for key, label, written in rows:
        value = training.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append((label, (plain if written in (plain, identifier) else written)(value)))
        elif value is not None:
            found.append((label, (written if written in (plain, identifier) else plain)(value)))
    return found


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def known_license(training: dict[str, Any]) -> str | None:
    """The licence of a model that started from a backbone whose licence is known here, else None."""
    base_model = str(training.get("base_model", ""))
    if training.get("from_scratch") or base_model.startswith(_APACHE_BACKBONES) or _is_shipped(base_model):
        return "apache-2.0"
    return None


def _is_shipped(base_model: str) -> bool:
    """Whether a backbone is one of those that come with this project."""
    return Path(base_model).parent.name == "backbones"


def describe_base_model(training: dict[str, Any], hub_id: str | None = None) -> dict[str, Any]:
    """The backbone: `hub_id` or None where it is not on the Hub, `name` without local folders, `is_shipped`."""
    base_model = str(training.get("base_model", ""))
    is_shipped = _is_shipped(base_model)
    is_local = is_shipped or Path(base_model).is_absolute() or not _HUB_ID.fullmatch(base_model)
    known = hub_id or (None if is_local else base_model)
    return {"hub_id": known, "name": Path(base_model).name if is_local else base_model, "is_shipped": is_shipped}


def _front_matter(
    found: dict[str, Any],
    name: str,
    description: Description,
    links: Links,
    *,
    license_id: str | None,
    examples: Sequence[Example],
    is_for_js: bool,
) -> ModelCardData:
    training = found.get("training") or {}
    hub_id = describe_base_model(training, links.base_model)["hub_id"]
    has_base = hub_id is not None and not training.get("from_scratch")
    entries = _eval_results(found, links.dataset_repo_id)
    widget = [
        {
            "src": f"https://huggingface.co/{links.repo_id}/resolve/main/{example.path_in_repo}",
            "example_title": example.path.stem.replace("_", " "),
            "output": example.answers,
        }
        for example in examples
        if links.repo_id
    ]
    return ModelCardData(
        license=license_id or UNKNOWN_LICENSE,
        library_name=LIBRARY,
        pipeline_tag=PIPELINE_TAG,
        base_model=hub_id if has_base else None,
        base_model_relation="finetune" if has_base else None,
        datasets=[links.dataset_repo_id] if links.dataset_repo_id else None,
        metrics=sorted({entry.metric_type for entry in entries} & _METRICS_ON_THE_HUB) or None,
        tags=list(dict.fromkeys([PIPELINE_TAG, "vision", *([LIBRARY_JS] if is_for_js else []), *description.tags])),
        model_name=escape.terminal(name.split("/")[-1]),
        eval_results=entries or None,
        **({"widget": widget} if widget else {}),
    )


def _headline(scores: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The row that the first line of the page is about: the model on the test split."""
    row = scores[0] if scores else None
    return row if row and row["subject"] == results.MODEL and "accuracy" in row else None


def _eval_results(found: dict[str, Any], dataset_repo_id: str | None) -> list[EvalResult]:
    """Every measurement of the model itself, and per class where there are not too many."""
    source = escape.terminal(str((found.get("data") or {}).get("source") or "folder"))
    where = {
        "task_type": PIPELINE_TAG,
        "task_name": "Image classification",
        "dataset_type": dataset_repo_id or "imagefolder",
        "dataset_name": dataset_repo_id or source,
    }
    entries = [
        EvalResult(
            **where,
            dataset_split=m.get("split"),
            metric_type=_METRIC_TYPES.get(m["name"], m["name"]),
            metric_name=_METRIC_NAMES.get(m["name"], m["name"].replace("_", " ").capitalize()),
            metric_value=m["value"],
            metric_args={key: m[key] for key in ("n", "ci_low", "ci_high", "ci_method") if m.get(key) is not None},
        )
        for m in [*(found.get("measurements") or []), *_later_measurements(found)]
        if m.get("subject", results.MODEL) == results.MODEL
    ]
    per_class = found.get("per_class") or []
    if len(per_class) <= MAX_CLASSES_IN_INDEX:
        entries += [
            EvalResult(
                **where,
                dataset_split=row["split"],
                metric_type=metric,
                metric_name=f"{metric.capitalize()} of {escape.terminal(row['class_name'])}",
                metric_value=row[metric],
                metric_args={"n": row["n"]},
            )
            for row in per_class
            for metric in ("precision", "recall", "f1")
        ]
    return entries


def _later_measurements(found: dict[str, Any]) -> list[dict[str, Any]]:
    sections = [found.get(key) for key in LATER_SECTIONS]
    return [m for section in sections if isinstance(section, dict) for m in section.get("measurements") or []]


def _scores(measurements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per subject and split, with its measurements by name; the test split first."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for m in measurements:
        row = rows.setdefault((m["subject"], m["split"]), {"subject": m["subject"], "split": m["split"], "n": m["n"]})
        row[m["name"]] = m
    return sorted(rows.values(), key=lambda row: (row["subject"] != results.MODEL, row["split"] != "test"))


def _not_beaten(found: Mapping[str, Any], scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The baselines that the model is not shown to beat on its first split, with the p-value of the paired test.

    Without such a test in results.json, those that are at least as accurate.
    """
    model = next((row for row in scores if row["subject"] == results.MODEL and "accuracy" in row), None)
    if model is None:
        return []
    if compared := [one for one in found.get("comparisons") or [] if one["split"] == model["split"]]:
        return [{"name": one["baseline"], "p_value": one["p_value"]} for one in compared if not one["is_better"]]
    others = [row for row in scores if row["subject"] != results.MODEL and row["split"] == model["split"]]
    accuracy = model["accuracy"]["value"]
    return [
        {"name": row["subject"], "p_value": None}
        for row in others
        if "accuracy" in row and row["accuracy"]["value"] >= accuracy
    ]


def _model_type(model_dir: Path) -> str:
    try:
        return str(json.loads((model_dir / "config.json").read_text(encoding="utf-8")).get("model_type", ""))
    except (OSError, ValueError):
        return ""


def _later_section(environment: jinja2.Environment, key: str, title: str, section: Any, **values: Any) -> str:
    """The section of one later piece of evidence, whose template gets `values`; "" where there is nothing to say."""
    if not section:
        return ""
    template = f"sections/{key}.md.j2"
    if not (_TEMPLATES_DIR / template).is_file() or not _OWN_SECTION.get(key, set()) <= set(section):
        if not (isinstance(section, dict) and section.get("measurements")):
            return ""
        template = "sections/measurements.md.j2"
    own_title = section.get("title") if isinstance(section, dict) else None
    values |= {"task": open_set.PIPELINE_TASK, "max_rows": MAX_CLASSES_IN_INDEX}
    return environment.get_template(template).render(section=section, title=own_title or title, **values).strip()
