"""What is sent, and what of a reply is taken; TLS is in the integration tests."""

import math
import socket
import ssl
from typing import Self

import idna
import pytest

from ccinit.errors import CcinitError, PeerError
from ccinit.net.http import HttpClient, HttpLimits, HttpReply


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


class Exchange:
    """One plain request to `meta.example`, whose reply is there before it is asked for."""

    def __init__(self, reply: bytes, *, stays: bool = False) -> None:
        self._ours, self._server = socket.socketpair()
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._server.sendall(reply)
        if not stays:
            self._server.shutdown(socket.SHUT_WR)
        self.dialled: list[tuple[str, int]] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client = HttpClient(context, dial=self._dial, plain_host="meta.example")

    def _dial(self, host: str, port: int, _seconds: float) -> socket.socket:
        self.dialled.append((host, port))
        return self._ours

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._ours.close()
        self._server.close()

    @property
    def sent(self) -> bytes:
        return self._server.recv(1 << 16)

    def is_open(self) -> bool:
        return self._ours.fileno() >= 0


def reply_of(head: str = "", body: bytes = b"", status: str = "200 OK") -> bytes:
    """A reply with a length, if the head says none."""
    lines = [f"HTTP/1.1 {status}", *head.splitlines()]
    if "Content-Length" not in head:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body


URL = "http://meta.example/a?b=c"


def test_request_has_what_it_was_given_and_says_nothing_about_the_guest() -> None:
    with Exchange(reply_of()) as exchange:
        headers = (("metadata", "true"),)
        assert exchange.client.request("POST", URL, headers=headers, body=b"body").body == b""
        head, _, body = exchange.sent.decode().partition("\r\n\r\n")
    assert exchange.dialled == [("meta.example", 80)]
    first, *fields = head.split("\r\n")
    assert (first, body) == ("POST /a?b=c HTTP/1.1", "body")
    assert {name.lower(): text for name, text in (field.split(": ") for field in fields)} == {
        "host": "meta.example",
        "user-agent": "ccinit",
        "accept": "*/*",
        "accept-encoding": "identity",
        "metadata": "true",
        "content-length": "4",
        "connection": "keep-alive",
    }


def test_download_from_the_middle_names_it_beside_its_own_headers() -> None:
    taken: list[bytes] = []
    head = "Content-Range: bytes 5-9/10"
    with Exchange(reply_of(head, b"56789", "206 Partial Content")) as exchange:
        exchange.client.stream_get(
            URL, headers=(("metadata", "true"),), sink=taken.append, limits=HttpLimits(), offset=5
        )
        lines = exchange.sent.decode().lower().split("\r\n")
    assert {"range: bytes=5-", "metadata: true"} <= set(lines)
    assert taken == [b"56789"]


@pytest.mark.parametrize(
    ("offset", "status", "head"),
    [
        pytest.param(5, "200 OK", "", id="whole"),
        pytest.param(0, "206 Partial Content", "Content-Range: bytes 0-4/10", id="part"),
        pytest.param(5, "206 Partial Content", "", id="some-part"),
        pytest.param(5, "206 Partial Content", "Content-Range: bytes 4-8/10", id="before"),
        pytest.param(5, "206 Partial Content", "Content-Range: bytes 50-54/60", id="behind"),
    ],
)
def test_other_part_than_was_asked_for_is_refused_unread(
    offset: int, status: str, head: str
) -> None:
    taken: list[bytes] = []
    with (
        Exchange(reply_of(head, b"56789", status)) as exchange,
        pytest.raises(PeerError) as refused,
    ):
        exchange.client.stream_get(URL, sink=taken.append, limits=HttpLimits(), offset=offset)
    assert (refused.value.reason, taken) == ("net.range", [])


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (reply_of("Content-Encoding: gzip", b"01234"), "net.encoding"),
        (reply_of("", b"0123456789X"), "net.body"),
        (b"HTTP/1.1 200 OK\r\n\r\n01234", "net.unframed"),
    ],
)
def test_download_that_may_not_be_taken_is_refused_unread(reply: bytes, reason: str) -> None:
    taken: list[bytes] = []
    limits = HttpLimits(max_body_bytes=10)
    with Exchange(reply_of("", b"0123456789")) as exchange:
        exchange.client.stream_get(URL, sink=taken.append, limits=limits)
        assert b"".join(taken) == b"0123456789"
    taken.clear()
    with Exchange(reply) as exchange, pytest.raises(CcinitError) as refused:
        exchange.client.stream_get(URL, sink=taken.append, limits=limits)
    assert (refused.value.reason, taken) == (reason, [])


@pytest.mark.parametrize("status", ["101 Switching Protocols", "600 Whatever"])
def test_status_that_is_no_answer_is_refused(status: str) -> None:
    with Exchange(reply_of(status="599 Whatever")) as exchange:
        assert exchange.client.request("GET", URL).status == 599
    with Exchange(reply_of(status=status)) as exchange, pytest.raises(PeerError) as refused:
        exchange.client.request("GET", URL)
    assert refused.value.reason == "net.protocol"


def test_connection_stays_for_the_next_request_unless_its_reply_was_left_unread() -> None:
    with Exchange(reply_of("", b"0123456789"), stays=True) as exchange:
        exchange.client.request("GET", URL, limits=LIMITS)
        assert exchange.is_open()
        exchange.client.close()
        assert not exchange.is_open()
    with Exchange(reply_of("", b"0123456789X"), stays=True) as exchange:
        with pytest.raises(CcinitError, match=r"net\.body"):
            exchange.client.request("GET", URL, limits=LIMITS)
        assert not exchange.is_open()


def test_of_a_reply_only_the_headers_that_somebody_reads_are_kept() -> None:
    head = "Server: x\nContent-Type: text/plain\nDate: Sun, 06 Nov 1994 08:49:37 GMT"
    with Exchange(reply_of(head, b"body")) as exchange:
        reply = exchange.client.request("GET", URL)
    assert reply.headers == (("content-type", "text/plain"),)
    assert (reply.date, reply.body) == (784_111_777, b"body")


UNREAD = (
    "Set-Cookie: a=b; Expires=Thu, 26 Noh 2026 12:00:00 GMT",
    "Location: /v2/elsewhere",
    "Location: https://store.example/a",
    "Location: https://xn--mnchen-3ya.example/a",
    "Location: https://xn--a/",
    "Location: https://[::1/",
    "Location: https://store.example:99999/",
    "Location: blob:x",
)


@pytest.mark.parametrize("status", ["200 OK", "301 x", "302 x", "303 x", "307 x", "308 x"])
@pytest.mark.parametrize("head", UNREAD)
def test_header_that_another_client_would_act_on_is_handed_on_unread(
    head: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idna, "decode", None)  # a child cannot load what that needs
    name, _, text = head.partition(": ")
    with Exchange(reply_of(head, status=status)) as exchange:
        assert exchange.client.request("GET", URL).header_values(name.lower()) == (text,)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_reply_that_has_no_body_needs_no_length(status: str) -> None:
    with Exchange(f"HTTP/1.1 {status}\r\n\r\n".encode()) as exchange:
        assert exchange.client.request("GET", URL).status == int(status[:3])


LIMITS = HttpLimits(max_body_bytes=10, max_header_bytes=50)
WHOLE = len("Content-Length" + "10")


def test_reply_at_its_caps_is_read() -> None:
    filling = "X: " + "x" * (LIMITS.max_header_bytes - WHOLE - 1)
    with Exchange(reply_of(filling, b"0123456789")) as exchange:
        assert exchange.client.request("GET", URL, limits=LIMITS).body == b"0123456789"


CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (reply_of("X: " + "x" * (LIMITS.max_header_bytes - WHOLE), b"0123456789"), "net.headers"),
        (reply_of("", b"0123456789X"), "net.body"),
        (reply_of("Content-Length: 0000000000000005", b"01234"), "net.body"),
        (f"{CHUNKED}6\r\n567890\r\n0\r\n\r\n".encode(), "net.body"),
        (b"HTTP/1.1 200 OK\r\n\r\nbody", "net.unframed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n0", "net.truncated"),
        (b"", "net.closed"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "net.protocol"),
    ],
)
def test_reply_beyond_a_cap_or_without_an_end_is_refused(reply: bytes, reason: str) -> None:
    with Exchange(reply) as exchange, pytest.raises(CcinitError) as refused:
        exchange.client.request("GET", URL, limits=LIMITS)
    assert refused.value.reason == reason


@pytest.mark.parametrize("coding", ["", "identity", "Identity", "aws-chunked", "AWS-chunked,"])
def test_coding_that_changes_no_byte_is_none(coding: str) -> None:
    with Exchange(reply_of(f"Content-Encoding: {coding}", b"body")) as exchange:
        assert exchange.client.request("GET", URL).body == b"body"


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "aws-chunked, gzip", "gzip,aws-chunked", "-"])
def test_coding_that_was_not_asked_for_is_refused(coding: str) -> None:
    head = f"Content-Encoding: {coding}"
    with Exchange(reply_of(head, b"body")) as exchange, pytest.raises(CcinitError) as refused:
        exchange.client.request("GET", URL)
    assert refused.value.reason == "net.encoding"


def test_chunks_up_to_the_cap_are_read() -> None:
    with Exchange(f"{CHUNKED}5\r\n56789\r\n0\r\n\r\n".encode()) as exchange:
        assert exchange.client.request("GET", URL, limits=LIMITS).body == b"0123456789"


@pytest.mark.parametrize(("size", "is_read"), [(64 << 10, True), ((64 << 10) + 1, False)])
def test_page_that_refuses_a_download_has_a_cap_of_its_own(size: int, *, is_read: bool) -> None:
    """However large the download may be."""
    taken: list[bytes] = []
    limits = HttpLimits(max_body_bytes=1 << 30)
    with Exchange(reply_of("", b"x" * size, "404 Not Found")) as exchange:
        reply = exchange.client.stream_get(URL, sink=taken.append, limits=limits)
    assert (reply.status, reply.body) == (404, b"x" * size if is_read else b"")
    assert taken == []


BUSY = "HTTP/1.1 503 x\r\nRetry-After: 7\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        "\r\n<html>busy</html>",
        "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        "Content-Length: 11\r\n\r\n<html>busy<",
        "Content-Length: 9999999999999999\r\n\r\n<html>",
        "Transfer-Encoding: chunked\r\n\r\n6\r\n<html>\r\n6\r\n<html>\r\n0\r\n\r\n",
    ],
)
def test_refusal_whose_body_may_not_be_taken_counts_by_its_status(rest: str) -> None:
    """As a load balancer's page; a success would be refused for it."""
    with Exchange((BUSY + rest).encode()) as exchange:
        reply = exchange.client.request("GET", URL, limits=LIMITS)
    assert (reply.status, reply.retry_after_seconds, reply.body) == (503, 7.0, b"")
    success = (BUSY + rest).replace("503 x", "200 OK").encode()
    with Exchange(success) as exchange, pytest.raises(CcinitError) as refused:
        exchange.client.request("GET", URL, limits=LIMITS)
    assert refused.value.reason in {"net.unframed", "net.encoding", "net.body"}


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ("Content-Length: 10\r\n\r\n<html", "net.truncated"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "net.unframed"),
        (f"X: {'x' * 70_000}\r\n\r\n", "net.headers"),
    ],
)
def test_refusal_that_is_broken_is_none(rest: str, reason: str) -> None:
    with Exchange((BUSY + rest).encode()) as exchange, pytest.raises(CcinitError) as refused:
        exchange.client.request("GET", URL)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "url",
    [
        "https://meta.example/",
        "http://other.example/",
        "http://meta.example/#part",
        "http://user@meta.example/",
        "http:///",
        "https:///",
        "http://meta.example:x/",
    ],
)
def test_url_of_another_kind_reaches_nobody(url: str) -> None:
    with Exchange(reply_of()) as exchange:
        with pytest.raises(PeerError) as refused:
            exchange.client.request("GET", url)
        assert refused.value.reason == "net.url"
        assert exchange.dialled == []
        assert exchange.client.request("GET", URL).status == 200


@pytest.mark.parametrize(("port", "named"), [("", 80), (":8080", 8080)])
def test_error_names_the_port_that_was_asked(port: str, named: int) -> None:
    with Exchange(b"no HTTP\r\n\r\n") as exchange, pytest.raises(PeerError) as refused:
        exchange.client.request("GET", f"http://meta.example{port}/")
    assert exchange.dialled == [("meta.example", named)]
    assert refused.value.detail.startswith(f"meta.example:{named}: ")


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
