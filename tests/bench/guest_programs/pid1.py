"""PID 1 up to LISTEN, without what only PID 1 of a guest may do (mounts, sysctls, signals).

Imports what `ccinit.init.main` imports, makes the same parts, and serves the host plane on the
socket whose number is the one argument.
"""

# ruff: noqa: E402  # the first import changes what the others load

from ccinit.init.lean import disable_libraries

disable_libraries()

import socket
import sys
from collections.abc import Awaitable

from ccinit.agent.guest import EarlyGuest
from ccinit.formats.planes.host_rpc import HOST_CID, Phase
from ccinit.init.main import make_guest
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.task import Event
from ccinit.rpc.server import RpcLimits, serve


async def listen(guest: EarlyGuest, connection: socket.socket) -> None:
    """Serve one connection for ever."""
    connections = [connection]

    async def accept() -> tuple[socket.socket, int]:
        if not connections:
            await never()
        return connections.pop(), HOST_CID

    guest.state.enter(Phase.LISTEN)
    await serve(accept, guest.service, RpcLimits())


def never() -> Awaitable[None]:
    """Wait for ever."""
    return Event().wait()


def main() -> None:
    """Serve until killed."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.setblocking(False)  # noqa: FBT003  # positional only
    loop = EventLoop()
    loop.run(listen(make_guest(loop), connection))


main()
