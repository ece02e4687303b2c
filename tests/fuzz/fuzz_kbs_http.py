"""Invariant: whatever a stranger writes to the KBS, in any pieces, nothing is raised and no line is
logged; what is asked is what a strict reader of HTTP finds there, up to the first thing that is
none; and what comes back are replies, no more than were asked for and one that ends it.

Run as `python -m tests.fuzz.fuzz_kbs_http [SECONDS [SEED]]`.
"""

import asyncio
import http.client
import io
import logging
import random
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NoReturn

from guest_owner.kbs.http.app import build_app
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.refusal import KbsRefusedError, Variant
from tests.fakes.kbs.http_connection import HttpConnection
from tests.fuzz.mutation import mutate_text
from tests.fuzz.trials import Trials, run

LIMITS = Limits(head_bytes=2048, request_bytes=256, attestation_bytes=256)
GET = b"GET /kbs/v0/resource/a/b/c HTTP/1.1\r\nHost: kbs\r\n"
AUTH = b"POST /kbs/v0/auth HTTP/1.1\r\nHost: kbs\r\n"
ATTEST = b"POST /kbs/v0/attest HTTP/1.1\r\nHost: kbs\r\nCookie: kbs-session-id=a\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
SEEDS = (
    *(GET + b"\r\n", GET + b"Content-Length: 3\r\n\r\nabc", GET + b"Connection: close\r\n\r\n"),
    *(
        AUTH + b"Content-Length: 2\r\n\r\n{}",
        ATTEST + CHUNKED + b"2\r\n{}\r\n1;x=y\r\n \r\n0\r\n\r\n",
    ),
    AUTH + b"Content-Length: 300\r\n\r\n" + b" " * 300,
    AUTH + b"Expect: 100-continue\r\n" + CHUNKED + b"0\r\nTrailer: x\r\n\r\n",
    GET + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
    *(b"GET /healthz HTTP/1.0\r\n\r\n", b"DELETE /kbs/v0/none HTTP/1.1\r\nHost: kbs\r\n\r\n"),
)
NOISE = (
    *(b"Content-Length: 2\r\n", b"Content-Length: 5\r\n", b"content-length:+2\r\n", CHUNKED),
    *(
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"\r\n",
        b"\n",
        b"\r",
    ),
    *(
        b" folded\r\n",
        b"\t",
        b"\0",
        b"\x0b",
        b"\xff",
        b"HTTP/1.1",
        b"HTTP/2.0",
        b"HTTP/1.0",
        b"0\r\n",
    ),
    *(b"Connection: close\r\n", b"Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n"),
    *(b"X: " + b"x" * 2048 + b"\r\n", b"Expect: 100-continue\r\n", b"Host: other\r\n", b"ffffffff"),
    *(b"a: b\r\n" * 200, b"OPTIONS * HTTP/1.1\r\n", b"CONNECT kbs:1 HTTP/1.1\r\n", b"//", b"%2f"),
)
CHUNKS = -1  # in place of a length
_FIELD = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ !-~]*\r\n"
_REQUEST = re.compile(rb"(GET|POST|DELETE) (/[!-~]*) HTTP/1\.1\r\n((?:" + _FIELD + rb")*)\r\n")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})(?:;[!-~]*)?\r\n")
_CALLS = {b"/kbs/v0/auth": "auth", b"/kbs/v0/attest": "attest"}
Asked = tuple[str, bytes]


class Broker:
    """Notes what it is asked, and who asks for a resource gets one."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def resource(self, _cookie: str | None, _bearer: str | None, path: str) -> bytes:
        self.asked.append(("resource", path.encode()))
        return b"{}"

    def authenticate(self, body: bytes) -> NoReturn:
        self.asked.append(("auth", body))
        raise KbsRefusedError(Variant.ATTESTATION_ERROR, "refused")

    def attest(self, _cookie: str | None, body: bytes) -> NoReturn:
        self.asked.append(("attest", body))
        raise KbsRefusedError(Variant.ATTESTATION_ERROR, "refused")


class StubService:
    """All that these requests ask of a service."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker


class Front:
    """The HTTP surface, with one connection after another."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._broker = Broker()
        service: Any = StubService(self._broker)
        self._app: Callable[..., Any] = build_app(service, LIMITS)
        self._runner = runner

    def hear(self, pieces: list[bytes]) -> tuple[list[Asked], bytes]:
        """Return what was asked over a connection that brings these bytes, and what came back."""
        self._broker.asked = []
        written = self._runner.run(self._connect(pieces))
        return self._broker.asked, written

    async def _connect(self, pieces: list[bytes]) -> bytes:
        connection = HttpConnection(self._app, LIMITS)
        for piece in filter(None, pieces):  # asyncio makes no call that brings nothing
            await connection.send(piece)
        await connection.lose()
        return connection.transport.written


class Loud(logging.Handler):
    """Takes what the server has to say to its log for a finding."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record)


def strict_requests(data: bytes) -> Iterator[Asked]:
    """Yield what is asked of the broker, up to what is no HTTP, or not beyond doubt."""
    while head := _REQUEST.match(data):
        method, path, fields = head.groups()
        data = data[head.end() :]
        headers = [line.split(b":", 1) for line in fields.split(b"\r\n")[:-1]]
        names = [name.lower() for name, _ in headers]
        values = {name.lower(): value.strip(b" ") for name, value in headers}
        if names.count(b"host") != 1 or len(names) > len(set(names)):
            return
        if len(head.group()) > LIMITS.head_bytes or b"%" in path or b"?" in path:
            return
        length = read_framing(values)
        if length is None:
            return
        if method == b"GET" and path.startswith(b"/kbs/v0/resource/"):
            yield "resource", path.removeprefix(b"/kbs/v0/resource/")
        framed = read_chunks(data) if length == CHUNKS else read_part(data, length)
        if framed is None:
            return
        body, data = framed
        if method == b"POST" and path in _CALLS and len(body) <= LIMITS.request_bytes:
            yield _CALLS[path], body
        if b"connection" in names or b"upgrade" in names:
            return


def read_framing(values: dict[bytes, bytes]) -> int | None:
    """Return a body's length, or that it comes in chunks; None if it is not beyond doubt."""
    length, coding = values.get(b"content-length"), values.get(b"transfer-encoding")
    if coding is not None:
        return CHUNKS if length is None and coding.lower() == b"chunked" else None
    if length is None:
        return 0
    return int(length) if re.fullmatch(rb"[0-9]{1,9}", length) else None


def read_part(data: bytes, length: int) -> tuple[bytes, bytes] | None:
    """Return a body and what follows it; None if it is not whole."""
    return (data[:length], data[length:]) if len(data) >= length else None


def read_chunks(data: bytes) -> tuple[bytes, bytes] | None:
    """Return a body that comes in chunks, and what follows it; None if it is not whole."""
    body = b""
    while size := _CHUNK.match(data):
        count, data = int(size.group(1), 16), data[size.end() :]
        if not count:
            return (body, data[2:]) if data.startswith(b"\r\n") else None
        if data[count : count + 2] != b"\r\n":
            return None
        body, data = body + data[:count], data[count + 2 :]
    return None


class Written(io.BytesIO):
    """What came back, as `http.client` wants it: reply after reply of one connection."""

    def makefile(self, *_: object) -> "Written":
        return self

    def close(self) -> None:
        """There may be another reply."""


def read_replies(written: bytes) -> list[int]:
    """Return the statuses of all replies; all bytes are theirs."""
    stream, statuses = Written(written), []
    while rest := written[stream.tell() :]:
        if rest.startswith(INTERIM):
            stream.seek(len(INTERIM), io.SEEK_CUR)
            continue
        reply = http.client.HTTPResponse(stream, method="GET")  # type: ignore[arg-type]
        reply.begin()
        reply.read()
        statuses.append(reply.status)
    return statuses


def check(source: random.Random, front: Front, data: bytes) -> int:
    """Check one stranger; return how many requests reached the broker."""
    asked, written = front.hear([data])
    cuts = sorted(source.randrange(len(data) + 1) for _ in range(source.randrange(1, 5)))
    other = front.hear([data[a:b] for a, b in pairwise((0, *cuts, len(data)))])[0]
    # A head that comes at once may be larger than one that is waited for.
    assert other == asked or len(data) > LIMITS.head_bytes, (data, cuts, other, asked)
    clean = list(strict_requests(data))
    assert asked[: len(clean)] == clean, (data, asked, clean)
    statuses = read_replies(written)
    assert len(statuses) <= data.count(b"HTTP/") + 1
    assert set(statuses) <= {200, 400, 401, 404, 405, 413, 431}
    return len(asked)


def main(seconds: float, seed: int) -> int:
    """Write to the server for a while; return how often."""
    trials = Trials(seconds, seed)
    loud, asked = Loud(), 0
    logging.getLogger().addHandler(loud)
    try:
        with asyncio.Runner() as runner:
            front = Front(runner)
            for one in SEEDS:
                check(trials.source, front, one)
            for source in trials:
                data = b"".join(source.choices(SEEDS, k=source.randrange(1, 4)))
                asked += check(source, front, mutate_text(source, data, NOISE))
                assert not loud.said, (data, loud.said[0].getMessage(), loud.said[0].exc_info)
    finally:
        logging.getLogger().removeHandler(loud)
    trials.require(asked, one_in=4)
    return trials.count


if __name__ == "__main__":
    run(main)
