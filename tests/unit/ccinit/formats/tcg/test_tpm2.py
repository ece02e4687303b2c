"""TPM structures: what an emulator said, and every way in which a reply can be wrong."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ccinit.errors import FormatError
from ccinit.formats.tcg.tpm2 import (
    ALL_SHA256_PCRS,
    ATTESTATION_KEY_ATTRIBUTES,
    Algorithm,
    PcrSelection,
    encode_pcr_extend,
    encode_pcr_read,
    encode_quote,
    encode_read_public,
    parse_pcr_extend,
    parse_pcr_read,
    parse_quote,
    parse_read_public,
    parse_tpms_attest,
    parse_tpmt_public,
    parse_tpmt_signature,
)

EXCHANGES = [
    (bytes.fromhex(command), bytes.fromhex(reply))
    for command, reply in json.loads(Path("tests/vectors/tpm2/transcript.json").read_text())
]
READ_ZERO, EXTEND, READ_BACK, READ_PUBLIC, *READ_ALL, QUOTE = EXCHANGES
PCR_8 = PcrSelection(algorithm=Algorithm.SHA256, pcrs=(8,))
DIGEST = hashlib.sha256(b"initdata").digest()


def reason_of(data: bytes, parse: Callable[[bytes], object]) -> str:
    with pytest.raises(FormatError) as refused:
        parse(data)
    return refused.value.reason


def resized(reply: bytes) -> bytes:
    """The reply with a header that says its length."""
    return reply[:2] + struct.pack(">I", len(reply)) + reply[6:]


def test_commands_are_those_of_the_transcript() -> None:
    assert encode_pcr_read(PCR_8) == READ_ZERO[0]
    assert encode_pcr_extend(8, DIGEST) == EXTEND[0]
    assert encode_read_public(0x81010002) == READ_PUBLIC[0]
    assert encode_quote(0x81010002, bytes(range(32)), ALL_SHA256_PCRS) == QUOTE[0]


def test_replies_of_the_transcript_are_read() -> None:
    assert parse_pcr_read(READ_ZERO[1]).values == (bytes(32),)
    parse_pcr_extend(EXTEND[1])
    extended = hashlib.sha256(bytes(32) + DIGEST).digest()
    assert parse_pcr_read(READ_BACK[1]).values == (extended,)
    pcrs = b"".join(b"".join(parse_pcr_read(reply).values) for _, reply in READ_ALL)
    quote = parse_quote(QUOTE[1])
    attest = parse_tpms_attest(quote.message)
    assert attest.extra_data == bytes(range(32))
    assert attest.pcr_selections == (ALL_SHA256_PCRS,)
    assert attest.pcr_digest == hashlib.sha256(pcrs).digest()
    assert len(parse_tpmt_signature(quote.signature)) == 256
    public = parse_read_public(READ_PUBLIC[1])
    assert (len(public.modulus), public.exponent) == (256, 65537)
    assert public.attributes & ATTESTATION_KEY_ATTRIBUTES == ATTESTATION_KEY_ATTRIBUTES
    assert public.name[:2] == b"\x00\x0b"


@pytest.mark.parametrize(
    ("parse", "reply"),
    [
        pytest.param(parse_pcr_read, READ_ALL[0][1], id="pcr_read"),
        pytest.param(parse_pcr_extend, EXTEND[1], id="pcr_extend"),
        pytest.param(parse_quote, QUOTE[1], id="quote"),
        pytest.param(parse_read_public, READ_PUBLIC[1], id="read_public"),
    ],
)
def test_reply_with_a_wrong_frame_is_refused(
    parse: Callable[[bytes], object], reply: bytes
) -> None:
    assert reason_of(reply[:9], parse) == "tpm2.header"
    assert reason_of(reply + b"\0", parse) == "tpm2.size"
    assert reason_of(reply[:-1], parse) == "tpm2.size"
    assert reason_of(b"\x12\x34" + reply[2:], parse) == "tpm2.tag"
    other_tag = b"\x80\x01" if reply[:2] == b"\x80\x02" else b"\x80\x02"
    assert reason_of(other_tag + reply[2:], parse) == "tpm2.tag"
    assert reason_of(reply[:6] + b"\0\0\x01\x01" + reply[10:], parse) == "tpm2.response_code"
    # every truncation that the header admits to
    for length in range(10, len(reply)):
        assert reason_of(resized(reply[:length]), parse).startswith("tpm2.")
    longer = reason_of(resized(reply + b"\0"), parse)
    assert longer in {"tpm2.trailing", "tpm2.session"}


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        pytest.param((14, b"\0\0\0\x02"), "tpm2.banks", id="two banks"),
        pytest.param((18, b"\x00\x04"), "tpm2.bank", id="sha1 bank"),
        pytest.param((20, b"\x04"), "tpm2.pcr", id="a fourth mask byte that is set"),
        pytest.param((24, b"\0\0\0\x02"), "tpm2.pcr_count", id="more values than PCRs"),
        pytest.param((24, b"\0\0\0\0"), "tpm2.pcr_count", id="fewer values than PCRs"),
        pytest.param((28, b"\x00\x14"), "tpm2.digest", id="short value"),
    ],
)
def test_pcr_read_that_says_other_things_is_refused(edit: tuple[int, bytes], reason: str) -> None:
    reply = READ_ZERO[1]
    offset, data = edit
    changed = reply[:offset] + data + reply[offset + len(data) :]
    if reason == "tpm2.pcr":
        changed = resized(changed[:24] + b"\x01" + changed[24:])
    assert reason_of(changed, parse_pcr_read) == reason


@pytest.mark.parametrize(
    ("offset", "data", "reason"),
    [
        pytest.param(0, b"\0", "tpm2.magic", id="not made by a tpm"),
        pytest.param(5, b"\x17", "tpm2.type", id="certify instead of quote"),
    ],
)
def test_attest_of_another_kind_is_refused(offset: int, data: bytes, reason: str) -> None:
    message = parse_quote(QUOTE[1]).message
    parse_tpms_attest(message)
    changed = message[:offset] + data + message[offset + len(data) :]
    assert reason_of(changed, parse_tpms_attest) == reason
    assert reason_of(message + b"\0", parse_tpms_attest) == "tpm2.trailing"
    for length in range(len(message)):
        assert reason_of(message[:length], parse_tpms_attest) == "tpm2.truncated"


def test_attest_with_an_undefined_boolean_is_refused() -> None:
    message = parse_quote(QUOTE[1]).message
    # magic 4, type 2, then two sized fields, then clock 8, reset 4, restart 4
    offset = 6 + 2 + int.from_bytes(message[6:8], "big")
    offset += 2 + int.from_bytes(message[offset : offset + 2], "big") + 16
    assert message[offset] == 1
    changed = message[:offset] + b"\x02" + message[offset + 1 :]
    assert reason_of(changed, parse_tpms_attest) == "tpm2.yes_no"


def test_signature_of_another_scheme_is_refused() -> None:
    signature = parse_quote(QUOTE[1]).signature
    assert reason_of(b"\0\x16" + signature[2:], parse_tpmt_signature) == "tpm2.signature_scheme"
    sha1 = signature[:2] + b"\0\x04" + signature[4:]
    assert reason_of(sha1, parse_tpmt_signature) == "tpm2.signature_hash"
    assert reason_of(signature + b"\0", parse_tpmt_signature) == "tpm2.trailing"


def test_public_area_of_another_key_is_refused() -> None:
    reply = READ_PUBLIC[1]
    area = reply[12 : 12 + int.from_bytes(reply[10:12], "big")]
    assert parse_tpmt_public(area).exponent == 65537
    assert reason_of(b"\0\x23" + area[2:], parse_tpmt_public) == "tpm2.key_type"
    assert reason_of(area[:2] + b"\0\x04" + area[4:], parse_tpmt_public) == "tpm2.name_algorithm"
    assert reason_of(area + b"\0", parse_tpmt_public) == "tpm2.trailing"
    even = area[:-256] + b"\0" + area[-255:]
    assert reason_of(even, parse_tpmt_public) == "tpm2.modulus"
    half = area[:-264] + (1024).to_bytes(2, "big") + area[-262:]
    assert reason_of(half, parse_tpmt_public) == "tpm2.modulus"
    for length in range(len(area)):
        assert reason_of(area[:length], parse_tpmt_public) == "tpm2.truncated"


def test_name_that_is_not_the_hash_of_the_key_is_refused() -> None:
    reply = READ_PUBLIC[1]
    end = 12 + int.from_bytes(reply[10:12], "big")
    changed = reply[: end + 5] + bytes((reply[end + 5] ^ 1,)) + reply[end + 6 :]
    assert reason_of(changed, parse_read_public) == "tpm2.name"


def test_commands_outside_the_form_are_refused() -> None:
    for pcr in (24, -1):
        with pytest.raises(FormatError) as refused:
            encode_pcr_extend(pcr, DIGEST)
        assert refused.value.reason == "tpm2.pcr"
    with pytest.raises(FormatError) as refused:
        encode_pcr_extend(8, bytes(20))
    assert refused.value.reason == "tpm2.digest"
    for extra_data in (b"", bytes(65)):
        with pytest.raises(FormatError) as refused:
            encode_quote(0x81010002, extra_data, ALL_SHA256_PCRS)
        assert refused.value.reason == "tpm2.extra_data"
