"""The model card, rendered from results.json.

Every number on the card is in results.json. A later piece of evidence gets a section of the card by being there: for
each key of `LATER_SECTIONS` that results.json has, `sections/<key>.md.j2` is rendered with the key's content as
`section`; without such a template, content with a list `measurements` (and maybe `title` and `summary`) becomes a
table. Templates escape names with the filters `plain`, `code` and `identifier`.
"""

import functools
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from memevit import escape, files, results
from memevit.hub import description as words
from memevit.hub.card_text import bibtex, code, count, duration, identifier, plain, share
from memevit.hub.description import Description
from memevit.portable import open_set
from memevit.results import CARD_FILE, CONFUSION_FILE, CURVES_FILE, GROWTH_FILE, KNOWN_SCORES_FILE

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
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

# Of transformers.js 4.3, among those that finetune_vit.py trains.
_IN_TRANSFORMERS_JS = {
    *("beit", "convnext", "convnextv2", "deit", "dinov2", "dinov2_with_registers", "efficientnet", "hiera", "ijepa"),
    *("mobilevit", "mobilevitv2", "pvt", "resnet", "swin", "vit", "vit_msn"),
}
EXAMPLES_DIR = "examples"
_TEMPLATES_DIR = Path(__file__).parent
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_APACHE_BACKBONES = ("google/vit-", "facebook/deit-", "microsoft/swin-", "facebook/dinov2-")
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
        return f"{EXAMPLES_DIR}/{self.path.name}"

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The most probable classes, as a pipeline prints them."""
        ordered = sorted(self.probabilities.items(), key=lambda one: -one[1])[:MAX_SHOWN_ANSWERS]
        return [{"label": label, "score": round(float(score), 3)} for label, score in ordered]


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


def has_open_set(model_dir: Path) -> bool:
    """Whether a model has the statistics by which it answers `unknown`."""
    if not (model_dir / open_set.FILE).is_file():
        return False
    return bool(json.loads((model_dir / CONFIG_FILE).read_text(encoding="utf-8")).get(open_set.KEY))


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
        return str(json.loads((model_dir / CONFIG_FILE).read_text(encoding="utf-8")).get("model_type", ""))
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
    values |= {"task": open_set.PIPELINE_TASK, "max_rows": MAX_CLASSES_IN_INDEX, "the_model": results.MODEL}
    return environment.get_template(template).render(section=section, title=own_title or title, **values).strip()
