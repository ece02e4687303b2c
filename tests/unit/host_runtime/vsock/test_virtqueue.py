import struct

import pytest

from ccinit.errors import FormatError
from host_runtime.vsock.guest_memory import GuestMemory, MemoryRegion
from host_runtime.vsock.virtqueue import RingLayout, Virtqueue

SIZE = 4
LAYOUT = RingLayout(size=SIZE, descriptors=0x1000, available=0x1100, used=0x1200)


class Driver:
    """A driver over plain bytes: user addresses from 0x1000, guest addresses from 0."""

    def __init__(self) -> None:
        self.memory = bytearray(0x2000)
        region = MemoryRegion(guest_address=0, user_address=0x1000, view=memoryview(self.memory))
        self.table = GuestMemory((region,))

    def queue(self, layout: RingLayout = LAYOUT, last: int = 0) -> Virtqueue:
        return Virtqueue(memory=self.table, layout=layout, last_available=last)

    def describe(
        self, slot: int, address: int, length: int, flags: int = 0, after: int = 0
    ) -> None:
        struct.pack_into("<QIHH", self.memory, 16 * slot, address, length, flags, after)

    def offer(self, *heads: int, first: int = 0) -> None:
        for number, head in enumerate(heads, first):
            struct.pack_into("<H", self.memory, 0x104 + 2 * (number % SIZE), head)
        struct.pack_into("<H", self.memory, 0x102, (first + len(heads)) & 0xFFFF)

    def used(self) -> tuple[int, int, int]:
        index = struct.unpack_from("<H", self.memory, 0x202)[0]
        head, length = struct.unpack_from("<II", self.memory, 0x204 + 8 * ((index - 1) % SIZE))
        return index, head, length


def test_empty_ring_gives_nothing() -> None:
    assert Driver().queue().take() is None


def test_chain_is_read_in_order_and_given_back() -> None:
    driver = Driver()
    driver.memory[0x800:0x80A] = b"0123456789"
    driver.describe(2, 0x800, 4, 1, 0)
    driver.describe(0, 0x804, 6, 1, 1)
    driver.describe(1, 0x900, 8, 2)
    driver.offer(2)
    queue = driver.queue()
    chain = queue.take()
    assert chain is not None
    assert chain.read(100) == b"0123456789"
    assert chain.read(7) == b"0123456"
    assert chain.writable_bytes == 8
    chain.write(b"abc")
    queue.publish(chain, 3)
    assert bytes(driver.memory[0x900:0x904]) == b"abc\0"
    assert driver.used() == (1, 2, 3)
    assert queue.take() is None


def test_write_goes_on_in_the_next_part() -> None:
    driver = Driver()
    driver.describe(0, 0x900, 2, 3, 1)
    driver.describe(1, 0xA00, 4, 2)
    driver.offer(0)
    chain = driver.queue().take()
    assert chain is not None
    chain.write(b"abcd")
    assert bytes(driver.memory[0x900:0x903]) == b"ab\0"
    assert bytes(driver.memory[0xA00:0xA03]) == b"cd\0"


def test_indexes_wrap_after_65535() -> None:
    driver = Driver()
    driver.describe(3, 0x800, 1)
    driver.offer(3, 3, first=0xFFFF)
    queue = driver.queue(last=0xFFFF)
    struct.pack_into("<H", driver.memory, 0x202, 0xFFFF)
    for expected in (0, 1):
        chain = queue.take()
        assert chain is not None
        queue.publish(chain, 0)
        assert driver.used()[0] == expected
    assert queue.take() is None


def test_ring_may_be_full_and_its_index_does_not_go_back() -> None:
    driver = Driver()
    driver.describe(0, 0x800, 1)
    driver.offer(0, 0, 0, 0)
    queue = driver.queue()
    assert [queue.take() is not None for _ in range(5)] == [True] * 4 + [False]
    driver.offer(0, 0, 0)
    with pytest.raises(FormatError) as error:
        queue.take()
    assert error.value.reason == "ring.available_index"


def test_driver_decides_whether_it_is_interrupted() -> None:
    driver = Driver()
    queue = driver.queue()
    assert queue.wants_interrupt()
    struct.pack_into("<H", driver.memory, 0x100, 1)
    assert not queue.wants_interrupt()


@pytest.mark.parametrize(
    ("rows", "heads", "reason"),
    [
        pytest.param([(0, 0x1FF0, 17, 0, 0)], (0,), "ring.address", id="beyond memory"),
        pytest.param([(0, 2**64 - 1, 1, 0, 0)], (0,), "ring.address", id="wrapping address"),
        pytest.param([], (4,), "ring.descriptor_index", id="head outside"),
        pytest.param([(0, 0, 1, 1, 9)], (0,), "ring.descriptor_index", id="next outside"),
        pytest.param([(0, 0, 1, 1, 0)], (0,), "ring.loop", id="loop"),
        pytest.param([(0, 0, 16, 4, 0)], (0,), "ring.indirect", id="indirect"),
        pytest.param([(0, 0, 1, 3, 1), (1, 0, 1, 0, 0)], (0,), "ring.order", id="order"),
        pytest.param([], (0, 0, 0, 0, 0), "ring.available_index", id="too many"),
    ],
)
def test_malformed_chain_is_refused(
    rows: list[tuple[int, int, int, int, int]], heads: tuple[int, ...], reason: str
) -> None:
    driver = Driver()
    for row in rows:
        driver.describe(*row)
    driver.offer(*heads)
    with pytest.raises(FormatError) as error:
        driver.queue().take()
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        (RingLayout(size=0, descriptors=0x1000, available=0x1100, used=0x1200), "ring.size"),
        (RingLayout(size=3, descriptors=0x1000, available=0x1100, used=0x1200), "ring.size"),
        (RingLayout(size=2048, descriptors=0x1000, available=0x1100, used=0x1200), "ring.size"),
        (RingLayout(size=4, descriptors=0x1008, available=0x1100, used=0x1200), "ring.alignment"),
        (RingLayout(size=4, descriptors=0x1000, available=0x1101, used=0x1200), "ring.alignment"),
        (RingLayout(size=4, descriptors=0x1000, available=0x1100, used=0x1202), "ring.alignment"),
        (RingLayout(size=4, descriptors=0x1000, available=0x1100, used=0x2FE0), "ring.address"),
        (RingLayout(size=1024, descriptors=0x1000, available=0x1100, used=0x1200), "ring.address"),
    ],
)
def test_impossible_layout_is_refused(layout: RingLayout, reason: str) -> None:
    Driver().queue()
    with pytest.raises(FormatError) as error:
        Driver().queue(layout)
    assert error.value.reason == reason
