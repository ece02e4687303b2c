"""One call between its request and its reply: its streams, and both sides' credit.

Scope: from messages of the guest to the bytes that go back, and from the source to messages.
Left to others: the connection and waiting (`guest_owner.plane.client`), what is at the other ends
of the streams (`guest_owner.plane.terminal` and the commands).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ccinit.errors import FormatError
from ccinit.formats.planes.owner_rpc import WINDOW_BYTES, Method, Stream
from ccinit.formats.planes.owner_wire import (
    Credit,
    Data,
    Message,
    Refused,
    Reply,
    encode_credit,
    encode_data,
)

_CHUNK_BYTES: Final = 16 * 1024

Sink = Callable[[bytes], None]


@dataclass(slots=True, kw_only=True)
class Streams:
    """What a streaming call is connected to.

    Attributes:
        sinks: for each fd of the guest's data, what takes it.
        source: descriptor to send as fd 0; None sends end of file at once.
        events: called before each wait for data to send: fd and bytes. The newest for an fd counts.
    """

    sinks: Mapping[int, Sink] = field(default_factory=dict)
    source: int | None = None
    events: Callable[[], tuple[tuple[int, bytes], ...]] = tuple


class OpenCall:
    """One call.

    Attributes:
        outcome: the guest's refusal, or the values of its result; None as long as it is open.
    """

    def __init__(self, call: int, method: Method, streams: Streams) -> None:
        self.id = call
        self.method = method
        self.streams = streams
        self.outcome: Refused | tuple[object, ...] | None = None
        self._credit = WINDOW_BYTES
        self._owed = 0
        self._unsent_events: dict[int, bytes] = {}  # of `events`, until the guest has room for it

    def sources(self) -> tuple[int, ...]:
        """The descriptor to read from, if there is one and the guest has room."""
        source = self.streams.source
        return () if source is None or not self._credit else (source,)

    def read_events(self) -> bytes:
        """Ask for events; return the messages to send, which share the source's credit.

        If the program reads nothing, that credit may be used up; then newer events wait.
        """
        self._unsent_events |= dict(self.streams.events())
        messages = b""
        for fd, content in tuple(self._unsent_events.items()):
            if len(content) <= self._credit:
                del self._unsent_events[fd]
                self._credit -= len(content)
                messages += encode_data(Data(id=self.id, fd=fd, content=content))
        return messages

    def read_source(self, source: int) -> bytes:
        """Read the one of `sources`; return the message to send, if there is one."""
        with open(source, "rb", buffering=0, closefd=False) as file:
            content = file.read(min(self._credit, _CHUNK_BYTES))
        if content is None:  # it does not block, and somebody else has read what was there
            return b""
        self._credit -= len(content)
        if not content:
            self.streams.source = None
        return encode_data(Data(id=self.id, fd=Stream.INPUT, content=content))

    def take(self, message: Message) -> bytes:
        """Take a message of the guest; return what has to be sent back.

        Raises:
            FormatError: `owner.message`, of another call, on an fd that this one does not have, or
                after the reply, which ends a call.
        """
        if self.outcome is not None:
            raise FormatError("owner.message", f"more after the reply to {self.method.name}")
        match message:
            case Reply(msgid=self.id, outcome=outcome):
                self.outcome = outcome
            case Credit(id=self.id, count=count):
                self._credit += count
            case Data(id=self.id, fd=fd, content=content) if fd in self.method.streams:
                self.streams.sinks.get(fd, _discard)(content)
                return self._repay(len(content))
            case _:
                raise FormatError("owner.message", f"unexpected in {self.method.name}")
        return b""

    def _repay(self, count: int) -> bytes:
        self._owed += count
        if self._owed < WINDOW_BYTES // 2:
            return b""
        owed, self._owed = self._owed, 0
        return encode_credit(Credit(id=self.id, count=owed))


def _discard(_content: bytes) -> None:
    """Drop unwanted data; its credit is returned all the same."""
