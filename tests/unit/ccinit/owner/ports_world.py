"""One call with its descriptors, and who is at their other ends."""

import os
import select
from pathlib import Path

from ccinit.formats.encoding import wire
from ccinit.formats.planes.owner_rpc import METHODS, Stream
from ccinit.formats.planes.owner_wire import (
    Data,
    Message,
    MessageReader,
    encode_data,
    encode_request,
    encode_result,
)
from ccinit.owner.messages import CallEnd, Flow, Port
from ccinit.owner.ports import OpenCall
from ccinit.owner.session import Call, Session

GOOD = CallEnd(result=encode_result(METHODS["exec"], (3, 0)))


class World:
    """A call with its pipes.

    Attributes:
        ours: the program's ends: its input, its outputs, and where its end is written.
        theirs: the ends that the call has, in the same order.
    """

    def __init__(self, method: str = "exec") -> None:
        self.session = Session()
        params = {"exec": ("web", ("x",), False, 0, 0), "copy": ("web", "/x", True, 0)}[method]
        (event,) = self.session.feed(encode_request(1, method, params))
        assert isinstance(event, Call)
        self.event = event
        self.ours: list[int] = []
        self.theirs: tuple[int, ...] = ()
        self.received: list[Message] = []
        self._reader = MessageReader(of_guest=False)

    def open_exec(self, outputs: tuple[Stream, ...] = (Stream.OUTPUT,)) -> OpenCall:
        stdin, theirs_in = os.pipe()
        pipes = [os.pipe() for _ in (*outputs, Flow.END)]
        self.ours = [stdin, *(written for _, written in pipes)]
        named = (
            Port(flow=Flow.INPUT, fd=Stream.INPUT),
            *(Port(flow=Flow.OUTPUT, fd=output) for output in outputs),
            Port(flow=Flow.END, fd=0),
        )
        self.theirs = (theirs_in, *(read for read, _ in pipes))
        self.call = OpenCall(self.event, named, self.theirs)
        return self.call

    def open_file(self, path: Path, flow: Flow) -> OpenCall:
        flags = os.O_WRONLY | os.O_CREAT if flow is Flow.INPUT else os.O_RDONLY
        return self.take_file(os.open(path, flags, 0o600), flow)

    def take_file(self, descriptor: int, flow: Flow) -> OpenCall:
        end, writer = os.pipe()
        self.ours, self.theirs = [writer], (descriptor, end)
        port = Port(flow=flow, fd=Stream.INPUT if flow is Flow.INPUT else Stream.OUTPUT)
        self.call = OpenCall(self.event, (port, Port(flow=Flow.END, fd=0)), self.theirs)
        return self.call

    def turn(self, times: int = 20) -> list[Message]:
        """Poll and move until nothing more happens."""
        for _ in range(times):
            poller = select.poll()
            if self.call.is_over:
                break
            for descriptor, events in self.call.interests(self.session).items():
                poller.register(descriptor, events)
            self.call.move(dict(poller.poll(0)), self.session)
        fresh = list(self._reader.feed(bytes(self.session.output)))
        self.session.output.clear()
        self.received += fresh
        return fresh

    def end(self, end: CallEnd = GOOD) -> None:
        os.write(self.ours[-1], wire.encode(end))
        os.close(self.ours.pop())

    def send(self, fd: int, content: bytes) -> None:
        for event in self.session.feed(encode_data(Data(id=1, fd=fd, content=content))):
            assert isinstance(event, Data)
            self.call.take(event, self.session)

    def close(self) -> None:
        self.call.close()
        for descriptor in self.ours:
            os.close(descriptor)
