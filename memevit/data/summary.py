"""prep.json, the dataset card and the printed table: what was found and what became of it."""

from collections import Counter
from collections.abc import Sequence

import PIL
from huggingface_hub import DatasetCardData

from memevit import manifest
from memevit.data.duplicates import Relations
from memevit.manifest import Row

_STATUSES = (manifest.KEPT, manifest.DUPLICATE, manifest.CONFLICT, manifest.DROPPED, manifest.REJECTED)
_MAX_LISTED = 1000
_NO_LICENCE = "not stated; memes belong to the people who made them, so ask before you pass them on"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


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
) -> dict:
    """The content of prep.json.

    Args:
        rows: all rows of the manifest.
        usable: positions in `rows` of the pictures that `relations` counts.
        relations: which pictures are the same or share a template.
        moved: positions among the usable pictures that left the split their source gave them.
        conflicts: sets of rows that show the same picture in several classes.
        split_made_by: for each split `source`, `seed` or `time`.
        settings: the arguments that decide the result.
        fingerprint: of source and settings.
        source: what kind of source it was.
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
        "classes": _by_class(rows),
        "rejected": dict(sorted(rejected.items())),
        "near_duplicates": {
            "n_pairs_compared": relations.n_pairs_compared,
            "n_crowded_hashes": relations.n_crowded_hashes,
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
    }


def _by_class(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts.update([(row.class_name, "found"), (row.class_name, row.status), (row.class_name, row.split)])
    columns = ("found", *_STATUSES, *manifest.SPLITS)
    names = sorted({row.class_name for row in rows if row.class_name})
    return {name: {column: counts[name, column] for column in columns} for name in names}


def _named(row: Row) -> dict[str, str]:
    link = permalink(row)
    named = {"source": row.source, "class_name": row.class_name, "status": row.status}
    return named | ({"permalink": link} if link else {})


def permalink(row: Row) -> str:
    """Where the picture was posted, when the CSV tells."""
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
    for reason, n in prep["rejected"].items():
        lines.append(f"rejected, {reason}: {n}")
    near = prep["near_duplicates"]
    lines.append(
        f"{near['n_pairs_compared']} pairs compared, {near['n_related_pairs']} related, "
        f"{near['n_kept_pairs_across_splits']} of them across splits; {prep['n_conflicts']} conflicts; "
        f"{prep['n_moved_between_splits']} moved out of the split that the source gave them"
    )
    return "\n".join(lines)


def card(prep: dict, *, license_id: str | None) -> str:
    """The dataset card (README.md with YAML front matter) of a prepared dataset."""
    n_kept = prep["n_by_status"][manifest.KEPT]
    data = DatasetCardData(
        license=license_id,
        task_categories=["image-classification"],
        pretty_name="Game memes",
        size_categories=next((name for limit, name in _SIZES if n_kept < limit), "1M<n<10M"),
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}/**"} for split in manifest.SPLITS],
            }
        ],
    )
    settings = prep["settings"]
    rows = [
        f"| {name.replace('|', chr(92) + '|')} | " + " | ".join(str(counts[split]) for split in manifest.SPLITS) + " |"
        for name, counts in prep["classes"].items()
    ]
    return f"""---
{data.to_yaml()}
---

# Game memes

{n_kept} pictures in {len(prep["classes"])} classes, one folder per split and class.

| class | train | validation | test |
|---|---|---|---|
{chr(10).join(rows)}

## Provenance

Prepared from: {prep["source"]}. {prep["n_found"]} files were found; every one has a row in `manifest.csv`, with the
reason where it was left out: {_left_out(prep)}.

Licence of the pictures: {license_id or _NO_LICENCE}.

## How it was made

Every file was decoded completely, turned upright by its EXIF tag, reduced to its first frame, laid on white where it
was transparent, and stored with its longest side at most {settings["max_side"]} pixels (small clean files byte for
byte). Pictures that show the same again were left out; pictures of one template with other captions
{"and with the same `" + settings["group_column"] + "` " if settings["group_column"] else ""}lie on one side of the
split. Of {prep["near_duplicates"]["n_related_pairs"]} related pairs,
{prep["near_duplicates"]["n_kept_pairs_across_splits"]} lie across splits.
The split was made by {"time, oldest posts for training" if settings["split_by"] == "time" else "chance"} with seed
{settings["seed"]}.
"""


def _left_out(prep: dict) -> str:
    counts = [f"{n} {status}" for status, n in prep["n_by_status"].items() if status != manifest.KEPT and n]
    return ", ".join(counts) or "none"
