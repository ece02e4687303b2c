import os
from collections.abc import Iterator

import pytest

from ccinit.errors import FormatError
from host_runtime.vsock.guest_memory import open_guest_memory
from host_runtime.vsock.vhost_user import RegionLayout

REGION = RegionLayout(guest_address=0x1000, size=64, user_address=0x9000, offset=16)


@pytest.fixture
def descriptor() -> Iterator[int]:
    descriptor = os.memfd_create("guest")
    os.write(descriptor, bytes(range(80)))
    yield descriptor
    os.close(descriptor)


def test_both_kinds_of_addresses_lead_to_the_file(descriptor: int) -> None:
    memory = open_guest_memory((REGION,), (descriptor,))
    for lookup, base in ((memory.guest_bytes, 0x1000), (memory.user_bytes, 0x9000)):
        assert bytes(lookup(base + 1, 2)) == bytes([17, 18])
        assert bytes(lookup(base + 63, 1)) == bytes([79])
    memory.guest_bytes(0x1000, 1)[0] = 255
    assert os.pread(descriptor, 1, 16) == b"\xff"


@pytest.mark.parametrize(("address", "length"), [(0xFFF, 1), (0x1040, 1), (0x1000, 65)])
def test_address_outside_is_refused(descriptor: int, address: int, length: int) -> None:
    memory = open_guest_memory((REGION,), (descriptor,))
    for lookup, base in ((memory.guest_bytes, 0), (memory.user_bytes, 0x8000)):
        with pytest.raises(FormatError) as error:
            lookup(address + base, length)
        assert error.value.reason == "ring.address"


def test_region_longer_than_its_file_is_refused(descriptor: int) -> None:
    os.ftruncate(descriptor, 79)
    with pytest.raises(FormatError, match="after its file") as error:
        open_guest_memory((REGION,), (descriptor,))
    assert error.value.reason == "vhost.memory"


def test_region_that_may_not_be_written_is_refused(descriptor: int) -> None:
    read_only = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with pytest.raises(FormatError, match="a region of 64 bytes") as error:
            open_guest_memory((REGION,), (read_only,))
    finally:
        os.close(read_only)
    assert error.value.reason == "vhost.memory"


def test_region_without_descriptor_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        open_guest_memory((REGION,), ())
    assert error.value.reason == "vhost.memory"
