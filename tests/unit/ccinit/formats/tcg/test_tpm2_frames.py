"""Frames: what a header says and what follows it."""

import struct

import pytest

from ccinit.errors import FormatError
from ccinit.formats.tcg.tpm2_frames import (
    TAG_NO_SESSIONS,
    TAG_SESSIONS,
    Reader,
    encode_command,
    open_response,
    open_sessions,
    response_code,
)

# Parameters of two bytes, then what a password session answers.
SESSION_REPLY = bytes.fromhex("8002 00000015 00000000 00000002 aabb 0000 01 0000")


def test_response_code_is_that_of_the_header() -> None:
    assert response_code(struct.pack(">HII", 0x8001, 10, 0x922)) == 0x922


def test_command_has_its_own_length_in_its_header() -> None:
    assert encode_command(TAG_NO_SESSIONS, 0x17E, b"abc") == bytes.fromhex(
        "8001 0000000d 0000017e 616263"
    )


def test_parameters_of_a_session_are_what_the_reader_gets() -> None:
    reader = open_sessions(SESSION_REPLY)
    assert reader.rest() == bytes.fromhex("aabb")
    reader.end()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(b"\x80\x01", "tpm2.header", id="no header"),
        pytest.param(SESSION_REPLY + b"\0", "tpm2.size", id="a byte more than the header says"),
        pytest.param(b"\x70" + SESSION_REPLY[1:], "tpm2.tag", id="an unknown tag"),
        pytest.param(
            b"\x80\x01" + SESSION_REPLY[2:], "tpm2.tag", id="the tag of a reply without sessions"
        ),
        pytest.param(
            SESSION_REPLY[:6] + b"\0\0\x01\x8b" + SESSION_REPLY[10:],
            "tpm2.response_code",
            id="an error",
        ),
        pytest.param(SESSION_REPLY[:-3] + b"\0\0\0", "tpm2.session", id="another session"),
        pytest.param(
            SESSION_REPLY[:10] + b"\0\0\0\x20" + SESSION_REPLY[14:],
            "tpm2.truncated",
            id="parameters beyond the end",
        ),
    ],
)
def test_broken_reply_is_refused(reply: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        open_sessions(reply)
    assert error.value.reason == reason


def test_reply_without_sessions_begins_behind_its_header() -> None:
    reader = open_response(bytes.fromhex("8001 0000000c 00000000 0102"), TAG_NO_SESSIONS)
    assert reader.u16() == 0x0102
    with pytest.raises(FormatError) as error:
        open_response(bytes.fromhex("8001 0000000c 00000000 0102"), TAG_SESSIONS)
    assert error.value.reason == "tpm2.tag"


def test_cursor_ends_where_its_bytes_end() -> None:
    reader = Reader(bytes.fromhex("0002 aabb cc"))
    assert reader.sized() == b"\xaa\xbb"
    with pytest.raises(FormatError) as error:
        reader.end()
    assert error.value.reason == "tpm2.trailing"
    reader.take(1)
    with pytest.raises(FormatError) as error:
        reader.u16()
    assert error.value.reason == "tpm2.truncated"
