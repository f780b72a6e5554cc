"""Fetch a data set from Kaggle with kagglehub, with the retries and the words that it lacks."""

import contextlib
import json
import logging
import re
import shutil
import sys
import tarfile
import time
import types
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from memevit import files, http
from memevit.errors import UserError

logger = logging.getLogger(__name__)

N_TRIES = 5
_MAX_DAMAGED = 2  # Archives: one may lie in the cache since an earlier run, or go wrong on the way.
_MAX_WAIT_S = 60.0
_HANDLE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.-]*(/versions/[1-9][0-9]*)?")
_LINK = re.compile(r"kaggle\.com/(?:datasets/)?([\w.-]+/[\w.-]+)")
_BY_HAND = "Or download the zip in a browser and give it with --source FILE.zip."
_TOKEN = (
    "create a token at https://www.kaggle.com/settings (API) and set KAGGLE_API_TOKEN to it, or save it as "
    "~/.kaggle/access_token"
)


class _Passing(Exception):
    """What may go well the next time; `wait_s` is how long the server wants to be left alone."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Unreachable(_Passing):
    """No connection to Kaggle at all."""


class _Damaged(_Passing):
    """An archive that is not what Kaggle holds."""


def download(handle: str, *, sleep: Callable[[float], None] = time.sleep) -> Path:
    """The unpacked data set folder of `handle`, from kagglehub's cache or from Kaggle.

    A download that was cut off goes on where it stopped, in the same run and in the next. Without a connection an
    unversioned handle means the newest version in the cache.

    Args:
        handle: OWNER/SLUG or OWNER/SLUG/versions/N. Without a version Kaggle is asked for the newest one.
        sleep: waits between tries, in seconds.

    Raises:
        UserError: it can't be had; the text says why and what to do.
    """
    _require_handle(handle)
    with _one_at_a_time(handle):
        n_damaged = 0
        for attempt in range(N_TRIES):
            try:
                return _fetch(handle)
            except _Passing as error:
                problem = error
            if isinstance(problem, _Unreachable) and (cached := _newest_cached(handle)):
                logger.warning("Kaggle can't be reached (%s); using the copy in %s.", problem, cached)
                return cached
            if isinstance(problem, _Damaged):
                _remove_unfinished(handle)
                n_damaged += 1
            if attempt + 1 == N_TRIES or n_damaged == _MAX_DAMAGED:
                raise UserError(_gave_up(handle, problem, attempt + 1))
            wait_s = min(_MAX_WAIT_S, max(problem.wait_s, 2.0**attempt))
            logger.warning("Kaggle: %s; try %d of %d in %.0f s.", problem, attempt + 2, N_TRIES, wait_s)
            sleep(wait_s)
    raise AssertionError("every way out of the loop returns or raises")


def _require_handle(handle: str) -> None:
    if _HANDLE.fullmatch(handle):
        return
    link = _LINK.search(handle)
    example = link.group(1) if link else "andrewmvd/doom-crossing"
    raise UserError(
        f"kaggle:{handle} names no Kaggle data set. Write kaggle:OWNER/SLUG or kaggle:OWNER/SLUG/versions/N, "
        f"as in kaggle:{example}."
    )


def _gave_up(handle: str, problem: _Passing, n_tries: int) -> str:
    cached = _cached_versions(handle)
    hint = f"In the cache is --source kaggle:{_unversioned(handle)}/versions/{cached[-1]}. " if cached else ""
    if isinstance(problem, _Unreachable):
        return (
            f"Kaggle can't be reached ({problem}), and {handle} is not in the cache {_cache_dir(handle)}. {hint}"
            f"Check the network, HTTPS_PROXY and REQUESTS_CA_BUNDLE, then run the command again. {_BY_HAND}"
        )
    if isinstance(problem, _Damaged):
        return f"The archive of {handle} arrived damaged twice ({problem}). {hint}Try again later. {_BY_HAND}"
    return (
        f"{handle} could not be downloaded from Kaggle in {n_tries} tries, the last time because {problem}. {hint}"
        f"Run the command again later; it goes on where it stopped. {_BY_HAND}"
    )


def _kagglehub() -> types.ModuleType:
    """kagglehub, imported when it is needed (it takes most of a second) and so that it logs to stderr."""
    with contextlib.redirect_stdout(sys.stderr):  # Its log handler keeps the stdout of the moment of import.
        import kagglehub
        import kagglehub.config
        import kagglehub.exceptions
    return kagglehub


def _fetch(handle: str) -> Path:
    """One call of kagglehub, its outcome as a path, a `_Passing` or a `UserError`.

    kagglehub unpacks by itself: with `ZipFile.extractall`, which keeps `../x` inside and makes no links, or `tarfile`'s
    `data` filter, which refuses both (read in 1.0.2). It bounds no sizes; a full disk is one of the sentences below.
    """
    kagglehub = _kagglehub()
    import requests

    exceptions = kagglehub.exceptions
    try:
        with contextlib.redirect_stdout(sys.stderr):  # It also prints that a newer kagglehub is out.
            folder = Path(kagglehub.dataset_download(handle))
    except requests.HTTPError as error:
        raise _after_status(handle, error.response) from error
    except requests.RequestException as error:
        raise _after_request_error(handle, error) from None  # Its text may hold the token.
    except exceptions.DataCorruptionError as error:
        raise _Damaged("its MD5 checksum is not the one that Kaggle names") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError) as error:
        raise _Damaged(str(error) or type(error).__name__) from error
    except json.JSONDecodeError as error:
        raise _Passing("something else than Kaggle answered, perhaps the login page of a network") from error
    except ValueError as error:
        if (explained := _after_value_error(handle, error)) is None:
            raise
        raise explained from None  # As above.
    except OSError as error:  # Without the file name: in one case kagglehub takes the token for a path.
        raise UserError(
            f"{handle} can't be stored in {_cache_dir(handle)} ({error.strerror or type(error).__name__}). "
            "Free some space, or set KAGGLEHUB_CACHE to a folder that you can write to on a disk with more."
        ) from None
    except (
        *(exceptions.BackendError, exceptions.NotFoundError, exceptions.CredentialError),
        *(exceptions.KaggleEnvironmentError, exceptions.ColabEnvironmentError),
    ) as error:  # Only in notebooks on Kaggle and Colab, whose host has the data set in a shared folder.
        raise UserError(f"The notebook's host could not attach {handle} ({error}). Check OWNER/SLUG.") from error
    if not any(folder.iterdir()):  # tarfile takes an archive full of zeros for an empty one.
        raise _Damaged("nothing was in it")
    return folder


def _after_value_error(handle: str, error: ValueError) -> Exception | None:
    if "Unsupported archive type" in str(error):
        return _Damaged("neither zip nor tar")
    if "credentials file" in str(error):
        return UserError(f"{error}. Mend or remove it, or {_TOKEN}.")
    if isinstance(error, UnicodeError) or "Invalid header value" in str(error):
        return _unsendable(handle, error)
    return None


def _unsendable(handle: str, error: Exception) -> UserError:
    return UserError(
        f"{handle} can't be asked for at Kaggle ({type(error).__name__}). Check that HTTPS_PROXY is an address and "
        f"that KAGGLE_API_TOKEN is one line of plain letters. {_BY_HAND}"
    )


def _after_request_error(handle: str, error: Exception) -> Exception:
    import requests
    import urllib3

    if isinstance(error, requests.ConnectionError):
        is_connecting = bool(error.args) and isinstance(error.args[0], urllib3.exceptions.MaxRetryError)
        return _Unreachable(_root_cause(error)) if is_connecting else _Passing("the connection was cut")
    if isinstance(error, requests.Timeout):
        return _Passing("it didn't answer in time")
    if isinstance(error, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
        return _Passing("the download was cut off")
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return _Passing("something else than Kaggle answered, perhaps the login page of a network")
    return _unsendable(handle, error)


def _root_cause(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _after_status(handle: str, response: Any) -> Exception:
    status, answer = response.status_code, f"HTTP {response.status_code}"
    with contextlib.suppress(Exception):  # The body is only a courtesy, and may be anything.
        body = response.json()
        status = body.get("code", status) if status < 400 else status
        answer = f"HTTP {status}: {body['message'][:120].strip().rstrip('.')}"
    if status in (408, 429) or status >= 500:
        return _Passing(f"it answered {answer}", http.retry_after_s(response.headers.get("Retry-After", "")) or 0.0)
    is_known = _kagglehub().config.get_kaggle_credentials() is not None
    page = f"https://www.kaggle.com/datasets/{_unversioned(handle)}"
    if status == 401 and is_known:
        text = f"Kaggle refuses your credentials ({answer}). Public data sets need none: remove them, or {_TOKEN}."
    elif status == 401:
        text = f"Kaggle wants credentials for {handle} and found none ({answer}). To give them, {_TOKEN}."
    elif status == 403 and is_known:  # Kaggle also says so of what doesn't exist.
        text = (
            f"Kaggle doesn't hand out {handle} to your account ({answer}). Check OWNER/SLUG, open {page} while signed "
            "in and accept the terms it shows."
        )
    elif status == 403:
        text = (
            f"Kaggle doesn't hand out {handle} without credentials, or it doesn't exist ({answer}). Check {page}; "
            f"to give credentials, {_TOKEN}."
        )
    elif status == 404:
        text = f"Kaggle has no data set {handle} ({answer}). Check {page}; if it is private, {_TOKEN}."
    else:
        text = f"Kaggle doesn't accept the request for {handle} ({answer}). Check {page}."
    return UserError(f"{text} {_BY_HAND}")


def _unversioned(handle: str) -> str:
    return "/".join(handle.split("/")[:2])


def _cache_dir(handle: str) -> Path:
    """Where kagglehub keeps a data set: `N.archive`, `versions/N/`, and `N.complete` once that is whole."""
    return Path(_kagglehub().config.get_cache_folder()) / "datasets" / _unversioned(handle)


def _cached_versions(handle: str) -> list[int]:
    """The complete versions in the cache, oldest first."""
    base = _cache_dir(handle)
    markers = [marker.stem for marker in base.glob("*.complete")]
    return sorted(int(name) for name in markers if name.isdecimal() and (base / "versions" / name).is_dir())


def _newest_cached(handle: str) -> Path | None:
    """What an unversioned handle means without Kaggle."""
    versions = _cached_versions(handle) if handle == _unversioned(handle) else []
    return _cache_dir(handle) / "versions" / str(versions[-1]) if versions else None


def _remove_unfinished(handle: str) -> None:
    """Remove what a damaged download has left.

    kagglehub takes a leftover archive of full size for whole, for ever, even with `force_download`; and it would unpack
    the next archive over the files of this one.
    """
    base = _cache_dir(handle)
    for archive in base.glob("*.archive"):
        archive.unlink(missing_ok=True)
    for folder in base.glob("versions/*/"):
        marker = base / f"{folder.name}.complete"
        if not marker.exists() or not any(folder.iterdir()):
            marker.unlink(missing_ok=True)
            shutil.rmtree(folder)


@contextlib.contextmanager
def _one_at_a_time(handle: str) -> Iterator[None]:
    """Wait for another command that downloads the same data set: both would write into one archive."""
    base = _cache_dir(handle)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # A cache that can't be written can still be read.
            base.parent.mkdir(parents=True, exist_ok=True)
            busy = f"Another command is fetching {handle} from Kaggle; waiting for it."
            stack.enter_context(files.in_turn(base.with_name(f".{base.name}.lock"), busy))
        yield
