"""Put files on the Hub in one commit, see that they have arrived, and name the version."""

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from memevit.errors import UserError
from memevit.hub import retry
from memevit.hub.content import LocalFile
from memevit.hub.remote import MAIN, Hub, Published, Repository

logger = logging.getLogger(__name__)

CARD_FILE = "README.md"
KEPT_BY_THE_HUB = ".gitattributes"
_N_RACES = 3  # Commits of somebody else that may come between looking and committing.
_VERSION = re.compile(r"v(\d+)")
_MAX_NAMED = 3


def files_in(folder: Path) -> dict[str, Path]:
    """Every file in `folder` by the path that it has in a repository."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def push(
    hub: Hub,
    repo: Repository,
    contents: Mapping[str, Path],
    *,
    message: str,
    public: bool,
    is_ours: Callable[[str], bool],
    create_pr: bool = False,
    tag: str | None = None,
) -> Published:
    """Make a repository hold `contents`, in one commit, or in none when it does already.

    Args:
        hub: where to.
        repo: made if it is not there.
        contents: file by path; one of them is README.md.
        message: first line of the commit.
        public: everybody may see it.
        is_ours: whether a path in the repository is one that we may delete when `contents` lacks it.
        create_pr: open a pull request and leave the branch as it is.
        tag: name that the version is going to have; refused early if another version has it.

    Raises:
        UserError: the Hub refuses, can't be reached, or does not hold what was sent; or what is there may not be used.
    """
    hub.check_card(repo, contents[CARD_FILE].read_text(encoding="utf-8"))
    local = {path: LocalFile.of(file) for path, file in contents.items()}
    there = hub.info(repo)
    if there is None:
        hub.create(repo, public=public)
        logger.info("Made the %s %s, %s", repo.kind, repo.repo_id, "public" if public else "private")
    elif not public and there.private is False:
        raise UserError(
            f"Nothing was published: {repo.repo_id} is there already and everybody can see it. Give --public if that "
            "is meant, or choose another --repo_id."
        )
    hub.require_branch(repo)
    if tag is not None:
        _refuse_taken_tag(hub, repo, tag, local, is_ours)
    published = _commit(hub, repo, local, is_ours, message=message, create_pr=create_pr)
    _verify(hub, repo, published, local)
    return published


def open_to_all(hub: Hub, repo: Repository) -> None:
    """Make a repository public that is still private."""
    if hub.info(repo).private:
        hub.open_to_all(repo)
        logger.info("%s was private and is public now", repo.repo_id)


def name_version(hub: Hub, repo: Repository, published: Published, tag: str | None) -> str | None:
    """Tag what was published: with `tag`, or on the main branch with the next of v1, v2, ... if it has no such tag.

    Returns:
        The tag that it has now, or None.
    """
    tags = hub.tags(repo)
    versions = {int(match[1]): name for name in tags if (match := _VERSION.fullmatch(name))}
    if tag is None:
        if repo.revision != MAIN or published.revision != MAIN:
            return None
        tag = next((name for _, name in sorted(versions.items()) if tags[name] == published.commit), None)
        tag = tag or f"v{max(versions, default=0) + 1}"
    if tags.get(tag) != published.commit:
        hub.tag(repo, tag, published.commit)
    return tag


def _refuse_taken_tag(
    hub: Hub, repo: Repository, tag: str, local: Mapping[str, LocalFile], is_ours: Callable[[str], bool]
) -> None:
    taken_by = hub.tags(repo).get(tag)
    if taken_by is None:
        return
    head = hub.info(repo, repo.revision)
    if head is None or head.sha != taken_by or any(_difference(hub, repo, taken_by, local, is_ours)):
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
