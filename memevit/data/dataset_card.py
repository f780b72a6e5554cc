"""The dataset card: README.md with YAML front matter, rendered from prep.json."""

import functools
import urllib.parse
from collections import defaultdict
from collections.abc import Sequence

import jinja2
from huggingface_hub import DatasetCardData

from memevit import escape, manifest
from memevit.manifest import Row

_TEMPLATE = "dataset_card.md.j2"
# Share of the near-duplicates that `duplicates` finds where no third copy links the two: of one image with two
# captions, and of an image with its repost (benchmarks/results/duplicate_recall.json).
TEMPLATE_RECALL, REPOST_RECALL = 0.90, 0.95
_MAX_IN_TITLE = 4  # Classes.
_MAX_PREVIEWED, _N_PREVIEWS = 10, 4  # Classes, and images of each.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_PAGES = {"kaggle": "https://www.kaggle.com/datasets/{}", "hub": "https://huggingface.co/datasets/{}"}


def render(
    prep: dict, *, license_id: str | None = None, repo_id: str | None = None, model_id: str | None = None
) -> str:
    """The card of a prepared dataset.

    What people wrote (class names, title, description) is shown literally: no Markdown and no HTML of theirs is kept,
    except in the description and the citation, which the author of the card gave for this page.

    Args:
        prep: the content of prep.json.
        license_id: instead of the licence that was given to data_prep.py.
        repo_id: name on the Hub, for a published dataset: its manifest.csv has rows of kept images only.
        model_id: a model on the Hub that was trained on it.
    """
    settings = prep["settings"] | ({"license": license_id} if license_id else {})
    title = settings["title"] or _title(list(prep["classes"]))
    return _template().render(
        prep=prep,
        settings=settings,
        front_matter=_front_matter(prep, settings, title),
        title=title,
        repo_id=repo_id,
        model_id=model_id,
        n_kept=prep["n_by_status"][manifest.KEPT],
        classes=_kept_classes(prep),
        splits=manifest.SPLITS,
        previews={name: list(map(urllib.parse.quote, files)) for name, files in prep["previews"].items()},
        source_url=settings["source_url"] or _source_url(prep["source"]),
        left_out=_left_out(prep["n_by_status"]),
        splits_in_words=splits_in_words(prep),
        near_duplicates_in_words=near_duplicates_in_words(prep),
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("memevit.data", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["text"] = escape.markdown_text
    return environment.get_template(_TEMPLATE)


def _kept_classes(prep: dict) -> dict[str, dict[str, int]]:
    return {name: counts for name, counts in prep["classes"].items() if counts[manifest.KEPT]}


def _title(class_names: list[str]) -> str:
    """A heading made of the classes.

    >>> _title(["animal_crossing", "doom"]), _title(list("abcdef"))
    ('Images of animal crossing and doom', 'Images of 6 classes')
    """
    names = [name.replace("_", " ") for name in class_names]
    if len(names) > _MAX_IN_TITLE:
        return f"Images of {len(names)} classes"
    return f"Images of {', '.join(names[:-1])} and {names[-1]}"


def _left_out(n_by_status: dict[str, int]) -> str:
    """How many files were not kept and why.

    >>> _left_out({"kept": 9, "duplicate": 2, "conflict": 1, "dropped": 0, "rejected": 1})
    '2 duplicates, 1 in several classes, 1 unusable'
    """
    words = {
        manifest.DUPLICATE: "duplicates",
        manifest.CONFLICT: "in several classes",
        manifest.DROPPED: "dropped by corrections",
        manifest.REJECTED: "unusable",
    }
    return ", ".join(f"{n} {words[status]}" for status, n in n_by_status.items() if status in words and n)


def _front_matter(prep: dict, settings: dict, title: str) -> str:
    n_kept = prep["n_by_status"][manifest.KEPT]
    files = [{"split": split, "path": f"{split}/**"} for split in manifest.SPLITS]
    return DatasetCardData(
        license=settings["license"],
        task_categories=["image-classification"],
        tags=settings["tags"] or None,
        pretty_name=title,
        size_categories=[next((name for limit, name in _SIZES if n_kept < limit), "1M<n<10M")],
        configs=[{"config_name": "default", "data_files": files}],
    ).to_yaml()


def _source_url(source: str) -> str:
    """The page of a source on Kaggle or the Hub.

    >>> _source_url("kaggle:ada/memes/versions/3"), _source_url("hub:ada/memes@main"), _source_url("zip")
    ('https://www.kaggle.com/datasets/ada/memes', 'https://huggingface.co/datasets/ada/memes', '')
    """
    kind, _, handle = source.partition(":")
    name = "/".join(handle.partition("@")[0].split("/")[:2])
    return _PAGES[kind].format(urllib.parse.quote(name)) if kind in _PAGES else ""


def previews(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Some training images of each class, for the card."""
    by_class: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.status == manifest.KEPT and row.split == "train":
            by_class[row.class_name].append(row)
    return {
        name: [row.file for row in sorted(by_class[name], key=lambda row: row.sha256)[:_N_PREVIEWS]]
        for name in sorted(by_class)[:_MAX_PREVIEWED]
    }


def splits_in_words(prep: dict) -> str:
    """Who made the splits, and how."""
    made_by, settings = prep["split_made_by"], prep["settings"]
    given = [split for split, maker in made_by.items() if maker == "source"]
    made = [split for split, maker in made_by.items() if maker != "source"]
    how = (
        "by time, the oldest images for training and the newest for testing"
        if settings["split_by"] == "time"
        else f"at random with seed {settings['seed']}, stratified by class"
    )
    moved = prep["n_moved_between_splits"]
    leaks = f" {moved} of its images also occur in another split and were moved there or left out." if moved else ""
    if not given:
        return f"The splits were made by data_prep.py, {how}.{leaks}"
    if not made:
        return f"The splits are those of the source.{leaks}"
    given_words, made_words = _listed(given).capitalize(), _listed(made)
    return f"{given_words} are those of the source; {made_words} was taken out of its train, {how}.{leaks}"


def near_duplicates_in_words(prep: dict) -> str:
    """What is known of near-duplicates across splits."""
    near = prep["near_duplicates"]
    n_pairs, n_across = near["n_related_pairs"], near["n_kept_pairs_across_splits"]
    if prep["settings"].get("allow_leaks"):
        return (
            f"NEAR-DUPLICATES ARE DIVIDED AMONG THE SPLITS (--allow_leaks): {n_across} of {n_pairs} pairs lie across "
            "splits. Figures that are measured on this dataset flatter a model; use it only to see by how much."
        )
    if n_across:
        return f"{n_across} of {n_pairs} pairs of near-duplicates lie across splits."
    return (
        f"No known near-duplicates lie across splits ({n_pairs} pairs found). On test material the search finds "
        f"{TEMPLATE_RECALL:.0%} of the pairs of one image with two captions, and {REPOST_RECALL:.0%} of the reposts."
    )


def _listed(words: Sequence[str]) -> str:
    """Words as an enumeration.

    >>> _listed(["a"]), _listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
