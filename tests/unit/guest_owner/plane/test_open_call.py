"""The owner's end of one call: what it says keeps to the credit that the guest's end gives."""

import os
from collections.abc import Iterator

import pytest

from ccinit.errors import FormatError, PeerError
from ccinit.formats.planes.owner_rpc import METHODS, WINDOW_BYTES, Stream
from ccinit.formats.planes.owner_wire import (
    Credit,
    Data,
    Message,
    MessageReader,
    Reply,
    encode_credit,
    encode_data,
    encode_request,
)
from ccinit.owner.session import Session
from guest_owner.plane.open_call import OpenCall, Streams

SIZES = (b"\0\x18\0\x50", b"\0\x20\0\x64")


class Plane:
    """Both ends of an `exec` on a terminal, whose program reads only when it is told to."""

    def __init__(self, source: int) -> None:
        self.sizes: list[bytes] = []
        self.heard: list[Data] = []
        self._session = Session()
        self._replies = MessageReader(of_guest=False)
        request = encode_request(1, "exec", ("web", ("x",), True, 24, 80))
        assert len(list(self._session.feed(request))) == 1
        self.owner = OpenCall(1, METHODS["exec"], Streams(source=source, events=self._resize))

    def _resize(self) -> tuple[tuple[int, bytes], ...]:
        return ((Stream.RESIZE, self.sizes.pop(0)),) if self.sizes else ()

    def turn(self) -> None:
        """Let the guest take what the owner has to say."""
        for event in self._session.feed(self.owner.read_events()):
            assert isinstance(event, Data)
            self.heard.append(event)
        while sources := self.owner.sources():
            for event in self._session.feed(self.owner.read_source(*sources)):
                assert isinstance(event, Data)
                self.heard.append(event)

    def read(self, count: int) -> None:
        """Let the program read, and the owner take of it."""
        self._session.consume(1, count)
        for message in self._replies.feed(bytes(self._session.output)):
            self.owner.take(message)
        self._session.output.clear()

    @property
    def told(self) -> list[bytes]:
        return [data.content for data in self.heard if data.fd == Stream.RESIZE]


@pytest.fixture
def plane() -> Iterator[Plane]:
    source = os.open("/dev/zero", os.O_RDONLY)
    yield Plane(source)
    os.close(source)


def test_size_of_the_window_is_told_once_while_the_guest_has_room(plane: Plane) -> None:
    plane.sizes.append(SIZES[0])
    for _ in range(2):
        plane.turn()
        plane.read(WINDOW_BYTES)
    assert plane.told == [SIZES[0]]


def test_size_waits_until_a_program_reads_and_the_newest_is_told(plane: Plane) -> None:
    plane.turn()
    for size in SIZES:
        plane.sizes.append(size)
        plane.turn()
    assert plane.told == []
    plane.read(WINDOW_BYTES // 2)
    plane.turn()
    assert plane.told == [SIZES[1]]


def test_sizes_leave_the_source_no_more_credit_than_there_is(plane: Plane) -> None:
    for _ in range(4):
        plane.sizes.append(SIZES[0])
        plane.turn()
        plane.read(sum(len(data.content) for data in plane.heard))
        plane.heard.clear()


def test_size_is_told_with_the_last_of_the_credit() -> None:
    reading, writing = os.pipe()
    os.write(writing, bytes(WINDOW_BYTES - len(SIZES[0])))
    plane = Plane(reading)
    for _ in range(WINDOW_BYTES // (16 * 1024)):
        plane.owner.read_source(reading)
    plane.sizes += SIZES
    assert _say(plane.owner.read_events()) == [Data(id=1, fd=Stream.RESIZE, content=SIZES[0])]
    assert (plane.owner.sources(), _say(plane.owner.read_events())) == ((), [])
    os.close(reading)
    os.close(writing)


def test_source_that_has_ended_is_told_once_and_one_that_has_nothing_yet_is_not() -> None:
    """Another process that reads of a non-blocking source may be faster."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    call = OpenCall(1, METHODS["exec"], Streams(source=reading))
    assert (call.read_source(reading), call.sources()) == (b"", (reading,))
    os.close(writing)
    assert _say(call.read_source(reading)) == [Data(id=1, fd=Stream.INPUT, content=b"")]
    assert call.sources() == ()
    os.close(reading)


def test_credit_is_returned_once_half_of_the_window_came() -> None:
    call = OpenCall(1, METHODS["exec"], Streams())
    half = WINDOW_BYTES // 2
    for _ in range(2):
        assert call.take(Data(id=1, fd=Stream.OUTPUT, content=bytes(half - 1))) == b""
        last = call.take(Data(id=1, fd=Stream.OUTPUT, content=b"\0"))
        assert last == encode_credit(Credit(id=1, count=half))


def _say(messages: bytes) -> list[Message]:
    return list(MessageReader(of_guest=True).feed(messages))


def test_guest_lets_nobody_say_more_than_that(plane: Plane) -> None:
    plane.turn()
    said = encode_data(Data(id=1, fd=Stream.RESIZE, content=SIZES[0]))
    with pytest.raises(PeerError) as refused:
        list(plane._session.feed(said))
    assert refused.value.reason == "owner.credit"


@pytest.mark.parametrize(
    "message",
    [
        Reply(msgid=2, outcome=(0, 0)),
        Data(id=2, fd=Stream.OUTPUT, content=b"another's"),
        Data(id=1, fd=9, content=b"nobody's"),
        Credit(id=2, count=1),
    ],
)
def test_what_belongs_to_no_stream_of_the_call_is_refused(message: Message) -> None:
    written: list[bytes] = []
    call = OpenCall(1, METHODS["exec"], Streams(sinks={Stream.OUTPUT: written.append}))
    with pytest.raises(FormatError) as caught:
        call.take(message)
    assert caught.value.reason == "owner.message"
    call.take(Data(id=1, fd=Stream.OUTPUT, content=b"ours"))
    assert (call.outcome, written) == (None, [b"ours"])


@pytest.mark.parametrize(
    "message",
    [
        Reply(msgid=1, outcome=(0, 0)),
        Data(id=1, fd=Stream.OUTPUT, content=b"more"),
        Credit(id=1, count=1),
    ],
)
def test_reply_is_the_end_of_a_call(message: Message) -> None:
    written: list[bytes] = []
    call = OpenCall(1, METHODS["exec"], Streams(sinks={Stream.OUTPUT: written.append}))
    call.take(Data(id=1, fd=Stream.OUTPUT, content=b"all"))
    call.take(Reply(msgid=1, outcome=(3, 0)))
    with pytest.raises(FormatError) as caught:
        call.take(message)
    assert caught.value.reason == "owner.message"
    assert (call.outcome, written) == ((3, 0), [b"all"])
