"""The workload API's port: who is calling, how many at once, and one child for each connection.

The caller is the container in whose cgroup the client's socket was created; the kernel tells this
before a byte is read. Without a match the reply is 403. Each container has a few connections at a
time and cannot use up those of others.
"""

import socket
from collections import Counter
from typing import Final

from ccinit.agent.guest import Guest
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.planes.workload_service import SOURCE, WorkloadService
from ccinit.agent.processes.channel import printable
from ccinit.agent.processes.roles import Role
from ccinit.agent.teardown import undoing
from ccinit.errors import CcinitError, KernelError, as_known
from ccinit.formats.planes.ports import WORKLOAD_PORT
from ccinit.kernel.event_loop import TaskGroup, at_most, readable
from ccinit.kernel.listener import accept, listen_loopback, reserve_loopback6
from ccinit.kernel.sock_diag import Address, find_cgroup_id, is_established
from ccinit.workload.messages import WorkloadEnd, WorkloadRequest

MAX_CONNECTIONS: Final = 16
MAX_CONNECTIONS_EACH: Final = 2
_SPARE_SECONDS: Final = 350.0
"""A connection's time beyond attestations.

It covers request and reply, the connection's own evidence, and waiting its turn, first among
containers and then among all that need evidence.
"""
_REFUSAL_SECONDS: Final = 1.0
_REFUSAL_BYTES: Final = 64 * 1024
_FORBIDDEN: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def open_workload_api(
    guest: Guest, configured: Configured, attested: Attested, port: int = WORKLOAD_PORT
) -> None:
    """Bind the port and serve it from now on.

    The same port of ::1 is occupied, too: clients that connect to `localhost` may try that address
    first, and a container listening there could pose as this API.

    Raises:
        KernelError: the port cannot be bound.
    """
    holder = reserve_loopback6(port)
    if holder is not None:
        guest.teardown.push("workload API's other port", undoing(holder.close))
    service = WorkloadService(guest=guest, configured=configured, attested=attested)
    # Twice, since one handshake may wait for another, and an unreachable KBS uses up the whole
    # time; a call that would wait longer is refused by the service.
    seconds = 2 * configured.config.limits.attest_seconds + _SPARE_SECONDS
    plane = WorkloadPlane(guest, service, seconds)
    task = guest.loop.start(plane.serve(listen_loopback(port)), "workload API")
    guest.teardown.push("workload API", task.stop)


class WorkloadPlane:
    """All connections of containers."""

    def __init__(self, guest: Guest, service: WorkloadService, seconds: float) -> None:
        """Args: seconds: how long one connection may last."""
        self._guest = guest
        self._service = service
        self._seconds = seconds
        self._connections: Counter[str] = Counter()
        self._turned_away = 0

    async def serve(self, listener: socket.socket) -> None:
        """Serve until cancelled; closes the listener."""
        with listener:
            async with TaskGroup() as group:
                while True:
                    connection, client = await accept(listener)
                    self._take(group, connection, client)

    def _take(self, group: TaskGroup, connection: socket.socket, client: object) -> None:
        name = self._find_caller(connection, client)
        if name is None:
            self._turn_away(group, connection, _FORBIDDEN)
        elif self._is_full(name):
            self._turn_away(group, connection, _BUSY)
        else:
            self._connections[name] += 1
            group.start(self._attend(connection, name), f"workload {name}")

    def _is_full(self, name: str) -> bool:
        return (
            self._connections[name] >= MAX_CONNECTIONS_EACH
            or self._connections.total() >= MAX_CONNECTIONS
        )

    def _find_caller(self, connection: socket.socket, client: object) -> str | None:
        """Return the container that made the client's socket.

        Our own end is checked last: while it is intact, nobody else can have the client's port, so
        the answer was about the socket whose bytes will be read here.
        """
        match client:
            case (str(address), int(port)):
                peer: Address = (address, port)
            case _:
                return None
        try:
            group = find_cgroup_id(peer, connection.getsockname())
            if group is None or not is_established(connection):
                return None
        except OSError as error:
            self._guest.event(f"workload: caller unknown: {error}", SOURCE)
            return None
        return next(
            (name for name in self._guest.containers if self._group_of(name) == group), None
        )

    def _group_of(self, name: str) -> int | None:
        try:
            return self._guest.containers[name].cgroup.id()
        except KernelError:
            return None  # it is not running

    def _turn_away(self, group: TaskGroup, connection: socket.socket, reply: bytes) -> None:
        """Send a fixed reply, to a few connections at a time; others are closed."""
        if self._turned_away >= MAX_CONNECTIONS:
            connection.close()
            return
        self._turned_away += 1
        group.start(self._say(connection, reply), "workload turned away")

    async def _say(self, connection: socket.socket, reply: bytes) -> None:
        """Send, then drain for a moment: closing with unread bytes would reset the connection."""
        try:
            with connection:
                connection.send(reply)
                connection.shutdown(socket.SHUT_WR)
                async with at_most(_REFUSAL_SECONDS):
                    await _drain(connection)
        except OSError:
            return
        finally:
            self._turned_away -= 1

    async def _attend(self, connection: socket.socket, name: str) -> None:
        """Serve one connection to its end; its failures go to the log and affect nothing else."""
        try:
            with connection:
                end = await self._guest.children.run(
                    Role.WORKLOAD,
                    WorkloadRequest(),
                    WorkloadEnd,
                    seconds=self._seconds,
                    fds={"connection": connection.fileno()},
                    answers=self._service.answers(name),
                )
            if end.why:
                self._guest.event(f"workload: {name}: {printable(end.why)}", SOURCE)
        except (CcinitError, OSError) as error:  # a bare OSError is a refusal by the kernel, too
            self._guest.event(f"workload: {name}: {as_known(error)}", SOURCE)
        finally:
            self._connections[name] -= 1


async def _drain(connection: socket.socket) -> None:
    left = _REFUSAL_BYTES
    while left > 0:
        await readable(connection.fileno())
        data = connection.recv(_REFUSAL_BYTES)
        if not data:
            return
        left -= len(data)
