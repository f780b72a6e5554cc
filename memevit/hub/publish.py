"""Put files on the Hub in one commit, verify that they have arrived, name the version, and open it last."""

import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memevit.errors import UserError
from memevit.hub import retry
from memevit.hub.remote import MAIN, Hub, LocalFile, Published, Repository
from memevit.results import CARD_FILE

logger = logging.getLogger(__name__)

KEPT_BY_THE_HUB = ".gitattributes"
_N_RACES = 3  # Commits of somebody else that may come between looking and committing.
_VERSION = re.compile(r"v(\d+)")
_MAX_NAMED = 3
_SEAL = "<!-- Written by memevit push_to_hub.py. Text above: sha256 {}. -->"
_SEALED = re.compile(r"(.*)\n" + re.escape(_SEAL).replace(r"\{\}", "([0-9a-f]{64})") + r"\s*", re.DOTALL)
# What the Hub itself writes into the card of a new repository.
_EMPTY_CARD = re.compile(r"\s*(---\n.*?\n---\s*)?(Check out the configuration reference at https://\S+\s*)?", re.DOTALL)


@dataclass(frozen=True)
class Plan:
    """What is to be published in one repository, checked as far as that is possible without changing anything.

    `local` are the files by path, `is_ours` tells which other paths may be deleted, `exists` whether the repository is
    there, and `is_same` whether the branch holds these files already.
    """

    repo: Repository
    local: Mapping[str, LocalFile]
    is_ours: Callable[[str], bool]
    create_pr: bool
    exists: bool
    is_same: bool

    @property
    def local_paths(self) -> dict[str, Path]:
        """File by path."""
        return {path: file.path for path, file in self.local.items()}


def sealed(card: str) -> str:
    """A card with a line that shows later whether it was edited by hand; the line is invisible on the page."""
    return f"{card.rstrip()}\n\n{_SEAL.format(_digest(card))}\n"


def is_unedited(card: str) -> bool:
    r"""Whether a card was written by `sealed` and not edited since, or is the empty one of a new repository.

    Example:
        >>> is_unedited(sealed("# Cats")), is_unedited(sealed("# Cats").replace("Cats", "Dogs")), is_unedited("# Cats")
        (True, False, False)
        >>> is_unedited("---\nlicense: mit\n---\n")
        True
    """
    match = _SEALED.fullmatch(card.replace("\r\n", "\n"))
    return _digest(match[1]) == match[2] if match else bool(_EMPTY_CARD.fullmatch(card.replace("\r\n", "\n")))


def _digest(card: str) -> str:
    return hashlib.sha256(card.rstrip().encode()).hexdigest()


def files_in(folder: Path) -> dict[str, Path]:
    """Every file in `folder` by the path that it has in a repository."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def prepare(
    hub: Hub,
    repo: Repository,
    contents: Mapping[str, Path],
    *,
    public: bool,
    is_ours: Callable[[str], bool],
    create_pr: bool = False,
    tag: str | None = None,
    overwrite: bool = False,
) -> Plan:
    """Check everything that can be checked before anything is sent or created.

    Args:
        hub: where to.
        repo: may not be there yet.
        contents: file by path; one of them is README.md.
        public: everybody may see it.
        is_ours: whether a path in the repository is one that we may delete when `contents` lacks it.
        create_pr: a pull request is going to be opened.
        tag: name that the version is going to have; refused if another version or a branch has it.
        overwrite: replace files that are not from this command.

    Raises:
        UserError: the Hub refuses or can't be reached, or what is there may not be replaced.
    """
    hub.check_card(repo, contents[CARD_FILE].read_text(encoding="utf-8"))
    local = {path: LocalFile.of(file) for path, file in contents.items()}
    there = hub.info(repo)
    if there is None:
        hub.require_branch_of_new(repo)
        return Plan(repo, local, is_ours, create_pr, exists=False, is_same=False)
    is_proposal = create_pr or repo.revision.startswith("refs/pr/")
    if not public and not is_proposal and there.private is False:
        raise UserError(
            f"Nothing was published: {repo.repo_id} exists already and is public. Give --public if that is intended, "
            "or choose another --repo_id."
        )
    head = hub.info(repo, repo.revision)
    commit = head.sha if head else None
    if commit and not is_proposal and not overwrite:
        _refuse_foreign(hub, repo, commit, local, is_ours)
    changed, outdated = _difference(hub, repo, commit, local, is_ours)
    is_same = bool(commit) and not changed and not outdated
    if tag is not None:
        _refuse_taken_tag(hub, repo, tag, commit if is_same else None)
    return Plan(repo, local, is_ours, create_pr, exists=True, is_same=is_same)


def prepare_version(
    hub: Hub,
    repo: Repository,
    make_contents: Callable[[str | None], Mapping[str, Path]],
    *,
    create_pr: bool,
    tag: str | None,
    **options: Any,
) -> Plan:
    """`prepare` files that name the version in which they are going to be published.

    Args:
        hub: where to.
        repo: may not be there yet.
        make_contents: gives the files for a version, or for none where there is no telling it.
        create_pr: a pull request is going to be opened.
        tag: the version, if it was given.
        options: for `prepare`.
    """
    newest, following = next_version(hub, repo) if repo.revision == MAIN and not create_pr else (None, None)
    first = tag or newest or following
    plan = prepare(hub, repo, make_contents(first), create_pr=create_pr, tag=tag, **options)
    if plan.is_same or tag or newest is None:
        return plan
    return prepare(hub, repo, make_contents(following), create_pr=create_pr, tag=tag, **options)


def _refuse_foreign(
    hub: Hub, repo: Repository, commit: str, local: Mapping[str, LocalFile], is_ours: Callable[[str], bool]
) -> None:
    """Refuse to replace what this command did not write: a card written or edited by hand, another model."""
    remote = hub.files(repo, commit)
    affected = [path for path in remote if path != KEPT_BY_THE_HUB and (path in local or is_ours(path))]
    if all(path in local and local[path].is_same_as(remote[path]) for path in affected):
        return
    card = hub.card(repo, commit, remote[CARD_FILE]) if CARD_FILE in remote else ""
    others = [path for path in affected if path != CARD_FILE]
    is_from_here = card is not None and _SEALED.fullmatch(card.replace("\r\n", "\n"))
    if card is not None and is_unedited(card) and (is_from_here or not others):
        return
    what = f"{CARD_FILE} was written or edited by hand" if CARD_FILE in remote else ""
    if not is_from_here and others:
        what = f"{', '.join(others[:_MAX_NAMED])} did not come from this command"
    raise UserError(
        f"Nothing was published: in {repo.repo_id} {what}. Choose another --repo_id, or give --overwrite_repo to "
        "replace it; the history of the repository keeps the old version."
    )


def create(hub: Hub, plan: Plan) -> None:
    """Make the repository, private, and the branch, as far as they are not there."""
    if not plan.exists:
        hub.create(plan.repo)
        logger.info("Created the %s %s, private", plan.repo.kind, plan.repo.repo_id)
    hub.require_branch(plan.repo)


def send(hub: Hub, plan: Plan, *, message: str) -> Published:
    """Make a repository hold the files of `plan`, in one commit, or in none when it does already.

    Args:
        hub: where to.
        plan: of a repository that `create` has made.
        message: first line of the commit.

    Raises:
        UserError: the Hub refuses, can't be reached, or does not hold what was sent.
    """
    published = _commit(hub, plan.repo, plan.local, plan.is_ours, message=message, create_pr=plan.create_pr)
    _verify(hub, plan.repo, published, plan.local)
    return published


def publish_all(
    hub: Hub,
    model: Plan,
    others: Sequence[Plan],
    *,
    message: str,
    tag: str | None,
    public: bool,
    verify: Callable[[Published], None],
) -> None:
    """Publish repositories that belong together; they become public last, when all of them are there and checked.

    Args:
        hub: where to.
        model: checked by `verify` once it is there, and tagged.
        others: dataset and Space.
        message: first line of the model's commit.
        tag: name of the version; v1, v2, ... when None.
        public: open them to everybody.
        verify: raises if what is on the Hub is not the model.
    """
    for plan in (*others, model):
        create(hub, plan)
    sent = [(plan, send(hub, plan, message=f"Upload {plan.repo.kind}")) for plan in others]
    pushed = send(hub, model, message=message)
    verify(pushed)
    version = None if model.create_pr else name_version(hub, model.repo, pushed, tag)
    if public and not model.create_pr:
        for plan in (*others, model):
            open_to_all(hub, plan.repo)
    for plan, published in [*sent, (model, pushed)]:
        what = "Published:" if published.is_new else "Nothing to change, it is there already:"
        logger.info("%s %s%s", what, published.url, f" as {version}" if version and plan is model else "")


def open_to_all(hub: Hub, repo: Repository) -> None:
    """Make a repository public that is still private."""
    if hub.info(repo).private:
        hub.open_to_all(repo)
        logger.info("%s is public now", repo.repo_id)


def next_version(hub: Hub, repo: Repository) -> tuple[str | None, str]:
    """The newest of v1, v2, ... in a repository, or None, and the name that a new version would get."""
    if hub.info(repo) is None:
        return None, "v1"
    versions = _versions(hub.tags(repo))
    taken = versions.keys() | _versions(dict.fromkeys(hub.branches(repo), "")).keys()
    return (f"v{max(versions)}" if versions else None), f"v{max(taken, default=0) + 1}"


def name_version(hub: Hub, repo: Repository, published: Published, tag: str | None) -> str | None:
    """Tag what was published: with `tag`, or on the main branch with the next of v1, v2, ... if it has no such tag.

    Returns:
        The tag that it has now, or None.
    """
    tags = hub.tags(repo)
    if tag is None:
        if repo.revision != MAIN or published.revision != MAIN:
            return None
        versions = _versions(tags)
        tag = next((name for _, name in sorted(versions.items()) if tags[name] == published.commit), None)
        tag = tag or next_version(hub, repo)[1]
    if tags.get(tag) != published.commit:
        hub.tag(repo, tag, published.commit)
    return tag


def _versions(names: Mapping[str, str]) -> dict[int, str]:
    return {int(match[1]): name for name in names if (match := _VERSION.fullmatch(name))}


def _refuse_taken_tag(hub: Hub, repo: Repository, tag: str, same_commit: str | None) -> None:
    if tag in hub.branches(repo):
        raise UserError(f"{repo.repo_id} has a branch {tag}. Choose another --tag.")
    taken_by = hub.tags(repo).get(tag)
    if taken_by is not None and taken_by != same_commit:
        raise UserError(f"{repo.repo_id} has another version with the tag {tag}. Choose another --tag.")


def _difference(
    hub: Hub, repo: Repository, commit: str | None, local: Mapping[str, LocalFile], is_ours: Callable[[str], bool]
) -> tuple[dict[str, LocalFile], list[str]]:
    """What of `local` is not in `commit`, and what of ours is there and not in `local`."""
    remote = hub.files(repo, commit) if commit else {}
    changed = {path: file for path, file in local.items() if path not in remote or not file.is_same_as(remote[path])}
    return changed, [path for path in remote if path not in local and path != KEPT_BY_THE_HUB and is_ours(path)]


def _commit(
    hub: Hub,
    repo: Repository,
    local: Mapping[str, LocalFile],
    is_ours: Callable[[str], bool],
    *,
    message: str,
    create_pr: bool,
) -> Published:
    def what_is_there() -> Published | None:
        """The newest commit, if it holds what is to be published."""
        if create_pr:
            return _same_pull_request(hub, repo, local, is_ours)
        newest = hub.info(repo, repo.revision)
        if newest is None or any(_difference(hub, repo, newest.sha, local, is_ours)):
            return None
        return Published(newest.sha, repo.revision, repo.url(hub.endpoint), is_new=True)

    for attempt in range(_N_RACES):
        newest = hub.info(repo, repo.revision)  # None in a repository without a commit.
        head = newest.sha if newest else None
        changed, outdated = _difference(hub, repo, head, local, is_ours)
        if head and not changed and not outdated:
            return Published(head, repo.revision, repo.url(hub.endpoint), is_new=False)
        if create_pr and (same := _same_pull_request(hub, repo, local, is_ours)):
            return same
        megabytes = sum(file.size for file in changed.values()) / 1e6
        logger.info("Sending %d files (%.1f MB) to %s", len(changed), megabytes, repo.repo_id)
        try:
            return hub.commit(
                repo,
                changed,
                outdated,
                message=message,
                create_pr=create_pr,
                parent=head,
                look=what_is_there,
            )
        except UserError as error:
            if retry.status_of(error) != 412 or attempt == _N_RACES - 1:
                raise
            logger.info("Somebody else has just committed to %s; looking again", repo.repo_id)
    raise AssertionError("unreachable")


def _same_pull_request(
    hub: Hub, repo: Repository, local: Mapping[str, LocalFile], is_ours: Callable[[str], bool]
) -> Published | None:
    """The newest open pull request that holds what is to be published."""
    for revision, commit in hub.pull_requests(repo).items():
        if not any(_difference(hub, repo, commit, local, is_ours)) and not hub.is_closed(repo, revision):
            number = revision.split("/")[-1]
            url = f"{repo.url(hub.endpoint)}/discussions/{number}"
            return Published(commit, revision, url, is_new=False)
    return None


def _verify(hub: Hub, repo: Repository, published: Published, local: Mapping[str, LocalFile]) -> None:
    """Compare the checksums that the Hub gives with those of the local files."""
    remote = hub.files(repo, published.commit)
    wrong = [path for path, file in local.items() if path not in remote or not file.is_same_as(remote[path])]
    if wrong:
        raise UserError(
            f"The commit {published.commit[:12]} of {repo.repo_id} does not hold what was sent: {len(wrong)} of "
            f"{len(local)} files differ, among them {', '.join(wrong[:_MAX_NAMED])}. Run the command again."
        )
    logger.info("All %d files on %s have the right checksums", len(local), repo.repo_id)
