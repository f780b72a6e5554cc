"""Command-line arguments, one dataclass per concern. The values are plain; the package never sees these classes."""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from memevit.errors import UserError

_MAX_SEED = 2**32 - 1


@dataclass
class SourceArguments:
    """Where pictures come from, where the dataset goes, and what is left out."""

    source: str = field(
        metadata={"help": "A folder of class folders, a .zip, kaggle:OWNER/SLUG, or `sample` (drawn, no download)."}
    )
    output_dir: Path = field(metadata={"help": "Dataset folder to write."})
    max_side: int = field(default=512, metadata={"help": "Longest side of a stored picture in pixels."})
    max_reject_fraction: float = field(
        default=0.2, metadata={"help": "Stop when a larger share of the pictures can't be used."}
    )
    conflicts: Literal["drop", "keep_first", "train_only"] = field(
        default="drop",
        metadata={
            "help": "The same picture in two classes: drop all, keep the first by name, or keep "
            "one per class but only for training."
        },
    )
    corrections: Path | None = field(
        default=None, metadata={"help": "CSV with file, action (relabel, drop, keep), class, reason."}
    )
    license: str | None = field(
        default=None, metadata={"help": "Licence of the pictures for the dataset card, as an identifier (cc-by-4.0)."}
    )
    num_proc: int | None = field(default=None, metadata={"help": "Processes that decode; one per core by default."})
    overwrite: bool = field(
        default=False,
        metadata={"help": "Replace an --output_dir that holds something else; all that is in it is deleted."},
    )

    def __post_init__(self) -> None:
        if not self.source:
            raise UserError("--source is empty. Name a folder, a .zip, kaggle:OWNER/SLUG, or `sample`.")
        if self.output_dir.name in ("", ".."):
            raise UserError(f"--output_dir {self.output_dir} has no name of its own. Name the folder to be written.")
        if self.license is not None and not re.fullmatch("[a-z0-9][a-z0-9.-]*", self.license):
            raise UserError(
                f"--license {self.license!r} is no licence identifier of the Hub, such as cc-by-4.0, mit or other. "
                "See https://huggingface.co/docs/hub/repositories-licenses."
            )
        if self.max_side < 32:
            raise UserError(f"--max_side must be at least 32 pixels, got {self.max_side}.")
        if not 0.0 <= self.max_reject_fraction <= 1.0:
            raise UserError(f"--max_reject_fraction must lie between 0 and 1, got {self.max_reject_fraction}.")
        if self.num_proc is not None and self.num_proc < 1:
            raise UserError(f"--num_proc must be at least 1, got {self.num_proc}.")


@dataclass
class SplitArguments:
    """How pictures are divided into train, validation and test."""

    validation_fraction: float = field(default=0.15, metadata={"help": "Share held out for model selection."})
    test_fraction: float = field(default=0.15, metadata={"help": "Share held out for the final report."})
    split_by: Literal["group", "time"] = field(
        default="group",
        metadata={"help": "`group` by chance, near-duplicates together; `time` trains on older posts (created_utc)."},
    )
    group_column: str | None = field(
        default=None, metadata={"help": "CSV column; pictures with the same value stay in one split."}
    )
    folds: int | None = field(default=None, metadata={"help": "Also number every picture for K-fold cross-validation."})
    seed: int = field(default=0, metadata={"help": "Seeds the assignment of groups to splits and folds."})

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "test_fraction"):
            value = getattr(self, name)
            if not 0.0 < value < 1.0:
                raise UserError(f"--{name} must lie strictly between 0 and 1, got {value}.")
        if self.validation_fraction + self.test_fraction >= 1.0:
            raise UserError(
                f"--validation_fraction ({self.validation_fraction}) and --test_fraction ({self.test_fraction}) "
                "leave nothing to train on; make their sum smaller than 1."
            )
        if self.folds is not None and self.folds < 2:
            raise UserError(f"--folds must be at least 2, got {self.folds}.")


@dataclass
class ModelArguments:
    """Which data, which backbone, and whether an old model may go."""

    dataset: Path = field(metadata={"help": "Dataset folder that data_prep.py wrote."})
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Backbone: a Hub id or a local folder (default: google/vit-base-patch16-224-in21k)."},
    )
    from_scratch: bool = field(
        default=False, metadata={"help": "Random weights: only the configuration of the backbone is used."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run Python code that comes with the backbone."})
    pixel_cache: bool = field(
        default=True,
        metadata={
            "help": "Decode every picture once, into DATASET.cache/, where the disk has room; else in every epoch."
        },
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Replace what lies at --output_dir; all that is in it is deleted."}
    )


@dataclass
class RunArguments:
    """How often it is trained, in which precision, and for how long."""

    dry_run: bool = field(default=False, metadata={"help": "Say what the run will be and cost, and stop there."})
    time_limit: float | None = field(
        default=None,
        metadata={"help": "Minutes of training and evaluation: as many steps as fit, at most those asked for."},
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = field(
        default="auto", metadata={"help": "auto: bf16 where the device has it, fp16 on older GPUs, else fp32."}
    )
    seeds: list[int] | None = field(
        default=None, metadata={"help": "Train once with each; the first makes the model, all make mean and spread."}
    )
    folds: bool = field(
        default=False,
        metadata={"help": "Also cross-validate on the folds of data_prep.py --folds: every picture is predicted."},
    )

    def __post_init__(self) -> None:
        if self.time_limit is not None and self.time_limit <= 0:
            raise UserError(f"--time_limit must be more than 0 minutes, got {self.time_limit:g}.")
        if any(not 0 <= seed <= _MAX_SEED for seed in self.seeds or ()):
            raise UserError(f"--seeds must lie between 0 and {_MAX_SEED}, got {' '.join(map(str, self.seeds))}.")
        if self.seeds and len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"--seeds names a seed twice: {' '.join(map(str, self.seeds))}.")


@dataclass
class SortArguments:
    """Which model names the pictures, and where the answer goes."""

    model: Path = field(metadata={"help": "Model folder that finetune_vit.py wrote."})
    output: Path | None = field(default=None, metadata={"help": "File for the rows; standard output by default."})
    format: Literal["csv", "jsonl"] | None = field(
        default=None, metadata={"help": "How a row is written: as the suffix of --output says, else csv."}
    )
    batch_size: int = field(default=32, metadata={"help": "Pictures that the model sees at once."})
    num_proc: int | None = field(default=None, metadata={"help": "Processes that decode; one per core by default."})

    def __post_init__(self) -> None:
        if self.format is None:
            self.format = "jsonl" if self.output and self.output.suffix == ".jsonl" else "csv"
        if self.output and self.output.is_dir():
            raise UserError(f"{self.output} is a folder. Name a file for --output.")
        if self.batch_size < 1:
            raise UserError(f"--batch_size must be at least 1, got {self.batch_size}.")
        if self.num_proc is not None and self.num_proc < 1:
            raise UserError(f"--num_proc must be at least 1, got {self.num_proc}.")


DIAGNOSE_SECTIONS = ("mistakes", "evidence", "shortcuts", "confidence", "classes")


@dataclass
class DiagnoseArguments:
    """Which model is examined on which data, and what the report holds."""

    model: Path = field(metadata={"help": "Model folder: any image classification checkpoint."})
    dataset: Path = field(metadata={"help": "Dataset folder that data_prep.py wrote."})
    only: str | None = field(
        default=None,
        metadata={"help": f"Sections to measure, separated by commas: {', '.join(DIAGNOSE_SECTIONS)} (default: all)."},
    )
    compare: Path | None = field(
        default=None, metadata={"help": "Another model folder, tested on the same images with a paired test."}
    )
    learning_curve: bool = field(
        default=False, metadata={"help": "Also measure accuracy against the number of training images."}
    )
    control: Literal["none", "shuffled_labels"] = field(
        default="shuffled_labels",
        metadata={"help": "shuffled_labels: classifiers of shuffled training labels must fall to chance."},
    )
    pool: Path | None = field(
        default=None, metadata={"help": "Folder of unlabelled images to rank by what the model would learn from them."}
    )
    backbone: Path | None = field(
        default=None,
        metadata={
            "help": "The backbone before fine-tuning, for a linear probe (default: as in run.json, if it is here)."
        },
    )
    heat_maps: int | None = field(
        default=None,
        metadata={"help": "Mistakes with heat maps, the worst ones; by default as many as fit in a minute."},
    )
    max_mistakes: int = field(default=200, metadata={"help": "Mistakes on the page, the worst ones."})
    batch_size: int = field(default=32, metadata={"help": "Images that the model sees at once."})
    num_proc: int | None = field(default=None, metadata={"help": "Processes that decode; one per core by default."})
    seed: int = field(default=0, metadata={"help": "Seeds everything random."})

    def __post_init__(self) -> None:
        if unknown := [name for name in self.sections if name not in DIAGNOSE_SECTIONS]:
            raise UserError(f"--only {unknown[0]!r} is no section. Choose among {', '.join(DIAGNOSE_SECTIONS)}.")
        for name in ("heat_maps", "max_mistakes", "seed"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise UserError(f"--{name} must not be negative, got {value}.")
        for name in ("batch_size", "num_proc"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--{name} must be at least 1, got {value}.")

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that are measured."""
        return tuple(self.only.replace(" ", "").split(",")) if self.only else DIAGNOSE_SECTIONS


def from_keywords(given: Mapping[str, Any], *groups: type) -> list[Any]:
    """One instance of each dataclass, with the values that are `given` by the names of their fields.

    Raises:
        UserError: no group has such a field, or a value is refused.

    Example:
        >>> from_keywords({"seed": 3}, SplitArguments)[0].seed
        3
    """
    known = {one.name: group for group in groups for one in dataclasses.fields(group) if one.init}
    if unknown := [name for name in given if name not in known]:
        closest = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {closest[0]}?" if closest else ""
        raise UserError(f"There is no argument {unknown[0]}.{hint}")
    try:
        return [group(**{name: value for name, value in given.items() if known[name] is group}) for group in groups]
    except ValueError as error:
        raise UserError(f"These arguments don't go together: {error}") from error
