import pytest

from ccinit.formats.planes import http_request
from ccinit.formats.planes.http_request import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    HttpRequest,
    HttpRequestError,
    HttpRequestReader,
)

GOOD = (
    b"POST /aa/aael?a=b%20c&d=e+f&g= HTTP/1.1\r\nHost: localhost\r\ncontent-LENGTH: 4\r\n\r\nbody"
)
READ = HttpRequest(
    method="POST", path="/aa/aael", parameters={"a": "b c", "d": "e f", "g": ""}, body=b"body"
)


def read(data: bytes) -> HttpRequest | None:
    return HttpRequestReader().feed(data)


def test_request_is_read_however_it_is_cut() -> None:
    assert read(GOOD) == READ
    reader = HttpRequestReader()
    *early, last = (reader.feed(GOOD[at : at + 1]) for at in range(len(GOOD)))
    assert early == [None] * (len(GOOD) - 1)
    assert last == READ


def test_head_is_read_once_however_its_body_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[bytes] = []

    def count(data: bytes) -> str:
        lines.append(data)
        return data.decode("ascii")

    monkeypatch.setattr(http_request, "_ascii", count)
    reader = HttpRequestReader()
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    assert [reader.feed(b"x") for _ in range(999)] == [None] * 999
    found = reader.feed(b"x")
    assert found is not None
    assert found.body == b"x" * 1000
    assert len(lines) == 3  # the request line and two headers


def test_end_of_a_head_is_found_where_it_is_cut() -> None:
    for at in range(1, len(GOOD)):
        reader = HttpRequestReader()
        assert reader.feed(GOOD[:at]) is None
        assert reader.feed(GOOD[at:]) == READ


def test_what_follows_a_request_is_not_part_of_it() -> None:
    assert read(GOOD + b"GET / HTTP/1.1\r\n\r\n") == READ


H = b" HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("status", "reason", "data"),
    [
        (400, "http.line", b"GET /\r\nHost: localhost\r\n\r\n"),
        (400, "http.line", b"GET  /" + H + b"\r\n"),
        (400, "http.line", b"GET / HTTP/2\r\nHost: localhost\r\n\r\n"),
        (400, "http.method", b"get /" + H + b"\r\n"),
        (400, "http.method", b" /" + H + b"\r\n"),
        (400, "http.method", b"ABCDEFGHIJKLMNOPQ /" + H + b"\r\n"),
        (400, "http.target", b"GET http://localhost/" + H + b"\r\n"),
        (400, "http.target", b"GET /a#b" + H + b"\r\n"),
        (400, "http.target", b"GET /a\tb" + H + b"\r\n"),
        (400, "http.query", b"GET /?a" + H + b"\r\n"),
        (400, "http.query", b"GET /?a=1&a=2" + H + b"\r\n"),
        (400, "http.query", b"GET /?a=%ff" + H + b"\r\n"),
        (400, "http.query", b"GET /?" + b"&".join(b"%d=1" % n for n in range(9)) + H + b"\r\n"),
        (400, "http.header", b"GET /" + H + b"no colon\r\n\r\n"),
        (400, "http.header", b"GET /" + H + b"colonless\r\n\r\n"),
        (400, "http.header", b"GET /" + H + b": nameless\r\n\r\n"),
        (400, "http.header", b"GET /" + H + b"A: b\r\n folded: c\r\n\r\n"),
        (400, "http.header", b"GET /" + H + b"A : b\r\n\r\n"),
        (400, "http.characters", b"GET /" + H + b"A: \0\r\n\r\n"),
        (400, "http.characters", b"GET /" + H + b"A: b\nC: d\r\n\r\n"),
        (400, "http.characters", b"GET /" + H + b"A: \x7f\r\n\r\n"),
        (400, "http.characters", b"GET /\xe4" + H + b"\r\n"),
        (400, "http.length", b"GET /" + H + b"Content-Length: -1\r\n\r\n"),
        (400, "http.length", b"GET /" + H + b"Content-Length: \r\n\r\n"),
        (400, "http.length", b"GET /" + H + b"Content-Length: 000000001\r\n\r\n"),
        (400, "http.length", b"GET /" + H + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n"),
        (411, "http.length", b"GET /" + H + b"Transfer-Encoding: chunked\r\n\r\n"),
        (413, "http.body", b"GET /" + H + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)),
        (431, "http.head", b"GET /" + b"a" * MAX_HEAD_BYTES),
        (431, "http.headers", b"GET /" + H + b"A: b\r\n" * 64 + b"\r\n"),
    ],
)
def test_what_is_no_small_plain_request_is_refused(status: int, reason: str, data: bytes) -> None:
    with pytest.raises(HttpRequestError) as caught:
        read(data)
    assert (caught.value.status, caught.value.reason) == (status, reason)
    assert read(b"GET /" + H + b"A: b\r\n" * 63 + b"\r\n") is not None


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"A: b\r\n",
        b"Host: localhost\r\nHost: localhost\r\n",
        b"Host: localhost\r\nhOST:\r\n",
        b"Host: a b\r\n",
        b"Host: a, b\r\n",
        b"Host: http://a\r\n",
        b"Host: a/b\r\n",
        b"Host: user@a\r\n",
        b"Host: a:b\r\n",
        b"Host: a:1:2\r\n",
        b"Host: [::1\r\n",
        b"Host: []\r\n",
        b"Host: [a.example]\r\n",
        b"Host: [::1]80\r\n",
        b"Host: ::1\r\n",
    ],
)
def test_request_names_one_host(lines: bytes) -> None:
    with pytest.raises(HttpRequestError) as caught:
        read(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    assert (caught.value.status, caught.value.reason) == (400, "http.host")


@pytest.mark.parametrize(
    "value", [b"localhost", b"127.0.0.1:8006", b"a-b.example:", b"[::1]:8006", b"[::1]", b"", b" a"]
)
def test_host_in_any_form_is_read(value: bytes) -> None:
    assert read(b"GET / HTTP/1.1\r\nHost:" + value + b"\r\n\r\n") is not None


def test_old_request_may_be_without_a_host_but_not_have_two() -> None:
    assert read(b"GET / HTTP/1.0\r\n\r\n") is not None
    with pytest.raises(HttpRequestError) as caught:
        read(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n")
    assert (caught.value.status, caught.value.reason) == (400, "http.host")


def test_header_may_hold_any_printable_character_and_tabs() -> None:
    text = bytes(range(0x20, 0x7F))
    found = read(b"GET /" + H + b"A:" + text + b"\r\nContent-Length:\t4 \t\r\n\r\nbody")
    assert found is not None
    assert found.body == b"body"


def test_body_of_the_largest_length_is_read() -> None:
    head = b"POST /" + H + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES
    found = read(head + bytes(MAX_BODY_BYTES))
    assert found is not None
    assert len(found.body) == MAX_BODY_BYTES


EXPECTING = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"


def test_client_awaits_a_word_from_the_end_of_its_head_to_the_first_byte_of_its_body() -> None:
    reader, awaited = HttpRequestReader(), []
    for letter in EXPECTING + b"xy":
        whole = reader.feed(bytes((letter,)))
        awaited.append(reader.awaits_continue)
    assert [at for at, awaits in enumerate(awaited, 1) if awaits] == [len(EXPECTING)]
    assert whole is not None


@pytest.mark.parametrize(
    "data",
    [
        EXPECTING.replace(b"Expect: 100-continue\r\n", b""),
        EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0"),
        EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"100-continue", b"more"),
        EXPECTING + b"x",
    ],
)
def test_client_that_awaits_no_word_is_known(data: bytes) -> None:
    reader = HttpRequestReader()
    assert reader.feed(data) is None
    assert not reader.awaits_continue


def test_expectation_without_a_body_is_none() -> None:
    found = read(EXPECTING.replace(b"Content-Length: 2", b"Content-Length: 0"))
    assert found is not None
    assert found.body == b""


@pytest.mark.parametrize(
    "value", [b"", b"200-ok", b"100-continue, x", b"100-continue\r\nExpect: 100-continue"]
)
def test_expectation_that_is_not_known_is_refused(value: bytes) -> None:
    with pytest.raises(HttpRequestError) as caught:
        read(EXPECTING.replace(b"100-continue", value))
    assert (caught.value.status, caught.value.reason) == (417, "http.expect")
