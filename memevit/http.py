"""HTTP headers that more than one room reads."""

import email.utils
import time


def retry_after_s(header: str) -> float | None:
    """Seconds that the value of a `Retry-After` header asks for, a number or a date; None if it is neither.

    Source:
        RFC 9110, section 10.2.3.

    Example:
        >>> retry_after_s("7"), retry_after_s("soon"), retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT")
        (7.0, None, 0.0)
    """
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
