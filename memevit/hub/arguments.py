"""Arguments of push_to_hub.py and app.py."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from memevit.errors import UserError

_NAME = r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPO_ID = re.compile(rf"{_NAME}/{_NAME}")
_MAX_REPO_ID = 96 - len("-data")  # The Hub's limit, and a name beside this one for the dataset.
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_REVISION = re.compile(r"refs/pr/\d+|(?!refs/)[A-Za-z0-9][A-Za-z0-9._/-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass
class PushArguments:
    """What is published, where, and who may see it."""

    model: Path = field(metadata={"help": "Model folder that finetune_vit.py wrote."})
    repo_id: str = field(metadata={"help": "Name on the Hub: USER/NAME or ORGANISATION/NAME."})
    public: bool = field(default=False, metadata={"help": "Everybody may see it; without this flag only you may."})
    license: str | None = field(
        default=None,
        metadata={"help": "Licence of the model, as an identifier (apache-2.0); known for the usual backbones."},
    )
    commit_message: str = field(default="Upload model", metadata={"help": "First line of the commit."})
    revision: str | None = field(default=None, metadata={"help": "Branch to commit to; main by default."})
    create_pr: bool = field(default=False, metadata={"help": "Open a pull request instead of committing to main."})
    tag: str | None = field(
        default=None, metadata={"help": "Name of this version; by default v1, v2 and so on for commits to main."}
    )
    dry_run: bool = field(
        default=False,
        metadata={"help": "Do all checks without a token or network and leave what would go up in MODEL.upload/."},
    )
    dataset: Path | None = field(
        default=None, metadata={"help": "Dataset folder of the model: its test pictures are used for the check."}
    )
    push_dataset: bool = field(
        default=False, metadata={"help": "Also publish --dataset, as REPO_ID-data; needs the licence of the pictures."}
    )
    dataset_license: str | None = field(
        default=None,
        metadata={"help": "Licence of the pictures, as an identifier (cc-by-4.0), where data_prep.py was not told it."},
    )
    space: bool = field(default=False, metadata={"help": "Also publish a web page to try the model, as REPO_ID-demo."})

    @property
    def data_repo_id(self) -> str:
        """Name of the dataset on the Hub."""
        return f"{self.repo_id}-data"

    @property
    def space_repo_id(self) -> str:
        """Name of the Space on the Hub."""
        return f"{self.repo_id}-demo"

    def __post_init__(self) -> None:
        bad_parts = ("--", "..", ".git/")
        if not _REPO_ID.fullmatch(self.repo_id) or any(bad in f"{self.repo_id}/" for bad in bad_parts):
            raise UserError(
                f"--repo_id {self.repo_id!r} is no name for the Hub. Expected USER/NAME of letters, digits, single - "
                "and . and _, for example me/meme-games."
            )
        if len(self.repo_id) > _MAX_REPO_ID:
            raise UserError(f"--repo_id has {len(self.repo_id)} letters, at most {_MAX_REPO_ID} are allowed.")
        for flag, value in (("license", self.license), ("dataset_license", self.dataset_license)):
            if value is not None and not _LICENSE.fullmatch(value):
                raise UserError(f"--{flag} {value!r} is no identifier of a licence. Expected one like apache-2.0.")
        for flag, value in (("revision", self.revision), ("tag", self.tag)):
            if value is not None and (not _REVISION.fullmatch(value) or ".." in value or _COMMIT.fullmatch(value)):
                raise UserError(f"--{flag} {value!r} is no name for one. Expected letters, digits, - _ . and /.")
        if self.create_pr and self.revision not in (None, "main"):
            raise UserError("--create_pr opens a pull request to main; leave --revision out, or leave --create_pr out.")
        if self.create_pr and self.tag:
            raise UserError("--create_pr can't set a --tag: a pull request is no version before it is merged.")
        if not self.commit_message.strip():
            raise UserError("--commit_message is empty. Say what the commit does, or leave the flag out.")
        if (self.create_pr or self.revision not in (None, "main")) and (self.push_dataset or self.space):
            raise UserError(
                "--create_pr and --revision are about the model alone. Publish the dataset and the Space in a run of "
                "their own, without them."
            )
        if self.dataset_license and not self.push_dataset:
            raise UserError("--dataset_license says nothing without --push_dataset. Add that flag, or leave it out.")
        if self.push_dataset and self.dataset is None:
            raise UserError("--push_dataset needs --dataset, the folder that data_prep.py wrote.")


@dataclass
class AppArguments:
    """Which model the page asks, and where the page is served."""

    model: Path = field(metadata={"help": "Model folder that finetune_vit.py wrote."})
    host: str = field(default="127.0.0.1", metadata={"help": "Address to serve on; 0.0.0.0 opens it to the network."})
    port: int = field(default=7860, metadata={"help": "Port to serve on; 0 takes a free one."})
    max_file_mb: int = field(default=20, metadata={"help": "Largest picture file that is accepted, in megabytes."})
    open_browser: bool = field(default=False, metadata={"help": "Open the page in the browser."})

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port must lie between 0 and 65535, got {self.port}.")
        if self.max_file_mb < 1:
            raise UserError(f"--max_file_mb must be at least 1, got {self.max_file_mb}.")
