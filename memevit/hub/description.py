"""Title, sentence, tags and links of a page, made from the data where nobody gave them."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memevit import escape, results

MAX_LISTED_CLASSES = 12
MAX_IN_QUESTION = 4
MAX_TAGS = 20
_KAGGLE = re.compile(r"kaggle:([A-Za-z0-9][\w-]*/[A-Za-z0-9][\w-]*)(?:/versions/\d+)?", re.ASCII)
_HUB = re.compile(r"hub:([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@[\w./-]+)?", re.ASCII)
_URL = re.compile(r"https?://[^\s<>\"'`()\[\]{}\\|]+")


@dataclass(frozen=True)
class Description:
    """Plain text about a model and its data, not escaped; `source_url` is safe to link to, or None.

    `has_own_sentence` is False where `sentence` only lists the classes.
    """

    title: str
    sentence: str
    tags: list[str]
    class_names: list[str]
    source_url: str | None
    has_own_sentence: bool = False


def describe(
    found: Mapping[str, Any],
    *,
    name: str,
    title: str | None = None,
    sentence: str | None = None,
    tags: Sequence[str] = (),
    source_url: str | None = None,
) -> Description:
    """The words of a page.

    Args:
        found: content of results.json.
        name: of the model folder or of the repository.
        title: the last part of `name` when None.
        sentence: what the model does; which classes it tells apart when None.
        tags: for search; those of the data or the class names when there are none.
        source_url: web page of the data; that which results.json knows when None.
    """
    data = found.get("data") or {}
    names = [str(one) for one in data.get("classes") or (found.get("confusion_matrix") or {}).get("class_names") or []]
    given = [str(tag) for tag in tags or data.get("tags") or []]
    return Description(
        title=title or name.split("/")[-1],
        sentence=sentence or _sentence(names),
        has_own_sentence=bool(sentence),
        tags=list(dict.fromkeys(tag for one in given or _few(names) if (tag := as_tag(one)))),
        class_names=names,
        source_url=_first_url(source_url, data.get("source_url"), url_of_source(str(data.get("source") or ""))),
    )


def of_page(
    model_dir: Path, class_names: Sequence[str], *, title: str | None = None, sentence: str | None = None
) -> Description:
    """The words of a page where the model in `model_dir` can be tried; its title is a question when None."""
    has_results = (model_dir / results.RESULTS_FILE).is_file()
    data = dict(results.read(model_dir).get("data") or {}) if has_results else {}
    name = title or question(class_names)
    return describe({"data": data | {"classes": list(class_names)}}, name=name, title=name, sentence=sentence)


def _sentence(class_names: Sequence[str]) -> str:
    if len(class_names) < 2:
        return "Classifies images."
    return f"Tells images of {len(class_names)} classes apart: {listed(class_names)}."


def _few(class_names: Sequence[str]) -> Sequence[str]:
    return class_names if len(class_names) <= MAX_TAGS else ()


def listed(class_names: Sequence[str]) -> str:
    """The classes as plain text, the first of them where there are many.

    Example:
        >>> listed(["animal_crossing", "doom"]), listed([f"c{number}" for number in range(14)])[-19:]
        ('animal crossing and doom', 'c10, c11 and 2 more')
    """
    names = [readable(name) for name in class_names]
    if len(names) > MAX_LISTED_CLASSES:
        names[MAX_LISTED_CLASSES:] = [f"{len(names) - MAX_LISTED_CLASSES} more"]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def question(class_names: Sequence[str]) -> str:
    """The title of a page where a model can be tried, which needs no name of a repository.

    Example:
        >>> question(["animal_crossing", "doom"]), question([f"c{number}" for number in range(14)])
        ('Animal crossing or doom?', 'Which of 14 classes is it?')
    """
    names = [readable(name) for name in class_names]
    if not 1 < len(names) <= MAX_IN_QUESTION:
        return f"Which of {len(names)} classes is it?"
    text = f"{', '.join(names[:-1])} or {names[-1]}?"
    return text[:1].upper() + text[1:]


def readable(class_name: str) -> str:
    """A class name as people write it."""
    return " ".join(escape.terminal(class_name.replace("_", " ")).split())


def as_tag(text: str) -> str:
    """`text` as a tag of the Hub; "" if nothing is left of it.

    Example:
        >>> as_tag("Animal_Crossing"), as_tag("Pokémon <b>"), as_tag("猫")
        ('animal-crossing', 'pokemon-b', '')
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")[:60]


def url_of_source(source: str) -> str | None:
    """The web page of a source of data; None for folders and for anything that is not exactly a name.

    Example:
        >>> url_of_source("kaggle:andrewmvd/doom-crossing"), url_of_source("kaggle:x/y) [click](https://evil.example")
        ('https://www.kaggle.com/datasets/andrewmvd/doom-crossing', None)
    """
    if match := _KAGGLE.fullmatch(source):
        return f"https://www.kaggle.com/datasets/{match[1]}"
    if match := _HUB.fullmatch(source):
        return f"https://huggingface.co/datasets/{match[1]}"
    return None


def _first_url(*candidates: object) -> str | None:
    return next((one for one in candidates if isinstance(one, str) and _URL.fullmatch(one)), None)
