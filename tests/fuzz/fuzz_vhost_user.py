"""Invariant: whatever QEMU asks of the vsock device, in any order, with any descriptors, and
wherever it dies, the device serves it or ends with a `FormatError`; each request that wants a reply
has one, and no descriptor stays behind.

Run as `python -m tests.fuzz.fuzz_vhost_user [SECONDS [SEED]]`.
"""

import contextlib
import gc
import logging
import os
import random
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ccinit.errors import FormatError
from host_runtime.vsock.capture import CaptureWriter
from host_runtime.vsock.device import VsockDevice
from host_runtime.vsock.vhost_user import Request, encode_number, encode_vring_state
from tests.fakes.machine.scarcity import count_descriptors
from tests.fakes.machine.vhost_front_end import encode_request
from tests.fuzz.trials import Trials, run

CID = 3
MEMORY_BYTES = 0x4000
GUEST_BASE, USER_BASE = 0x4000_0000, 0x7F00_0000_0000
SIZES = (0, 1, 3, 16, 16, 16, 16, 1024, 0xFFFF_FFFF)
GETTERS = (
    *(Request.GET_FEATURES, Request.GET_PROTOCOL_FEATURES, Request.GET_QUEUE_NUM),
    *(Request.GET_CONFIG, Request.GET_VRING_BASE),
)
Wish = tuple[bytes, tuple[int, ...]]


class FrontEnd:
    """A QEMU's memory and eventfds, and what it may say with them."""

    def __init__(self, source: random.Random, stack: contextlib.ExitStack) -> None:
        self._source = source
        self.memory = os.memfd_create("guest")
        stack.callback(os.close, self.memory)
        os.ftruncate(self.memory, MEMORY_BYTES)
        self.events = [os.eventfd(1, os.EFD_NONBLOCK) for _ in range(4)]
        for event in self.events:
            stack.callback(os.close, event)
        # A driver's rings, which hold what chance has put there.
        if source.randrange(3) == 0:
            os.pwrite(self.memory, source.randbytes(256), source.randrange(0x2000))

    def wishes(self) -> Iterator[Wish]:
        """Yield what a QEMU says that sets both rings up, now and then badly."""
        yield self._make(Request.SET_OWNER, b"")
        yield self._make(
            Request.SET_FEATURES, encode_number(self._pick(1 << 32 | 1 << 30, 1 << 32))
        )
        yield self.table()
        for index in range(2):
            yield from self.ring(index)
        for _ in range(self._source.randrange(8)):
            yield self.any()

    def ring(self, index: int) -> Iterator[Wish]:
        """Yield what starts a ring."""
        yield self._make(Request.SET_VRING_NUM, encode_vring_state(index, self._pick(*SIZES)))
        yield self._make(Request.SET_VRING_BASE, encode_vring_state(index, 0))
        parts = (USER_BASE + 0x1000 * index + part for part in (0, 0x800, 0x400))
        yield self._make(Request.SET_VRING_ADDR, struct.pack("<IIQQQQ", index, 0, *parts, 0))
        for what in (Request.SET_VRING_KICK, Request.SET_VRING_CALL):
            yield self._make(what, encode_number(index), (self._source.choice(self.events),))
        yield self._make(Request.SET_VRING_ENABLE, encode_vring_state(index, 1))

    def table(self) -> Wish:
        """Return a memory table, mostly of the one file that there is."""
        size = self._pick(MEMORY_BYTES, MEMORY_BYTES + 1, 0, (1 << 64) - 1)
        offset = self._pick(0, 0, 0x1000, (1 << 64) - 1)
        row = struct.pack("<QQQQ", GUEST_BASE, size, USER_BASE, offset)
        count = self._pick(1, 1, 2, 8)
        return self._make(
            Request.SET_MEM_TABLE,
            struct.pack("<II", count, 0) + row * count,
            (self.memory,) * count,
        )

    def any(self) -> Wish:
        """Return anything that a QEMU may say."""
        index = self._pick(0, 1, 2, 256, 257)
        number = self._pick(0, 1, 2, 0xFFFF, 0xFFFF_FFFF)
        match self._source.randrange(6):
            case 0:
                return self.table()
            case 1:
                return self._source.choice(list(self.ring(index & 1)))
            case 2:
                return self._make(Request.GET_VRING_BASE, encode_vring_state(index, number))
            case 3:
                request = self._pick(Request.SET_VRING_ENABLE, Request.SET_VRING_BASE)
                return self._make(request, encode_vring_state(index, number))
            case 4:
                config = struct.pack("<III", number, number & 0xFF, 0) + bytes(number & 0xFF)
                return self._make(Request.GET_CONFIG, config)
            case _:
                request = self._pick(*Request, 0, 99)
                descriptors = tuple(self._source.choices(self.events, k=self._source.randrange(3)))
                payload = self._source.randbytes(self._pick(0, 8, 40))
                return self._make(request, payload, descriptors)

    def _make(self, request: int, payload: bytes, descriptors: tuple[int, ...] = ()) -> Wish:
        return encode_request(request, payload, needs_reply=request not in GETTERS), descriptors

    def _pick(self, *values: int) -> int:
        """Return the first one mostly."""
        return values[0] if self._source.randrange(4) else self._source.choice(values)


def converse(source: random.Random, device: VsockDevice, qemu: socket.socket) -> int:
    """Say all that a QEMU says and let it die; return how many replies it got."""
    with contextlib.ExitStack() as stack:
        wishes = list(FrontEnd(source, stack).wishes())
        for data, descriptors in wishes:
            socket.send_fds(qemu, [data], descriptors)
        if source.randrange(3) == 0:
            qemu.send(source.randbytes(source.randrange(1, 20)))
        qemu.shutdown(socket.SHUT_WR)
        wakeup, never = socket.socketpair()
        with wakeup, never:
            try:
                device.run(wakeup)
                is_sound = True
            except FormatError as error:
                assert error.reason.startswith("vhost."), error  # noqa: PT017
                is_sound = False
        replies = count_replies(qemu)
        assert replies <= len(wishes)
        assert replies >= len(wishes) or not is_sound
        return replies


def count_replies(qemu: socket.socket) -> int:
    data, count = qemu.recv(1 << 20, socket.MSG_DONTWAIT), 0
    while data:
        _, flags, size = struct.unpack_from("<III", data)
        assert flags == 5
        data, count = data[12 + size :], count + 1
    return count


def serve(source: random.Random, folder: Path) -> int:
    """Let one QEMU have a device; return how many replies it got."""
    control, qemu = socket.socketpair()
    with control, qemu, CaptureWriter(None) as capture:
        device = VsockDevice(control=control, path=folder / "v", guest_cid=CID, capture=capture)
        try:
            return converse(source, device, qemu)
        finally:
            device.close()


def main(seconds: float, seed: int) -> int:
    """Serve one QEMU after another for a while; return how many."""
    trials = Trials(seconds, seed)
    logging.getLogger("host_runtime").setLevel(logging.CRITICAL)
    replies = 0
    gc.collect()  # what others have left in this process may go at any time
    before = count_descriptors()
    with tempfile.TemporaryDirectory() as folder:
        for source in trials:
            replies += serve(source, Path(folder))
            if count_descriptors() != before:
                gc.collect()  # a mapping has one, too, and goes with its device
                assert count_descriptors() == before
    trials.require(replies, one_in=1)
    return trials.count


if __name__ == "__main__":
    run(main)
