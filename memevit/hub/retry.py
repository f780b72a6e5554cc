"""Retry requests to the Hub within a bounded time, and explain in one sentence why one failed.

The Hub client retries some requests itself, without a time limit and with pauses as long as the Hub asks for. It does
not retry creating, validating, committing or tagging, and a broken connection comes out of it as an error of httpx2,
its HTTP library. `client_factory` gives it a client with limits.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import parse_ratelimit_headers
from huggingface_hub.utils._http import default_client_factory  # Public only as what is replaced.

from memevit import escape, http
from memevit.errors import UserError

logger = logging.getLogger(__name__)

T = TypeVar("T")

TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")
LONGEST_REQUESTED_WAIT_S = 300.0  # A Hub that asks for more is not waited for.
TIMEOUT_S = 120.0  # Without a byte; the client itself has no limit.
LONGEST_TROUBLE_S = 900.0  # Of failures without a success in between, our retries and the client's together.
MAX_ERROR_BYTES = 65_536  # Of the body of an error; the rest is not read.
_MAX_REASON_LETTERS = 200


@dataclass(frozen=True)
class Patience:
    """How often, after which pauses and for how long something is tried again."""

    attempts: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    longest_trouble_s: float = LONGEST_TROUBLE_S
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def call(self, doing: str, action: Callable[[], T], *, look: Callable[[], T | None] | None = None) -> T:
        """The value of `action`, tried again after failures that pass.

        Args:
            doing: what `action` does, for messages: "creating the repository".
            action: a request to the Hub.
            look: called after a failed try whose answer may have been lost; a value other than None means that
                the try had succeeded after all, and is returned.

        Raises:
            UserError: it failed for a reason that lasts, or every time.
        """
        give_up_at = float("inf")
        for attempt in range(1, self.attempts + 1):
            try:
                return action()
            except Exception as error:
                if not is_transient(error):
                    raise_explained(error, doing)
                give_up_at = min(give_up_at, self.clock() + self.longest_trouble_s)
                if look is not None and (found := self.call(f"looking whether {doing} worked", look)) is not None:
                    logger.info("The answer to %s was lost, but it had worked.", doing)
                    return found
                wait_s = self._wait_s(error, attempt)
                is_late = self.clock() + wait_s > give_up_at
                if attempt == self.attempts or is_late or wait_s > LONGEST_REQUESTED_WAIT_S:
                    raise_explained(error, doing, attempts=attempt)
                what = f"{doing[0].upper()}{doing[1:]}"
                logger.info("%s: %s; trying again in %.0f s", what, reason(error), wait_s)
                self.sleep(wait_s)
        raise AssertionError("unreachable")

    def _wait_s(self, error: BaseException, attempt: int) -> float:
        own = min(self.first_wait_s * 2 ** (attempt - 1), self.longest_wait_s)
        return max(own, requested_wait_s(error) or 0.0)


DEFAULT = Patience()


class _Limits:
    """Hooks of the HTTP client that bound what it would do for hours: long pauses, many retries, large error bodies."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._unanswered: set[tuple[str, str]] = set()
        self._trouble_since: float | None = None

    def before(self, request: Any) -> None:
        """Refuse a request when nothing has worked for too long."""
        key = (request.method, str(request.url))
        if key in self._unanswered and self._trouble_since is None:  # The connection failed, and the client retries.
            self._trouble_since = self._clock()
        if self._trouble_since is not None and self._clock() - self._trouble_since > LONGEST_TROUBLE_S:
            self._trouble_since = None
            self._unanswered.clear()
            raise UserError(
                f"The Hub has not answered for {LONGEST_TROUBLE_S / 60:.0f} minutes. Check the connection and run the "
                "command again; what has arrived is not sent again."
            )
        self._unanswered.add(key)

    def after(self, response: Any) -> None:
        """Keep an error's body short, and refuse pauses that are too long."""
        self._unanswered.discard((response.request.method, str(response.request.url)))
        if response.status_code < 400:
            self._trouble_since = None
            return
        response.stream = _Beginning(response.stream, MAX_ERROR_BYTES)
        if response.status_code in TRANSIENT_STATUS:
            self._trouble_since = self._clock() if self._trouble_since is None else self._trouble_since
            if (wait_s := _wait_in(response)) is not None and wait_s > LONGEST_REQUESTED_WAIT_S:
                raise HfHubHTTPError(f"The Hub asks to wait for {wait_s:.0f} s", response=response)


def client_factory() -> Any:
    """The HTTP client of huggingface_hub with our limits; the client library asks for a new one after some errors."""
    client, limits = default_client_factory(), _Limits()
    client.timeout = TIMEOUT_S
    hooks = client.event_hooks
    client.event_hooks = {
        "request": [*hooks.get("request", []), limits.before],
        "response": [*hooks.get("response", []), limits.after],
    }
    return client


def within(limit_s: float, action: Callable[[], T], *, abort: Callable[[], None]) -> T:
    """The value of `action`, which runs in a thread so that Ctrl-C and the limit work while it waits in foreign code.

    Args:
        limit_s: seconds.
        action: what to do.
        abort: makes a running `action` stop; called at the limit and on Ctrl-C.

    Raises:
        TimeoutError: it took longer.
    """
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((True, action()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    end = time.monotonic() + limit_s
    try:
        while thread.is_alive() and time.monotonic() < end:
            thread.join(0.2)  # Without a limit, Ctrl-C would wait for the thread.
    except BaseException:
        abort()
        raise
    if not outcome:
        abort()
        raise TimeoutError(f"no end after {limit_s:.0f} s")
    worked, value = outcome[0]
    if not worked:
        raise value
    return value


class _Beginning(httpx2.SyncByteStream):
    """The first bytes of a response; the rest is never read."""

    def __init__(self, stream: httpx2.SyncByteStream, n_bytes: int) -> None:
        self._stream, self._n_bytes = stream, n_bytes

    def __iter__(self) -> Iterator[bytes]:
        left = self._n_bytes
        for chunk in self._stream:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return

    def close(self) -> None:
        """Close the connection, whatever has not been read."""
        self._stream.close()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what caused it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def response_of(error: BaseException) -> Any:
    """The HTTP response that `error` stands for, or None."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if getattr(response, "status_code", None) is not None:
            return response
    return None


def status_of(error: BaseException) -> int | None:
    """The HTTP status that `error` stands for, or None."""
    response = response_of(error)
    return None if response is None else response.status_code


def is_connection_error(error: BaseException) -> bool:
    """Whether the connection failed or broke, so that no complete answer came."""
    kinds = (httpx2.TransportError, ConnectionError, TimeoutError)
    return any(isinstance(one, kinds) for one in _chain(error))


def is_from_xet(error: BaseException) -> bool:
    """Whether a failed transfer failed in Xet, which has a HTTP client of its own; plain LFS is the way round."""
    others = (httpx2.HTTPError, UserError, OfflineModeIsEnabled)
    return response_of(error) is None and not any(isinstance(one, others) for one in _chain(error))


def is_transient(error: BaseException) -> bool:
    """Whether the same request may work in a while."""
    lasting = (OfflineModeIsEnabled, httpx2.UnsupportedProtocol)  # The latter: an HF_ENDPOINT without http://.
    if isinstance(error, UserError) or any(isinstance(one, lasting) for one in _chain(error)):
        return False
    status = status_of(error)
    if status is not None:
        return status in TRANSIENT_STATUS
    # A proxy's error page where the client expects JSON.
    return is_connection_error(error) or isinstance(error, json.JSONDecodeError)


def requested_wait_s(error: BaseException) -> float | None:
    """Seconds that the Hub asks to wait, or None.

    It says so with `Retry-After` (a number or a date), or with `RateLimit` (`"api";r=0;t=55` is nothing left for 55 s).
    """
    response = response_of(error)
    return None if response is None else _wait_in(response)


def _wait_in(response: Any) -> float | None:
    if (asked_s := http.retry_after_s(response.headers.get("Retry-After", ""))) is not None:
        return asked_s
    limit = parse_ratelimit_headers(response.headers)
    return float(limit.reset_in_seconds) if response.status_code == 429 and limit and not limit.remaining else None


def without_query(text: str) -> str:
    """`text` with URLs cut off at the `?`: whoever has the signature behind it may write there.

    Example:
        >>> without_query("PUT 'https://store.example/a?signature=x' failed")
        "PUT 'https://store.example/a?...' failed"
    """
    return _QUERY.sub(r"\1?...", text)


def reason(error: BaseException) -> str:
    """What went wrong, in few words and without URLs that carry signatures."""
    response = response_of(error)
    if response is None:
        first = next((one for one in _chain(error) if str(one)), error)
        return brief(str(first)) or type(error).__name__
    message = brief(getattr(error, "server_message", None) or "") or _message_in(response)
    return f"the Hub answered {response.status_code}" + (f" ({message})" if message else "")


def _message_in(response: Any) -> str:
    """What the Hub says about an error, from its header or its body."""
    said = response.headers.get("X-Error-Message")
    if not said:
        try:
            body = response.json()
            said = body.get("error") or "; ".join(str(one["message"]) for one in body.get("errors") or [])
        except Exception:  # No JSON, not read, or not such an object.
            is_text = response.headers.get("Content-Type", "").startswith("text/plain")
            said = response.text if is_text else ""
    return brief(str(said or ""))


def brief(text: str) -> str:
    r"""The beginning of a message of somebody else, on one line and without signatures.

    Example:
        >>> brief("one\n  two"), len(brief("x" * 10**6))
        ('one two', 200)
    """
    return escape.terminal(without_query(" ".join(text[:MAX_ERROR_BYTES].split())))[:_MAX_REASON_LETTERS]


def raise_explained(error: BaseException, doing: str, *, attempts: int = 1) -> None:
    """Raise the UserError that says in a sentence why `doing` failed; what is no trouble with the Hub stays as it is.

    Raises:
        UserError: always, unless `error` has nothing to do with the Hub.
    """
    raise _explained(error, doing, attempts) from error


def _explained(error: BaseException, doing: str, attempts: int) -> BaseException:
    status, why = status_of(error), reason(error)
    tries = f" after {attempts} tries" if attempts > 1 else ""
    if isinstance(error, UserError):
        return error
    if any(isinstance(one, OfflineModeIsEnabled) for one in _chain(error)):
        return UserError(f"Failed at {doing}: HF_HUB_OFFLINE is set, so the Hub is not asked. Unset it and try again.")
    if isinstance(error, HFValidationError):
        return UserError(f"Failed at {doing}: {why}.")
    if status == 401:
        return UserError(
            f"Failed at {doing}: the Hub refused the token (401). Make a new one at "
            "https://huggingface.co/settings/tokens, then run `hf auth login` or set HF_TOKEN."
        )
    if status == 403:
        return UserError(f"Failed at {doing}: {why}. The token needs the right to write there.")
    if status is not None:
        again = "Wait a while and run the command again." if status in TRANSIENT_STATUS else "Mend that and try again."
        return UserError(f"Failed at {doing}{tries}: {why}. {again}")
    if is_connection_error(error) or isinstance(error, (json.JSONDecodeError, RuntimeError)):
        return UserError(f"Failed at {doing}{tries}: {why}. Check the connection and run the command again.")
    if isinstance(error, ValueError):  # The client's own checks, among them refused card metadata.
        return UserError(f"Failed at {doing}: {why}.")
    return error
