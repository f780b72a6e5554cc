"""Arguments of push_to_hub.py and app.py."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from memevit.errors import UserError

_REPO_ID = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*")


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

    def __post_init__(self) -> None:
        if not _REPO_ID.fullmatch(self.repo_id) or "--" in self.repo_id or ".." in self.repo_id:
            raise UserError(
                f"--repo_id {self.repo_id!r} is no name for the Hub. Expected USER/NAME of letters, digits, - _ and ."
            )
        if self.create_pr and self.revision not in (None, "main"):
            raise UserError("--create_pr opens a pull request to main; leave --revision out, or leave --create_pr out.")
        if self.create_pr and self.tag:
            raise UserError("--create_pr can't set a --tag: a pull request is no version before it is merged.")
        if not self.commit_message.strip():
            raise UserError("--commit_message is empty. Say what the commit does, or leave the flag out.")
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
