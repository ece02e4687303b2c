"""How long a session with a KBS lasts, as far as the guest can tell.

A session ends when its cookie or its token expires, whichever is first (Trustee checks both at
every request). Both times are compared with the KBS's own `Date`, so the guest's clock plays no
part. They only help to attest again in time: they may be missing, and if a session ends earlier,
the KBS's refusal tells. Otherwise a token stays opaque; its signature is for the KBS to check.
"""

from collections.abc import Mapping
from typing import Final

from ccinit.errors import CcinitError, PeerError
from ccinit.formats.encoding.strict_json import decode_base64url, parse_json
from ccinit.net.http import HttpReply
from ccinit.net.http_date import parse_http_date
from ccinit.values import field, frozen

COOKIE_NAME: Final = "kbs-session-id"

_COOKIE_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
)
_MAX_COOKIE_BYTES: Final = 128
_MAX_CLAIMS_BYTES: Final = 256 * 1024
# Time reserved for a request that begins at the last moment; at most half of a short lifetime.
_RESERVE_SECONDS: Final = 10.0


@frozen
class SessionCookie:
    """The session's credential and its lifetime in seconds, None if unknown."""

    value: str = field(repr=False)
    seconds: float | None


def parse_session_cookie(reply: HttpReply) -> SessionCookie:
    """Return the session cookie that a reply to `POST auth` sets.

    Attributes other than `Expires` are ignored: the cookie goes back to this one service and
    nowhere else.

    Raises:
        PeerError: `kbs.cookie`, none or not exactly one plain value.
    """
    found = []
    for name, header in reply.headers:
        if name == "set-cookie":
            pair, *attributes = header.split(";")
            cookie, _, value = pair.partition("=")
            if cookie.strip() == COOKIE_NAME:
                found.append((value.strip(), attributes))
    if len(found) != 1:
        raise PeerError("kbs.cookie", f"expected one session cookie, found {len(found)}")
    value, attributes = found[0]
    if not 0 < len(value) <= _MAX_COOKIE_BYTES or not _COOKIE_CHARACTERS.issuperset(value):
        raise PeerError("kbs.cookie", "the session cookie is not a plain value")
    return SessionCookie(value=value, seconds=_seconds_until(_expires(attributes), reply.date))


def token_seconds(token: str, date: int | None) -> float | None:
    """Return a token's remaining lifetime at `date`; None if it cannot be read."""
    try:
        payload = decode_base64url(token.split(".")[1], "kbs.token")
        claims = parse_json(payload, "kbs.token", _MAX_CLAIMS_BYTES)
    except (CcinitError, IndexError):
        return None
    expires = claims.get("exp") if isinstance(claims, Mapping) else None
    return _seconds_until(expires, date) if type(expires) is int else None


def usable_seconds(*lives: float | None) -> float | None:
    """Return for how long to use something that expires with the shortest of `lives`."""
    known = [seconds for seconds in lives if seconds is not None]
    if not known:
        return None
    life = min(known)
    return life - min(_RESERVE_SECONDS, life / 2)


def _expires(attributes: list[str]) -> int | None:
    for attribute in attributes:
        name, _, value = attribute.partition("=")
        if name.strip().lower() == "expires":
            return parse_http_date(value.strip())
    return None


def _seconds_until(end: int | None, date: int | None) -> float | None:
    """Return the time from `date` to `end`; None if that is not positive: two clocks differ."""
    if end is None or date is None or end <= date:
        return None
    return float(end - date)
