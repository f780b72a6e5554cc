"""Chance that can be repeated from any step on."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


def derived_seed(*parts: int) -> int:
    """A seed in [0, 2**63) that belongs to `parts` and to no others."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    # Not by torch.manual_seed, which takes milliseconds to leave word for devices that are not used here.
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


class Repeatable(Dataset):
    """A dataset whose chance depends on seed, epoch and position alone.

    Torch's generator is seeded for each item and put back after it, so an item looks the same whichever process loads
    it, however many were loaded before, and whether or not the run was interrupted in between.
    """

    def __init__(self, dataset: Dataset, *, seed: int) -> None:
        self.dataset = dataset
        self._seed = seed
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # Seen by processes that load pictures, too.

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Any:
        """The item at `position` as it is in this epoch."""
        with _seeded(derived_seed(self._seed, int(self._epoch), position)):
            return self.dataset[position] | {"position": position}

    def set_epoch(self, epoch: int) -> None:
        """Go to another epoch."""
        self._epoch.fill_(epoch)

    def collator(self, collate: Callable[[list[dict]], dict[str, Any]]) -> Callable[[list[dict]], dict[str, Any]]:
        """`collate`, with torch's generator seeded for each batch in the same way."""
        return _RepeatableCollator(collate, self._seed, self._epoch)


class _RepeatableCollator:
    def __init__(self, collate: Callable[[list[dict]], dict[str, Any]], seed: int, epoch: torch.Tensor) -> None:
        self._collate, self._seed, self._epoch = collate, seed, epoch

    def __call__(self, items: list[dict]) -> dict[str, Any]:
        positions = [item.get("position") for item in items]
        plain = [{key: value for key, value in item.items() if key != "position"} for item in items]
        if None in positions:  # Validation and test pictures are not varied.
            return self._collate(plain)
        with _seeded(derived_seed(self._seed, int(self._epoch), len(items), *positions)):
            return self._collate(plain)


class EpochCallback(TrainerCallback):
    """Tells the dataset which epoch begins."""

    def __init__(self, dataset: Repeatable) -> None:
        self._dataset = dataset

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Also right when a run goes on in the middle of an epoch."""
        self._dataset.set_epoch(int(state.epoch or 0))
