"""Invariant: however a program, its owner and the guest between them take turns, neither end of the
owner plane refuses what the other says, both keep to their credit, every byte arrives in its order,
and a call ends once its program has.

Run as `python -m tests.fuzz.fuzz_owner_streams [SECONDS [SEED]]`.
"""

import contextlib
import os
import random
import select
import struct
import tempfile
from pathlib import Path

from ccinit.formats.encoding import wire
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import METHODS, WINDOW_BYTES, Stream, Value
from ccinit.formats.planes.owner_wire import (
    Data,
    MessageReader,
    Refused,
    encode_request,
    encode_result,
)
from ccinit.owner.messages import CallEnd, Flow, Port
from ccinit.owner.ports import OpenCall as GuestCall
from ccinit.owner.session import Call, Session
from guest_owner.plane.open_call import OpenCall as OwnerCall
from guest_owner.plane.open_call import Streams
from tests.fuzz.trials import Trials, run

PARAMETERS: dict[str, tuple[Value, ...]] = {
    "exec": ("web", ("x",), False, 24, 80),
    "copy": ("web", "/x", True, 0o600),
}
END = CallEnd(result=encode_result(METHODS["exec"], (3, 0)))
POD_ENDED = CallEnd(code=RpcError.FAILED, reason="owner.pod_ended", detail="")
MAX_BYTES = 3 * WINDOW_BYTES
RESIZED = struct.pack(">HH", 25, 80)


class Plane:
    """Both ends of one call, with the bytes that are on their way between them."""

    def __init__(self, source: random.Random, stack: contextlib.ExitStack, method: str) -> None:
        self.source = source
        self.stack = stack
        self.heard = {int(Stream.OUTPUT): bytearray(), int(Stream.ERROR): bytearray()}
        self._session = Session()
        self._to_guest, self._to_owner = bytearray(), bytearray()
        self._requests = MessageReader(of_guest=False)
        self.input = source.randbytes(source.choice((0, 100, MAX_BYTES)))
        self._typed = self._input_file()
        sinks = {fd: content.extend for fd, content in self.heard.items()}
        streams = Streams(sinks=sinks, source=self._typed, events=self._resize)
        self.owner = OwnerCall(1, METHODS[method], streams)
        (call,) = self._session.feed(encode_request(1, method, PARAMETERS[method]))
        assert isinstance(call, Call)
        self._call = call
        self._guest: GuestCall | None = None

    def _input_file(self) -> int:
        descriptor = os.memfd_create("input")
        self.stack.callback(os.close, descriptor)
        os.write(descriptor, self.input)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def open(self, ports: tuple[Port, ...], descriptors: tuple[int, ...]) -> None:
        """Let the guest answer the call with these."""
        self._guest = GuestCall(self._call, ports, descriptors)
        self.stack.callback(self._guest.close)

    @property
    def is_open(self) -> bool:
        """Whether the guest has the call's descriptors."""
        return self._guest is not None

    def turn(self) -> None:
        """Let one of the four that move bytes do so."""
        match self.source.randrange(5):
            case 0 if self.owner.sources() and self.owner.outcome is None:
                self._to_guest += self.owner.read_source(*self.owner.sources())
            case 1 if self.owner.outcome is None:
                self._to_guest += self.owner.read_events()
            case 2:
                self._reach_guest()
            case 3:
                self._move()
            case _:
                self._reach_owner()

    def _resize(self) -> tuple[tuple[int, bytes], ...]:
        is_news = self._call.method.name == "exec" and self.source.randrange(8) == 0
        return ((Stream.RESIZE, RESIZED),) if is_news else ()

    def _reach_guest(self) -> None:
        for event in self._session.feed(self._take(self._to_guest)):
            assert isinstance(event, Data)
            if self._guest is not None:
                self._guest.take(event, self._session)

    def _move(self) -> None:
        if self._guest is None:
            return
        poller = select.poll()
        for descriptor, events in self._guest.interests(self._session).items():
            poller.register(descriptor, events)
        self._guest.move(dict(poller.poll(0)), self._session)
        if self._guest.is_over:
            self._guest.close()
            self._guest = None
        self._to_owner += self._session.output
        self._session.output.clear()

    def _reach_owner(self) -> None:
        before = len(self._to_owner)
        assert before <= 4 * WINDOW_BYTES
        for message in self._requests.feed(self._take(self._to_owner)):
            self._to_guest += self.owner.take(message)

    def _take(self, waiting: bytearray) -> bytes:
        count = (
            self.source.randrange(len(waiting) + 1) if self.source.randrange(2) else len(waiting)
        )
        data = bytes(waiting[:count])
        del waiting[:count]
        return data


class Program:
    """A container's program: writes, reads and closes as it likes, and ends."""

    def __init__(self, plane: Plane) -> None:
        self.source = plane.source
        (stdin, in_), (out, stdout), (err, stderr), (end, self._end) = (os.pipe() for _ in range(4))
        self._outputs = {int(Stream.OUTPUT): stdout, int(Stream.ERROR): stderr}
        self._stdin = stdin
        self.said = {fd: bytearray() for fd in self._outputs}
        self.read = bytearray()
        self.is_over = False
        for descriptor in (stdin, stdout, stderr):
            os.set_blocking(descriptor, False)
        ports = (
            Port(flow=Flow.INPUT, fd=Stream.INPUT),
            Port(flow=Flow.OUTPUT, fd=Stream.OUTPUT),
            Port(flow=Flow.OUTPUT, fd=Stream.ERROR),
            Port(flow=Flow.END, fd=0),
        )
        plane.open(ports, (in_, out, err, end))
        plane.stack.callback(self.end)

    def act(self) -> None:
        """Do something."""
        with contextlib.suppress(BlockingIOError):
            match self.source.randrange(4):
                case 0 if self._outputs:
                    fd = self.source.choice(tuple(self._outputs))
                    data = self.source.randbytes(self.source.randrange(30_000))
                    self.said[fd] += data[: os.write(self._outputs[fd], data)]
                case 1 if self._stdin >= 0:
                    self.read += os.read(self._stdin, self.source.randrange(1, 30_000))
                case 2 if self._outputs and self.source.randrange(20) == 0:
                    os.close(self._outputs.pop(self.source.choice(tuple(self._outputs))))
                case 3 if self._stdin >= 0 and self.source.randrange(40) == 0:
                    os.close(self._stdin)
                    self._stdin = -1

    def end(self) -> None:
        """End, whatever was going on."""
        if self.is_over:
            return
        self.is_over = True
        for descriptor in (*self._outputs.values(), self._stdin):
            if descriptor >= 0:
                os.close(descriptor)
        os.write(self._end, wire.encode(END))
        os.close(self._end)


def check_program(source: random.Random) -> int:
    """Run a program; return how many bytes went through."""
    with contextlib.ExitStack() as stack:
        plane = Plane(source, stack, "exec")
        program = Program(plane)
        for _ in range(source.randrange(300)):
            program.act()
            plane.turn()
        program.end()
        finish(plane)
        assert plane.owner.outcome == (3, 0)
        assert plane.heard == program.said
        assert plane.input.startswith(program.read)
        return sum(map(len, program.said.values())) + len(program.read)


def check_copy(source: random.Random, path: Path) -> int:
    """Copy a file into a container, whose pod may end meanwhile; return its bytes."""
    with contextlib.ExitStack() as stack:
        plane = Plane(source, stack, "copy")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        end, writer = os.pipe()
        stack.callback(os.close, writer)
        ports = (Port(flow=Flow.INPUT, fd=Stream.INPUT), Port(flow=Flow.END, fd=0))
        plane.open(ports, (os.open(path, flags, 0o600), end))
        pod_ends = source.randrange(2) == 0
        for _ in range(source.randrange(100)):
            plane.turn()
        if pod_ends and plane.is_open:
            os.write(writer, wire.encode(POD_ENDED))
        finish(plane)
        written = path.read_bytes()
        if pod_ends and isinstance(plane.owner.outcome, Refused):
            assert plane.owner.outcome.reason == POD_ENDED.reason
            assert plane.input.startswith(written)
        else:
            assert plane.owner.outcome == (len(plane.input),)
            assert written == plane.input
        return len(written)


def finish(plane: Plane) -> None:
    """Take turns until the owner has heard of the end."""
    for _ in range(20_000):
        if plane.owner.outcome is not None:
            return
        plane.turn()
    raise AssertionError("the call does not end")


def main(seconds: float, seed: int) -> int:
    """Make calls for a while; return how many."""
    trials = Trials(seconds, seed)
    moved = 0
    with tempfile.TemporaryDirectory() as folder:
        for source in trials:
            moved += check_program(source) + check_copy(source, Path(folder) / "copy")
    trials.require(moved, one_in=1)
    return trials.count


if __name__ == "__main__":
    run(main)
