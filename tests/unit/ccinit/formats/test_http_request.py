import pytest

from ccinit.formats import http_request
from ccinit.formats.http_request import (
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
    reader.feed(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
    assert [reader.feed(b"x") for _ in range(999)] == [None] * 999
    found = reader.feed(b"x")
    assert found is not None
    assert found.body == b"x" * 1000
    assert len(lines) == 2  # the request line and one header


def test_end_of_a_head_is_found_where_it_is_cut() -> None:
    for at in range(1, len(GOOD)):
        reader = HttpRequestReader()
        assert reader.feed(GOOD[:at]) is None
        assert reader.feed(GOOD[at:]) == READ


def test_what_follows_a_request_is_not_part_of_it() -> None:
    assert read(GOOD + b"GET / HTTP/1.1\r\n\r\n") == READ


@pytest.mark.parametrize(
    ("status", "reason", "data"),
    [
        (400, "http.line", b"GET /\r\n\r\n"),
        (400, "http.line", b"GET  / HTTP/1.1\r\n\r\n"),
        (400, "http.line", b"GET / HTTP/2\r\n\r\n"),
        (400, "http.method", b"get / HTTP/1.1\r\n\r\n"),
        (400, "http.method", b"ABCDEFGHIJKLMNOPQ / HTTP/1.1\r\n\r\n"),
        (400, "http.target", b"GET http://localhost/ HTTP/1.1\r\n\r\n"),
        (400, "http.target", b"GET /a#b HTTP/1.1\r\n\r\n"),
        (400, "http.query", b"GET /?a HTTP/1.1\r\n\r\n"),
        (400, "http.query", b"GET /?a=1&a=2 HTTP/1.1\r\n\r\n"),
        (400, "http.query", b"GET /?a=%ff HTTP/1.1\r\n\r\n"),
        (
            400,
            "http.query",
            b"GET /?" + b"&".join(b"%d=1" % n for n in range(9)) + b" HTTP/1.1\r\n\r\n",
        ),
        (400, "http.header", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"),
        (400, "http.header", b"GET / HTTP/1.1\r\nA: b\r\n folded: c\r\n\r\n"),
        (400, "http.header", b"GET / HTTP/1.1\r\nA : b\r\n\r\n"),
        (400, "http.characters", b"GET / HTTP/1.1\r\nA: \0\r\n\r\n"),
        (400, "http.characters", b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n"),
        (400, "http.length", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        (400, "http.length", b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
        (411, "http.length", b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (413, "http.body", b"GET / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)),
        (431, "http.head", b"GET /" + b"a" * MAX_HEAD_BYTES),
        (431, "http.headers", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 65 + b"\r\n"),
    ],
)
def test_what_is_no_small_plain_request_is_refused(status: int, reason: str, data: bytes) -> None:
    with pytest.raises(HttpRequestError) as caught:
        read(data)
    assert (caught.value.status, caught.value.reason) == (status, reason)


def test_body_of_the_largest_length_is_read() -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % MAX_BODY_BYTES
    found = read(head + bytes(MAX_BODY_BYTES))
    assert found is not None
    assert len(found.body) == MAX_BODY_BYTES
