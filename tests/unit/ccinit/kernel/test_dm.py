import struct

import pytest

from ccinit.errors import FormatError
from ccinit.kernel.dm import (
    DmDevice,
    DmReply,
    DmTarget,
    encode_message,
    encode_request,
    encode_table,
    parse_reply,
    parse_targets,
)

HEADER_BYTES = 312
TARGET = DmTarget(length_sectors=2048, kind="crypt", parameters="aes 0 /dev/vda 0")


def reply(payload: bytes, count: int, *, flags: int = 0) -> bytearray:
    buffer = encode_request("name", flags, payload, target_count=count)
    struct.pack_into("=Q", buffer, 40, 0xFD03)
    return buffer


def test_request_header_has_the_layout_of_dm_ioctl() -> None:
    buffer = encode_request("ccinit-root", 1 << 15, b"payload", target_count=2)
    assert buffer[:12] == bytes.fromhex("040000000000000000000000")
    assert struct.unpack_from("=5I", buffer, 12) == (len(buffer), HEADER_BYTES, 2, 0, 1 << 15)
    assert buffer[48:60] == b"ccinit-root\0"
    assert buffer[HEADER_BYTES : HEADER_BYTES + 7] == b"payload"


@pytest.mark.parametrize("name", ["", "a/b", "a\0b", "x" * 128])
def test_request_with_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(FormatError) as error:
        encode_request(name, 0, b"")
    assert error.value.reason == "dm.name"


def test_table_has_the_layout_of_dm_target_spec() -> None:
    table = encode_table([TARGET])
    assert table == (
        struct.pack("=QQiI", 0, 2048, 0, 64)
        + b"crypt".ljust(16, b"\0")
        + b"aes 0 /dev/vda 0"
        + bytes(8)
    )


def test_table_of_two_targets_chains_them_by_size() -> None:
    second = DmTarget(start_sectors=2048, length_sectors=8, kind="zero", parameters="")
    table = encode_table([TARGET, second])
    assert table[64:] == struct.pack("=QQiI", 2048, 8, 0, 48) + b"zero".ljust(16, b"\0") + bytes(8)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(DmTarget(length_sectors=8, kind="", parameters=""), id="no-kind"),
        pytest.param(DmTarget(length_sectors=8, kind="x" * 16, parameters=""), id="long-kind"),
        pytest.param(DmTarget(length_sectors=8, kind="zero", parameters="a\0b"), id="nul"),
    ],
)
def test_table_with_impossible_target_is_refused(target: DmTarget) -> None:
    with pytest.raises(FormatError) as error:
        encode_table([target])
    assert error.value.reason == "dm.table"


def test_message_is_sector_and_text() -> None:
    assert encode_message("key wipe") == struct.pack("=Q", 0) + b"key wipe\0"


def test_reply_gives_the_minor_of_the_new_device() -> None:
    assert parse_reply(reply(b"", 0)).dev == 0xFD03
    assert DmDevice(name="x", minor=3).node == "/dev/dm-3"


def test_reply_with_offset_behind_its_end_has_no_payload() -> None:
    buffer = reply(b"", 1)
    struct.pack_into("=I", buffer, 12, 305)
    assert parse_reply(buffer).payload == b""


def test_reply_that_did_not_fit_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        parse_reply(reply(b"", 0, flags=1 << 8))
    assert error.value.reason == "dm.reply"


def test_reply_shorter_than_its_header_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        parse_reply(bytes(311))
    assert error.value.reason == "dm.reply"


def status(*texts: bytes) -> bytes:
    """As the kernel writes it: `next` counts from the first target."""
    payload = b""
    for index, text in enumerate(texts):
        padded = text + bytes(8 - len(text) % 8)
        following = len(payload) + 40 + len(padded)
        payload += struct.pack("=QQiI16s", index * 8, 8, 0, following, b"integrity") + padded
    return payload


def test_targets_of_a_status_are_parsed() -> None:
    payload = status(b"0 2048 -", b"V")
    targets = parse_targets(parse_reply(reply(payload, 2)))
    assert [(target.start_sectors, target.kind, target.parameters) for target in targets] == [
        (0, "integrity", "0 2048 -"),
        (8, "integrity", "V"),
    ]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(status(b"V")[:39], id="cut-target"),
        pytest.param(status(b"V")[:41], id="cut-text"),
        pytest.param(
            struct.pack("=QQiI16s", 0, 8, 0, 1 << 31, b"zero") + bytes(8), id="offset-far-away"
        ),
        pytest.param(struct.pack("=QQiI16s", 0, 8, 0, 0, b"zero") + bytes(8), id="itself-again"),
    ],
)
def test_targets_outside_the_payload_are_refused(payload: bytes) -> None:
    with pytest.raises(FormatError) as error:
        parse_targets(DmReply(dev=0, target_count=2, payload=payload))
    assert error.value.reason == "dm.reply"
