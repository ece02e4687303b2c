"""How long a session lasts, by what the KBS says."""

import base64
import json

import pytest

from ccinit.attest.session import parse_session_cookie, token_seconds, usable_seconds
from ccinit.errors import PeerError
from tests.fakes.kbs.http import DATE, reply

SOON = "Fri, 15 Jan 2027 08:05:00 GMT"  # 300 seconds after DATE


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param((), id="none"),
        pytest.param((("set-cookie", "other=1"),), id="another"),
        pytest.param((("set-cookie", "kbs-session-id="),), id="empty"),
        pytest.param((("set-cookie", "kbs-session-id=a b"),), id="space"),
        pytest.param((("set-cookie", "kbs-session-id=a\r\nx: y"),), id="injection"),
        pytest.param((("set-cookie", "kbs-session-id=" + "a" * 129),), id="long"),
        pytest.param((("set-cookie", "kbs-session-id=a"),) * 2, id="two"),
    ],
)
def test_cookie_that_is_not_one_plain_value_is_refused(
    headers: tuple[tuple[str, str], ...],
) -> None:
    good = reply(200, b"", ("set-cookie", "kbs-session-id=ab-1; Path=/; Secure"))
    assert parse_session_cookie(good).value == "ab-1"
    with pytest.raises(PeerError) as refused:
        parse_session_cookie(reply(200, b"", *headers))
    assert refused.value.reason == "kbs.cookie"


def test_cookie_is_taken_up_to_its_cap_and_from_its_own_header_only() -> None:
    longest = "a" * 128
    headers = (("x-cookie", "kbs-session-id=b"), ("set-cookie", f"kbs-session-id={longest}"))
    assert parse_session_cookie(reply(200, b"", *headers)).value == longest


@pytest.mark.parametrize(
    ("attributes", "seconds"),
    [
        pytest.param(f"; Expires={SOON}", 300.0, id="expires"),
        pytest.param(f"; Path=/kbs/v0; expires={SOON}; Secure", 300.0, id="among others"),
        pytest.param("; Path=/", None, id="none"),
        pytest.param("; Expires=Fri, 15 Jan 2027 07:00:00 GMT", None, id="over"),
        pytest.param("; Expires=tomorrow", None, id="no date"),
        pytest.param("; Expires", None, id="no value"),
    ],
)
def test_cookie_lives_until_it_expires(attributes: str, seconds: float | None) -> None:
    cookie = parse_session_cookie(reply(200, b"", ("set-cookie", "kbs-session-id=a" + attributes)))
    assert cookie.seconds == seconds
    assert "value" not in repr(cookie)


def token(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"header.{payload}.signature"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param(token({"exp": DATE + 60}), 60.0, id="exp"),
        pytest.param(token({"exp": DATE}), None, id="over"),
        pytest.param(token({"exp": str(DATE + 60)}), None, id="text"),
        pytest.param(token({"exp": True}), None, id="boolean"),
        pytest.param(token({"exp": 1e300}), None, id="float"),
        pytest.param(token({}), None, id="no exp"),
        pytest.param(token([]), None, id="no claims"),
        pytest.param("header.claims.signature", None, id="opaque"),
        pytest.param("opaque", None, id="no dots"),
    ],
)
def test_token_lives_until_exp_as_far_as_that_can_be_read(text: str, seconds: float | None) -> None:
    assert token_seconds(text, DATE) == seconds
    assert token_seconds(text, None) is None


def test_usable_time_is_the_shortest_life_less_a_reserve() -> None:
    assert usable_seconds(None, None) is None
    assert usable_seconds(300.0, None) == 290.0
    assert usable_seconds(300.0, 100.0) == 90.0
    assert usable_seconds(6.0, 100.0) == 3.0
