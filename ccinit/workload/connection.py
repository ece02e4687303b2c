"""One container's connection from its first byte to its end: the child's only work.

The container may be hostile or unresponsive: it gets ten seconds for its request and thirty to take
the reply. One connection carries one request.
"""

import os
import select
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from ccinit.errors import DeadlineError, PeerError, errno_text
from ccinit.formats.planes.http_request import HttpRequest, HttpRequestError, HttpRequestReader
from ccinit.formats.planes.workload_api import WorkloadCall, parse_call
from ccinit.kernel.clock import boottime
from ccinit.workload.messages import MediaType, WorkloadAnswer

REQUEST_SECONDS: Final = 10.0
REPLY_SECONDS: Final = 30.0
_CHUNK_BYTES: Final = 16 * 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

Carry = Callable[[WorkloadCall], WorkloadAnswer]
"""Has PID 1 carry out a call."""


def serve(descriptor: int, carry: Carry) -> None:
    """Serve one request on a connected socket that does not block.

    Raises:
        PeerError: `workload.closed`, the container went away.
        DeadlineError: `workload.request`, `workload.reply`.
    """
    try:
        answer = carry(parse_call(_read_request(descriptor)))
    except HttpRequestError as error:
        text = f"{error.reason}: {error.detail}\n".encode()
        answer = WorkloadAnswer(status=error.status, media_type=MediaType.TEXT, body=text)
    _write(descriptor, encode_reply(answer), boottime() + REPLY_SECONDS, "workload.reply")


def encode_reply(answer: WorkloadAnswer) -> bytes:
    """Return a whole HTTP/1.1 reply; it ends the connection."""
    phrase = HTTPStatus(answer.status).phrase
    head = (
        f"HTTP/1.1 {answer.status} {phrase}\r\n"
        f"Content-Type: {answer.media_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + answer.body


def _read_request(descriptor: int) -> HttpRequest:
    reader, end = HttpRequestReader(), boottime() + REQUEST_SECONDS
    told = False
    while True:
        _wait(descriptor, select.POLLIN, end, "workload.request")
        try:
            data = os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            continue
        except OSError as error:
            raise PeerError("workload.closed", errno_text(error.errno)) from error
        if not data:
            raise PeerError("workload.closed", "before the end of its request")
        if (request := reader.feed(data)) is not None:
            return request
        if reader.awaits_continue and not told:
            _write(descriptor, _CONTINUE, end, "workload.request")
            told = True


def _write(descriptor: int, data: bytes, end: float, reason: str) -> None:
    while data:
        _wait(descriptor, select.POLLOUT, end, reason)
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            continue
        except OSError as error:
            raise PeerError("workload.closed", errno_text(error.errno)) from error


def _wait(descriptor: int, events: int, end: float, reason: str) -> None:
    poller = select.poll()
    poller.register(descriptor, events)
    left = end - boottime()
    if left <= 0 or not poller.poll(left * 1000):
        raise DeadlineError(reason, "the container stands still")
