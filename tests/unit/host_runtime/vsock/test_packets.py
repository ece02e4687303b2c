import pytest

from ccinit.errors import FormatError
from host_runtime.vsock.packets import Operation, PacketHeader, encode_header, parse_header

HEADER = PacketHeader(
    source_cid=2,
    destination_cid=3,
    source_port=1 << 30,
    destination_port=1024,
    length=5,
    kind=1,
    operation=Operation.RW,
    flags=0,
    buffer_bytes=262144,
    forwarded_bytes=7,
)


def test_header_layout_is_that_of_the_specification() -> None:
    assert encode_header(HEADER).hex() == (
        "0200000000000000030000000000000000000040000400000500000001000500000000000000040007000000"
    )


def test_header_survives_the_round_trip() -> None:
    assert parse_header(encode_header(HEADER), 5) == HEADER


@pytest.mark.parametrize("size", [0, 43, 45])
def test_header_of_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(FormatError) as error:
        parse_header(encode_header(HEADER).ljust(45, b"\0")[:size], 5)
    assert error.value.reason == "vsock.header"


def test_header_that_announces_more_than_came_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        parse_header(encode_header(HEADER), 4)
    assert error.value.reason == "vsock.length"
