"""Dates in HTTP headers (RFC 9110 section 5.6.7), in the one spelling that a sender may use."""

import email.utils
from typing import Final

_LEAP_SECOND: Final = " 23:59:60 GMT"
_BEFORE_IT: Final = " 23:59:59 GMT"


def parse_http_date(text: str | None) -> int | None:
    """Return an IMF-fixdate (RFC 9110 section 5.6.7) in seconds since 1970, or None.

    A leap second counts as the second after it, as in POSIX (XBD, section 4.19).
    """
    if text is None or len(text) != 29 or not text.isascii() or not text.endswith(" GMT"):
        return None
    if text.endswith(_LEAP_SECOND):
        before = parse_http_date(text.removesuffix(_LEAP_SECOND) + _BEFORE_IT)
        return None if before is None else before + 1
    fields = email.utils.parsedate_tz(text)
    if fields is None:
        return None
    try:
        seconds = email.utils.mktime_tz(fields)
        written = email.utils.formatdate(seconds, usegmt=True)
    except (ValueError, OverflowError):  # an hour that is out of range can carry into year 10000
        return None
    # Accept only the canonical spelling: what we would write for that second.
    return seconds if written == text else None
