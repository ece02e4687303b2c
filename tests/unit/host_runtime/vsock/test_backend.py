"""What QEMU's messages make of two rings, and who closes the descriptors that come along."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import FormatError
from host_runtime.vsock.backend import FROM_GUEST, TO_GUEST, Ring, VhostUserBackend
from host_runtime.vsock.vhost_user import (
    FEATURE_PROTOCOL,
    FEATURE_VERSION_1,
    Message,
    Request,
    encode_number,
    encode_reply,
    encode_vring_state,
)

CID = 7
SIZE = 4
MEMORY_BYTES = 0x2000
USER_BASE = 0x7F00_0000_0000


class Qemu:
    """Sends messages, and watches as the device would; keeps a second name of each descriptor."""

    def __init__(self) -> None:
        self.backend = VhostUserBackend(guest_cid=CID, observer=self)
        self.watched: dict[int, Ring] = {}
        self.losses = 0
        self.memory = os.memfd_create("guest")
        os.ftruncate(self.memory, MEMORY_BYTES)

    def add_kick(self, descriptor: int, ring: Ring) -> None:
        assert descriptor not in self.watched
        os.fstat(descriptor)
        self.watched[descriptor] = ring

    def remove_kick(self, descriptor: int) -> None:
        os.fstat(descriptor)
        del self.watched[descriptor]

    def lose_ring(self) -> None:
        self.losses += 1

    def say(
        self, request: int, payload: bytes = b"", *descriptors: int, needs_reply: bool = False
    ) -> bytes | None:
        message = Message(
            request=request, needs_reply=needs_reply, payload=payload, descriptors=descriptors
        )
        return self.backend.handle(message)

    def share_memory(self) -> None:
        row = struct.pack("<IIQQQQ", 1, 0, 0, MEMORY_BYTES, USER_BASE, 0)
        passed = os.dup(self.memory)
        self.say(Request.SET_MEM_TABLE, row, passed)
        assert is_closed(passed)

    def set_up(self, index: int, *, base: int = 0, size: int = SIZE) -> None:
        """Say everything about a ring but that it is enabled."""
        at = USER_BASE + index * 0x1000
        self.say(Request.SET_VRING_NUM, encode_vring_state(index, size))
        self.say(Request.SET_VRING_BASE, encode_vring_state(index, base))
        address = struct.pack("<IIQQQQ", index, 0, at, at + 0x800, at + 0x400, 0)
        self.say(Request.SET_VRING_ADDR, address)
        self.say(Request.SET_VRING_KICK, encode_number(index), os.eventfd(0))

    def enable(self, index: int, *, is_on: bool = True) -> None:
        self.say(Request.SET_VRING_ENABLE, encode_vring_state(index, int(is_on)))

    def running(self) -> list[int]:
        return [ring.index for ring in self.backend.rings if ring.queue is not None]


@pytest.fixture
def qemu() -> Iterator[Qemu]:
    qemu = Qemu()
    before = count_eventfds()
    yield qemu
    qemu.backend.close()
    assert qemu.watched == {}
    assert count_eventfds() == before
    os.close(qemu.memory)


NUMBER = encode_number(0)
STATE = encode_vring_state(0, 1)


@pytest.mark.parametrize(
    ("request_number", "payload", "answer"),
    [
        (Request.GET_FEATURES, b"", encode_number(FEATURE_VERSION_1 | FEATURE_PROTOCOL)),
        (Request.GET_PROTOCOL_FEATURES, b"", encode_number(1 << 3 | 1 << 9)),
        (Request.GET_QUEUE_NUM, b"", encode_number(2)),
        (Request.GET_VRING_BASE, STATE, encode_vring_state(0, 0)),
        (
            Request.GET_CONFIG,
            struct.pack("<III", 0, 8, 0) + bytes(8),
            struct.pack("<III", 0, 8, 0) + encode_number(CID),
        ),
    ],
)
def test_question_has_one_answer_whether_or_not_a_reply_is_asked_for(
    qemu: Qemu, request_number: int, payload: bytes, answer: bytes
) -> None:
    expected = encode_reply(request_number, answer)
    assert qemu.say(request_number, payload) == expected
    assert qemu.say(request_number, payload, needs_reply=True) == expected


@pytest.mark.parametrize(
    ("request_number", "payload"),
    [
        (Request.SET_OWNER, b""),
        (Request.RESET_OWNER, b""),
        (Request.SET_FEATURES, NUMBER),
        (Request.SET_PROTOCOL_FEATURES, NUMBER),
        (Request.SET_VRING_NUM, STATE),
        (Request.SET_VRING_BASE, STATE),
        (Request.SET_VRING_ENABLE, STATE),
        (Request.SET_VRING_ADDR, struct.pack("<IIQQQQ", 0, 0, 0, 0, 0, 0)),
    ],
)
def test_order_is_acknowledged_if_that_is_asked_for(
    qemu: Qemu, request_number: int, payload: bytes
) -> None:
    assert qemu.say(request_number, payload) is None
    done = encode_reply(request_number, encode_number(0))
    assert qemu.say(request_number, payload, needs_reply=True) == done


@pytest.mark.parametrize(
    ("request_number", "payload", "count", "reason"),
    [
        (77, b"", 0, "vhost.request"),
        (Request.SET_FEATURES, encode_number(1 << 29), 0, "vhost.features"),
        (Request.SET_MEM_TABLE, struct.pack("<IIQQQQ", 1, 0, 0, 64, 0, 0), 2, "vhost.memory"),
        (Request.SET_VRING_NUM, encode_vring_state(2, 4), 0, "vhost.ring"),
        (Request.SET_VRING_BASE, encode_vring_state(2, 4), 0, "vhost.ring"),
        (Request.SET_VRING_ENABLE, encode_vring_state(2, 1), 0, "vhost.ring"),
        (Request.GET_VRING_BASE, encode_vring_state(2, 0), 0, "vhost.ring"),
        (Request.SET_VRING_ADDR, struct.pack("<IIQQQQ", 2, 0, 0, 0, 0, 0), 0, "vhost.ring"),
        (Request.SET_VRING_KICK, encode_number(2), 1, "vhost.ring"),
        (Request.SET_VRING_CALL, encode_number(0xFF), 1, "vhost.ring"),
        (Request.SET_VRING_ERR, encode_number(2), 1, "vhost.ring"),
        (Request.SET_VRING_KICK, NUMBER, 0, "vhost.descriptor"),
        (Request.SET_VRING_CALL, NUMBER, 2, "vhost.descriptor"),
        (Request.SET_VRING_ERR, NUMBER, 0, "vhost.descriptor"),
        (77, b"", 3, "vhost.request"),
    ],
)
def test_message_that_breaks_the_protocol_is_refused_and_leaves_no_descriptor(
    qemu: Qemu, request_number: int, payload: bytes, count: int, reason: str
) -> None:
    with pytest.raises(FormatError) as error:
        qemu.say(request_number, payload, *(os.eventfd(0) for _ in range(count)))
    assert error.value.reason == reason


def test_descriptors_are_closed_as_soon_as_nobody_wants_them(qemu: Qemu) -> None:
    stray = os.eventfd(0)
    qemu.say(Request.SET_OWNER, b"", stray)
    unwanted = os.eventfd(0)
    qemu.say(Request.SET_VRING_ERR, NUMBER, unwanted)
    assert is_closed(stray)
    assert is_closed(unwanted)
    for request in (Request.SET_VRING_KICK, Request.SET_VRING_CALL):
        first, second = os.eventfd(0), os.eventfd(0)
        qemu.say(request, NUMBER, first)
        qemu.say(request, NUMBER, second)
        assert [is_closed(first), is_closed(second)] == [True, False]
        qemu.say(request, encode_number(1 << 8))  # none from now on
        assert is_closed(second)
    assert qemu.watched == {}


def test_ring_runs_once_it_is_whole_enabled_and_in_memory(qemu: Qemu) -> None:
    qemu.set_up(FROM_GUEST)
    qemu.enable(FROM_GUEST)
    assert qemu.running() == []
    qemu.share_memory()
    assert qemu.running() == [FROM_GUEST]
    qemu.set_up(TO_GUEST)
    assert qemu.running() == [FROM_GUEST]
    qemu.enable(TO_GUEST)
    assert qemu.running() == [TO_GUEST, FROM_GUEST]
    assert [ring.index for ring in qemu.watched.values()] == [FROM_GUEST, TO_GUEST]
    qemu.enable(TO_GUEST, is_on=False)
    assert qemu.running() == [FROM_GUEST]
    qemu.say(Request.GET_VRING_BASE, encode_vring_state(FROM_GUEST, 0))
    assert qemu.running() == []
    assert [ring.index for ring in qemu.watched.values()] == [TO_GUEST]
    assert qemu.losses == 0


def test_rings_need_no_message_to_run_where_there_is_none(qemu: Qemu) -> None:
    qemu.share_memory()
    qemu.say(Request.SET_FEATURES, encode_number(FEATURE_VERSION_1 | FEATURE_PROTOCOL))
    qemu.set_up(TO_GUEST)
    assert qemu.running() == []
    qemu.say(Request.SET_FEATURES, encode_number(FEATURE_VERSION_1))
    qemu.set_up(FROM_GUEST)
    assert qemu.running() == [FROM_GUEST]
    qemu.set_up(TO_GUEST)
    assert qemu.running() == [TO_GUEST, FROM_GUEST]


@pytest.mark.parametrize(("base", "losses"), [(5, 0), (0, 1), (6, 1)])
def test_ring_that_goes_on_elsewhere_has_lost_what_was_under_way(
    qemu: Qemu, base: int, losses: int
) -> None:
    qemu.share_memory()
    qemu.set_up(TO_GUEST, base=5)
    qemu.enable(TO_GUEST)
    state = encode_vring_state(TO_GUEST, 0)
    assert qemu.say(Request.GET_VRING_BASE, state) == encode_reply(
        Request.GET_VRING_BASE, encode_vring_state(TO_GUEST, 5)
    )
    before = qemu.losses
    qemu.set_up(TO_GUEST, base=base)
    assert qemu.losses - before == losses
    assert qemu.running() == [TO_GUEST]


def test_broken_ring_waits_for_its_reset_and_the_other_goes_on(
    qemu: Qemu, caplog: pytest.LogCaptureFixture
) -> None:
    qemu.share_memory()
    qemu.set_up(TO_GUEST)
    qemu.enable(TO_GUEST)
    qemu.set_up(FROM_GUEST, size=3)
    qemu.enable(FROM_GUEST)
    assert qemu.losses == 1
    assert [record.getMessage() for record in caplog.records] == [
        "ring 1 is broken: ring.size: 3 entries"
    ]
    qemu.set_up(FROM_GUEST)
    qemu.enable(FROM_GUEST)
    qemu.share_memory()
    assert qemu.running() == [TO_GUEST]
    qemu.say(Request.GET_VRING_BASE, encode_vring_state(FROM_GUEST, 0))
    qemu.set_up(FROM_GUEST)
    assert qemu.running() == [TO_GUEST, FROM_GUEST]
    assert qemu.losses == 1


def test_driver_is_told_of_buffers_if_it_asks_and_can_be_told(qemu: Qemu) -> None:
    call = os.eventfd(0, os.EFD_NONBLOCK)
    ring = qemu.backend.rings[TO_GUEST]
    qemu.say(Request.SET_VRING_CALL, encode_number(TO_GUEST), os.dup(call))
    ring.interrupt()  # it does not run
    with pytest.raises(BlockingIOError):
        os.eventfd_read(call)
    qemu.share_memory()
    qemu.set_up(TO_GUEST)
    qemu.enable(TO_GUEST)
    ring.interrupt()
    assert os.eventfd_read(call) > 0
    os.pwrite(qemu.memory, b"\1", 0x400)  # the driver's flag: no interrupt
    ring.interrupt()
    with pytest.raises(BlockingIOError):
        os.eventfd_read(call)
    os.pwrite(qemu.memory, b"\0", 0x400)
    qemu.say(Request.SET_VRING_CALL, encode_number(1 << 8 | TO_GUEST))
    ring.interrupt()
    os.close(call)


def count_eventfds() -> int:
    entries = Path("/proc/self/fd").iterdir()
    return sum("eventfd" in str(entry.readlink()) for entry in entries if entry.is_symlink())


def is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False
