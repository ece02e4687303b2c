"""Moves bytes between vsock and dispatcher, under the host plane's limits.

The peer is hostile. It gets four connections, ten seconds to finish a request that it has begun,
and ten to take a reply; if it breaks the framing, the connection is closed without a word. Peers
other than the host (CID 2), workloads of this guest included, are closed unread.
"""

import socket
from collections.abc import Awaitable, Callable

from ccinit.errors import DeadlineError, FormatError
from ccinit.formats.planes.host_rpc import HOST_CID
from ccinit.formats.planes.msgpack_rpc import RequestReader
from ccinit.kernel.clock import boottime
from ccinit.kernel.event_loop import TaskGroup, deadline, readable, writable
from ccinit.rpc.dispatch import Service, answer
from ccinit.values import frozen

_CHUNK_BYTES = 4096


@frozen
class RpcLimits:
    """Limits of one peer."""

    connections: int = 4
    request_seconds: float = 10.0
    reply_seconds: float = 10.0


Accept = Callable[[], Awaitable[tuple[socket.socket, int]]]


async def serve(accept: Accept, service: Service, limits: RpcLimits) -> None:
    """Serve until cancelled.

    Args:
        accept: waits for one connection; returns it (non-blocking) with the peer's CID.
        service: answers the calls.
        limits: caps for each peer and for all together.
    """
    open_connections = 0

    async def handle(connection: socket.socket) -> None:
        nonlocal open_connections
        try:
            await _serve_connection(connection, service, limits)
        except (FormatError, DeadlineError, OSError):
            pass  # a peer that breaks the protocol learns nothing from it
        finally:
            open_connections -= 1
            connection.close()

    async with TaskGroup() as group:
        while True:
            connection, cid = await accept()
            if cid != HOST_CID or open_connections == limits.connections:
                connection.close()
                continue
            open_connections += 1
            group.start(handle(connection), "rpc")


async def _serve_connection(connection: socket.socket, service: Service, limits: RpcLimits) -> None:
    reader, begun = RequestReader(), 0.0
    while data := await _receive(connection, reader, begun + limits.request_seconds):
        if not reader.unfinished:
            begun = boottime()
        for request in reader.feed(data):
            reply = await answer(request, service)
            async with deadline(limits.reply_seconds, "rpc.reply"):
                await _send(connection, reply.data)
            if reply.hands_over:
                if not reader.unfinished:  # bytes sent before our reply belong to no stream
                    service.take_over(connection.dup())
                return
            begun = boottime()  # for a request whose beginning came along


async def _receive(connection: socket.socket, reader: RequestReader, end: float) -> bytes:
    """Wait for bytes; once a request has begun, only until `end`."""
    if not reader.unfinished:
        await readable(connection.fileno())
        return connection.recv(_CHUNK_BYTES)
    async with deadline(end - boottime(), "rpc.request"):
        await readable(connection.fileno())
    return connection.recv(_CHUNK_BYTES)


async def _send(connection: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        await writable(connection.fileno())
        view = view[connection.send(view) :]
