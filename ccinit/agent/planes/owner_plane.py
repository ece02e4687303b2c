"""The owner plane: a TCP port of the pod, and one child for each connection.

TLS ends in the child, which has the socket and a copy of the guest's TLS identity and nothing else.
A connection may also come through the host's `relay`, and is then treated the same: the host only
passes bytes. Each connection keeps the identity that it began with, even if new ones show another.

Unknown clients cannot crowd out known ones: only a few connections may be in their handshake at a
time, beside those of known clients, and a handshake has a short deadline. Connections from the
pod's own containers are counted separately, or a container could lock its owner out. Nor can known
clients crowd out those who may do more: the last places are for higher roles.
"""

import enum
import socket
from collections.abc import Mapping
from typing import Final

from ccinit.agent.guest import Guest
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.planes.identity_renewal import IdentityRenewal
from ccinit.agent.planes.owner_caller import Caller
from ccinit.agent.planes.owner_service import OwnerService
from ccinit.agent.processes.channel import printable
from ccinit.agent.processes.roles import Role
from ccinit.agent.teardown import OWNER_PLANE_STEP
from ccinit.errors import CcinitError, PeerError, errno_text
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.planes.owner_rpc import ClientRole
from ccinit.formats.pod.resources import tls_identity_uri
from ccinit.kernel.event_loop import Event, TaskGroup, deadline
from ccinit.kernel.listener import accept, is_own_address, listen_tcp
from ccinit.owner.messages import ConnectionEnd, Greeting, OwnerRequest
from ccinit.seal.log import OWN_SOURCE
from ccinit.secret import Secret

MAX_CONNECTIONS: Final = 8
PLACES: Final[Mapping[ClientRole, int]] = {
    ClientRole.LOGS: MAX_CONNECTIONS - 2,
    ClientRole.EXEC: MAX_CONNECTIONS - 1,
    ClientRole.ADMIN: MAX_CONNECTIONS,
}
"""How many clients may be there, whatever their roles, with the newest one if it has this role."""
MAX_STRANGERS: Final = 2
GREETING_SECONDS: Final = 60.0  # includes the child's start; the child gives the client ten
SESSION_SECONDS: Final = 24 * 3600.0
_STRANGERS_SOURCE: Final = "owner"
"""Source of events that anybody who reaches the port, even a container, can cause at will."""
_LATE_CLOCK: Final = frozenset({"net.certificate_early", "net.identity_expired"})
"""Reasons with which a handshake with an honest client fails if the guest's clock is late."""


def open_owner_plane(
    guest: Guest, configured: Configured, attested: Attested, config: OwnerConfig
) -> None:
    """Bind the owner's port and serve it from now on.

    Raises:
        KernelError: the port cannot be bound.
    """
    identity = attested.grants[tls_identity_uri(configured.manifest)]
    service = OwnerService(guest=guest, configured=configured, attested=attested)
    plane = OwnerPlane(guest, config, identity, service)
    listener = listen_tcp(config.port) if config.port else None
    task = guest.loop.start(plane.serve(listener), "owner plane")
    guest.service.owner = plane

    async def close() -> None:
        guest.service.owner = None  # until here the host may relay
        await task.stop()

    guest.teardown.push(OWNER_PLANE_STEP, close)
    renewal = IdentityRenewal(
        guest=guest, configured=configured, attested=attested, config=config, show=plane.show
    )
    keeping = guest.loop.start(renewal.keep(), "identity renewal")
    guest.teardown.push("identity renewal", keeping.stop)


class Origin(enum.Enum):
    """Where a connection comes from: a container, or the network and the host's `relay`."""

    POD = enum.auto()
    OUTSIDE = enum.auto()


class OwnerPlane:
    """All connections of the owner's clients."""

    def __init__(
        self, guest: Guest, config: OwnerConfig, identity: Grant, service: OwnerService
    ) -> None:
        """Nothing is served yet; `identity` is what connections show."""
        self._guest = guest
        self._config = config
        self._service = service
        self._shown = identity
        self._known = 0
        self._strangers = dict.fromkeys(Origin, 0)
        self._group = TaskGroup()

    @property
    def is_full(self) -> bool:
        """Whether no further connection from outside is taken now."""
        return self._is_full_for(Origin.OUTSIDE)

    def _is_full_for(self, origin: Origin) -> bool:
        return self._known >= MAX_CONNECTIONS or self._strangers[origin] >= MAX_STRANGERS

    async def end_copies(self) -> None:
        """See `ccinit.agent.planes.owner_copies.OpenCopies.end`."""
        await self._service.copies.end()

    def show(self, identity: Grant) -> None:
        """Show this identity to new connections; the caller still has to wipe it."""
        self._shown = identity

    async def serve(self, listener: socket.socket | None) -> None:
        """Serve until cancelled; closes the listener."""
        try:
            async with self._group:
                if listener is None:
                    await Event().wait()  # forever: connections come through `take`
                else:
                    await self._accept(listener)
        finally:
            if listener is not None:
                listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, peer = await accept(listener)
            self.take(connection, Origin.POD if is_own_address(peer) else Origin.OUTSIDE)

    def take(self, connection: socket.socket, origin: Origin = Origin.OUTSIDE) -> None:
        """Serve a connection; takes ownership of the socket."""
        if self._is_full_for(origin):
            connection.close()
            return
        self._strangers[origin] += 1
        self._group.start(self._attend(connection, origin), "owner connection")

    async def _attend(self, connection: socket.socket, origin: Origin) -> None:
        """Serve one connection to its end; its failures go to the log and affect nothing else."""
        shown = self._shown  # no await until `run` has put it into a pipe
        caller = Caller(self._guest.event, shown.certificate_der)
        try:
            with connection:
                ended = await self._converse(connection, origin, caller, shown.secret)
            if ended.why:
                self._tell_end(caller, printable(ended.why))
        except CcinitError as error:
            self._tell_end(caller, str(error))
            if error.reason in _LATE_CLOCK:
                self._guest.clock_doubted.set()
        except OSError as error:  # no free descriptor or process: the client may retry
            self._tell_end(caller, errno_text(error.errno))
        finally:
            if caller.is_known:
                self._known -= 1
            else:
                self._strangers[origin] -= 1

    def _tell_end(self, caller: Caller, why: str) -> None:
        source = OWN_SOURCE if caller.is_known else _STRANGERS_SOURCE
        self._guest.event(f"owner: {caller}: connection ended: {why}", source)

    async def _converse(
        self, connection: socket.socket, origin: Origin, caller: Caller, identity: Secret
    ) -> ConnectionEnd:
        """Run the child of one connection; whatever its calls started ends with it."""

        def greet(greeting: Greeting) -> None:
            if not caller.is_known:
                caller.greet(greeting)
                self._strangers[origin] -= 1
                self._known += 1
                if self._known > PLACES[greeting.role]:
                    raise PeerError("owner.places", f"none is left for the role {greeting.role}")

        async with caller.tasks:
            caller.tasks.start(_expect(caller), "owner greeting")
            caller.tasks.start(caller.until_ended(), "owner end")
            ended = await self._guest.children.run(
                Role.OWNER,
                OwnerRequest(client_ca_pem=self._config.client_ca_pem),
                ConnectionEnd,
                seconds=SESSION_SECONDS,
                fds={"connection": connection.fileno()},
                secrets={"identity": identity},
                answers=self._service.answers(caller),
                notices={Greeting: greet},
            )
            caller.tasks.cancel()
        return ended


async def _expect(caller: Caller) -> None:
    """End a connection whose client does not introduce itself."""
    async with deadline(GREETING_SECONDS, "owner.handshake"):
        await caller.greeted.wait()
