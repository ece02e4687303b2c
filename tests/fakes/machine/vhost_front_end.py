"""QEMU and a guest's vsock driver in one small object: shared memory, two rings, eventfds.

It can do everything a hostile driver can, because its rings are plain bytes that a test may spoil.
"""

import mmap
import os
import select
import socket
import struct
import time
from pathlib import Path
from typing import Self

from host_runtime.vsock.packets import (
    HEADER_BYTES,
    HOST_CID,
    Operation,
    PacketHeader,
    encode_header,
    parse_header,
)
from host_runtime.vsock.vhost_user import Request, encode_number, encode_vring_state

GUEST_CID = 7
MEMORY_BYTES = 2 * 1024 * 1024
GUEST_BASE = 0x4000_0000
USER_BASE = 0x7F00_0000_0000
RING_SIZE = 16
_BUFFER_BYTES = 96 * 1024
_RING_AREA = 0x1000


def encode_request(request: int, payload: bytes, *, needs_reply: bool = False) -> bytes:
    """Return a vhost-user message, version 1, as QEMU sends it."""
    return struct.pack("<III", request, 1 | needs_reply << 3, len(payload)) + payload


class Ring:
    """One ring's three parts in shared memory, as the driver handles them."""

    def __init__(self, memory: mmap.mmap, index: int) -> None:
        self.memory = memory
        self.index = index
        self.base = index * _RING_AREA
        self.available = self.base + 0x400
        self.used = self.base + 0x800
        self.seen = 0
        self.kick = os.eventfd(0, os.EFD_NONBLOCK)
        self.call = os.eventfd(0, os.EFD_NONBLOCK)

    def set_descriptor(self, slot: int, address: int, length: int, flags: int, next_: int) -> None:
        struct.pack_into("<QIHH", self.memory, self.base + 16 * slot, address, length, flags, next_)

    def set_available(self, index: int) -> None:
        struct.pack_into("<H", self.memory, self.available + 2, index & 0xFFFF)

    def offer(self, head: int) -> None:
        (index,) = struct.unpack_from("<H", self.memory, self.available + 2)
        struct.pack_into("<H", self.memory, self.available + 4 + 2 * (index % RING_SIZE), head)
        self.set_available(index + 1)

    def take_used(self) -> tuple[int, int] | None:
        (index,) = struct.unpack_from("<H", self.memory, self.used + 2)
        if index == self.seen & 0xFFFF:
            return None
        at = self.used + 4 + 8 * (self.seen % RING_SIZE)
        self.seen += 1
        head, length = struct.unpack_from("<II", self.memory, at)
        return head, length

    def clear(self) -> None:
        self.memory[self.base : self.base + _RING_AREA] = bytes(_RING_AREA)
        self.seen = 0


class FrontEnd:
    """A vhost-user client with a driver behind it; a context manager."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.memfd_create("guest")
        os.ftruncate(self.descriptor, MEMORY_BYTES)
        self.memory = mmap.mmap(self.descriptor, MEMORY_BYTES)
        self.to_guest, self.from_guest = Ring(self.memory, 0), Ring(self.memory, 1)
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.control.settimeout(60)
        self.control.connect(str(path))
        self._next_slot = 0

    def request(
        self, request: int, payload: bytes = b"", descriptors: tuple[int, ...] = ()
    ) -> bytes:
        """Send a request and return its reply's payload; setters are acknowledged with 0."""
        is_getter = request in {1, 11, 15, 17, 24}
        data = encode_request(request, payload, needs_reply=not is_getter)
        socket.send_fds(self.control, [data], list(descriptors))
        head = self._receive(12)
        number, flags, size = struct.unpack("<III", head)
        assert (number, flags) == (request, 5)
        return self._receive(size)

    def negotiate(self) -> None:
        self.request(Request.SET_OWNER)
        self.request(Request.SET_FEATURES, self.request(Request.GET_FEATURES))
        self.request(Request.SET_PROTOCOL_FEATURES, self.request(Request.GET_PROTOCOL_FEATURES))
        self.set_memory(MEMORY_BYTES)

    def set_memory(self, size: int) -> bytes:
        table = struct.pack("<IIQQQQ", 1, 0, GUEST_BASE, size, USER_BASE, 0)
        return self.request(Request.SET_MEM_TABLE, table, (self.descriptor,))

    def start(self, size: int = RING_SIZE) -> None:
        """Set both rings up and enable them, empty."""
        for ring in (self.to_guest, self.from_guest):
            ring.clear()
        self._start(size, (0, 0))

    def go_on(self, bases: tuple[int, ...]) -> None:
        """Start both rings where they were stopped, as for a machine that was paused."""
        self._start(RING_SIZE, bases)

    def _start(self, size: int, bases: tuple[int, ...]) -> None:
        for ring, base in zip((self.to_guest, self.from_guest), bases, strict=True):
            self.request(Request.SET_VRING_NUM, encode_vring_state(ring.index, size))
            self.request(Request.SET_VRING_BASE, encode_vring_state(ring.index, base))
            parts = (USER_BASE + part for part in (ring.base, ring.used, ring.available))
            address = struct.pack("<IIQQQQ", ring.index, 0, *parts, 0)
            self.request(Request.SET_VRING_ADDR, address)
            index = encode_number(ring.index)
            self.request(Request.SET_VRING_KICK, index, (ring.kick,))
            self.request(Request.SET_VRING_CALL, index, (ring.call,))
            self.enable(ring, is_on=True)

    def enable(self, ring: Ring, *, is_on: bool) -> None:
        """Let the device serve a ring that is set up, or hold it."""
        self.request(Request.SET_VRING_ENABLE, encode_vring_state(ring.index, int(is_on)))

    def stop(self) -> tuple[int, ...]:
        """Stop both rings, as for a guest that reboots or a machine that is paused.

        Returns:
            Where they were.
        """
        indexes = (self.to_guest.index, self.from_guest.index)
        asked = (encode_vring_state(index, 0) for index in indexes)
        replies = [self.request(Request.GET_VRING_BASE, state) for state in asked]
        return tuple(struct.unpack("<II", reply)[1] for reply in replies)

    def give_buffers(self, count: int, size: int = 4096 + HEADER_BYTES) -> None:
        """Let the device have `count` buffers to write packets into."""
        for slot in range(count):
            address = GUEST_BASE + 0x10000 + slot * 0x2000
            self.to_guest.set_descriptor(slot, address, size, 2, 0)
            self.to_guest.offer(slot)
        self.kick(self.to_guest)

    def send(
        self,
        operation: int,
        *,
        port: int,
        host_port: int,
        payload: bytes = b"",
        announced: int | None = None,
        buffer: int = 65536,
        forwarded: int = 0,
        flags: int = 0,
        cid: int = GUEST_CID,
        kind: int = 1,
    ) -> None:
        """Put one packet on the guest's ring, header and payload in a descriptor each."""
        header = PacketHeader(
            source_cid=cid,
            destination_cid=HOST_CID,
            source_port=port,
            destination_port=host_port,
            length=len(payload) if announced is None else announced,
            kind=kind,
            operation=operation,
            flags=flags,
            buffer_bytes=buffer,
            forwarded_bytes=forwarded,
        )
        slot = self._next_slot
        self._next_slot = (slot + 2) % RING_SIZE
        offset = 0x80000 + (slot // 2) * _BUFFER_BYTES
        self.memory[offset : offset + HEADER_BYTES] = encode_header(header)
        at = offset + HEADER_BYTES
        self.memory[at : at + len(payload)] = payload
        ring = self.from_guest
        ring.set_descriptor(slot, GUEST_BASE + offset, HEADER_BYTES, 1, slot + 1)
        ring.set_descriptor(slot + 1, GUEST_BASE + at, len(payload), 0, 0)
        ring.offer(slot)
        self.kick(ring)

    def send_rst(self, port: int, host_port: int) -> None:
        self.send(Operation.RST, port=port, host_port=host_port)

    def kick(self, ring: Ring) -> None:
        os.eventfd_write(ring.kick, 1)

    def receive(self, seconds: float = 60.0) -> tuple[PacketHeader, bytes]:
        """Return the next packet for the guest, and give its buffer back."""
        ring = self.to_guest
        deadline = time.monotonic() + seconds
        while (used := ring.take_used()) is None:
            left = deadline - time.monotonic()
            assert left > 0, "no packet for the guest"
            select.select([ring.call], [], [], min(left, 0.05))
        slot, length = used
        offset = 0x10000 + slot * 0x2000
        data = self.memory[offset : offset + length]
        ring.offer(slot)
        self.kick(ring)
        return parse_header(data[:HEADER_BYTES], length - HEADER_BYTES), data[HEADER_BYTES:]

    def is_quiet(self, seconds: float = 0.2) -> bool:
        """Whether nothing is sent to the guest for `seconds`."""
        time.sleep(seconds)
        (index,) = struct.unpack_from("<H", self.memory, self.to_guest.used + 2)
        return bool(index == self.to_guest.seen & 0xFFFF)

    def count_read(self) -> int:
        """How many buffers of the guest's ring the device has given back, modulo 65536."""
        (index,) = struct.unpack_from("<H", self.memory, self.from_guest.used + 2)
        return int(index)

    def wait_until_read(self, seconds: float = 60.0) -> None:
        """Wait until the device has given every buffer of the guest's ring back."""
        deadline = time.monotonic() + seconds
        ring = self.from_guest
        while (
            self.memory[ring.available + 2 : ring.available + 4]
            != (self.memory[ring.used + 2 : ring.used + 4])
        ):
            assert time.monotonic() < deadline, "the guest's ring is not read"
            time.sleep(0.005)

    def close(self) -> None:
        self.control.close()
        for descriptor in (
            self.descriptor,
            *(self.to_guest.kick, self.to_guest.call, self.from_guest.kick, self.from_guest.call),
        ):
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.control.recv(size - len(data))
            assert piece, "the device has closed its side"
            data += piece
        return data
