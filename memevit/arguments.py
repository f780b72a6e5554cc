"""Command-line arguments, one dataclass per concern. The values are plain; the package never sees these classes."""

import codecs
import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from memevit.errors import UserError
from memevit.ranges import MAX_SEED, require

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_LICENSES_PAGE = "https://huggingface.co/docs/hub/repositories-licenses"
_NAME = r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPO_ID = re.compile(rf"{_NAME}/{_NAME}")
_MAX_REPO_ID = 96 - len("-data")  # The Hub's limit, less the suffix of the dataset's name.
_PULL_REQUEST = re.compile(r"refs/pr/\d+")
_REF = re.compile(r"(?!refs/)[A-Za-z0-9][\w.-]*(/[A-Za-z0-9_][\w.-]*)*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_URL = re.compile(r"https?://[^\s<>\"'`()\[\]{}\\|]+")
_TAG = re.compile(r"[a-z0-9][a-z0-9._-]*")
_OWN_TAGS = ("main", "master", "head")  # Names that git or the Hub gives a meaning of its own.


@dataclass
class SourceArguments:
    """Where images come from, where the dataset goes, and what is left out."""

    source: str = field(
        metadata={
            "help": "A folder of class folders, a .zip, kaggle:OWNER/SLUG, hub:OWNER/NAME[@REVISION], or `sample` "
            "(drawn, no download)."
        }
    )
    output_dir: Path = field(metadata={"help": "Dataset folder to write."})
    max_side: int = field(default=512, metadata={"help": "Longest side of a stored image in pixels."})
    max_reject_fraction: float = field(
        default=0.2, metadata={"help": "Stop when a larger share of the images can't be used."}
    )
    conflicts: Literal["drop", "keep_first", "train_only"] = field(
        default="drop",
        metadata={
            "help": "The same image in two classes: drop all, keep the first by name, or keep "
            "one per class but only for training."
        },
    )
    corrections: Path | None = field(
        default=None, metadata={"help": "CSV with file, action (relabel, drop, keep), class, reason."}
    )
    license: str | None = field(
        default=None, metadata={"help": "Licence of the images for the dataset card, as an identifier (cc-by-4.0)."}
    )
    config_name: str | None = field(default=None, metadata={"help": "Configuration of a dataset of the Hub."})
    image_column: str | None = field(default=None, metadata={"help": "Its column of images, if there are several."})
    label_column: str | None = field(default=None, metadata={"help": "Its column of classes, if there are several."})
    zip_encoding: str | None = field(
        default=None, metadata={"help": "Of names in a .zip that are not UTF-8, such as cp932, big5 or gbk."}
    )
    title: str | None = field(
        default=None, metadata={"help": "Heading of the dataset card; by default made of the classes."}
    )
    description: str | None = field(default=None, metadata={"help": "First paragraph of the dataset card."})
    tags: list[str] | None = field(default=None, metadata={"help": "Tags for the Hub, beside image-classification."})
    source_url: str | None = field(
        default=None, metadata={"help": "Where the images come from; known for Kaggle and the Hub."}
    )
    citation: str | None = field(default=None, metadata={"help": "How to cite the images, as BibTeX or in words."})
    num_proc: int | None = field(default=None, metadata={"help": "Processes that decode; one per core by default."})
    overwrite: bool = field(
        default=False,
        metadata={"help": "Replace an --output_dir that holds something else; all that is in it is deleted."},
    )

    def __post_init__(self) -> None:
        if not self.source:
            raise UserError("--source is empty. Name a folder, a .zip, kaggle:OWNER/SLUG, hub:OWNER/NAME, or `sample`.")
        if self.output_dir.name in ("", ".."):
            raise UserError(f"--output_dir {self.output_dir} has no name of its own. Name the folder to be written.")
        _require_license("license", self.license)
        if self.source_url is not None and not _URL.fullmatch(self.source_url):
            raise UserError(f"--source_url {self.source_url!r} is not a web address. Begin it with https://.")
        if self.zip_encoding is not None:
            try:
                codecs.lookup(self.zip_encoding)
            except LookupError:
                raise UserError(
                    f"--zip_encoding {self.zip_encoding} is not an encoding that Python knows, such as cp932 "
                    "(Japanese), gbk or big5 (Chinese), cp949 (Korean), cp1251 (Russian) or cp437 (DOS)."
                ) from None
        if self.max_side < 32:
            raise UserError(f"--max_side must be at least 32 pixels, got {self.max_side}.")
        if not 0.0 <= self.max_reject_fraction <= 1.0:
            raise UserError(f"--max_reject_fraction must lie between 0 and 1, got {self.max_reject_fraction}.")
        if self.num_proc is not None and self.num_proc < 1:
            raise UserError(f"--num_proc must be at least 1, got {self.num_proc}.")


@dataclass
class SplitArguments:
    """How images are divided into train, validation and test."""

    validation_fraction: float = field(default=0.15, metadata={"help": "Share held out for model selection."})
    test_fraction: float = field(default=0.15, metadata={"help": "Share held out for the final report."})
    split_by: Literal["group", "time"] = field(
        default="group",
        metadata={"help": "`group` at random, near-duplicates together; `time` trains on older posts (created_utc)."},
    )
    resplit: bool = field(
        default=False, metadata={"help": "Ignore the train, validation and test folders of the source and split anew."}
    )
    group_column: str | None = field(
        default=None, metadata={"help": "CSV column; images with the same value stay in one split."}
    )
    allow_leaks: bool = field(
        default=False,
        metadata={
            "help": "Divide near-duplicates among the splits like other images, only to measure how much that flatters "
            "a model."
        },
    )
    folds: int | None = field(default=None, metadata={"help": "Also number every image for K-fold cross-validation."})
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
    """The dataset, the backbone, and whether an existing model may be replaced."""

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
        metadata={"help": "Decode every image only once, into DATASET.cache/, if there is enough disk space."},
    )
    calibrate_only: bool = field(
        default=False,
        metadata={"help": "Only calibrate the trained model at --model_name_or_path, and write it to --output_dir."},
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Replace what lies at --output_dir; all that is in it is deleted."}
    )


@dataclass
class RunArguments:
    """Number of runs, precision, and time limit."""

    dry_run: bool = field(default=False, metadata={"help": "Show what the run will do and cost, without training."})
    time_limit: float | None = field(
        default=None,
        metadata={
            "help": "Minutes for training and evaluation; takes fewer steps if needed (an estimate, not a hard stop)."
        },
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = field(
        default="auto", metadata={"help": "auto: bf16 if the device supports it, fp16 on older GPUs, otherwise fp32."}
    )
    seeds: list[int] | None = field(
        default=None, metadata={"help": "Train once per seed; the first gives the model, all give mean and spread."}
    )
    folds: bool = field(
        default=False,
        metadata={"help": "Also cross-validate on the folds of data_prep.py --folds."},
    )

    def __post_init__(self) -> None:
        if self.time_limit is not None and self.time_limit <= 0:
            raise UserError(f"--time_limit must be more than 0 minutes, got {self.time_limit:g}.")
        if any(not 0 <= seed <= MAX_SEED for seed in self.seeds or ()):
            raise UserError(f"--seeds must lie between 0 and {MAX_SEED}, got {' '.join(map(str, self.seeds))}.")
        if self.seeds and len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"--seeds names a seed twice: {' '.join(map(str, self.seeds))}.")


@dataclass
class OpenSetArguments:
    """How the model is calibrated, and when it answers `unknown`."""

    false_rejection: float = field(
        default=0.05, metadata={"help": "Share of images of the known classes that may be called unknown."}
    )
    statistics_only: bool = field(
        default=False,
        metadata={"help": "Store no features of single images; classes can be added with less accuracy then."},
    )
    temperature: bool = field(
        default=True,
        metadata={"help": "Calibrate the probabilities with a temperature that becomes part of the weights."},
    )
    unknown_class: bool = field(
        default=False,
        metadata={
            "help": "Also write OUTPUT_DIR/unknown_class/, a checkpoint with one more class for unknown images, which "
            "needs no code but recognises fewer of them."
        },
    )
    others: Path | None = field(
        default=None,
        metadata={
            "help": "Folder of images of none of the classes. Half of them teach the model what to call unknown, the "
            "other half measure it."
        },
    )
    unknown_images: list[Path] | None = field(
        default=None,
        metadata={"help": "Folders of images of none of the classes, to measure how many are recognised as such."},
    )

    def __post_init__(self) -> None:
        if not 0 < self.false_rejection < 1:
            raise UserError(f"--false_rejection must lie strictly between 0 and 1, got {self.false_rejection:g}.")


@dataclass
class ClassArguments:
    """Which model changes, and how."""

    model: Path = field(metadata={"help": "Model folder that finetune_vit.py or add_class.py wrote; not changed."})
    dataset: Path = field(metadata={"help": "Dataset folder that the model was trained on; not changed."})
    output_dir: Path = field(metadata={"help": "Model folder to write."})
    images: list[Path] | None = field(
        default=None,
        metadata={"help": "A folder of images for each --class_name; without those, a folder of class folders."},
    )
    class_name: list[str] | None = field(default=None, metadata={"help": "Name of a new class, one for each --images."})
    remove_class: str | None = field(default=None, metadata={"help": "A class to take out."})
    rename_class: list[str] | None = field(default=None, metadata={"help": "A class and its new name: OLD NEW."})
    extend_dataset: Path | None = field(
        default=None, metadata={"help": "Dataset folder to write with all images, OUTPUT_DIR.dataset by default."}
    )
    refine: bool = field(default=False, metadata={"help": "Also train the whole network a little on all images."})
    auto_refine: bool = field(
        default=True,
        metadata={
            "help": "Do so if the new classes reach less than 0.9 times the accuracy of the old ones on validation."
        },
    )
    compare_joint: bool = field(
        default=False, metadata={"help": "Also train from the start on all classes, to compare accuracy and time."}
    )
    backbone: str | None = field(
        default=None, metadata={"help": "Where --compare_joint starts; the backbone of the model by default."}
    )
    batch_size: int = field(default=64, metadata={"help": "Images that the model sees at once."})
    overwrite: bool = field(default=False, metadata={"help": "Replace what lies at the folders to be written."})

    def __post_init__(self) -> None:
        n_images, n_names = len(self.images or []), len(self.class_name or [])
        if n_names and n_images != n_names:
            raise UserError(f"--images names {n_images} folders, --class_name {n_names} classes. Give them in pairs.")
        if self.rename_class is not None and len(self.rename_class) != 2:
            raise UserError("--rename_class takes two names: the old one and the new one.")
        if not (n_images or self.remove_class or self.rename_class):
            raise UserError("Nothing to do. Give --images with --class_name, --remove_class or --rename_class.")
        require("batch_size", self.batch_size, at_least=1)


@dataclass
class SortArguments:
    """Which model sorts the images, where the files go, and where the rows."""

    model: Path | None = field(default=None, metadata={"help": "Model folder that finetune_vit.py wrote."})
    into: Path | None = field(
        default=None,
        metadata={"help": "Folder to file into: a folder per class, unknown, unsure and unreadable. Files are copied."},
    )
    link: bool = field(default=False, metadata={"help": "Hard links instead of copies: they take no space."})
    move: bool = field(default=False, metadata={"help": "Move the files instead of copying them."})
    undo: Path | None = field(
        default=None, metadata={"help": "Log of a run (in the --into folder): put everything back, and stop there."}
    )
    dry_run: bool = field(default=False, metadata={"help": "Only say what would be filed where."})
    watch: Path | None = field(
        default=None, metadata={"help": "Folder whose files are filed as they arrive, until Ctrl-C."}
    )
    unknown: bool = field(
        default=True, metadata={"help": "Label images `unknown` that are like no class, if the model can tell."}
    )
    min_probability: float = field(
        default=0.0, metadata={"help": "Images whose class is less probable are labelled `unsure`."}
    )
    output: Path | None = field(
        default=None,
        metadata={"help": "File for the rows. By default standard output, or none with --into."},
    )
    format: Literal["csv", "jsonl", "parquet"] | None = field(
        default=None, metadata={"help": "How rows are written: as the suffix of --output says, else csv."}
    )
    top_k: int | None = field(
        default=None,
        metadata={"help": "Probabilities per row, the highest ones: all up to 20 classes, else 5."},
    )
    contact_sheet: Path | None = field(
        default=None, metadata={"help": "Folder for an overview of each label: an image with thumbnails."}
    )
    frames: int = field(
        default=1, metadata={"help": "Frames that are classified of an animated image; probabilities are averaged."}
    )
    fast: bool = field(
        default=False,
        metadata={
            "help": "Decode large JPEGs at reduced scale, at least twice the size that the model sees. Faster; "
            "probabilities differ a little."
        },
    )
    batch_size: int = field(default=32, metadata={"help": "Images that the model sees at once."})
    num_proc: int | None = field(default=None, metadata={"help": "Processes that decode; one per core by default."})

    def __post_init__(self) -> None:
        if self.undo is not None:
            return
        if self.model is None:
            raise UserError("--model is missing. Name the model folder that finetune_vit.py wrote.")
        if self.format is None:
            suffix = self.output.suffix.removeprefix(".").lower() if self.output else ""
            self.format = suffix if suffix in ("jsonl", "parquet") else "csv"
        if self.output and self.output.is_dir():
            raise UserError(f"{self.output} is a folder. Name a file for --output.")
        if self.format == "parquet" and (self.output is None or self.watch is not None):
            raise UserError("Parquet is written as one file at the end. Name it with --output, without --watch.")
        if self.link and self.move:
            raise UserError("--link and --move don't go together. Choose one.")
        for name in ("link", "move", "dry_run"):
            if getattr(self, name) and self.into is None:
                raise UserError(f"--{name} says how files are filed. Name the folder for them with --into.")
        if self.into is not None and self.into.exists() and not self.into.is_dir():
            raise UserError(f"{self.into} is a file. Name a folder for --into.")
        if self.contact_sheet is not None and self.contact_sheet.exists() and not self.contact_sheet.is_dir():
            raise UserError(f"{self.contact_sheet} is a file. Name a folder for --contact_sheet.")
        if self.watch is not None and not self.watch.is_dir():
            raise UserError(f"{self.watch} is not a folder. Name the folder to --watch.")
        if self.watch is not None and self.dry_run:
            raise UserError("--watch and --dry_run don't go together. Choose one.")
        if not 0.0 <= self.min_probability <= 1.0:
            raise UserError(f"--min_probability must lie between 0 and 1, got {self.min_probability:g}.")
        if self.top_k is not None and self.top_k < 0:
            raise UserError(f"--top_k must be at least 0, got {self.top_k}.")
        for name in ("frames", "batch_size", "num_proc"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--{name} must be at least 1, got {value}.")


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
    retrain: bool = field(
        default=False,
        metadata={
            "help": "Also repeat the whole training: three times on shuffled labels, for --control, and on a quarter "
            "and a half of the training images, for --learning_curve."
        },
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
            raise UserError(f"--only {unknown[0]!r} is not a section. Choose among {', '.join(DIAGNOSE_SECTIONS)}.")
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


@dataclass
class RecipeArguments:
    """Which weights are trained, how fast, and how images are augmented. A preset fills in what is not given."""

    preset: Literal["quick", "default", "best"] = field(
        default="default", metadata={"help": "Length of training, unless --num_train_epochs is given."}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Resolution in pixels (default: that of the backbone)."}
    )
    freeze: str = field(
        default="none",
        metadata={
            "help": "`backbone` trains only the head, on features computed once; a number freezes the embeddings and "
            "that many of the lowest blocks; `none` trains all weights."
        },
    )
    lora_rank: int | None = field(
        default=None, metadata={"help": "Train the head and LoRA adapters of this rank, which are merged when saved."}
    )
    probe_first: bool = field(default=False, metadata={"help": "Start with a head fitted to the frozen backbone."})
    probe_if_better: bool = field(
        default=True,
        metadata={
            "help": "Save the backbone as it was, with a head fitted to it (a linear probe), if that is at least as "
            "good on validation as the fine-tuned model."
        },
    )
    layer_decay: float | None = field(
        default=None,
        metadata={
            "help": "Learning rate of a block as a fraction of that of the block above it "
            "(0.75 by default, 1 from scratch and with LoRA)."
        },
    )
    head_factor: float | None = field(
        default=None,
        metadata={
            "help": "Learning rate of the head as a multiple of --learning_rate "
            "(10 by default, 1 from scratch and with LoRA)."
        },
    )
    class_balance: Literal["auto", "none", "weights"] = field(
        default="auto",
        metadata={
            "help": "`weights` weights classes equally in the loss; `auto` does so if the largest class has more "
            "than 1.5 times as many images as the smallest."
        },
    )
    early_stopping: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without improvement (default: never)."}
    )
    min_area: float | None = field(default=None, metadata={"help": "Smallest fraction of an image that a crop keeps."})
    max_stretch: float | None = field(default=None, metadata={"help": "Largest change of a crop's aspect ratio."})
    colour: float | None = field(
        default=None, metadata={"help": "Largest relative change of brightness, contrast and saturation."}
    )
    erasing: float | None = field(
        default=None, metadata={"help": "Probability that a rectangle of an image is erased."}
    )
    mixup: float | None = field(
        default=None, metadata={"help": "Parameter of the Beta distribution for blending pairs of images; 0 is off."}
    )
    cutmix: float | None = field(
        default=None, metadata={"help": "The same for pasting a part of one image into another; 0 is off."}
    )

    def __post_init__(self) -> None:
        if self.freeze not in ("none", "backbone") and not self.freeze.isdecimal():
            raise UserError(f"--freeze takes none, backbone or a number of blocks, got {self.freeze!r}.")
        require("image_size", self.image_size, at_least=16)
        require("lora_rank", self.lora_rank, at_least=1)
        require("layer_decay", self.layer_decay, above=0.0, at_most=1.0)
        require("head_factor", self.head_factor, above=0.0)
        require("early_stopping", self.early_stopping, at_least=0)
        require("min_area", self.min_area, above=0.0, at_most=1.0)
        require("max_stretch", self.max_stretch, at_least=1.0)
        for name in ("colour", "erasing"):
            require(name, getattr(self, name), at_least=0.0, at_most=1.0)
        for name in ("mixup", "cutmix"):
            require(name, getattr(self, name), at_least=0.0)
        if self.lora_rank and self.freeze != "none":
            raise UserError("--lora_rank already freezes the backbone; leave --freeze out.")


def _require_license(flag: str, value: str | None) -> None:
    if value is not None and not _LICENSE.fullmatch(value):
        raise UserError(
            f"--{flag} {value!r} is not a licence identifier of the Hub, such as cc-by-4.0, mit or other. "
            f"See {_LICENSES_PAGE}."
        )


def _require_ref(flag: str, value: str | None, *, pull_request: bool = False) -> None:
    """Refuse what is no name for a branch or a tag, or one that already means something else."""
    if value is None or (pull_request and _PULL_REQUEST.fullmatch(value)):
        return
    bad = ".." in value or value.endswith((".", ".lock", "/")) or "/." in value or _COMMIT.fullmatch(value)
    if not _REF.fullmatch(value) or bad:
        raise UserError(f"--{flag} {value!r} is not a valid name. Expected letters, digits, - _ . and /.")
    if value.lower() in _OWN_TAGS and not (flag == "revision" and value == "main"):
        raise UserError(f"--{flag} {value!r} is taken: it names a branch. Choose another name, for example v1.")


@dataclass
class PushArguments:
    """What is published, where, and who may see it."""

    model: Path = field(metadata={"help": "Model folder that finetune_vit.py wrote."})
    repo_id: str | None = field(
        default=None, metadata={"help": "Name on the Hub: USER/NAME or ORGANISATION/NAME. Needed unless --html."}
    )
    html: Path | None = field(
        default=None,
        metadata={"help": "Publish nothing; write the model as one HTML file that works in any browser, offline."},
    )
    web_runtime: Path | None = field(
        default=None,
        metadata={
            "help": "Folder of the npm package onnxruntime-web, for --html and --space static; fetched when missing."
        },
    )
    onnx: bool = field(
        default=False, metadata={"help": "Add the model as ONNX graphs, so that transformers.js can load it."}
    )
    public: bool = field(
        default=False, metadata={"help": "Make it public, once everything is there and checked; private by default."}
    )
    license: str | None = field(
        default=None,
        metadata={"help": "Licence of the model, as an identifier (apache-2.0); known for the usual backbones."},
    )
    title: str | None = field(
        default=None, metadata={"help": "Title of the page; by default the last part of --repo_id."}
    )
    description: str | None = field(
        default=None, metadata={"help": "One sentence about the model; by default which classes it tells apart."}
    )
    tags: list[str] = field(
        default_factory=list,
        metadata={"help": "Tags of the page; by default those of the data or the names of the classes."},
    )
    source_url: str | None = field(default=None, metadata={"help": "Web page of the data."})
    base_model: str | None = field(
        default=None, metadata={"help": "Name of the backbone on the Hub, for one that was loaded from a folder."}
    )
    commit_message: str = field(default="Upload model", metadata={"help": "First line of the commit."})
    revision: str | None = field(default=None, metadata={"help": "Branch to commit to; main by default."})
    create_pr: bool = field(default=False, metadata={"help": "Open a pull request instead of committing to main."})
    tag: str | None = field(
        default=None, metadata={"help": "Name of this version; by default v1, v2 and so on for commits to main."}
    )
    overwrite_repo: bool = field(
        default=False,
        metadata={"help": "Replace files of a repository that this command did not write, and a card edited by hand."},
    )
    dry_run: bool = field(
        default=False,
        metadata={"help": "Run all local checks without token or network and leave the result in MODEL.upload/."},
    )
    dataset: Path | None = field(
        default=None, metadata={"help": "Dataset folder of the model: its test images are used for the check."}
    )
    push_dataset: bool = field(
        default=False, metadata={"help": "Also publish --dataset, as REPO_ID-data; needs the licence of the images."}
    )
    dataset_license: str | None = field(
        default=None,
        metadata={"help": "Licence of the images, as an identifier (cc-by-4.0), if data_prep.py was not given it."},
    )
    dataset_columns: list[str] = field(
        default_factory=list,
        metadata={"help": "Columns of your CSV to publish with --push_dataset; none by default."},
    )
    space: Literal["gradio", "static"] | None = field(
        default=None,
        metadata={
            "nargs": "?",
            "const": "gradio",
            "help": "Also publish a web page to try the model, as REPO_ID-demo. gradio (or no value) runs the model on "
            "the Hub, static in the browser.",
        },
    )

    @property
    def data_repo_id(self) -> str:
        """Name of the dataset on the Hub."""
        return f"{self.repo_id}-data"

    @property
    def space_repo_id(self) -> str:
        """Name of the Space on the Hub."""
        return f"{self.repo_id}-demo"

    @property
    def is_for_main(self) -> bool:
        """Whether the commit goes to the main branch."""
        return not self.create_pr and self.revision in (None, "main")

    def __post_init__(self) -> None:
        if self.html is not None:
            if self.repo_id is not None:
                raise UserError("--html publishes nothing. Leave --repo_id out, or run the command twice.")
            return
        if self.repo_id is None:
            raise UserError("--repo_id is missing. Give USER/NAME, or --html FILE for a page without the Hub.")
        bad_parts = ("--", "..", ".git/")
        if not _REPO_ID.fullmatch(self.repo_id) or any(bad in f"{self.repo_id}/" for bad in bad_parts):
            raise UserError(
                f"--repo_id {self.repo_id!r} is not a valid name on the Hub. Expected USER/NAME of letters, digits, "
                "single - and . and _, for example me/game-images."
            )
        if len(self.repo_id) > _MAX_REPO_ID:
            raise UserError(f"--repo_id has {len(self.repo_id)} characters, at most {_MAX_REPO_ID} are allowed.")
        _require_license("license", self.license)
        _require_license("dataset_license", self.dataset_license)
        _require_ref("revision", self.revision, pull_request=True)
        _require_ref("tag", self.tag)
        if bad := [tag for tag in self.tags if not _TAG.fullmatch(tag)]:
            raise UserError(
                f"--tags {bad[0]!r} is not a tag. Expected lowercase letters, digits and -, for example cats."
            )
        if self.source_url is not None and not _URL.fullmatch(self.source_url):
            raise UserError(f"--source_url {self.source_url!r} is not a web address. Expected https://...")
        if self.base_model is not None and not _REPO_ID.fullmatch(self.base_model):
            raise UserError(f"--base_model {self.base_model!r} is not a name on the Hub. Expected OWNER/NAME.")
        if self.create_pr and self.revision not in (None, "main"):
            raise UserError("--create_pr opens a pull request to main; leave --revision out, or leave --create_pr out.")
        if self.create_pr and self.tag:
            raise UserError("--create_pr can't set a --tag: a pull request has no version before it is merged.")
        if not self.commit_message.strip():
            raise UserError("--commit_message is empty. Say what the commit does, or leave the flag out.")
        if not self.is_for_main and (self.push_dataset or self.space):
            raise UserError(
                "--create_pr and --revision are about the model alone. Publish the dataset and the Space in a run of "
                "their own, without them."
            )
        if self.dataset_license and not self.push_dataset:
            raise UserError("--dataset_license has no effect without --push_dataset. Add that flag, or leave it out.")
        if self.dataset_columns and not self.push_dataset:
            raise UserError("--dataset_columns has no effect without --push_dataset. Add that flag, or leave it out.")
        if self.push_dataset and self.dataset is None:
            raise UserError("--push_dataset needs --dataset, the folder that data_prep.py wrote.")


@dataclass
class AppArguments:
    """Which model the page asks, and where the page is served."""

    model: Path = field(metadata={"help": "Model folder that finetune_vit.py wrote."})
    unknown: bool = field(
        default=True, metadata={"help": "Answer `unknown` for images of none of the classes, if the model can tell."}
    )
    host: str = field(default="127.0.0.1", metadata={"help": "Address to serve on; 0.0.0.0 opens it to the network."})
    port: int = field(default=7860, metadata={"help": "Port to serve on; 0 takes a free one."})
    max_file_mb: int = field(default=20, metadata={"help": "Largest image file that is accepted, in megabytes."})
    open_browser: bool = field(default=False, metadata={"help": "Open the page in the browser."})
    static: bool = field(
        default=False,
        metadata={"help": "Serve the page of push_to_hub.py --html, where the browser runs the model."},
    )

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port must lie between 0 and 65535, got {self.port}.")
        if self.max_file_mb < 1:
            raise UserError(f"--max_file_mb must be at least 1, got {self.max_file_mb}.")


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
