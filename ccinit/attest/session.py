"""How long a session with a KBS lasts, as far as the guest can tell.

A session ends with its cookie or with its token, whichever is first (Trustee checks both again at
every request). Both ends are read against the KBS's own `Date`, so that no clock of the guest takes
part, and only to attest again in time: what is not said is simply not known, and a session that
ends earlier than it said is told by the KBS's refusal. A token stays opaque otherwise; its
signature is for the KBS.
"""

from collections.abc import Mapping
from typing import Final

from ccinit.errors import CcinitError, PeerError
from ccinit.formats.encoding.strict_json import decode_base64url, parse_json
from ccinit.net.http import HttpReply, parse_http_date
from ccinit.values import field, frozen

COOKIE_NAME: Final = "kbs-session-id"

_COOKIE_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
)
_MAX_COOKIE_BYTES: Final = 128
_MAX_CLAIMS_BYTES: Final = 256 * 1024
# What is left for a request that begins just in time; of a short life, at most half.
_RESERVE_SECONDS: Final = 10.0


@frozen
class SessionCookie:
    """The session's credential and its life in seconds, None if it does not say."""

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
    """Return how long a token has to live at `date`; None if that cannot be read."""
    try:
        payload = decode_base64url(token.split(".")[1], "kbs.token")
        claims = parse_json(payload, "kbs.token", _MAX_CLAIMS_BYTES)
    except (CcinitError, IndexError):
        return None
    expires = claims.get("exp") if isinstance(claims, Mapping) else None
    return _seconds_until(expires, date) if type(expires) is int else None


def usable_seconds(*lives: float | None) -> float | None:
    """Return how long something that ends with the shortest of `lives` may be used."""
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
    """A life that is over before it begins says only that two clocks differ."""
    if end is None or date is None or end <= date:
        return None
    return float(end - date)
