"""Role `owner`: one connection of the owner plane, TLS and streams; calls go to PID 1.

It has the connection and the guest's TLS identity, and no way to get anything else.
"""

from collections.abc import Callable

from ccinit.agent.processes.child import JobChannel
from ccinit.errors import CcinitError
from ccinit.net.tls_server import ServerConnection, server_context
from ccinit.owner.connection import Connection, ConnectionLimits
from ccinit.owner.messages import CallAnswer, ConnectionEnd, OwnerRequest, make_call
from ccinit.owner.session import Call


def run(request: OwnerRequest, channel: JobChannel) -> ConnectionEnd:
    """Do the job; the socket is named `connection`, the pipe `identity`."""

    def carry(call: Call, wait_for: Callable[[int], None]) -> tuple[CallAnswer, tuple[int, ...]]:
        question = make_call(call.method, call.params)
        return channel.ask_for_fds(question, CallAnswer, wait_for)

    with channel.read_secret("identity") as identity:
        tls = ServerConnection(server_context(identity, request.client_ca_pem))
    connection = Connection(channel.fds["connection"], tls, carry, ConnectionLimits())
    channel.notify(connection.do_handshake())
    try:
        connection.serve()
    except CcinitError as error:
        return ConnectionEnd(why=str(error))
    return ConnectionEnd(why="")
