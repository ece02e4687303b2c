"""R83, R84, R86: the host plane as a state machine that hypothesis drives against a real guest.

A host opens up to four connections, sends requests that are legal, illegal or too early, in pieces
and several at once, breaks off, and comes back. The model is what DESIGN section 6 says: what is
asked on one connection is answered on it, in order, by one of few exact replies; what is no request
ends that connection without a byte; and nothing of it changes what the guest does.
"""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ccinit.errors import PeerError
from tests.vm import host_plane_cases as cases
from tests.vm import wire_script as wire

Connect = Callable[[], socket.socket]

SETTINGS = settings(
    max_examples=12,
    stateful_step_count=40,
    derandomize=True,  # the same sequences in every run
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
MSGIDS = st.sampled_from([0, 1, 127, 128, 65_536, (1 << 32) - 1])
BROKEN = [case.values[0] for case in cases.NO_REQUESTS]
PLACES = 4
FREED_SECONDS = 30.0  # a peer may leave a reply unread, for which the guest waits ten
REFUSED = {
    "relay": wire.NOT_NOW,
    "exit": wire.NOT_NOW,
    "start": wire.DENIED,
    "metrics": wire.DENIED,
}
NAMES = (
    *("hello", "state", "wait", "collect", "offer_network", *REFUSED),
    *("stop", "exec", ""),  # `stop` without its parameter
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, how its reply begins, and how long it is."""

    message: bytes
    reply: bytes
    size: int = wire.REPLY_BYTES


@dataclass(eq=False, kw_only=True)
class Connection:
    """One stream, and what is owed on it."""

    stream: socket.socket
    owed: list[Asked] = field(default_factory=list)
    unsent: bytes = b""


def _plain(name: str, *params: wire.Item, msgid: int, reply: bytes) -> Asked:
    return Asked(message=wire.request(name, *params, msgid=msgid), reply=reply)


def _collect(msgid: int) -> Asked:
    return Asked(
        message=wire.request("collect", 0, 0, msgid=msgid),
        reply=b"\x94\x01" + wire.encode_uint(msgid) + b"\xc0\x94",  # and what was sealed
        size=wire.COLLECT_REPLY_BYTES,
    )


class HostPlane(RuleBasedStateMachine):
    """A guest that waits in ATTEST; `connect` and `state` are set by `drive`."""

    connect: Connect
    state: wire.State
    build_id: bytes
    held_a_place = False
    """Whether, in any sequence, somebody has left a long reply unread."""

    connections = Bundle("connections")

    def __init__(self) -> None:
        super().__init__()
        self._open: set[Connection] = set()

    def teardown(self) -> None:
        for connection in self._open:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        """Go. Who leaves a long reply unread holds a place for ten seconds: the first one may."""
        if any(asked.size > wire.REPLY_BYTES for asked in connection.owed):
            if type(self).held_a_place:
                self.reads(connection)
            type(self).held_a_place = True
        connection.stream.close()

    # What a host may ask, and what it is told in this phase

    def _asked(self, name: str, msgid: int) -> Asked:
        now = self.state
        match name:
            case "hello":
                return _plain(
                    name, 1, msgid=msgid, reply=wire.result(1, self.build_id, msgid=msgid)
                )
            case "state" | "wait":
                params = () if name == "state" else (now.seq - 1, 60_000)
                reply = wire.result(now.phase, now.code, now.seq, now.flags, msgid=msgid)
                return _plain(name, *params, msgid=msgid, reply=reply)
            case "collect":
                return _collect(msgid)
            case "offer_network":
                return Asked(
                    message=cases.offer(msgid=msgid), reply=wire.refusal(wire.NOT_NOW, msgid)
                )
            case _:
                reply = wire.refusal(REFUSED.get(name, wire.BADREQ), msgid)
                return _plain(name, msgid=msgid, reply=reply)

    # What a host does

    @precondition(lambda self: len(self._open) < PLACES)
    @rule(target=connections)
    def connects(self) -> Connection:
        connection = Connection(stream=self._connect_soon())
        self._open.add(connection)
        return connection

    @precondition(lambda self: len(self._open) == PLACES)
    @rule()
    def is_turned_away(self) -> None:
        # closed at once, it can look like refused
        with suppress(PeerError), self.connect() as stream:
            assert wire.say_all(stream, cases.STATE) == b""

    def _connect_soon(self) -> socket.socket:
        """A place is free when the guest has seen the close of the one before; it says hello."""
        deadline = time.monotonic() + FREED_SECONDS
        while time.monotonic() < deadline:
            with suppress(PeerError, OSError), ExitStack() as stack:
                stream = stack.enter_context(self.connect())
                if wire.ask(stream, cases.STATE):
                    stack.pop_all()
                    return stream
            time.sleep(0.05)
        raise AssertionError("no place was freed")

    @rule(
        connection=connections,
        names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=8),
        msgid=MSGIDS,
        cut=st.integers(0, 40),
    )
    def asks(self, connection: Connection, names: list[str], msgid: int, cut: int) -> None:
        """Send requests, or all but the last bytes of them, which come before anything else."""
        if connection not in self._open:
            return
        asked = [self._asked(name, msgid) for name in names]
        connection.owed += asked
        message = connection.unsent + b"".join(one.message for one in asked)
        sent = max(len(message) - cut, 0)
        connection.stream.sendall(message[:sent])
        connection.unsent = message[sent:]

    @rule(connection=connections)
    def reads(self, connection: Connection) -> None:
        if connection not in self._open:
            return
        connection.stream.sendall(connection.unsent)
        connection.unsent = b""
        self._collect_what_is_owed(connection)

    def _collect_what_is_owed(self, connection: Connection) -> None:
        for asked in connection.owed:
            reply = wire.read_exactly(connection.stream, asked.size)
            assert len(reply) == asked.size
            assert reply.startswith(asked.reply), (asked.message.hex(), reply[:64].hex())
        connection.owed.clear()

    @rule(connection=consumes(connections), broken=st.none() | st.sampled_from(BROKEN))
    def leaves(self, connection: Connection, broken: bytes | None) -> None:
        """Go with questions and half questions open, or after what is no request."""
        if connection not in self._open:
            return
        if broken is not None:
            self.reads(connection)
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.stream.sendall(broken)
            assert wire.read_to_the_end(connection.stream) == b""
        self._close(connection)
        self._open.remove(connection)

    # What never changes

    @invariant()
    def guest_is_where_it_was(self) -> None:
        idle = [one for one in self._open if not one.owed]
        for connection in idle[:1]:
            assert wire.decode_state(wire.ask(connection.stream, cases.STATE)) == self.state


def drive(connect: Connect, state: wire.State, build_id: bytes) -> None:
    """Run the machine against the guest behind `connect`, which must stay in `state`."""
    members = {"connect": staticmethod(connect), "state": state, "build_id": build_id}
    machine = type("HostPlaneOfThisGuest", (HostPlane,), members)
    run_state_machine_as_test(machine, settings=SETTINGS)
