"""The dataset card: README.md with YAML front matter, rendered from prep.json and the rows of the manifest."""

import urllib.parse
from collections import defaultdict
from collections.abc import Sequence

import jinja2
from huggingface_hub import DatasetCardData

from memevit import escape, manifest
from memevit.data import summary
from memevit.manifest import Row

_TEMPLATE = "dataset_card.md.j2"
_MAX_IN_TITLE = 4  # Classes.
_MAX_PREVIEWED, _N_PREVIEWS = 10, 4  # Classes, and images of each.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_PAGES = {"kaggle": "https://www.kaggle.com/datasets/{}", "hub": "https://huggingface.co/datasets/{}"}


def render(prep: dict, rows: Sequence[Row]) -> str:
    """The card of a prepared dataset.

    What people wrote (class names, title, description) is shown literally: no Markdown and no HTML of theirs is kept,
    except in the description and the citation, which the author of the card gave for this page.

    Args:
        prep: the content of prep.json.
        rows: all rows of the manifest.
    """
    settings = prep["settings"]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("memevit.data", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["text"] = escape.markdown_text
    title = settings["title"] or _title(list(prep["classes"]))
    return environment.get_template(_TEMPLATE).render(
        prep=prep,
        settings=settings,
        front_matter=_front_matter(prep, title),
        title=title,
        n_kept=prep["n_by_status"][manifest.KEPT],
        classes=_kept_classes(prep),
        splits=manifest.SPLITS,
        previews=_previews(rows),
        source_url=settings["source_url"] or _source_url(prep["source"]),
        left_out={name: n for name, n in prep["n_by_status"].items() if name != manifest.KEPT and n},
        splits_in_words=summary.splits_in_words(prep),
        near_duplicates_in_words=summary.near_duplicates_in_words(prep),
    )


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


def _front_matter(prep: dict, title: str) -> str:
    n_kept = prep["n_by_status"][manifest.KEPT]
    files = [{"split": split, "path": f"{split}/**"} for split in manifest.SPLITS]
    return DatasetCardData(
        license=prep["settings"]["license"],
        task_categories=["image-classification"],
        tags=prep["settings"]["tags"] or None,
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


def _previews(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Addresses of some training images of each class, for links within the repository."""
    by_class: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.status == manifest.KEPT and row.split == "train":
            by_class[row.class_name].append(row)
    return {
        name: [urllib.parse.quote(row.file) for row in sorted(by_class[name], key=lambda row: row.sha256)[:_N_PREVIEWS]]
        for name in sorted(by_class)[:_MAX_PREVIEWED]
    }
