"""Which group of images goes to which split, stratified by class and independent of file order."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from memevit.errors import UserError


@dataclass(frozen=True)
class Group:
    """Images that stay together.

    `key` depends on their content alone, `counts` is the number of images per class, `time` that of the newest one
    (seconds since 1970), and `fixed` the split that the source or a policy gave them.
    """

    key: str
    counts: dict[str, int]
    time: float = 0.0
    fixed: str = ""


def assign(
    groups: list[Group], fractions: dict[str, float], *, seed: int, by_time: bool = False, parts: str = "splits"
) -> dict[str, str]:
    """The split (or fold) of every group, by its key.

    Groups with a `fixed` split keep it; the others are divided so that every class comes as close to `fractions` as its
    groups allow, and every class is in every split. Groups without images that count go to the first split.

    Args:
        groups: all groups, in any order.
        fractions: share of each split, in order from oldest to newest; they sum to 1.
        seed: shuffles groups of equal size.
        by_time: oldest groups to the first split, newest to the last, instead of at random.
        parts: what the error message calls them.

    Raises:
        UserError: a class has fewer groups than there are splits.
    """
    free = sorted((group for group in groups if not group.fixed), key=lambda group: _shuffled(seed, group.key))
    placed = {group.key: group.fixed for group in groups if group.fixed}
    first = next(iter(fractions), "")
    placed |= {group.key: first for group in free if not group.counts}
    free = [group for group in free if group.counts]
    _require_enough(groups, list(fractions), parts)
    if by_time:
        placed |= _by_time(free, fractions)
    else:
        placed |= _balanced(free, _targets(groups, fractions), _counts(groups, placed))
    _fill_gaps(free, placed, list(fractions))
    return placed


def _shuffled(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()


def _by_class(groups: Iterable[Group]) -> dict[str, list[Group]]:
    by_class: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        for class_name in group.counts:
            by_class[class_name].append(group)
    return dict(sorted(by_class.items()))


def _require_enough(groups: list[Group], splits: list[str], parts: str) -> None:
    for class_name, own in _by_class(groups).items():
        n_needed = len(set(splits) | {group.fixed for group in own if group.fixed})
        n_images = sum(group.counts[class_name] for group in own)
        if len(own) < n_needed:
            raise UserError(
                f"Class {class_name!r} has too few different images (usable: {n_images}, independent groups: "
                f"{len(own)}); {len(splits)} {parts} need at least {n_needed} groups (images that are no reposts of "
                "each other). Add images or remove the class."
            )


def _targets(groups: list[Group], fractions: dict[str, float]) -> dict[tuple[str, str], float]:
    totals: Counter[str] = Counter()
    for group in groups:
        if group.fixed in ("", *fractions):
            totals.update(group.counts)
    return {(split, name): share * totals[name] for split, share in fractions.items() for name in totals}


def _counts(groups: list[Group], placed: dict[str, str]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for group in groups:
        if group.key in placed:
            counts.update({(placed[group.key], name): n for name, n in group.counts.items()})
    return counts


def _balanced(
    free: list[Group], targets: dict[tuple[str, str], float], counts: Counter[tuple[str, str]]
) -> dict[str, str]:
    """Place large groups first, each where it brings the class counts closest to their targets (chi-square)."""
    splits = list(dict.fromkeys(split for split, _ in targets))
    placed = {}
    for group in sorted(free, key=lambda group: -sum(group.counts.values())):  # Stable: equal sizes stay shuffled.
        costs = {
            split: sum(
                n * (2 * (counts[split, name] - targets[split, name]) + n) / targets[split, name]
                for name, n in group.counts.items()
            )
            for split in splits
        }
        chosen = min(splits, key=lambda split: costs[split])
        placed[group.key] = chosen
        counts.update({(chosen, name): n for name, n in group.counts.items()})
    return placed


def _by_time(free: list[Group], fractions: dict[str, float]) -> dict[str, str]:
    """Cut each class at the same shares of its images in order of time; a group counts with its largest class."""
    placed = {}
    by_class: dict[str, list[Group]] = {}
    for group in free:
        largest = min(group.counts, key=lambda name: (-group.counts[name], name))
        by_class.setdefault(largest, []).append(group)
    for own in by_class.values():
        total, done = sum(sum(group.counts.values()) for group in own), 0
        for group in sorted(own, key=lambda group: group.time):
            middle = (done + sum(group.counts.values()) / 2) / total
            placed[group.key] = _split_at(middle, fractions)
            done += sum(group.counts.values())
    return placed


def _split_at(share: float, fractions: dict[str, float]) -> str:
    upper = 0.0
    for split, fraction in fractions.items():
        upper += fraction
        if share < upper:
            return split
    return split


def _fill_gaps(free: list[Group], placed: dict[str, str], splits: list[str]) -> None:
    """Move a small group into every split that has nothing of a class, from the split that has most of it."""
    for own in _by_class(free).values():
        own.sort(key=lambda group: sum(group.counts.values()))
        for split in splits:
            held = Counter(placed[group.key] for group in own)
            if held[split]:
                continue
            richest = max(splits, key=lambda name: held[name])
            if held[richest] > 1:
                moved = next(group for group in own if placed[group.key] == richest)
                placed[moved.key] = split
