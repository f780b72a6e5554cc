"""Fetch a published model as a stranger does, with nothing in the cache, and compare it with the local one."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import snapshot_download

from memevit import files
from memevit.errors import UserError
from memevit.hub import checks, retry
from memevit.hub.remote import Hub, Published, Repository

logger = logging.getLogger(__name__)


def load_back(
    hub: Hub, repo: Repository, published: Published, contents: Mapping[str, Path], reference: checks.Reference
) -> None:
    """See that `pipeline(model=repo_id)` gives what the local model gives.

    Args:
        hub: where from.
        repo: of the model.
        published: the version to fetch.
        contents: the files that were sent, by path.
        reference: what the local model says about some pictures.

    Raises:
        UserError: it can't be fetched, or something else comes back.
    """
    with tempfile.TemporaryDirectory() as cache_dir:
        snapshot = hub.patience.call(
            f"fetching {repo.repo_id} back",
            lambda: snapshot_download(
                repo.repo_id,
                revision=published.commit,
                cache_dir=cache_dir,
                token=hub.token,
                allow_patterns=list(contents),
            ),
        )
        fetched = {path: Path(snapshot) / path for path in contents}
        damaged = [
            path
            for path, file in fetched.items()
            if not file.is_file() or files.sha256_of(file) != files.sha256_of(contents[path])
        ]
        problem = f"other bytes came back in {', '.join(damaged)}" if damaged else ""
        problem = problem or hub.patience.call(
            f"loading {repo.repo_id} by its name", lambda: _difference(hub, repo, published, reference, cache_dir)
        )
    if problem:
        raise UserError(
            f"{repo.repo_id} was sent, but is not what the local model is: {problem}. The version {published.commit} "
            "has no tag; don't use it, and run the command again."
        )


def _difference(hub: Hub, repo: Repository, published: Published, reference: checks.Reference, cache_dir: str) -> str:
    """See `checks.difference`; a connection that breaks comes out as it is, so that it can be tried again."""
    options = {"revision": published.commit, "token": hub.token, "model_kwargs": {"cache_dir": cache_dir}}
    try:
        return checks.difference(repo.repo_id, reference, **options)
    except UserError as error:
        cause = error.__cause__
        if cause is None or not retry.is_transient(cause):
            raise
    raise cause  # Not from within the handler, which would cut off what it came from.
