"""Invariant: whatever a host calls, in any phase and order, each call gets the one reply that the
guest's state asks for, of its method's size; what is refused changes nothing, nor does who starts
or stops again; and what is collected is the sealed stream from the cursor that the guest names on.

Run as `python -m tests.fuzz.fuzz_host_calls [SECONDS [SEED]]`.
"""

import contextlib
import random
import socket

from ccinit.agent.host_service import HostService
from ccinit.agent.state import BootState
from ccinit.formats.planes.host_rpc import METHODS, PROTOCOL, Code, Method, Phase, RpcError, Value
from ccinit.formats.planes.msgpack_rpc import Reply, ReplyReader, encode_request
from ccinit.kernel.event_loop import EventLoop, deadline
from ccinit.kernel.task import Event, readable
from ccinit.rpc.server import RpcLimits, serve
from ccinit.seal.ring import SealedRing
from tests.fuzz.trials import Trials, run

CAPACITY, KEPT = 200_000, 70_000
STEPS = 30
ADDRESS = bytes(16)
Call = tuple[str, tuple[Value, ...]]


class Plane:
    """An owner plane that lets connections go."""

    def __init__(self) -> None:
        self.is_full = False
        self.taken = 0

    def take(self, connection: socket.socket) -> None:
        self.taken += 1
        connection.close()

    async def end_copies(self) -> None: ...


class World:
    """A guest that goes through its phases, and what a host can see and cause of it."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.state = BootState()
        self.ring = SealedRing(CAPACITY, KEPT)
        self.service = HostService(self.state, bytes(16), self.ring)
        self.plane = Plane()
        self.stream = b""
        self.is_complete = False
        self.cursor = 0
        self.good = 0
        self._waiting: list[socket.socket] = []
        self._arrived = Event()

    async def accept(self) -> tuple[socket.socket, int]:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.pop(), 2

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.settimeout(0)
        self._waiting.append(theirs)
        self._arrived.set()
        return ours

    def go_on(self) -> None:
        """Let something happen in the guest."""
        source, service = self.source, self.service
        match source.randrange(6):
            case 0 if self.state.phase < Phase.OFF:
                self.state.enter(Phase(self.state.phase + 1))
            case 1:
                self.state.fail(source.choice(tuple(Code)))
            case 2 if not self.is_complete and self.ring.room:
                data = source.randbytes(source.randrange(min(self.ring.room, 80_000)))
                self.ring.append(data)
                self.stream += data
            case 3 if source.randrange(8) == 0:
                self.ring.close()
                self.is_complete = True
            case 4:
                service.owner = source.choice((None, self.plane))
                self.plane.is_full = source.random() < 0.3
            case _:
                service.may_start, service.may_measure, service.may_tell_exit = (
                    source.random() < 0.6 for _ in range(3)
                )
                service.exit_code = source.choice((None, 0, 255))

    def call(self) -> Call:
        """Return what a host may ask, well or badly."""
        source = self.source
        ms = source.randrange(2)
        cursor = source.choice((self.cursor, self.cursor, 0, len(self.stream) + 1, (1 << 64) - 1))
        params: dict[str, tuple[Value, ...]] = {
            "hello": (source.choice((PROTOCOL, PROTOCOL, 0)),),
            "wait": (source.choice((0, self.state.report()[2])), ms),
            "offer_network": (bytes(6), ADDRESS, source.randrange(256), ADDRESS, 1500, ()),
            "stop": (source.randrange(1 << 16),),
            "collect": (cursor, ms),
        }
        name = source.choice((*METHODS, "collect", "none"))
        given = params.get(name, ())
        if source.randrange(10) == 0:
            given = source.choice(((), (*given, 1), (-1, ms), (1 << 63, b""), (True, True)))
        return name, given

    def expect(self, call: Call) -> RpcError | None:
        """Return how a call has to be refused, None if not at all."""
        name, params = call
        service, phase = self.service, self.state.phase
        fits = {"hello": 1, "wait": 2, "offer_network": 6, "stop": 1, "collect": 2}.get(name, 0)
        if name not in METHODS or len(params) != fits or not self._is_of_schema(name, params):
            return RpcError.BADREQ
        if phase not in METHODS[name].phases:
            return RpcError.NOT_NOW
        denied = {
            "hello": params != (PROTOCOL,),
            "start": not service.may_start,
            "metrics": not service.may_measure,
            "exit": not service.may_tell_exit,
            "collect": name == "collect" and int(str(params[0])) > len(self.stream),
            "relay": service.owner is None,
        }
        if denied.get(name):
            return RpcError.DENIED
        if name == "exit" and service.exit_code is None:
            return RpcError.FAILED
        return RpcError.BUSY if name == "relay" and self.plane.is_full else None

    @staticmethod
    def _is_of_schema(name: str, params: tuple[Value, ...]) -> bool:
        bits = {"hello": (8,), "wait": (32, 32), "stop": (16,), "collect": (64, 64)}.get(name, ())
        return all(
            type(value) is int and 0 <= value < 1 << width
            for value, width in zip(params, bits, strict=False)
        )

    def snapshot(self) -> tuple[object, ...]:
        """Return all that a host could have changed."""
        service = self.service
        flags = (service.stopping.is_set(), service.starting.is_set())
        slots = (service.offer, service.stop_grace_seconds, self.plane.taken, self.ring.room)
        return *flags, *slots, self.state.report()


async def receive(stream: socket.socket, method: Method) -> Reply:
    """Return the reply to a call of this method: all of its bytes, and no other's."""
    reader, left = ReplyReader(method), method.reply_bytes
    async with deadline(20, "fuzz"):
        while True:
            await readable(stream.fileno())
            data = stream.recv(left)
            assert data, "closed"
            left -= len(data)
            if (reply := reader.feed(data)) is not None:
                return reply


async def converse(world: World, stream: socket.socket) -> bool:
    """Make some calls at once; return whether the connection is still the host plane's."""
    calls = [world.call() for _ in range(world.source.randrange(1, 4))]
    # What stands behind a relay is for nobody, and would spoil it: so it is the last one.
    for place, (name, _) in enumerate(calls):
        if name == "relay":
            del calls[place + 1 :]
            break
    first = world.source.randrange(1 << 32 - 1)
    before, moved = world.snapshot(), False
    for number, (name, params) in enumerate(calls):
        stream.send(encode_request(first + number, name, params))
    for number, call in enumerate(calls):
        error = world.expect(call)
        reply = await receive(stream, METHODS.get(call[0], METHODS["state"]))
        assert (reply.msgid, reply.error) == (first + number, error), (call, world.state.phase)
        moved = moved or error is None
        if error is None:
            check_result(world, call, reply.result, before)
            if call[0] == "relay":
                await ended(stream)
                assert world.plane.taken
                return False
    assert moved or world.snapshot() == before
    return True


async def ended(stream: socket.socket) -> None:
    """Wait until the other side has let a connection go."""
    async with deadline(20, "fuzz"):
        await readable(stream.fileno())
    assert stream.recv(1) == b""


def check_result(
    world: World, call: Call, result: tuple[Value, ...], before: tuple[object, ...]
) -> None:
    """Check a good reply against the guest."""
    name, params = call
    world.good += 1
    match name:
        case "state" | "wait":
            assert result == world.state.report()
        case "stop":
            asked = before[3] if before[0] else None
            assert world.service.stopping.is_set()
            assert asked is None or world.service.stop_grace_seconds == asked
        case "start":
            assert world.service.starting.is_set()
        case "collect":
            following, is_last, blob = result
            assert isinstance(following, int)
            assert isinstance(blob, bytes)
            start = following - len(blob)
            assert world.stream[start:following] == blob
            # A gap is what has been received before.
            assert start == params[0] or start <= world.cursor
            assert is_last == (world.is_complete and following == len(world.stream))
            world.cursor = max(world.cursor, int(str(params[0])))


async def live(world: World) -> None:
    """Let guest and host do this and that."""
    async with contextlib.AsyncExitStack() as stack:
        streams: list[socket.socket] = []
        for _ in range(STEPS):
            world.go_on()
            if len(streams) < 3:
                streams.append(stack.enter_context(world.connect()))
            stream = world.source.choice(streams)
            if not await converse(world, stream):
                streams.remove(stream)


def check(source: random.Random) -> int:
    """Go through a boot; return how many calls went well."""
    world, loop = World(source), EventLoop()

    async def main() -> None:
        server = loop.start(serve(world.accept, world.service, RpcLimits()), "server")
        try:
            await live(world)
        finally:
            await server.stop()

    loop.run(main())
    return world.good


def main(seconds: float, seed: int) -> int:
    """Boot guests for a while; return how many."""
    trials = Trials(seconds, seed)
    good = 0
    for source in trials:
        good += check(source)
    trials.require(good, one_in=1)
    return trials.count


if __name__ == "__main__":
    run(main)
