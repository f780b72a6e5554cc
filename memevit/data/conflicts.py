"""What becomes of every usable image: which is kept, in which class, group and split."""

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from memevit import manifest
from memevit.data.corrections import Correction
from memevit.data.duplicates import Relations, components, first_of_each
from memevit.data.ingest import HASH_DIGITS, Scan
from memevit.data.layout import SourceFile
from memevit.data.splits import Group
from memevit.errors import UserError

logger = logging.getLogger(__name__)

TIME_COLUMN = "created_utc"


@dataclass(slots=True)
class Decision:
    """What becomes of one usable image."""

    class_name: str
    status: str = manifest.KEPT
    reason: str = ""
    winner: int | None = None  # Position of the image that is kept instead.
    is_in_two_classes: bool = False  # Kept, and so is the same image in another class.
    conflict: int | None = None  # Number of the set of images that show the same and lie in several classes.


def decide(
    scans: list[Scan], found: list[SourceFile], relations: Relations, orders: dict[int, Correction], *, conflicts: str
) -> list[Decision]:
    """Choose one image of each set of duplicates, settle conflicts, and apply corrections.

    Args:
        scans: usable images.
        found: their source files, in the same order.
        relations: which of them are the same.
        orders: a person's decisions by position, which go before every rule.
        conflicts: what to do with the same image in two classes: `drop` all, `keep_first` by name, or `train_only`,
            which keeps one per class for training.

    Raises:
        UserError: two corrections keep the same image in two classes.
    """
    decisions = [Decision(file.class_name) for file in found]
    clusters: dict[int, list[int]] = defaultdict(list)
    for position, cluster in enumerate(relations.same):
        clusters[int(cluster)].append(position)
    ranks = [_rank(scan, file) for scan, file in zip(scans, found, strict=True)]
    for number, members in clusters.items():
        _apply_orders(members, orders, decisions)
        live = [position for position in members if decisions[position].status == manifest.KEPT]
        live.sort(key=ranks.__getitem__)
        winners = _ordered_to_stay(live, orders, scans, decisions)
        if not winners and len({decisions[position].class_name for position in live}) > 1:
            for position in live:
                decisions[position].conflict = number
            winners = _settled(live, decisions, ranks, conflicts)
        elif not winners:
            winners = live[:1]
        _leave_out_others(live, winners, decisions)
    return decisions


def _rank(scan: Scan, file: SourceFile) -> tuple[int, int, str]:
    """Sorts the image to keep first: one that the source has for training, then the largest, then by name."""
    split = manifest.SPLITS.index(file.split) if file.split else 0
    return split, -scan.width_px * scan.height_px, scan.name


def _apply_orders(members: list[int], orders: dict[int, Correction], decisions: list[Decision]) -> None:
    """Relabel goes for all that show the same image, drop for those of the same class."""
    for ordered in [position for position in members if position in orders]:
        correction = orders[ordered]
        own_class = decisions[ordered].class_name
        for position in members:
            if correction.action == "relabel" or (correction.action == "keep" and position == ordered):
                decisions[position].class_name = correction.class_name or decisions[position].class_name
            elif correction.action == "drop" and decisions[position].class_name == own_class:
                decisions[position].status = manifest.DROPPED
                decisions[position].reason = f"correction: {correction.reason or 'dropped'}"


def _ordered_to_stay(
    live: list[int], orders: dict[int, Correction], scans: list[Scan], decisions: list[Decision]
) -> list[int]:
    """The images that a person wants to keep, each content once."""
    ordered = [position for position in live if position in orders and orders[position].action == "keep"]
    if len({decisions[position].class_name for position in ordered}) > 1:
        names = " and ".join(f"{scans[p].name} in {decisions[p].class_name}" for p in ordered)
        raise UserError(f"The corrections keep the same image in two classes: {names}. Drop or relabel one of them.")
    return list({scans[position].sha256: position for position in reversed(ordered)}.values())[::-1]


def _settled(live: list[int], decisions: list[Decision], ranks: list[tuple], conflicts: str) -> list[int]:
    """Which of the images in `live`, the same in several classes, are kept."""
    if conflicts == "keep_first":
        return [min(live, key=lambda position: ranks[position][-1])]
    if conflicts == "train_only":
        best = {decisions[position].class_name: position for position in reversed(live)}
        for position in best.values():
            decisions[position].is_in_two_classes = True
        return list(best.values())
    return []


def _leave_out_others(live: list[int], winners: list[int], decisions: list[Decision]) -> None:
    """Say of every image that is not kept why, and for which one."""
    class_names = sorted({decisions[position].class_name for position in live})
    for position in live:
        decision = decisions[position]
        if decision.conflict is not None:
            decision.reason = f"the same image in {' and '.join(class_names)}"
        if position in winners:
            continue
        if winners:
            own = [winner for winner in winners if decisions[winner].class_name == decision.class_name]
            decision.status, decision.winner = manifest.DUPLICATE, (own or winners)[0]
            decision.reason = decision.reason or "the same image again"
        else:
            decision.status = manifest.CONFLICT


def conflicts_among(decisions: list[Decision]) -> list[list[int]]:
    """The positions of the images in each conflict, whatever was done about it."""
    sets: dict[int, list[int]] = defaultdict(list)
    for position, decision in enumerate(decisions):
        if decision.conflict is not None:
            sets[decision.conflict].append(position)
    return list(sets.values())


def group_keys(scans: list[Scan], found: list[SourceFile], relations: Relations, group_column: str | None) -> list[str]:
    """The key of each image's group: related images, and those with an equal value in `group_column`.

    Raises:
        UserError: no CSV gives `group_column`.
    """
    labels = np.asarray(relations.group)
    if group_column:
        columns = sorted({column for file in found for column in file.metadata})
        if group_column not in columns:
            raise UserError(
                f"--group_column {group_column} is in no CSV beside the class folders; there are {columns}."
            )
        first_with: dict[str, int] = {}
        pairs = list(enumerate(first_of_each(labels)))
        for position, file in enumerate(found):
            if value := file.metadata.get(group_column, "").strip():
                pairs.append((first_with.setdefault(value, position), position))
        labels = components(len(scans), pairs)
    least: dict[int, str] = {}
    for label, scan in zip(labels.tolist(), scans, strict=True):
        least[label] = min(least.get(label, scan.sha256), scan.sha256)
    return [least[label][:HASH_DIGITS] for label in labels.tolist()]


def groups_to_place(
    scans: list[Scan],
    found: list[SourceFile],
    decisions: list[Decision],
    keys: list[str],
    *,
    fixed: dict[str, str],
    by_time: bool,
) -> list[Group]:
    """The groups as `splits.assign` wants them.

    Only images that are kept count, so that those left out can't fill a split. Groups of which nothing is kept are
    placed all the same: a correction may bring an image of theirs back, and that must move no other.

    Args:
        scans: usable images.
        found: their source files.
        decisions: made without corrections, so that correcting one image moves no other.
        keys: group key of each image.
        fixed: split of the groups that have one, by key.
        by_time: whether times are needed.

    Raises:
        UserError: times are needed and no CSV gives them.
    """
    times = _times(found) if by_time else [0.0] * len(found)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    newest: dict[str, float] = {}
    for position, key in enumerate(keys):
        newest[key] = max(newest.get(key, -np.inf), times[position])
        if decisions[position].status == manifest.KEPT:
            counts[key][decisions[position].class_name] += 1
    return [
        Group(key=key, counts=dict(sorted(counts[key].items())), time=newest[key], fixed=fixed.get(key, ""))
        for key in sorted(newest)
    ]


def source_splits(found: list[SourceFile], keys: list[str]) -> tuple[dict[str, str], list[int]]:
    """The split that a divided source gives each group, and the positions of images that this moves.

    A group that lies in several splits goes to train, or to validation where it is in no train: what is also elsewhere
    can't stay in the test.
    """
    rank = {split: place for place, split in enumerate(manifest.SPLITS)}
    fixed: dict[str, str] = {}
    for key, file in zip(keys, found, strict=True):
        if file.split:
            fixed[key] = min(fixed.get(key, file.split), file.split, key=rank.__getitem__)
    moved = [position for position, file in enumerate(found) if file.split and file.split != fixed[keys[position]]]
    return fixed, moved


def train_only_groups(decisions: list[Decision], keys: list[str]) -> dict[str, str]:
    """`train` for the groups in which an image is kept in two classes."""
    return {key: "train" for key, decision in zip(keys, decisions, strict=True) if decision.is_in_two_classes}


def _times(found: list[SourceFile]) -> list[float]:
    values = [file.metadata.get(TIME_COLUMN, "") for file in found]
    times = [_seconds(value) for value in values]
    n_missing = sum(time is None for time in times)
    if n_missing == len(times):
        raise UserError(f"--split_by time needs a column {TIME_COLUMN} in a CSV beside the class folders; none has it.")
    if n_missing:
        logger.warning("%d images have no %s and count as the oldest", n_missing, TIME_COLUMN)
    return [-np.inf if time is None else time for time in times]


def _seconds(value: str) -> float | None:
    """Seconds since 1970 of a number or an ISO date, which counts as UTC where it doesn't say.

    >>> _seconds("1600000000"), _seconds("2020-09-13T12:26:40"), _seconds("2020-09-13T14:26:40+02:00")
    (1600000000.0, 1600000000.0, 1600000000.0)
    >>> _seconds("nan"), _seconds("yesterday")
    (None, None)
    """
    try:
        number = float(value)
    except ValueError:
        pass
    else:
        return number if np.isfinite(number) else None
    try:
        time = datetime.fromisoformat(value.strip())
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
