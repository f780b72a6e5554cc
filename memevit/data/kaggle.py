"""Fetch a data set from Kaggle with kagglehub, with the retries and the words that it lacks."""

import errno
import logging
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from memevit.errors import UserError

logger = logging.getLogger(__name__)

N_TRIES = 5
_MAX_WAIT_S = 60.0
_HANDLE = re.compile(r"[\w.-]+/[\w.-]+(/versions/\d+)?")
_BY_HAND = "Or download the zip in a browser and give it with --source FILE.zip."
_REFUSED = {
    400: "does not understand the request for it. Check OWNER/SLUG.",
    401: "wants credentials for it. Create a token at kaggle.com, Settings, API, and set KAGGLE_API_TOKEN.",
    403: "does not hand it out to you. Open its page while signed in, accept its terms, and set KAGGLE_API_TOKEN.",
    404: "has no such data set (or a private one). Check OWNER/SLUG.",
}


def download(handle: str, *, sleep: Callable[[float], None] = time.sleep) -> Path:
    """The unpacked data set `handle`, from kagglehub's cache or from Kaggle.

    Args:
        handle: OWNER/SLUG or OWNER/SLUG/versions/N. Without a version Kaggle is asked for the newest one.
        sleep: waits between tries, in seconds.

    Raises:
        UserError: it can't be had; the text says why and what to do.
    """
    if not _HANDLE.fullmatch(handle):
        raise UserError(
            f"kaggle:{handle} is no data set. Write kaggle:OWNER/SLUG, as in kaggle:andrewmvd/doom-crossing."
        )
    problem = ""
    for attempt in range(N_TRIES):
        path, problem, wait_s = _try(handle, attempt)
        if path is not None:
            return path
        if attempt + 1 < N_TRIES:
            logger.warning("Kaggle: %s; trying again in %.0f s", problem, wait_s)
            sleep(wait_s)
    raise UserError(f"{handle} could not be downloaded in {N_TRIES} tries: {problem}. Try again later. {_BY_HAND}")


def _try(handle: str, attempt: int) -> tuple[Path | None, str, float]:
    """One call of kagglehub: the path, or what went wrong and how many seconds to wait."""
    import kagglehub  # Takes a second, and only this function needs it.
    import requests
    from kagglehub.exceptions import DataCorruptionError, UnauthenticatedError

    wait_s = float(2**attempt)
    try:
        return Path(kagglehub.dataset_download(handle)), "", 0.0
    except requests.HTTPError as error:
        return None, *_after_status(handle, error.response, wait_s)
    except UnauthenticatedError:
        raise UserError(f"Kaggle {_REFUSED[401]} {_BY_HAND}") from None
    except (DataCorruptionError, zipfile.BadZipFile):
        # kagglehub takes the leftover archive for complete for ever after; without it the next try starts anew.
        _remove_archives(handle)
        return None, "the archive arrived damaged", wait_s
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        if (cached := _newest_cached(handle)) is not None:
            logger.warning("Kaggle can't be reached; using the copy of %s in %s", handle, cached)
            return cached, "", 0.0
        return None, f"no connection to Kaggle ({type(error).__name__})", wait_s
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk is full: {handle} does not fit into {_cache_dir(handle)}. Free some space."
            ) from error
        raise


def _after_status(handle: str, response: "requests.Response", wait_s: float) -> tuple[str, float]:  # noqa: F821
    status = response.status_code
    if status in _REFUSED:
        raise UserError(f"{handle}: Kaggle {_REFUSED[status]} {_BY_HAND}") from None
    if status != 429 and status < 500:
        raise UserError(f"{handle}: Kaggle answered with HTTP status {status}. {_BY_HAND}") from None
    asked = response.headers.get("Retry-After", "")
    return f"it answered with HTTP status {status}", min(_MAX_WAIT_S, float(asked) if asked.isdigit() else wait_s)


def _cache_dir(handle: str) -> Path:
    from kagglehub.config import get_cache_folder

    return Path(get_cache_folder()) / "datasets" / "/".join(handle.split("/")[:2])


def _remove_archives(handle: str) -> None:
    for archive in _cache_dir(handle).rglob("*.archive"):
        archive.unlink(missing_ok=True)


def _newest_cached(handle: str) -> Path | None:
    """The newest complete version in the cache."""
    versions = _cache_dir(handle) / "versions"
    complete = [int(marker.stem) for marker in versions.parent.rglob("*.complete") if marker.stem.isdigit()]
    return next((path for n in sorted(complete, reverse=True) if (path := versions / str(n)).is_dir()), None)
