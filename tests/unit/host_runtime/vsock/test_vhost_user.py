import struct

import pytest

from ccinit.errors import FormatError
from host_runtime.vsock.vhost_user import (
    MessageReader,
    RegionLayout,
    Request,
    encode_config,
    encode_reply,
    encode_vring_state,
    parse_memory_table,
    parse_number,
    parse_vring_address,
    parse_vring_state,
)
from tests.fakes.machine.vhost_front_end import encode_request


def test_reader_wants_no_byte_beyond_the_current_part() -> None:
    reader = MessageReader()
    data = encode_request(Request.SET_VRING_NUM, encode_vring_state(1, 128), needs_reply=True)
    assert reader.wanted_bytes == 12
    assert reader.feed(data[:5], (7,)) is None
    assert reader.wanted_bytes == 7
    assert reader.feed(data[5:12], ()) is None
    assert reader.wanted_bytes == 8
    message = reader.feed(data[12:], ())
    assert message is not None
    assert (message.request, message.needs_reply, message.descriptors) == (8, True, (7,))
    assert parse_vring_state(message.payload) == (1, 128)
    assert reader.wanted_bytes == 12
    data = encode_request(Request.SET_VRING_NUM, encode_vring_state(0, 64), needs_reply=False)
    assert reader.feed(data[:12], ()) is None
    following = reader.feed(data[12:], ())
    assert following is not None
    assert (following.needs_reply, following.descriptors) == (False, ())


def test_reader_gives_an_empty_message_with_its_header() -> None:
    message = MessageReader().feed(encode_request(Request.SET_OWNER, b""), ())
    assert message is not None
    assert message.payload == b""


@pytest.mark.parametrize(("flags", "size"), [(0, 0), (2, 0), (1, 4097)])
def test_header_with_other_version_or_large_payload_is_refused(flags: int, size: int) -> None:
    with pytest.raises(FormatError) as error:
        MessageReader().feed(struct.pack("<III", 1, flags, size), ())
    assert error.value.reason == "vhost.header"
    reader = MessageReader()
    assert reader.feed(struct.pack("<III", 1, 1, 4096), ()) is None
    assert reader.wanted_bytes == 4096


def test_reply_carries_version_and_reply_flag() -> None:
    assert encode_reply(1, b"\1") == struct.pack("<III", 1, 5, 1) + b"\1"


def test_memory_table_is_parsed_in_order() -> None:
    rows = struct.pack("<QQQQ", 0, 10, 100, 0) + struct.pack("<QQQQ", 50, 20, 200, 30)
    regions = parse_memory_table(struct.pack("<II", 2, 0) + rows)
    assert regions[1] == RegionLayout(guest_address=50, size=20, user_address=200, offset=30)
    assert len(parse_memory_table(struct.pack("<II", 8, 0) + bytes(8 * 32))) == 8


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", bytes(9)),
        *(
            struct.pack("<II", count, 0) + bytes(rows * 32)
            for count, rows in ((0, 0), (2, 1), (9, 9))
        ),
    ],
)
def test_memory_table_of_wrong_size_is_refused(payload: bytes) -> None:
    with pytest.raises(FormatError) as error:
        parse_memory_table(payload)
    assert error.value.reason == "vhost.memory"


def test_vring_address_takes_used_before_available() -> None:
    address = parse_vring_address(struct.pack("<IIQQQQ", 1, 0, 10, 20, 30, 40))
    assert (address.index, address.descriptors, address.used, address.available) == (1, 10, 20, 30)


def test_number_of_wrong_size_is_refused() -> None:
    assert parse_number(b"\1" + bytes(7)) == 1
    with pytest.raises(FormatError) as error:
        parse_number(bytes(7))
    assert error.value.reason == "vhost.payload"


def test_config_is_echoed_and_padded() -> None:
    request = struct.pack("<III", 0, 12, 0)
    assert encode_config(request + bytes(12), 3) == request + b"\3" + bytes(11)
    part, cid = struct.pack("<III", 2, 3, 0), int.from_bytes(bytes(range(8)), "little")
    assert encode_config(part + bytes(3), cid) == part + b"\2\3\4"
    assert encode_config(bytes(12), cid) == bytes(12)


@pytest.mark.parametrize("payload", [bytes(11), struct.pack("<III", 0, 9, 0) + bytes(8)])
def test_config_request_of_wrong_size_is_refused(payload: bytes) -> None:
    with pytest.raises(FormatError) as error:
        encode_config(payload, 3)
    assert error.value.reason == "vhost.payload"
