"""Non-volatile indexes: what is sent, and what a reply may say."""

import struct

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.tcg.tpm2_nv import (
    MAX_INDEX_BYTES,
    encode_list_nv_indexes,
    encode_nv_define,
    encode_nv_read,
    encode_nv_read_public,
    encode_nv_write,
    parse_list_nv_indexes,
    parse_nv_done,
    parse_nv_read,
    parse_nv_size,
)

INDEX = 0x01400001
OWNER = "40000001"
PASSWORD = "00000009 40000009 0000 00 0000"


def reply(body: bytes, tag: int = 0x8001) -> bytes:
    return struct.pack(">HII", tag, 10 + len(body), 0) + body


def session_reply(parameters: bytes) -> bytes:
    sized = struct.pack(">I", len(parameters)) + parameters
    return reply(sized + bytes.fromhex("0000 01 0000"), 0x8002)


def handles(*numbers: int, more: int = 0, capability: int = 1, count: int | None = None) -> bytes:
    size = len(numbers) if count is None else count
    return reply(
        struct.pack(">BII", more, capability, size)
        + b"".join(struct.pack(">I", number) for number in numbers)
    )


def public(size_bytes: int) -> bytes:
    area = struct.pack(">IHIHH", INDEX, 0x000B, 0x20020002, 0, size_bytes)
    name = b"\x00\x0b" + bytes(32)
    return reply(struct.pack(">H", len(area)) + area + struct.pack(">H", len(name)) + name)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (encode_list_nv_indexes(), "8001 00000016 0000017a 00000001 01000000 000000fe"),
        (encode_nv_read_public(INDEX), "8001 0000000e 00000169 01400001"),
        (
            encode_nv_read(INDEX, 1024, 512),
            f"8002 00000023 0000014e {OWNER} 01400001 {PASSWORD} 0400 0200",
        ),
        (
            encode_nv_write(INDEX, b"abc"),
            f"8002 00000026 00000137 {OWNER} 01400001 {PASSWORD} 0003 616263 0000",
        ),
        (
            encode_nv_define(INDEX, 64),
            f"8002 0000002d 0000012a {OWNER} {PASSWORD} 0000 000e 01400001 000b 02020002 0000 0040",
        ),
    ],
)
def test_commands_are_those_of_the_library(command: bytes, expected: str) -> None:
    assert command == bytes.fromhex(expected)


def test_replies_are_read() -> None:
    assert parse_list_nv_indexes(handles(INDEX, 0x01C00002)) == (INDEX, 0x01C00002)
    assert parse_list_nv_indexes(handles()) == ()
    assert parse_nv_size(public(2600)) == 2600
    assert parse_nv_read(session_reply(b"\x00\x03abc"), 3) == b"abc"
    parse_nv_done(session_reply(b""))


@pytest.mark.parametrize(
    ("parse", "data", "reason"),
    [
        (parse_list_nv_indexes, handles(INDEX, more=1), "tpm2.handles"),
        (parse_list_nv_indexes, handles(count=255), "tpm2.handles"),
        (parse_list_nv_indexes, handles(INDEX, capability=6), "tpm2.capability"),
        (parse_list_nv_indexes, handles(INDEX, count=2), "tpm2.truncated"),
        (parse_list_nv_indexes, handles(INDEX, count=0), "tpm2.trailing"),
        (parse_nv_size, public(MAX_INDEX_BYTES + 1), "tpm2.nv_size"),
        (parse_nv_done, session_reply(b"\0"), "tpm2.trailing"),
    ],
)
def test_other_replies_are_refused(parse: object, data: bytes, reason: str) -> None:
    assert callable(parse)
    with pytest.raises(CcinitError) as refused:
        parse(data)
    assert refused.value.reason == reason


def test_reply_of_another_length_than_was_asked_for_is_refused() -> None:
    with pytest.raises(CcinitError) as refused:
        parse_nv_read(session_reply(b"\x00\x02ab"), 3)
    assert refused.value.reason == "tpm2.nv_data"
