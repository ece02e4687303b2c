import struct

import pytest

from ccinit.errors import FormatError
from host_runtime.vsock.virtqueue import RingLayout
from tests.fakes.machine.ring_driver import RingDriver


def test_empty_ring_gives_nothing() -> None:
    assert RingDriver().queue().take() is None


def test_chain_is_read_in_order_and_given_back() -> None:
    driver = RingDriver()
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
    driver = RingDriver()
    driver.describe(0, 0x900, 2, 3, 1)
    driver.describe(1, 0xA00, 4, 2)
    driver.offer(0)
    chain = driver.queue().take()
    assert chain is not None
    chain.write(b"abcd")
    assert bytes(driver.memory[0x900:0x903]) == b"ab\0"
    assert bytes(driver.memory[0xA00:0xA03]) == b"cd\0"


def test_indexes_wrap_after_65535() -> None:
    driver = RingDriver()
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
    driver = RingDriver()
    driver.describe(0, 0x800, 1)
    driver.offer(0, 0, 0, 0)
    queue = driver.queue()
    assert [queue.take() is not None for _ in range(5)] == [True] * 4 + [False]
    driver.offer(0, 0, 0)
    with pytest.raises(FormatError) as error:
        queue.take()
    assert error.value.reason == "ring.available_index"


def test_driver_decides_whether_it_is_interrupted() -> None:
    driver = RingDriver()
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
    driver = RingDriver()
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
    RingDriver().queue()
    with pytest.raises(FormatError) as error:
        RingDriver().queue(layout)
    assert error.value.reason == reason
