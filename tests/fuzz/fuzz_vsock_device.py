"""Invariant: whatever a guest writes into its rings and packets, its vsock device ends a ring with
a `FormatError` or serves it, and never holds more than its limits; and what a local end gets of a
connection is what the guest sent there, in order.

Run as `python -m tests.fuzz.fuzz_vsock_device [SECONDS [SEED]]`.
"""

import contextlib
import itertools
import random
import selectors
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ccinit.errors import FormatError
from host_runtime.vsock.capture import CaptureWriter
from host_runtime.vsock.connection import Connection, VsockLimits
from host_runtime.vsock.connections import ConnectionTable
from host_runtime.vsock.datapath import Datapath
from host_runtime.vsock.endpoints import Endpoints, LocalEnd
from host_runtime.vsock.guest_memory import GuestMemory, MemoryRegion
from host_runtime.vsock.packets import HEADER_BYTES, Operation, PacketHeader, encode_header
from host_runtime.vsock.virtqueue import RingLayout, Virtqueue
from tests.fuzz.trials import Trials, run

CID = 3
LISTENING = 1024  # a port of the host
LIMITS = VsockLimits(connections=4, receive_bytes=8192, send_bytes=4096, pending_resets=8)
SIZE = 8
BASE = 0x1000
RING_BYTES, BUFFER_BYTES = 0x400, 0x400
MEMORY_BYTES = 2 * RING_BYTES + 2 * SIZE * BUFFER_BYTES
SPECIAL = (0, 1, 2, 7, 8, 0x7F, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
STEPS = 60


class Driver:
    """A guest's driver of two rings in plain bytes, which it fills well or badly."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.memory = bytearray(MEMORY_BYTES)
        view = memoryview(self.memory)
        region = MemoryRegion(guest_address=BASE, user_address=0, view=view)
        table = GuestMemory((region,))
        self.queues = [
            Virtqueue(memory=table, layout=layout(index), last_available=0) for index in range(2)
        ]
        self.offered = [0, 0]

    def describe(self, ring: int, slot: int, length: int, flags: int = 0, after: int = 0) -> int:
        """Let a descriptor point to the buffer of its slot; return where that lies."""
        place = 2 * RING_BYTES + (ring * SIZE + slot) * BUFFER_BYTES
        descriptor = ring * RING_BYTES + 16 * slot
        struct.pack_into("<QIHH", self.memory, descriptor, BASE + place, length, flags, after)
        return place

    def offer(self, ring: int, slot: int) -> None:
        """Make a chain available."""
        available = ring * RING_BYTES + 16 * SIZE
        spot = available + 4 + 2 * (self.offered[ring] % SIZE)
        struct.pack_into("<H", self.memory, spot, slot)
        self.offered[ring] = (self.offered[ring] + 1) & 0xFFFF
        struct.pack_into("<H", self.memory, available + 2, self.offered[ring])

    def is_full(self, ring: int) -> bool:
        """Whether the device has as many chains as there may be (two descriptors for one)."""
        (used,) = struct.unpack_from("<H", self.memory, ring * RING_BYTES + 16 * SIZE + 64 + 2)
        return bool((self.offered[ring] - used) & 0xFFFF >= SIZE // 2)

    def send(self, packet: bytes) -> None:
        """Send a packet, in one part or in two."""
        if self.is_full(1):
            return
        slot = self.offered[1] % SIZE
        cut = self.source.randrange(len(packet) + 1) if slot % 2 == 0 else len(packet)
        place = self.describe(1, slot, cut, int(cut < len(packet)), slot + 1)
        self.memory[place : place + cut] = packet[:cut]
        if cut < len(packet):
            place = self.describe(1, slot + 1, len(packet) - cut)
            self.memory[place : place + len(packet) - cut] = packet[cut:]
        self.offer(1, slot)

    def make_room(self) -> None:
        """Give the device a buffer to write into."""
        if self.is_full(0):
            return
        slot = self.offered[0] % SIZE
        self.describe(0, slot, self.source.choice((BUFFER_BYTES, 64)), 2)
        self.offer(0, slot)

    def spoil(self) -> None:
        """Change a number somewhere in the rings."""
        spot = 2 * self.source.randrange(RING_BYTES)
        kind = self.source.choice(("<H", "<I"))
        value = self.source.choice(SPECIAL)
        struct.pack_into(kind, self.memory, spot, value & (0xFFFF if kind == "<H" else 0xFFFFFFFF))


def layout(index: int) -> RingLayout:
    start = index * RING_BYTES
    available = start + 16 * SIZE
    return RingLayout(size=SIZE, descriptors=start, available=available, used=available + 64)


class Device:
    """The device without QEMU: what `host_runtime.vsock.device` makes of its parts."""

    def __init__(self, path: Path) -> None:
        self.table = ConnectionTable(guest_cid=CID, limits=LIMITS)
        self.selector = selectors.DefaultSelector()
        self.endpoints = Endpoints(path=path, selector=self.selector, table=self.table)
        self.datapath = Datapath(table=self.table, capture=CaptureWriter(None))

    def turn(self, queues: list[Virtqueue]) -> None:
        """Move what can be moved."""
        for step, queue in ((self.datapath.receive, queues[1]), (self.datapath.send, queues[0])):
            touched: set[Connection] = set()
            step(queue, touched)
            self.check(touched)
            self.endpoints.refresh(touched)
        for key, _events in self.selector.select(0):
            if isinstance(key.data, LocalEnd):
                if key.data.interest:
                    self.endpoints.handle(key.data)
            else:
                self.endpoints.accept()

    def check(self, touched: set[Connection]) -> None:
        assert len(self.table) <= LIMITS.connections
        for connection in touched:
            held = list(connection.to_local)
            assert sum(map(len, held)) <= LIMITS.receive_bytes
            assert len(held) <= 2 + LIMITS.receive_bytes // 2048
            assert len(connection.from_local) <= LIMITS.send_bytes

    def close(self) -> None:
        self.endpoints.close()
        self.selector.close()


def packet(source: random.Random, payload: bytes) -> bytes:
    """Return a packet of a guest that knows few ports and all operations."""
    odd = source.randrange(20) == 0
    header = PacketHeader(
        source_cid=CID + odd,
        destination_cid=source.choice((2, 2, 2, 1)),
        source_port=source.randrange(3),
        destination_port=source.choice((LISTENING, LISTENING, 7, 1 << 30, (1 << 30) + 1)),
        length=source.choice(SPECIAL) if odd else len(payload),
        kind=source.choice((1, 1, 1, 2)) if odd else 1,
        operation=source.choice((*Operation, *(Operation.RW,) * 8, Operation.REQUEST, 99)),
        flags=source.choice((0, 1, 2, 3, 0xFFFFFFFF)),
        buffer_bytes=source.choice((0, 10, 4096, 0xFFFFFFFF)),
        forwarded_bytes=source.choice((0, 0, 1, 4096, 0xFFFFFFFF)),
    )
    return encode_header(header) + payload


def behave(source: random.Random, device: Device, path: Path, listener: socket.socket) -> int:
    """Let a guest and local clients do this and that; return how many bytes local ends got."""
    driver = Driver(source)
    got = 0
    with contextlib.ExitStack() as stack:
        clients: list[socket.socket] = []
        for _ in range(STEPS):
            match source.randrange(8):
                case 0:
                    clients += connect(stack, source, path)
                case 1:
                    driver.make_room()
                case 2 if clients:
                    got += use(source, source.choice(clients))
                case 3 if source.randrange(4) == 0:
                    driver.spoil()
                case _:
                    size = source.randrange(BUFFER_BYTES - HEADER_BYTES)
                    driver.send(packet(source, bytes(size)))
            try:
                device.turn(driver.queues)
            except FormatError as error:
                assert error.reason.startswith("ring."), error  # noqa: PT017
                device.endpoints.close_connections()
                driver = Driver(source)
            clients += [stack.enter_context(one) for one in accepted(listener)]
    device.endpoints.close_connections()
    assert not len(device.table)
    return got


def accepted(listener: socket.socket) -> Iterator[socket.socket]:
    with contextlib.suppress(BlockingIOError):
        while True:
            stream, _ = listener.accept()
            stream.settimeout(0)
            yield stream


def connect(stack: contextlib.ExitStack, source: random.Random, path: Path) -> list[socket.socket]:
    """Be a client of the device's own socket; what it says may be no greeting."""
    client = stack.enter_context(socket.socket(socket.AF_UNIX))
    client.settimeout(0)
    try:
        client.connect(str(path))
    except BlockingIOError:
        return []
    greeting = source.choice((b"CONNECT 1\n", b"CONNECT 2\r\nabc", b"CONNECT \xb2\n", b"\0" * 40))
    client.send(greeting[: source.choice((5, 50, 50))])
    return [client]


def use(source: random.Random, client: socket.socket) -> int:
    """Read, write, or leave; return how many bytes came."""
    with contextlib.suppress(OSError):
        match source.randrange(4):
            case 0:
                client.send(bytes(source.randrange(3000)), socket.MSG_NOSIGNAL)
            case 1:
                client.shutdown(source.choice((socket.SHUT_WR, socket.SHUT_RDWR)))
            case _:
                return len(client.recv(5000))
    return 0


def check_order(source: random.Random, device: Device, listener: socket.socket) -> None:
    """Send numbered bytes through a connection that nobody disturbs."""
    driver = Driver(source)
    sent, got = b"", b""
    numbers = itertools.count()

    def header(operation: int, length: int) -> bytes:
        return encode_header(
            PacketHeader(
                source_cid=CID,
                destination_cid=2,
                source_port=9,
                destination_port=LISTENING,
                length=length,
                kind=1,
                operation=operation,
                flags=0,
                buffer_bytes=4096,
                forwarded_bytes=0,
            )
        )

    driver.make_room()
    driver.send(header(Operation.REQUEST, 0))
    device.turn(driver.queues)
    (stream,) = accepted(listener)
    with stream:
        for _ in range(20):
            payload = bytes(next(numbers) % 251 for _ in range(source.randrange(900)))
            driver.make_room()
            driver.send(header(Operation.RW, len(payload)) + payload)
            sent += payload
            device.turn(driver.queues)
            with contextlib.suppress(BlockingIOError):
                got += stream.recv(LIMITS.receive_bytes)
        assert got == sent
    device.endpoints.close_connections()


def main(seconds: float, seed: int) -> int:
    """Let guests misbehave for a while; return how many did."""
    trials = Trials(seconds, seed)
    got = 0
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "v"
        listener.bind(f"{path}_{LISTENING}")
        listener.listen(16)
        listener.settimeout(0)
        device = Device(path)
        for source in trials:
            got += behave(source, device, path, listener)
            for left in accepted(listener):
                left.close()
            check_order(source, device, listener)
        device.close()
    trials.require(got, one_in=1)
    return trials.count


if __name__ == "__main__":
    run(main)
