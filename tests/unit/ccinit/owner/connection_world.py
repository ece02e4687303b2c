"""One client's connection over a socket pair, and what PID 1 is asked to carry out."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from ccinit.errors import DeadlineError
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import METHODS
from ccinit.formats.planes.owner_wire import (
    MessageReader,
    encode_request,
    encode_result,
)
from ccinit.owner.connection import Connection, ConnectionLimits
from ccinit.owner.messages import CallAnswer, CallEnd
from ccinit.owner.session import Call
from tests.unit.ccinit.owner.plain_tls import PlainTls

LARGE = encode_result(METHODS["metrics"], (bytes(32 << 10),))
REFUSED = CallEnd(code=RpcError.DENIED, reason="owner.allow", detail="no")


class World:
    """A connection, and what PID 1 is asked to carry out."""

    def __init__(self) -> None:
        self.client, self.guest = socket.socketpair()
        os.set_blocking(self.client.fileno(), False)
        self.tls = PlainTls(self.client)
        self.carried: list[str] = []
        self.received = bytearray()
        self.answer: tuple[CallAnswer, tuple[int, ...]] = (CallAnswer(end=REFUSED), ())
        self.limits: dict[str, Any] = {"message_seconds": 60.0}

    def connection(self) -> Connection:
        unencrypted: Any = self.tls
        limits = ConnectionLimits(**self.limits)
        return Connection(self.guest.fileno(), unencrypted, self.carry, limits)

    def carry(
        self, call: Call, wait_for: Callable[[int], None]
    ) -> tuple[CallAnswer, tuple[int, ...]]:
        self.carried.append(call.method.name)
        self.wait(wait_for)
        return self.answer

    def wait(self, wait_for: Callable[[int], None]) -> None:
        """Wait for PID 1, which answers at once."""

    def serve(self) -> None:
        self.tls.start()
        self.connection().serve()

    def deadline(self) -> str:
        with pytest.raises(DeadlineError) as passed:
            self.serve()
        return passed.value.reason

    def take(self, most: int = 1 << 20) -> None:
        with suppress(BlockingIOError):
            self.received += self.client.recv(most)

    def replies(self) -> list[object]:
        self.take()
        return list(MessageReader(of_guest=False).feed(bytes(self.received)))


def request(msgid: int = 1, method: str = "metrics", *params: Any) -> bytes:
    return encode_request(msgid, method, params)
