"""What each call of the host plane does in this guest.

Every method is one function in one table; the table's keys are exactly those of
`ccinit.formats.planes.host_rpc.METHODS` (a test compares them). The host can only leave a network
offer, which NET will validate, ask for a start or a stop, and pass a connection on to the owner
plane.
"""

import os
import socket
from collections.abc import Awaitable, Callable

from ccinit.agent.figures import read_memory
from ccinit.agent.state import BootState
from ccinit.annotations import Protocol, cast
from ccinit.boot.network_offer import NetworkOffer
from ccinit.errors import PeerError
from ccinit.formats.planes.host_rpc import (
    COLLECT_BLOB_BYTES,
    MAX_WAIT_MS,
    METRICS_UNIT_BYTES,
    PROTOCOL,
    Method,
    Phase,
    RpcError,
    Value,
)
from ccinit.kernel.clock import boottime_us
from ccinit.kernel.event_loop import Event, at_most, sleep
from ccinit.rpc.dispatch import Refusal
from ccinit.seal.ring import SealedRing

_COLLECT_GRID_SECONDS = 0.25


class OwnerConnections(Protocol):
    """What takes the owner's connections."""

    @property
    def is_full(self) -> bool:
        """Whether no further connection is accepted now."""
        ...

    def take(self, connection: socket.socket) -> None:
        """Serve a connection; takes ownership of the socket."""
        ...

    async def end_copies(self) -> None:
        """Return once no client copies a file of the pod any more."""
        ...


class HostService:
    """Answers the host; see `ccinit.rpc.dispatch.Service`.

    Attributes:
        offer: the newest network offer, until NET takes it (`next_offer`).
        stop_grace_seconds: how long the host will wait for a stop that it asked for.
        stopping: set when the guest has to end, because the host, a signal or the guest itself
            asked for it (`Guest.give_up`, the end of a debug grant).
        first_answer_us: boot time of the first answer to the host; 0 before that.
        owner: the owner plane, once it is open and if there is one.
        starting: set when the host has let the pod start.
        may_start: whether the measured configuration leaves the start to the host; CONFIG sets it.
        may_measure: whether the measured manifest lets the host have metrics; CONFIG sets it.
        may_tell_exit: whether it lets the host have the pod's exit code; CONFIG sets it.
        exit_code: of the pod, once it has ended by itself; see `ccinit.run.exit_code`.
    """

    def __init__(self, state: BootState, build_id: bytes, ring: SealedRing) -> None:
        self.offer: NetworkOffer | None = None
        self.stop_grace_seconds: int | None = None
        self.stopping = Event()
        self.first_answer_us = 0
        self.owner: OwnerConnections | None = None
        self.starting = Event()
        self.may_start = False
        self.may_measure = False
        self.may_tell_exit = False
        self.exit_code: int | None = None
        self._state = state
        self._build_id = build_id
        self._ring = ring
        self._offered = Event()

    @property
    def phase(self) -> Phase:
        """The phase that decides which methods are open."""
        return self._state.phase

    async def call(self, method: Method, params: tuple[Value, ...]) -> tuple[Value, ...]:
        """Carry out `method`; see `ccinit.rpc.dispatch.Service.call`."""
        result = await HANDLERS[method.name](self, params)
        if not self.first_answer_us:
            self.first_answer_us = boottime_us()
        return result

    async def hello(self, params: tuple[Value, ...]) -> tuple[Value, ...]:
        """Name the protocol and the image; another protocol is refused."""
        if params != (PROTOCOL,):
            raise Refusal(RpcError.DENIED)
        return PROTOCOL, self._build_id

    async def state(self, _params: tuple[Value, ...]) -> tuple[Value, ...]:
        """Report the state now."""
        return self._state.report()

    async def wait(self, params: tuple[Value, ...]) -> tuple[Value, ...]:
        """Report the state once it has changed."""
        seq, milliseconds = cast("tuple[int, int]", params)
        await self._state.wait_for_change(seq, min(milliseconds, MAX_WAIT_MS) / 1000)
        return self._state.report()

    async def offer_network(self, params: tuple[Value, ...]) -> tuple[Value, ...]:
        """Keep the offer for NET; the newest one counts."""
        mac, address, prefix, gateway, mtu, dns = cast(
            "tuple[bytes, bytes, int, bytes, int, tuple[bytes, ...]]", params
        )
        self.offer = NetworkOffer(
            mac=mac, address=address, prefix=prefix, gateway=gateway, mtu=mtu, dns=dns
        )
        self._offered.set()
        return ()

    async def next_offer(self) -> NetworkOffer:
        """Wait for an offer, and take it."""
        while self.offer is None:
            self._offered.clear()
            await self._offered.wait()
        offer, self.offer = self.offer, None
        return offer

    async def start(self, _params: tuple[Value, ...]) -> tuple[Value, ...]:
        """Let the pod start; repeating the call changes nothing."""
        if not self.may_start:
            raise Refusal(RpcError.DENIED)
        self.starting.set()
        return ()

    async def metrics(self, _params: tuple[Value, ...]) -> tuple[Value, ...]:
        """Report memory in coarse units, and processors."""
        if not self.may_measure:
            raise Refusal(RpcError.DENIED)
        memory = read_memory()
        total, available = (
            memory[name] // METRICS_UNIT_BYTES for name in ("MemTotal", "MemAvailable")
        )
        return total, available, os.cpu_count() or 1

    async def exit(self, _params: tuple[Value, ...]) -> tuple[Value, ...]:
        """Report how the pod ended; allowed only in phases in which that can no longer change."""
        if not self.may_tell_exit:
            raise Refusal(RpcError.DENIED)
        if self.exit_code is None:
            raise Refusal(RpcError.FAILED)
        return (self.exit_code,)

    async def stop(self, params: tuple[Value, ...]) -> tuple[Value, ...]:
        """Ask the guest to end; repeating the call changes nothing."""
        (grace_seconds,) = cast("tuple[int]", params)
        if self.stop_grace_seconds is None:
            self.stop_grace_seconds = grace_seconds
            self.stopping.set()
        return ()

    async def collect(self, params: tuple[Value, ...]) -> tuple[Value, ...]:
        """Hand out sealed bytes from a cursor on."""
        cursor, milliseconds = cast("tuple[int, int]", params)
        try:
            await self._wait_for_bytes(cursor, min(milliseconds, MAX_WAIT_MS) / 1000)
            chunk = self._ring.collect(cursor, COLLECT_BLOB_BYTES)
        except PeerError as error:
            raise Refusal(RpcError.DENIED) from error
        return chunk.following, chunk.last, chunk.data

    async def relay(self, _params: tuple[Value, ...]) -> tuple[Value, ...]:
        """Say whether the owner plane would take this connection."""
        if self.owner is None:
            raise Refusal(RpcError.DENIED)
        if self.owner.is_full:
            raise Refusal(RpcError.BUSY)
        return ()

    def take_over(self, connection: socket.socket) -> None:
        """Give a relayed connection to the owner plane."""
        if self.owner is None:
            connection.close()
        else:
            self.owner.take(connection)

    async def _wait_for_bytes(self, cursor: int, seconds: float) -> None:
        async with at_most(seconds):
            # Poll rather than wake up: one long reply then carries what has come meanwhile, instead
            # of one per record. From a host that polls without waiting, only `log.batch_ms` hides
            # when a record came.
            while not self._ring.is_readable(cursor):
                await sleep(_COLLECT_GRID_SECONDS)


Handler = Callable[[HostService, tuple[Value, ...]], Awaitable[tuple[Value, ...]]]

HANDLERS: dict[str, Handler] = {
    "hello": HostService.hello,
    "state": HostService.state,
    "wait": HostService.wait,
    "offer_network": HostService.offer_network,
    "start": HostService.start,
    "stop": HostService.stop,
    "metrics": HostService.metrics,
    "exit": HostService.exit,
    "collect": HostService.collect,
    "relay": HostService.relay,
}
