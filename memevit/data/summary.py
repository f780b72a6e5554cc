"""prep.json and the printed table: what was found and what became of it."""

from collections import Counter
from collections.abc import Sequence

import PIL

from memevit import manifest
from memevit.data import dataset_card
from memevit.data.duplicates import Relations
from memevit.manifest import Row

_STATUSES = (manifest.KEPT, manifest.DUPLICATE, manifest.CONFLICT, manifest.DROPPED, manifest.REJECTED)
_MAX_LISTED = 1000


def summarize(
    rows: Sequence[Row],
    usable: Sequence[int],
    relations: Relations,
    moved: Sequence[int],
    conflicts: Sequence[Sequence[Row]],
    *,
    split_made_by: dict[str, str],
    settings: dict,
    fingerprint: str,
    source: str,
    class_names: Sequence[str] = (),
) -> dict:
    """The content of prep.json.

    Args:
        rows: all rows of the manifest.
        usable: positions in `rows` of the images that `relations` counts.
        relations: which images are the same or share a template.
        moved: positions among the usable images that left the split their source gave them.
        conflicts: sets of rows that show the same image in several classes.
        split_made_by: for each split `source`, `seed` or `time`.
        settings: the arguments that decide the result.
        fingerprint: of source and settings.
        source: what kind of source it was.
        class_names: of a dataset that this one extends; they keep their places.
    """
    pairs = [(rows[usable[a]], rows[usable[b]]) for a, b in relations.pairs]
    kept_pairs = [pair for pair in pairs if all(row.status == manifest.KEPT for row in pair)]
    by_split = Counter(row.split for row in rows if row.status == manifest.KEPT)
    rejected = Counter(row.reason.split(":")[0] for row in rows if row.status == manifest.REJECTED)
    return {
        "format": 1,
        "source": source,
        "fingerprint": fingerprint,
        "settings": settings,
        "pillow": PIL.__version__,
        "n_found": len(rows),
        "n_by_status": {status: sum(row.status == status for row in rows) for status in _STATUSES},
        "split_made_by": split_made_by,
        "n_by_split": {split: by_split[split] for split in manifest.SPLITS},
        "classes": _by_class(rows, class_names),
        "rejected": dict(sorted(rejected.items())),
        "near_duplicates": {
            "n_pairs_compared": relations.n_pairs_compared,
            "n_crowded_hashes": relations.n_crowded_hashes,
            "n_pairs_passed_over": relations.n_pairs_passed_over,
            "n_related_pairs": len(relations.pairs),
            "n_kept_pairs_across_splits": sum(first.split != second.split for first, second in kept_pairs),
            "n_groups": len({row.group for row in rows if row.status == manifest.KEPT}),
        },
        "n_conflicts": len(conflicts),
        "conflicts": [{"files": [_named(row) for row in members]} for members in conflicts[:_MAX_LISTED]],
        "moved_between_splits": [
            {"source": rows[usable[p]].source, "now": rows[usable[p]].split or rows[usable[p]].status} for p in moved
        ][:_MAX_LISTED],
        "n_moved_between_splits": len(moved),
        "previews": dataset_card.previews(rows),
    }


def _by_class(rows: Sequence[Row], first: Sequence[str]) -> dict[str, dict[str, int]]:
    """Counts by class: those in `first` in their order, then the others sorted by name."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts.update([(row.class_name, "found"), (row.class_name, row.status), (row.class_name, row.split)])
    columns = ("found", *_STATUSES, *manifest.SPLITS)
    found = {row.class_name for row in rows if row.class_name}
    names = [*first, *sorted(found - set(first))]
    return {name: {column: counts[name, column] for column in columns} for name in names}


def _named(row: Row) -> dict[str, str]:
    link = permalink(row)
    named = {"source": row.source, "class_name": row.class_name, "status": row.status}
    return named | ({"permalink": link} if link else {})


def permalink(row: Row) -> str:
    """Where the image was posted, when the CSV tells."""
    if given := row.extra.get("permalink"):
        return given
    subreddit, post = row.extra.get("subreddit"), row.extra.get("id")
    return f"/r/{subreddit}/comments/{post}/" if subreddit and post else ""


def table(prep: dict) -> str:
    """The numbers of prep.json as a short text table."""
    columns = ["found", *_STATUSES, *manifest.SPLITS]
    width = max([len("class"), *(len(name) for name in prep["classes"])])
    lines = ["  ".join(["class".ljust(width), *(column.rjust(len(column)) for column in columns)])]
    for name, counts in prep["classes"].items():
        lines.append("  ".join([name.ljust(width), *(str(counts[column]).rjust(len(column)) for column in columns)]))
    lines += [f"rejected, {reason}: {n}" for reason, n in prep["rejected"].items()]
    if n := prep["n_conflicts"]:
        lines.append(f"{n} conflict{'s' if n > 1 else ''}: the same image in several classes; see prep.json")
    return "\n".join([*lines, dataset_card.splits_in_words(prep), dataset_card.near_duplicates_in_words(prep)])
