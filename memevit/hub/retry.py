"""Repeat what fails for a moment, look before repeating what may have happened, and say the rest in one sentence.

The Hub client repeats some requests itself. It does not repeat creating, validating, committing or tagging, and a
connection that breaks comes out of it as an error of httpx2, its HTTP library.
"""

import email.utils
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from memevit.errors import UserError

logger = logging.getLogger(__name__)

T = TypeVar("T")

TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")
LONGEST_REQUESTED_WAIT_S = 300.0  # A Hub that asks for more is not waited for.


@dataclass(frozen=True)
class Patience:
    """How often and after which pauses something is tried again."""

    attempts: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep

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
        for attempt in range(1, self.attempts + 1):
            try:
                return action()
            except Exception as error:
                if not is_transient(error):
                    raise_explained(error, doing)
                if look is not None and (found := self.call(f"looking whether {doing} worked", look)) is not None:
                    logger.info("The answer to %s was lost, but it had worked.", doing)
                    return found
                wait_s = self._wait_s(error, attempt)
                if attempt == self.attempts or wait_s > LONGEST_REQUESTED_WAIT_S:
                    raise_explained(error, doing, attempts=attempt)
                what = f"{doing[0].upper()}{doing[1:]}"
                logger.info("%s: %s; trying again in %.0f s", what, reason(error), wait_s)
                self.sleep(wait_s)
        raise AssertionError("unreachable")

    def _wait_s(self, error: BaseException, attempt: int) -> float:
        own = min(self.first_wait_s * 2 ** (attempt - 1), self.longest_wait_s)
        return max(own, requested_wait_s(error) or 0.0)


DEFAULT = Patience()


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
    import httpx2

    kinds = (httpx2.TransportError, ConnectionError, TimeoutError)
    return any(isinstance(one, kinds) for one in _chain(error))


def is_from_xet(error: BaseException) -> bool:
    """Whether a failed transfer failed in Xet, which has a HTTP client of its own; plain LFS is the way round."""
    import httpx2

    return response_of(error) is None and not any(isinstance(one, httpx2.HTTPError) for one in _chain(error))


def is_transient(error: BaseException) -> bool:
    """Whether the same request may work in a while."""
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

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
    if response is None:
        return None
    value = response.headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        pass
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(response.headers)
    return float(limit.reset_in_seconds) if response.status_code == 429 and limit and not limit.remaining else None


def without_query(text: str) -> str:
    """`text` with addresses cut off at the `?`: whoever has the signature behind it may write there.

    Example:
        >>> without_query("PUT 'https://store.example/a?signature=x' failed")
        "PUT 'https://store.example/a?...' failed"
    """
    return _QUERY.sub(r"\1?...", text)


def reason(error: BaseException) -> str:
    """What went wrong, in few words and without addresses that carry signatures."""
    response = response_of(error)
    if response is None:
        first = next((one for one in _chain(error) if str(one)), error)
        return without_query(" ".join(str(first).split()))[:200] or type(error).__name__
    message = getattr(error, "server_message", None) or _message_in(response)
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
    return " ".join(str(said or "").split())[:200]


def raise_explained(error: BaseException, doing: str, *, attempts: int = 1) -> None:
    """Raise the UserError that says in a sentence why `doing` failed; what is no trouble with the Hub stays as it is.

    Raises:
        UserError: always, unless `error` has nothing to do with the Hub.
    """
    raise _explained(error, doing, attempts) from error


def _explained(error: BaseException, doing: str, attempts: int) -> BaseException:
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

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
