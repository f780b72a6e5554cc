"""Requests to the Hub: each is retried where that helps, and checked afterwards where its answer was lost."""

import contextlib
import hashlib
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    RepoCard,
    constants,
    get_token,
    set_client_factory,
    snapshot_download,
)
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils._xet import abort_xet_session  # There is no public way to stop a transfer by Xet.

from memevit import files
from memevit.errors import UserError
from memevit.hub import retry

RepoType = Literal["model", "dataset", "space"]
MAIN = "main"
XET_TIMEOUT_S = 120.0  # For a transfer by Xet, which has no limit of its own, plus the time for its bytes.
SLOWEST_BYTES_PER_S = 250_000
MAX_CARD_BYTES = 1_000_000

_COMMIT_ID = re.compile(r"[0-9a-f]{40}")
_PULL_REQUEST = re.compile(r"refs/pr/(\d+)")

T = TypeVar("T")


@dataclass(frozen=True)
class Repository:
    """A repository on the Hub; `revision` is the branch, or `refs/pr/N`, that it is about, `sdk` that of a Space."""

    repo_id: str
    repo_type: RepoType = "model"
    revision: str = MAIN
    sdk: Literal["gradio", "static"] = "gradio"

    @property
    def kind(self) -> str:
        """What a reader calls it."""
        return {"model": "model", "dataset": "dataset", "space": "Space"}[self.repo_type]

    def url(self, endpoint: str) -> str:
        """The address of its page."""
        prefix = "" if self.repo_type == "model" else f"{self.repo_type}s/"
        return f"{endpoint}/{prefix}{self.repo_id}"


@dataclass(frozen=True)
class LocalFile:
    """A file to publish, with the two checksums by which the Hub may know it."""

    path: Path
    size: int
    sha256: str
    git_sha1: str

    @classmethod
    def of(cls, path: Path) -> "LocalFile":
        """Read `path` once for each checksum."""
        size = path.stat().st_size
        digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        with path.open("rb") as file:
            while chunk := file.read(files.CHUNK_BYTES):
                digest.update(chunk)
        return cls(path, size, files.sha256_of(path), digest.hexdigest())

    def is_same_as(self, remote: Any) -> bool:
        """Whether `remote` (a `RepoFile`) has the same content."""
        return remote.lfs.sha256 == self.sha256 if remote.lfs else remote.blob_id == self.git_sha1


@dataclass(frozen=True)
class Published:
    """What is on the Hub: the commit, where to ask for it, and whether this run has made it."""

    commit: str
    revision: str
    url: str
    is_new: bool


class Hub:
    """The Hub as one account sees it."""

    def __init__(self, patience: retry.Patience, token: str) -> None:
        self.patience, self.token = patience, token
        self._by_xet = True  # Until it fails.
        self._api = HfApi(token=token)
        self.endpoint = self._api.endpoint

    @classmethod
    def connect(cls, patience: retry.Patience | None = None) -> "Hub":
        """Find the token, and see that the Hub takes it for writing.

        Raises:
            UserError: there is no token, it is refused or can only read, or the Hub can't be reached.
        """
        token = get_token()
        if not token:
            raise UserError(
                "No token for the Hub was found. Make one with the right to write at "
                "https://huggingface.co/settings/tokens, then run `hf auth login` or set HF_TOKEN."
            )
        _keep_signatures_out_of_the_log()
        set_client_factory(retry.client_factory)
        hub = cls(patience or retry.DEFAULT, token)
        found = hub.patience.call("asking the Hub whose token this is", hub._api.whoami)
        access = (found.get("auth") or {}).get("accessToken") or {}
        if access.get("role") == "read":
            raise UserError(
                "The token can only read. Make one with the right to write at https://huggingface.co/settings/tokens, "
                "then run `hf auth login` or set HF_TOKEN."
            )
        return hub

    def info(self, repo: Repository, revision: str | None = None) -> Any | None:
        """What the Hub says about a repository at `revision` (its default branch when None); None if it is not there.

        A private repository of somebody else is not there.
        """

        def ask() -> Any | None:
            try:
                return self._api.repo_info(repo.repo_id, repo_type=repo.repo_type, revision=revision)
            except (RepositoryNotFoundError, RevisionNotFoundError):
                return None
            except Exception as error:
                # A Hub at an http:// address, or one that hides what it has, says only that much.
                if retry.status_of(error) in (401, 404):
                    return None
                raise

        return self.patience.call(f"looking for {repo.repo_id}", ask)

    def create(self, repo: Repository) -> None:
        """Make a private repository that is not there yet."""

        def make() -> bool:
            sdk = {"space_sdk": repo.sdk} if repo.repo_type == "space" else {}
            try:
                self._api.create_repo(repo.repo_id, repo_type=repo.repo_type, private=True, **sdk)
            except Exception as error:
                if retry.status_of(error) != 409 or self.info(repo) is None:
                    raise
            return True

        self.patience.call(f"creating {repo.repo_id}", make, look=lambda: True if self.info(repo) else None)

    def open_to_all(self, repo: Repository) -> None:
        """Make a private repository public."""
        self.patience.call(
            f"making {repo.repo_id} public",
            lambda: self._api.update_repo_settings(repo.repo_id, repo_type=repo.repo_type, private=False),
        )

    def require_branch_of_new(self, repo: Repository) -> None:
        """Refuse a pull request of a repository that is not there.

        Raises:
            UserError: there can be no such pull request.
        """
        if _PULL_REQUEST.fullmatch(repo.revision):
            raise UserError(f"{repo.repo_id} has no pull request {repo.revision}. Check --revision.")

    def require_branch(self, repo: Repository) -> None:
        """Make the branch from the default one if it is not there.

        Raises:
            UserError: the name belongs to a tag, or to a pull request that is not there.
        """
        if repo.revision == MAIN or self.info(repo, repo.revision):
            if repo.revision in self.tags(repo):
                raise UserError(f"--revision {repo.revision} is a tag of {repo.repo_id}, not a branch. Name a branch.")
            return
        if _PULL_REQUEST.fullmatch(repo.revision):
            raise UserError(f"{repo.repo_id} has no pull request {repo.revision}. Check --revision.")
        self.patience.call(
            f"creating the branch {repo.revision}",
            lambda: self._api.create_branch(
                repo.repo_id, branch=repo.revision, repo_type=repo.repo_type, exist_ok=True
            ),
        )

    def files(self, repo: Repository, revision: str) -> dict[str, Any]:
        """Every file at `revision` by its path, as `RepoFile`."""

        def ask() -> dict[str, Any]:
            tree = self._api.list_repo_tree(repo.repo_id, recursive=True, revision=revision, repo_type=repo.repo_type)
            return {entry.path: entry for entry in tree if hasattr(entry, "blob_id")}

        return self.patience.call(f"listing the files of {repo.repo_id}", ask)

    def card(self, repo: Repository, commit: str, entry: Any) -> str | None:
        """The text of README.md at `commit`, None if it is too large for a card or no text.

        Args:
            repo: where it is.
            commit: version of the repository.
            entry: what `files` says about README.md.
        """
        if entry.size > MAX_CARD_BYTES:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = self.patience.call(
                f"reading README.md of {repo.repo_id}",
                lambda: self._api.hf_hub_download(
                    repo.repo_id, entry.path, repo_type=repo.repo_type, revision=commit, cache_dir=folder
                ),
            )
            try:
                return Path(path).read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                return None

    def tags(self, repo: Repository) -> dict[str, str]:
        """Commit by tag."""
        return {tag.name: tag.target_commit for tag in self._refs(repo).tags}

    def branches(self, repo: Repository) -> set[str]:
        """Names of the branches."""
        return {branch.name for branch in self._refs(repo).branches}

    def _refs(self, repo: Repository) -> Any:
        return self.patience.call(
            f"listing the tags of {repo.repo_id}",
            lambda: self._api.list_repo_refs(repo.repo_id, repo_type=repo.repo_type),
        )

    def pull_requests(self, repo: Repository) -> dict[str, str]:
        """Newest commit by `refs/pr/N`, the newest pull request first."""
        refs = self.patience.call(
            f"listing the pull requests of {repo.repo_id}",
            lambda: self._api.list_repo_refs(repo.repo_id, repo_type=repo.repo_type, include_pull_requests=True),
        )
        found = {one.ref: one.target_commit for one in refs.pull_requests or [] if _PULL_REQUEST.fullmatch(one.ref)}
        return dict(sorted(found.items(), key=lambda one: -int(one[0].split("/")[-1])))

    def is_closed(self, repo: Repository, pull_request: str) -> bool:
        """Whether `refs/pr/N` was closed or merged; one that the Hub says nothing about is open."""
        number = int(pull_request.split("/")[-1])

        def ask() -> bool:
            kind = {"discussion_type": "pull_request", "discussion_status": "closed"}
            try:
                closed = self._api.get_repo_discussions(repo.repo_id, repo_type=repo.repo_type, **kind)
                return any(one.num == number for one in closed)
            except Exception as error:
                if retry.status_of(error) in (403, 404, 410):  # Discussions can be turned off.
                    return False
                raise

        return self.patience.call(f"asking whether pull request {number} of {repo.repo_id} is open", ask)

    def tag(self, repo: Repository, name: str, commit: str) -> None:
        """Give `commit` the tag `name`; fine if it has it already."""

        def has_it() -> bool | None:
            return True if self.tags(repo).get(name) == commit else None

        def make() -> bool:
            try:
                self._api.create_tag(repo.repo_id, tag=name, revision=commit, repo_type=repo.repo_type)
            except Exception as error:
                if retry.status_of(error) != 409 or not has_it():
                    raise
            return True

        self.patience.call(f"setting the tag {name}", make, look=has_it)

    def check_card(self, repo: Repository, text: str) -> None:
        """Let the Hub check the front matter of a README.md before anything else is sent.

        Raises:
            UserError: the Hub refuses it.
        """
        card = RepoCard(text)
        try:
            self.patience.call(
                f"checking the front matter of README.md of {repo.repo_id}",
                lambda: card.validate(repo_type=repo.repo_type),
            )
        except UserError as error:
            if "license" in str(error) and card.data.get("license"):
                raise UserError(
                    f"The Hub does not know the licence {card.data.get('license')!r} of the {repo.kind}. Give one of "
                    "the identifiers at https://huggingface.co/docs/hub/repositories-licenses, or other."
                ) from error
            raise

    def commit(
        self,
        repo: Repository,
        changed: Mapping[str, LocalFile],
        outdated: Iterable[str],
        *,
        message: str,
        create_pr: bool,
        parent: str | None,
        look: Callable[[], Published | None],
    ) -> Published:
        """Send the content of `changed`, then make one commit of it.

        Args:
            repo: where to.
            changed: files to add or replace.
            outdated: paths to delete.
            message: first line of the commit.
            create_pr: open a pull request with the commit.
            parent: the commit that this one is to follow; another one there makes the Hub answer 412.
            look: what is there if the answer was lost and the commit was made; else None.
        """
        where = {"repo_id": repo.repo_id, "repo_type": repo.repo_type}
        where |= {"create_pr": True} if create_pr else {"revision": repo.revision}
        additions = self._uploaded(changed, where)
        deletions = [CommitOperationDelete(path_in_repo=path) for path in outdated]

        def make() -> Published:
            made = _without_warnings(
                lambda: self._api.create_commit(
                    operations=[*additions, *deletions],
                    commit_message=message,
                    parent_commit=parent if parent and _COMMIT_ID.fullmatch(parent) else None,
                    **where,
                )
            )
            return Published(made.oid, made.pr_revision or repo.revision, made.pr_url or made.commit_url, is_new=True)

        return self.patience.call(f"committing to {repo.repo_id}", make, look=look)

    def _uploaded(self, changed: Mapping[str, LocalFile], where: dict[str, Any]) -> list[CommitOperationAdd]:
        """The additions of a commit, with the content of large files already sent: by Xet, else by plain LFS."""

        def send() -> list[CommitOperationAdd]:
            additions = [
                CommitOperationAdd(path_in_repo=path, path_or_fileobj=file.path) for path, file in changed.items()
            ]
            self._api.preupload_lfs_files(additions=additions, free_memory=False, **where)
            return additions

        n_bytes = sum(file.size for file in changed.values())
        return self.patience.call(
            f"sending files to {where['repo_id']}", lambda: self._transferred("sending", send, n_bytes)
        )

    def fetch(self, repo: Repository, commit: str, n_bytes_by_path: Mapping[str, int], cache_dir: str) -> Path:
        """Download files into an empty cache and return the folder that holds them.

        Args:
            repo: where from.
            commit: version of the repository.
            n_bytes_by_path: the files and their sizes.
            cache_dir: a cache of the Hub client.
        """

        def download() -> str:
            return snapshot_download(
                repo.repo_id,
                repo_type=repo.repo_type,
                revision=commit,
                cache_dir=cache_dir,
                token=self.token,
                allow_patterns=list(n_bytes_by_path),
            )

        n_bytes = sum(n_bytes_by_path.values())
        return Path(
            self.patience.call(
                f"fetching {repo.repo_id} back", lambda: self._transferred("fetching", download, n_bytes)
            )
        )

    def _transferred(self, doing: str, action: Callable[[], T], n_bytes: int) -> T:
        """The value of `action`, which sends or fetches large files: by Xet in bounded time, else by plain HTTP."""
        if self._by_xet and not constants.HF_HUB_DISABLE_XET:
            try:
                limit_s = XET_TIMEOUT_S + n_bytes / SLOWEST_BYTES_PER_S
                return retry.within(limit_s, action, abort=abort_xet_session)
            except Exception as error:
                if not retry.is_from_xet(error):
                    raise
                retry.logger.info("The transfer by Xet failed (%s); %s by plain LFS.", retry.reason(error), doing)
                self._by_xet = False
        with _without_xet():
            return action()


@contextlib.contextmanager
def _without_xet() -> Iterator[None]:
    """Make the Hub client use plain HTTP: it looks at this constant before every transfer."""
    before, constants.HF_HUB_DISABLE_XET = constants.HF_HUB_DISABLE_XET, True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def _keep_signatures_out_of_the_log() -> None:
    """Whoever has the address of an upload may write there: no log shows it."""
    for name in ("httpx", "httpx2"):  # They log every address at the level of our own messages.
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in [*logging.getLogger().handlers, *logging.getLogger("huggingface_hub").handlers]:
        if _without_query not in handler.filters:
            handler.addFilter(_without_query)


def _without_query(record: logging.LogRecord) -> bool:
    if record.name.startswith("huggingface_hub"):
        record.msg, record.args = retry.without_query(record.getMessage()), ()
    return True


def _without_warnings(action: Callable[[], T]) -> T:
    """The value of `action`, with the Hub's remarks on a README.md in the log rather than as Python warnings."""
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        value = action()
    for remark in remarks:
        retry.logger.debug("%s", remark.message)
    return value
