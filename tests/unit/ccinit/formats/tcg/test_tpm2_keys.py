"""Commands on keys, held against the TPM 2.0 Library; what a TPM answers is seen with swtpm."""

import struct

import pytest

from ccinit.errors import FormatError
from ccinit.formats.tcg.tpm2_keys import (
    AK_TEMPLATE,
    EK_TEMPLATE,
    encode_activate_credential,
    encode_create_primary,
    encode_endorsement_policy,
    encode_flush,
    encode_start_policy,
    is_made_from,
    parse_activate_credential,
    parse_create_primary,
    parse_endorsement_policy,
    parse_flush,
    parse_made_key,
    parse_start_policy,
)
from tests.unit.guest_owner.kbs.svsm_values import public_area

EK = public_area(EK_TEMPLATE, 5)


def frame(tag: int, code: int, body: bytes) -> bytes:
    return struct.pack(">HII", tag, 10 + len(body), code) + body


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


PASSWORD = bytes.fromhex("40000009 0000 00 0000")


def test_endorsement_template_is_the_tcgs() -> None:
    """EK Credential Profile 2.5, table 2: L-1, RSA 2048."""
    assert EK_TEMPLATE.hex() == (
        "0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
        "00060080004300100800000000000100" + "00" * 256
    )


def test_attestation_template_is_a_restricted_signing_key() -> None:
    assert AK_TEMPLATE.hex() == (
        "0001000b000500720000" + "00100014000b080000000000" + "0100" + "00" * 256
    )


def test_commands_are_those_of_the_library() -> None:
    command = encode_create_primary(EK_TEMPLATE)
    assert command[:10] == struct.pack(">HII", 0x8002, len(command), 0x131)
    assert command[10:27] == struct.pack(">II", 0x4000000B, 9) + PASSWORD
    assert command[27:33] == bytes.fromhex("000400000000")
    assert command[33:] == sized(EK_TEMPLATE) + bytes(6)
    assert encode_flush(0x80000000) == frame(0x8001, 0x165, bytes.fromhex("80000000"))
    assert encode_start_policy(b"n" * 32) == frame(
        0x8001,
        0x176,
        bytes.fromhex("4000000740000007") + sized(b"n" * 32) + bytes.fromhex("0000 01 0010 000b"),
    )
    policy = encode_endorsement_policy(0x03000000)
    assert policy[:18] == struct.pack(">HIIII", 0x8002, len(policy), 0x151, 0x4000000B, 0x03000000)
    assert policy[-10:] == bytes(10)
    activate = encode_activate_credential(1, 2, 3, b"blob", b"secret")
    assert activate == frame(
        0x8002,
        0x147,
        struct.pack(">III", 1, 2, 18)
        + PASSWORD
        + bytes.fromhex("00000003 0000 01 0000")
        + sized(b"blob")
        + sized(b"secret"),
    )


def test_replies_are_read() -> None:
    session = bytes.fromhex("0000010000")
    created = frame(
        0x8002, 0, bytes.fromhex("80000001") + struct.pack(">I", 2 + len(EK)) + sized(EK) + session
    )
    key = parse_create_primary(created)
    assert (key.handle, key.encoded) == (0x80000001, EK)
    parse_flush(frame(0x8001, 0, b""))
    started = frame(0x8001, 0, bytes.fromhex("03000000") + sized(b"n" * 32))
    assert parse_start_policy(started) == 0x03000000
    ticket = sized(b"") + bytes.fromhex("8023400000070000")
    parse_endorsement_policy(frame(0x8002, 0, struct.pack(">I", len(ticket)) + ticket + session))
    secret = sized(b"s" * 32)
    activated = frame(0x8002, 0, struct.pack(">I", len(secret)) + secret + session + session)
    assert parse_activate_credential(activated) == b"s" * 32


@pytest.mark.parametrize(
    "reply",
    [
        frame(0x8002, 0, b""),
        frame(0x8002, 0, bytes.fromhex("80000001 00000004 0002")),
        frame(0x8001, 0x18B, b""),
        b"",
    ],
)
def test_other_replies_are_refused(reply: bytes) -> None:
    for parse in (parse_create_primary, parse_activate_credential, parse_start_policy):
        with pytest.raises(FormatError) as refused:
            parse(reply)
        assert refused.value.reason.startswith("tpm2.")


def test_key_of_another_template_is_told() -> None:
    assert is_made_from(EK, EK_TEMPLATE)
    assert parse_made_key(EK, EK_TEMPLATE, "reason").modulus == EK[-256:]
    for other in (public_area(AK_TEMPLATE, 0), EK[:-1], EK[:5] + b"\0" + EK[6:]):
        with pytest.raises(FormatError) as refused:
            parse_made_key(other, EK_TEMPLATE, "reason")
        assert refused.value.reason == "reason"
