"""The KBS's HTTP surface without its broker: what of a request reaches that."""

import asyncio
from typing import Any

import pytest

from guest_owner.kbs.http.app import build_app
from guest_owner.kbs.limits import Limits
from tests.fakes.kbs.http_connection import HttpConnection

COOKIE = "0123456789abcdef0123456789abcdef"
OCTAL = "".join(f"\\{ord(letter):03o}" for letter in COOKIE)


class Broker:
    """Notes whose cookie came."""

    def __init__(self) -> None:
        self.cookies: list[str | None] = []

    def resource(self, cookie: str | None, _bearer: str | None, _path: str) -> bytes:
        self.cookies.append(cookie)
        return b"{}"


class StubService:
    """All that a resource's request asks of a service."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker


def cookie_of(*headers: str) -> str | None:
    """Return the cookie that the broker gets of a request with these headers."""
    broker = Broker()
    service: Any = StubService(broker)
    app = build_app(service, Limits())
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/kbs/v0/resource/a/b/c",
        "query_string": b"",
        "headers": [(b"cookie", header.encode("latin-1")) for header in headers],
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 200))

    asyncio.run(app(scope, receive, send))
    assert set(statuses) == {200}
    (cookie,) = broker.cookies
    return cookie


@pytest.mark.parametrize(
    "headers",
    [
        (f"kbs-session-id={COOKIE}",),
        (f"a=b; kbs-session-id={COOKIE};c",),
        (f" kbs-session-id = {COOKIE} ; d=kbs-session-id=x",),
        ("a=b", f"kbs-session-id={COOKIE}"),
        (f"kbs-session-id=x; kbs-session-id={COOKIE}",),
    ],
)
def test_cookie_is_found_among_others(headers: tuple[str, ...]) -> None:
    assert cookie_of(*headers) == COOKIE


@pytest.mark.parametrize("headers", [(), ("",), ("kbs-session-id",), (f"x{COOKIE}; =y",)])
def test_request_without_the_cookie_has_none(headers: tuple[str, ...]) -> None:
    assert not cookie_of(*headers)


def test_cookie_is_not_unquoted() -> None:
    # Python's way to do that takes half a minute for one head: see `guest_owner.kbs.http.app`.
    assert cookie_of(f'kbs-session-id="{OCTAL}"') == f'"{OCTAL}"'


@pytest.mark.parametrize("name", [b"X: ", b"Cookie: "])
def test_head_over_its_cap_is_refused_however_it_comes(name: bytes) -> None:
    """In one read and in two: the library sees a cap in the second alone."""
    limits = Limits(head_bytes=2048)

    async def ask(*pieces: bytes) -> bytes:
        service: Any = StubService(Broker())
        connection = HttpConnection(build_app(service, limits), limits)
        for piece in pieces:
            await connection.send(piece)
        await connection.lose()
        return connection.transport.written.split(b"\r\n")[0]

    def head(value_bytes: int) -> bytes:
        line = b"GET /kbs/v0/resource/a/b/c HTTP/1.1\r\nHost: kbs\r\n"
        return line + name + b"x" * value_bytes + b"\r\n\r\n"

    small, large = head(1900), head(2048)
    assert asyncio.run(ask(small)) == b"HTTP/1.1 200 OK"
    assert asyncio.run(ask(small[:-2], small[-2:])) == b"HTTP/1.1 200 OK"
    assert asyncio.run(ask(large)).startswith(b"HTTP/1.1 431 ")
    assert asyncio.run(ask(large[:-2], large[-2:])).startswith(b"HTTP/1.1 400 ")
