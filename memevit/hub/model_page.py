"""The model card: README.md with front matter, rendered from results.json, and the confusion matrix as a picture.

Every number on the card is in results.json. A later piece of evidence gets a section by being there: for each key of
`LATER_SECTIONS` that results.json has, `sections/<key>.md.j2` is rendered with the key's content as `section`; without
such a template, content with a list `measurements` (and maybe `title` and `summary`) becomes a table.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from memevit import files, results
from memevit.hub import figure

CARD_FILE = "README.md"
PIPELINE_TAG = "image-classification"
LIBRARY = "transformers"
UNKNOWN_LICENSE = "unknown"  # One of the Hub's identifiers.
LATER_SECTIONS = ("calibration", "open_set", "shortcuts", "failures", "growth")
MAX_NAMED_CLASSES = 12  # In the first sentence.
MAX_CLASSES_IN_INDEX = 50  # With their own entries in the model-index.

_TEMPLATES_DIR = Path(__file__).parent
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_APACHE_BACKBONES = ("google/vit-", "facebook/deit-", "microsoft/swin-", "facebook/dinov2-")
_METRICS_ON_THE_HUB = {"accuracy", "f1", "precision", "recall"}
_METRIC_TYPES = {"macro_f1": "f1"}  # Names in results.json to names at hf.co/metrics, where they differ.
_METRIC_NAMES = {"balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1"}


@dataclass(frozen=True)
class PublishedData:
    """A dataset on the Hub and the licence of its pictures."""

    repo_id: str
    license_id: str


def write(
    model_dir: Path,
    *,
    repo_id: str | None = None,
    license_id: str | None = None,
    published_data: PublishedData | None = None,
) -> None:
    """Write README.md and the picture that it shows into `model_dir`, see `render`."""
    text = render(model_dir, repo_id=repo_id, license_id=license_id, published_data=published_data)
    confusion = results.read(model_dir).get("confusion_matrix")
    if confusion:
        files.write_bytes(model_dir / figure.CONFUSION_FILE, figure.confusion_png(confusion))
    files.write_text(model_dir / CARD_FILE, text)


def render(
    model_dir: Path,
    *,
    repo_id: str | None = None,
    license_id: str | None = None,
    published_data: PublishedData | None = None,
) -> str:
    """The model card as text.

    Args:
        model_dir: a model folder with results.json.
        repo_id: name on the Hub, for the three lines that show the use; the folder's name when None.
        license_id: licence of the model; that of the backbone when None and known.
        published_data: dataset on the Hub that the model was trained on, if there is one.

    Raises:
        UserError: there is no results.json.
    """
    found = results.read(model_dir)
    name = repo_id or model_dir.resolve().name.removesuffix(files.partial_of(Path("x")).name.removeprefix("x"))
    license_id = license_id or known_license(found.get("training") or {})
    dataset_repo_id = published_data.repo_id if published_data else None
    front = _front_matter(found, name, license_id=license_id, dataset_repo_id=dataset_repo_id)
    scores = _scores(found.get("measurements") or [])
    environment = _environment()
    body = environment.get_template("model_card.md.j2").render(
        name=name,
        title=name.split("/")[-1],
        is_on_hub=repo_id is not None,
        license_id=license_id,
        dataset_repo_id=dataset_repo_id,
        model_type=_model_type(model_dir),
        base_model=describe_base_model(found.get("training") or {}),
        data_license=published_data.license_id if published_data else (found.get("data") or {}).get("license"),
        scores=scores,
        not_beaten=_not_beaten(scores),
        has_open_set=bool(found.get("open_set")),
        max_named=MAX_NAMED_CLASSES,
        confusion_file=figure.CONFUSION_FILE,
        later=[text for key in LATER_SECTIONS if (text := _later_section(environment, key, found.get(key)))],
        **{key: found.get(key) or {} for key in ("training", "data", "per_class", "confusion_matrix", "seeds")},
    )
    return f"---\n{front.to_yaml()}\n---\n\n{body.strip()}\n"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES_DIR),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown; names go through `plain`.
    )
    environment.filters |= {"plain": plain, "share": share, "exact": json.dumps}
    return environment


def plain(text: str) -> str:
    r"""A name as Markdown text that can't open a table cell, a tag or a link.

    Example:
        >>> plain("a|b <script> *c*")
        'a\\|b &lt;script&gt; \\*c\\*'
    """
    flat = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|#])", r"\\\1", flat)


def share(value: float | None) -> str:
    """A share with three decimals, as in the tables.

    Example:
        >>> share(0.93749), share(None)
        ('0.937', '')
    """
    return "" if value is None else f"{value:.3f}"


def known_license(training: dict[str, Any]) -> str | None:
    """The licence of a model that started from a backbone whose licence is known here, else None."""
    base_model = str(training.get("base_model", ""))
    if training.get("from_scratch") or base_model.startswith(_APACHE_BACKBONES) or _is_shipped(base_model):
        return "apache-2.0"
    return None


def _is_shipped(base_model: str) -> bool:
    """Whether a backbone is one of those that come with this project."""
    return Path(base_model).parent.name == "backbones"


def describe_base_model(training: dict[str, Any]) -> dict[str, str | None]:
    """The backbone as `hub_id`, or None where it is not on the Hub, and its `name` without any local folders."""
    base_model = str(training.get("base_model", ""))
    is_local = _is_shipped(base_model) or Path(base_model).is_absolute() or not _HUB_ID.fullmatch(base_model)
    return {"hub_id": None if is_local else base_model, "name": Path(base_model).name if is_local else base_model}


def _front_matter(
    found: dict[str, Any], name: str, *, license_id: str | None, dataset_repo_id: str | None
) -> ModelCardData:
    training = found.get("training") or {}
    hub_id = describe_base_model(training)["hub_id"]
    has_base = hub_id is not None and not training.get("from_scratch")
    entries = _eval_results(found, dataset_repo_id)
    return ModelCardData(
        license=license_id or UNKNOWN_LICENSE,
        library_name=LIBRARY,
        pipeline_tag=PIPELINE_TAG,
        base_model=hub_id if has_base else None,
        base_model_relation="finetune" if has_base else None,
        datasets=[dataset_repo_id] if dataset_repo_id else None,
        metrics=sorted({entry.metric_type for entry in entries} & _METRICS_ON_THE_HUB) or None,
        tags=[PIPELINE_TAG, "vision", "memes", "video-games"],
        model_name=name.split("/")[-1],
        eval_results=entries or None,
    )


def _eval_results(found: dict[str, Any], dataset_repo_id: str | None) -> list[EvalResult]:
    """Every measurement of the model itself, and per class where there are not too many."""
    source = str((found.get("data") or {}).get("source") or "folder")
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
                metric_name=f"{metric.capitalize()} of {row['class_name']}",
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


def _not_beaten(scores: list[dict[str, Any]]) -> list[str]:
    """The baselines that are at least as accurate as the model on its first split."""
    model = next((row for row in scores if row["subject"] == results.MODEL and "accuracy" in row), None)
    if model is None:
        return []
    others = [row for row in scores if row["subject"] != results.MODEL and row["split"] == model["split"]]
    accuracy = model["accuracy"]["value"]
    return [row["subject"] for row in others if "accuracy" in row and row["accuracy"]["value"] >= accuracy]


def _model_type(model_dir: Path) -> str:
    try:
        return str(json.loads((model_dir / "config.json").read_text(encoding="utf-8")).get("model_type", ""))
    except (OSError, ValueError):
        return ""


def _later_section(environment: jinja2.Environment, key: str, section: Any) -> str:
    """The section of one later piece of evidence; "" where there is nothing to say."""
    if not section:
        return ""
    template = f"sections/{key}.md.j2"
    if not (_TEMPLATES_DIR / template).is_file():
        if not (isinstance(section, dict) and section.get("measurements")):
            return ""
        template = "sections/measurements.md.j2"
    title = section.get("title") if isinstance(section, dict) else None
    title = title or key.replace("_", " ").capitalize()
    return environment.get_template(template).render(section=section, title=title).strip()
