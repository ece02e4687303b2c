"""Dates, and the limits' own values; what crosses a socket is in the integration tests."""

import math
import socket
import ssl

import idna
import pytest

from ccinit.errors import PeerError
from ccinit.net.http import HttpClient, HttpLimits, HttpReply, parse_http_date


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Tue, 19 Jan 2038 03:14:08 GMT", 2**31),
        ("Sat, 31 Dec 2016 23:59:59 GMT", 1_483_228_799),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
        ("Sun, 01 Jan 2017 00:00:00 GMT", 1_483_228_800),
    ],
)
def test_date_is_seconds(text: str, seconds: int) -> None:
    assert parse_http_date(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Mon, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 36 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 31 Dec 2016 23:59:60 GMT",
        "Sat, 31 Dec 2016 23:59:61 GMT",
        "Sat, 31 Dec 2016 23:58:60 GMT",
        "Sat, 31 Dec 2016 22:59:60 GMT",
        "Sun, 06 Xxx 1994 08:49:37 GMT",
        "sun, 06 nov 1994 08:49:37 GMT",
        "x" * 25 + " GMT",
        "Sun, 06 Nov 199٤ 08:49:37 GMT",
        "Fri, 31 Dec 9999 24:00:00 GMT",
    ],
)
def test_other_text_is_no_date(text: str | None) -> None:
    assert parse_http_date(text) is None


@pytest.mark.parametrize("host", ["xn--mnchen-3ya.example", "xn--999999999.example"])
def test_name_in_idna_is_looked_up_as_it_is_written(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def nobody_answers(host: str, _port: int, _seconds: float) -> socket.socket:
        asked.append(host)
        raise ConnectionRefusedError

    # Both need a codec, and a child that speaks HTTP cannot load modules any more.
    monkeypatch.setattr(idna, "decode", None)
    monkeypatch.setattr(idna, "encode", None)
    with HttpClient(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), dial=nobody_answers) as client:
        with pytest.raises(PeerError) as refused:
            client.request("GET", f"https://{host}/")
        assert refused.value.reason == "net.unreachable"
        with pytest.raises(PeerError) as refused:
            client.request("GET", "https://m\u00fcnchen.example/")
        assert refused.value.reason == "net.url"
    assert asked == [host]


def test_cookie_is_handed_on_unread() -> None:
    cookie = "a=b; Expires=Thu, 26 Noh 2026 12:00:00 GMT"
    client_end, server = socket.socketpair()
    server.sendall(f"HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\nContent-Length: 0\r\n\r\n".encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with (
        server,
        HttpClient(context, dial=lambda *_: client_end, plain_host="meta.example") as client,
    ):
        reply = client.request("GET", "http://meta.example/")
    assert reply.header_values("set-cookie") == (cookie,)


def test_reply_shows_its_first_header_and_hides_its_body() -> None:
    reply = HttpReply(status=200, headers=(("link", "a"), ("link", "b")), body=b"secret", date=None)
    assert reply.header("link") == "a"
    assert reply.header("location") is None
    assert "secret" not in repr(reply)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("100000", 100_000.0),
        ("9" * 400, math.inf),
        ("Wed, 21 Oct 2026 07:28:09 GMT", 9.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_or_nothing(
    text: str | None, seconds: float | None
) -> None:
    headers = () if text is None else (("retry-after", text),)
    reply = HttpReply(status=503, headers=headers, body=b"", date=1_792_567_680)
    assert reply.retry_after_seconds == seconds


def test_date_to_come_back_at_says_nothing_without_the_date_of_the_reply() -> None:
    headers = (("retry-after", "Wed, 21 Oct 2026 07:28:09 GMT"),)
    assert HttpReply(status=503, headers=headers, body=b"", date=None).retry_after_seconds is None


def test_default_limits_are_those_of_a_kbs_reply() -> None:
    assert HttpLimits().max_body_bytes == 1 << 20
    assert HttpLimits().max_header_bytes == 64 << 10
