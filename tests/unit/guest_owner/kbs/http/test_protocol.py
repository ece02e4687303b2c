"""The HTTP of one connection to the KBS: what a stranger brings that is none, at which moment."""

import asyncio
from typing import Any

import pytest

from guest_owner.kbs.limits import Limits
from tests.fakes.kbs.http_connection import HttpConnection

HEAD = b"POST / HTTP/1.1\r\nHost: kbs\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b"2\r\n{}\r\n0\r\n\r\n"
NO_CHUNK = b"ZZ\r\n"
TWO_LENGTHS = HEAD.replace(b"\r\n\r\n", b"\r\ncontent-LENGTH: 5\r\n\r\n")
OK, BAD = b"HTTP/1.1 200 ", b"HTTP/1.1 400 "


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer without a look at the body, as to a path that there is not."""
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def answer_in_parts(_scope: Any, receive: Any, send: Any) -> None:
    """Begin an answer, and end it when the body is whole or its sender gone."""
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    )
    while (message := await receive())["type"] == "http.request" and message["more_body"]:
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def hear(app: Any, *pieces: bytes) -> bytes:
    """Return what a server with this application answers to a client who sends these pieces."""

    async def connect() -> bytes:
        connection = HttpConnection(app, Limits())
        for piece in pieces:
            await connection.send(piece)
        await connection.lose()
        return connection.transport.written

    return asyncio.run(connect())


@pytest.mark.parametrize("app", [answer, answer_in_parts])
@pytest.mark.parametrize("pieces", [(HEAD + BODY,), (HEAD, BODY), (HEAD + BODY, HEAD, BODY)])
def test_requests_are_answered(app: Any, pieces: tuple[bytes, ...]) -> None:
    assert hear(app, *pieces).count(OK) == b"".join(pieces).count(HEAD)


@pytest.mark.parametrize(
    ("app", "pieces", "begins"),
    [
        (answer, (NO_CHUNK + b"\r\n",), BAD),
        (answer, (HEAD + NO_CHUNK,), BAD),  # while the answer is made
        (answer, (HEAD, NO_CHUNK), OK),  # behind the answer
        (answer, (HEAD + BODY, NO_CHUNK + b"\r\n"), OK),
        (answer_in_parts, (HEAD, NO_CHUNK), OK),  # within the answer
        (answer, (TWO_LENGTHS,), BAD),
        (answer, (TWO_LENGTHS + BODY + HEAD + BODY,), BAD),
        (answer_in_parts, (HEAD + BODY + TWO_LENGTHS, BODY), OK),
        (answer, (HEAD.replace(b"1.1", b"1.0", 1), NO_CHUNK), OK),  # the connection has been closed
    ],
)
def test_what_is_no_http_ends_the_connection_without_a_word_in_the_log(
    app: Any, pieces: tuple[bytes, ...], begins: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    heard = hear(app, *pieces)
    assert heard.startswith(begins)
    assert heard.count(OK) <= 1
    assert not caplog.records
