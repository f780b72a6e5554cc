"""What becomes of every usable picture: which is kept, in which class, group and split."""

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from memevit import manifest
from memevit.data.corrections import Correction
from memevit.data.duplicates import Relations, components
from memevit.data.sources import SourceFile
from memevit.data.splits import Group
from memevit.data.verify import HASH_DIGITS, Scan
from memevit.errors import UserError

logger = logging.getLogger(__name__)

TIME_COLUMN = "created_utc"


@dataclass
class Decision:
    """What becomes of one usable picture."""

    class_name: str
    status: str = manifest.KEPT
    reason: str = ""
    winner: int | None = None  # Position of the picture that is kept instead.
    is_in_two_classes: bool = False  # Kept, and so is the same picture in another class.


def decide(
    scans: list[Scan], found: list[SourceFile], relations: Relations, orders: dict[int, Correction], *, conflicts: str
) -> list[Decision]:
    """Choose one picture of each set that shows the same, settle conflicts, and apply corrections.

    Args:
        scans: usable pictures.
        found: their source files, in the same order.
        relations: which of them are the same.
        orders: a person's decisions by position, which go before every rule.
        conflicts: what to do with the same picture in two classes: `drop` all, `keep_first` by name, or `train_only`,
            which keeps one per class for training.
    """
    decisions = [Decision(file.class_name) for file in found]
    clusters: dict[int, list[int]] = defaultdict(list)
    for position, cluster in enumerate(relations.same):
        clusters[int(cluster)].append(position)
    ranks = [_rank(scan, file) for scan, file in zip(scans, found, strict=True)]
    for members in clusters.values():
        _apply_orders(members, orders, decisions)
        _settle(members, orders, ranks, decisions, conflicts)
    return decisions


def _rank(scan: Scan, file: SourceFile) -> tuple[int, int, str]:
    """Sorts the picture to keep first: one that the source has for training, then the largest, then by name."""
    split = manifest.SPLITS.index(file.split) if file.split else 0
    return split, -scan.width_px * scan.height_px, scan.name


def _apply_orders(members: list[int], orders: dict[int, Correction], decisions: list[Decision]) -> None:
    """Relabel goes for all that show the same picture, drop for those of the same class."""
    for ordered in [position for position in members if position in orders]:
        correction = orders[ordered]
        own_class = decisions[ordered].class_name
        for position in members:
            if correction.action == "relabel" or (correction.action == "keep" and position == ordered):
                decisions[position].class_name = correction.class_name or decisions[position].class_name
            elif correction.action == "drop" and decisions[position].class_name == own_class:
                decisions[position].status = manifest.DROPPED
                decisions[position].reason = f"correction: {correction.reason or 'dropped'}"


def _settle(
    members: list[int], orders: dict[int, Correction], ranks: list[tuple], decisions: list[Decision], conflicts: str
) -> None:
    """Keep one of `members`, which all show the same picture, or fewer or more where classes disagree."""
    live = [position for position in members if decisions[position].status == manifest.KEPT]
    live.sort(key=ranks.__getitem__)
    kept_by_order = [position for position in live if position in orders and orders[position].action == "keep"]
    class_names = sorted({decisions[position].class_name for position in live})
    if kept_by_order:
        winners = kept_by_order[:1]
    elif len(class_names) < 2:
        winners = live[:1]
    elif conflicts == "keep_first":
        winners = [min(live, key=lambda position: ranks[position][-1])]
    elif conflicts == "train_only":
        winners = [next(p for p in live if decisions[p].class_name == name) for name in class_names]
    else:
        winners = []
    for position in live:
        if position in winners:
            decisions[position].is_in_two_classes = len(winners) > 1
        elif winners:
            own = [winner for winner in winners if decisions[winner].class_name == decisions[position].class_name]
            decisions[position].status, decisions[position].winner = manifest.DUPLICATE, (own or winners)[0]
            decisions[position].reason = "the same picture again"
        else:
            decisions[position].status = manifest.CONFLICT
            decisions[position].reason = f"the same picture in {' and '.join(class_names)}"


def group_keys(scans: list[Scan], found: list[SourceFile], relations: Relations, group_column: str | None) -> list[str]:
    """The key of each picture's group: related pictures, and those with an equal value in `group_column`.

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
        pairs = list(zip(*_first_positions(labels), strict=True))
        for position, file in enumerate(found):
            if value := file.metadata.get(group_column, "").strip():
                pairs.append((first_with.setdefault(value, position), position))
        labels = components(len(scans), pairs)
    least: dict[int, str] = {}
    for label, scan in zip(labels.tolist(), scans, strict=True):
        least[label] = min(least.get(label, scan.sha256), scan.sha256)
    return [least[label][:HASH_DIGITS] for label in labels.tolist()]


def _first_positions(labels: np.ndarray) -> tuple[list[int], list[int]]:
    """For each position the first one with its label, and itself."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse].tolist(), list(range(len(labels)))


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

    Pictures that are left out as duplicates do not count; those left out as conflicts do, so that settling one later
    moves no other picture.

    Args:
        scans: usable pictures.
        found: their source files.
        decisions: made without corrections, so that correcting one picture moves no other.
        keys: group key of each picture.
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
        if decisions[position].status != manifest.DUPLICATE:
            counts[key][decisions[position].class_name] += 1
    return [
        Group(key=key, counts=dict(sorted(counts[key].items())), time=newest[key], fixed=fixed.get(key, ""))
        for key in sorted(counts)
    ]


def source_splits(found: list[SourceFile], keys: list[str]) -> tuple[dict[str, str], list[int]]:
    """The split that a divided source gives each group, and the positions of pictures that this moves.

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
    """`train` for the groups in which a picture is kept in two classes."""
    return {key: "train" for key, decision in zip(keys, decisions, strict=True) if decision.is_in_two_classes}


def _times(found: list[SourceFile]) -> list[float]:
    values = [file.metadata.get(TIME_COLUMN, "") for file in found]
    times = [_seconds(value) for value in values]
    n_missing = sum(time is None for time in times)
    if n_missing == len(times):
        raise UserError(f"--split_by time needs a column {TIME_COLUMN} in a CSV beside the class folders; none has it.")
    if n_missing:
        logger.warning("%d pictures have no %s and count as the oldest", n_missing, TIME_COLUMN)
    return [-np.inf if time is None else time for time in times]


def _seconds(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        return None
