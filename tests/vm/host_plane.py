"""The guest whose host plane is tested, and how it ended."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ccinit.errors import PeerError
from ccinit.formats.planes.host_rpc import PORT
from host_runtime.launch.guest import EndReason, Guest
from host_runtime.launch.launcher import GuestConfig
from host_runtime.plane.rpc_client import GuestState
from tests.vm import host_plane_cases as cases
from tests.vm import wire_script as wire
from tests.vm.direct_boot import PreparedInitdata


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One guest that waits for its network, and what it was made from."""

    guest: Guest
    config: GuestConfig
    initdata: PreparedInitdata

    @contextmanager
    def stream(self) -> Iterator[socket.socket]:
        with self.guest.connect(PORT) as stream:
            yield stream

    def ask(self, message: bytes, size: int = wire.REPLY_BYTES) -> bytes:
        with self.stream() as stream:
            return wire.ask(stream, message, size)

    def say_all(self, message: bytes) -> bytes:
        with self.stream() as stream:
            return wire.say_all(stream, message)

    def state(self) -> wire.State:
        return wire.decode_state(self.ask(cases.STATE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What the host saw after its stop.

    Attributes:
        exit: the reply, in STOP, to the question for the pod's exit code.
    """

    states: tuple[GuestState, ...]
    reason: EndReason
    sealed: bytes
    exit: bytes


def is_turned_away(plane: Plane) -> bool:
    """Whether a further connection gets no byte; closed at once, it can look like refused."""
    try:
        return plane.say_all(cases.STATE) == b""
    except PeerError as error:
        return error.reason == "vsock.refused"


def ask_until_answered(plane: Plane, message: bytes) -> bytes:
    """The guest frees a place when it has seen the other end's close, which takes a moment."""
    deadline = time.monotonic() + 60
    while True:
        with suppress(PeerError):
            if reply := plane.say_all(message):
                return reply
        assert time.monotonic() < deadline
        time.sleep(0.1)
