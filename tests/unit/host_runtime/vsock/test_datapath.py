"""Packets between a guest's two rings and the connection table, and what is recorded of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import FormatError
from host_runtime.vsock.capture import CaptureWriter, Stream, read_capture
from host_runtime.vsock.connection import Connection, VsockLimits
from host_runtime.vsock.connections import ConnectionTable
from host_runtime.vsock.datapath import Datapath
from host_runtime.vsock.packets import HEADER_BYTES, Operation, PacketHeader, encode_header
from tests.fakes.machine.ring_driver import RingDriver

CID = 3
GUEST_PORT, HOST_PORT = 1024, 5000
MEMORY_BYTES = 1 << 20
BUFFERS = 0x10000
MAX_PAYLOAD = 64 * 1024


class World:
    """A table with one open connection, and a guest with a ring each way."""

    def __init__(self, path: Path, capture: CaptureWriter) -> None:
        self.table = ConnectionTable(guest_cid=CID, limits=VsockLimits(pending_resets=300))
        self.path = path
        self.capture = capture
        self.datapath = Datapath(table=self.table, capture=capture)
        self.ring = RingDriver(512, MEMORY_BYTES)
        self.queue = self.ring.queue()
        self.touched: set[Connection] = set()
        opened = self.table.receive(header(Operation.REQUEST), b"")
        assert opened is not None
        self.connection = opened
        opened.accept()
        self.table.update(opened)
        assert self.table.next_packet(0) is not None  # the response

    def send(self, *packets: bytes) -> bool:
        """Let the guest send packets, one behind the other in its memory, and have them read."""
        at = BUFFERS
        for slot, packet in enumerate(packets):
            self.ring.memory[at : at + len(packet)] = packet
            self.ring.describe(slot, at, len(packet))
            at += len(packet)
        self.ring.offer(*range(len(packets)))
        return self.datapath.receive(self.queue, self.touched)

    def give(self, *sizes: int) -> bool:
        """Let the guest give buffers of these sizes, and have them filled."""
        for slot, size in enumerate(sizes):
            self.ring.describe(slot, BUFFERS + slot * 0x20000, size, 2)
        self.ring.offer(*range(len(sizes)))
        return self.datapath.send(self.queue, self.touched)

    def given(self, slot: int, length: int) -> bytes:
        at = BUFFERS + slot * 0x20000 + HEADER_BYTES
        return bytes(self.ring.memory[at : at + length])

    def captured(self) -> dict[tuple[int, Stream], bytes]:
        self.capture.flush()
        return dict(read_capture(self.path))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    path = tmp_path / "capture"
    with CaptureWriter(path) as capture:
        yield World(path, capture)


def header(
    operation: int, length: int = 0, *, port: int = GUEST_PORT, buffer: int = 1 << 20
) -> PacketHeader:
    return PacketHeader(
        source_cid=CID, destination_cid=2, source_port=port, destination_port=HOST_PORT,
        length=length, kind=1, operation=operation, flags=0, buffer_bytes=buffer,
        forwarded_bytes=0,
    )  # fmt: skip


def packet(operation: int, payload: bytes = b"", length: int | None = None, **fields: int) -> bytes:
    size = len(payload) if length is None else length
    return encode_header(header(operation, size, **fields)) + payload


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        pytest.param(packet(Operation.RW, b"data"), b"data", id="as announced"),
        pytest.param(packet(Operation.RW, b"data and more", 4), b"data", id="less announced"),
        pytest.param(packet(Operation.RW, b"", 0), b"", id="none"),
        pytest.param(packet(Operation.CREDIT_UPDATE, b"data"), b"", id="no data by its operation"),
        pytest.param(packet(Operation.RW, bytes(MAX_PAYLOAD)), bytes(MAX_PAYLOAD), id="largest"),
    ],
)
def test_data_is_as_long_as_its_header_says(world: World, sent: bytes, taken: bytes) -> None:
    assert world.send(sent)
    assert b"".join(world.connection.to_local) == taken
    assert world.touched == {world.connection}
    assert world.ring.used() == (1, 0, 0)
    captured = world.captured()
    assert captured.pop((1, Stream.GUEST_HEADER)) == sent[:HEADER_BYTES]
    assert captured == ({(1, Stream.GUEST_PAYLOAD): sent[HEADER_BYTES:]} if sent[44:] else {})


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param(packet(Operation.RW, b"data", 5), id="more announced"),
        pytest.param(packet(Operation.RW, bytes(MAX_PAYLOAD + 1)), id="too long"),
        pytest.param(packet(Operation.RW)[:-1], id="no whole header"),
    ],
)
def test_malformed_packet_is_dropped_recorded_and_told_once(
    world: World, caplog: pytest.LogCaptureFixture, malformed: bytes
) -> None:
    assert world.send(malformed, malformed, packet(Operation.RW, b"good"))
    assert list(world.connection.to_local) == [b"good"]
    assert world.touched == {world.connection}
    assert world.ring.used() == (3, 2, 0)
    assert world.datapath.dropped == 2
    assert len(caplog.records) == 1
    assert world.captured()[0, Stream.GUEST_HEADER] == 2 * malformed[:HEADER_BYTES]


def test_packet_of_no_connection_is_recorded_as_nobodys(world: World) -> None:
    world.send(packet(Operation.RW, b"lost", port=99))
    assert world.touched == set()
    assert world.captured()[0, Stream.GUEST_PAYLOAD] == b"lost"
    assert world.table.has_output  # its reset


def test_guest_that_sends_on_and_on_is_left_after_some_packets(world: World) -> None:
    assert world.send(*[packet(Operation.RW, b"x")] * 300)
    assert world.ring.used()[0] == 256
    assert world.datapath.receive(world.queue, world.touched)
    assert world.ring.used()[0] == 300
    assert not world.datapath.receive(world.queue, world.touched)
    assert b"".join(world.connection.to_local) == b"x" * 300


def test_guest_that_takes_no_answers_is_not_read(world: World) -> None:
    lost = packet(Operation.RW, port=99)
    for _ in range(2):
        world.send(*[lost] * 400)
        world.datapath.receive(world.queue, world.touched)
    assert world.ring.used()[0] == 300  # as many as resets may wait
    assert not world.datapath.receive(world.queue, world.touched)


def test_buffers_are_filled_as_far_as_they_have_room(world: World) -> None:
    world.connection.local_data(b"0123456789" * 10)
    world.table.update(world.connection)
    assert world.give(HEADER_BYTES + 1, HEADER_BYTES + 4096, 100)
    assert world.ring.used() == (2, 1, HEADER_BYTES + 99)  # there was no more for a third
    assert world.given(0, 2) == b"0\0"
    assert world.given(1, 99) == (b"0123456789" * 10)[1:]
    assert world.touched == {world.connection}
    assert world.captured() == {(1, Stream.HOST_PAYLOAD): b"0123456789" * 10}
    assert not world.datapath.send(world.queue, world.touched)


def test_reset_of_nobodys_packet_fills_a_buffer_that_has_room_for_no_more(world: World) -> None:
    world.send(packet(Operation.RW, port=99))
    world.ring = RingDriver(4, MEMORY_BYTES)
    world.queue = world.ring.queue()
    assert world.give(HEADER_BYTES + 1)
    assert world.ring.used() == (1, 0, HEADER_BYTES)
    assert world.touched == set()


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES])
def test_buffer_without_room_for_a_byte_is_an_error_of_the_ring(world: World, size: int) -> None:
    assert not world.give(size)  # as long as there is nothing to say
    world.connection.local_data(b"x")
    world.table.update(world.connection)
    with pytest.raises(FormatError) as error:
        world.datapath.send(world.queue, world.touched)
    assert error.value.reason == "ring.buffer"


def test_host_that_sends_on_and_on_is_left_after_some_packets(world: World) -> None:
    world.connection.local_data(b"x" * 300)
    world.table.update(world.connection)
    for slot in range(300):
        world.ring.describe(slot, BUFFERS, HEADER_BYTES + 1, 2)
    world.ring.offer(*range(300))
    for moved, used in ((True, 256), (True, 300), (False, 300)):
        assert world.datapath.send(world.queue, world.touched) is moved
        assert world.ring.used()[0] == used
