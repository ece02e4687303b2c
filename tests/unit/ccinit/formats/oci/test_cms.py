"""EnvelopedData: one from another tool is read, and no byte of its frame may differ."""

import base64
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccinit.errors import FormatError
from ccinit.formats.oci.cms import MAX_RECIPIENTS, parse_enveloped_data

SKOPEO = json.loads(Path("tests/vectors/layer_encryption/skopeo.json").read_text())
GOOD = base64.b64decode(SKOPEO["wraps"]["pkcs7"]["pkcs7"])
DATA_OID = bytes.fromhex("06092a864886f70d010701")
RECIPIENT = GOOD[GOOD.index(b"\x31\x82") + 4 : GOOD.index(DATA_OID) - 4]


def standard(recipients: bytes, nonce_bytes: int = 12, content: bytes = b"") -> bytes:
    """The message in the form of the specification, with these recipients."""
    start = GOOD.index(bytes.fromhex("10133011840c"))
    nonce, rest = GOOD[start + 6 : start + 6 + nonce_bytes], GOOD[start + 21 :]
    parameters = der(0x30, der(0x04, nonce) + b"\x02\x01\x10")
    content = content or der(0x80, rest[rest.index(b"\x04\x81") + 3 :])
    oid = bytes.fromhex("0609608648016503040106")
    info = der(0x30, DATA_OID + der(0x30, oid + parameters) + content)
    enveloped = der(0x30, b"\x02\x01\x00" + der(0x31, recipients) + info)
    return der(0x30, GOOD[4:15] + der(0xA0, enveloped))


def der(tag: int, value: bytes) -> bytes:
    if len(value) < 0x80:
        return bytes((tag, len(value))) + value
    octets = len(value).to_bytes((len(value).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + value


def reason(data: bytes) -> str:
    with pytest.raises(FormatError) as refused:
        parse_enveloped_data(data)
    return refused.value.reason


def test_message_by_another_tool_is_read() -> None:
    message = parse_enveloped_data(GOOD)
    assert [len(key) for key in message.encrypted_keys] == [256]
    assert (message.key_bytes, len(message.nonce)) == (16, 12)
    assert len(message.ciphertext) > 200


def test_parameters_as_the_specification_has_them_are_read() -> None:
    """RFC 5084 section 3.2, and the content in one piece."""
    assert parse_enveloped_data(standard(RECIPIENT)) == parse_enveloped_data(GOOD)


def test_message_has_a_cap_of_recipients() -> None:
    keys = parse_enveloped_data(standard(RECIPIENT * MAX_RECIPIENTS)).encrypted_keys
    assert len(keys) == MAX_RECIPIENTS
    assert reason(standard(RECIPIENT * (MAX_RECIPIENTS + 1))) == "enc.cms.recipients"


def test_message_has_a_nonce_of_twelve_bytes() -> None:
    assert reason(standard(RECIPIENT, nonce_bytes=11)) == "enc.cms.cipher"


def with_version(encoded: str) -> bytes:
    """The message with another encoding of its recipient's version."""
    version = bytes.fromhex("020100")
    assert RECIPIENT[4:].startswith(version)
    recipient = der(0x30, bytes.fromhex(encoded) + RECIPIENT[4 + len(version) :])
    return standard(recipient)


def with_content(size: int, head: str) -> bytes:
    """The message with a ciphertext of so many bytes, behind another head."""
    return standard(RECIPIENT, content=bytes.fromhex(head) + bytes(size))


@pytest.mark.parametrize(
    ("der_form", "other"),
    [
        pytest.param(with_version("020100"), with_version("02810100"), id="long-for-short"),
        pytest.param(with_content(128, "808180"), with_content(128, "80820080"), id="leading-zero"),
        pytest.param(
            with_content(0x8000, "80828000"), with_content(0x10000, "8083010000"), id="three-octets"
        ),
    ],
)
def test_length_of_another_form_than_der_is_refused(der_form: bytes, other: bytes) -> None:
    parse_enveloped_data(der_form)
    assert reason(other) == "enc.cms"


def with_rsa_parameters(encoded: str) -> bytes:
    rsa = bytes.fromhex("06092a864886f70d010101")
    before, after = RECIPIENT[4:].split(der(0x30, rsa))
    changed = der(0x30, rsa + bytes.fromhex(encoded))
    return standard(der(0x30, before + changed + after))


def test_key_encryption_has_no_parameters_but_null() -> None:
    for none in ("", "0500"):
        assert parse_enveloped_data(with_rsa_parameters(none)) == parse_enveloped_data(GOOD)
    for some in ("0400", "05000500"):
        assert reason(with_rsa_parameters(some)) == "enc.cms"


def replaced(old: str, new: str) -> bytes:
    assert bytes.fromhex(old) in GOOD
    return GOOD.replace(bytes.fromhex(old), bytes.fromhex(new), 1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "enc.cms"),
        (b"\x30", "enc.cms"),
        (b"\x31" + GOOD[1:], "enc.cms"),
        (GOOD[:-1], "enc.cms"),
        (GOOD + b"\0", "enc.cms"),
        (b"\x30\x80" + GOOD[4:] + b"\0\0", "enc.cms"),
        (replaced("06092a864886f70d010703", "06092a864886f70d010702"), "enc.cms"),
        (replaced("06092a864886f70d010101", "06092a864886f70d010107"), "enc.cms"),
        (replaced("0609608648016503040106", "0609608648016503040102"), "enc.cms.cipher"),
        (replaced("020110a0", "02010ca0"), "enc.cms.cipher"),
    ],
)
def test_message_of_another_form_is_refused(data: bytes, expected: str) -> None:
    assert reason(data) == expected


@given(data=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(FormatError):
        parse_enveloped_data(data)


@given(position=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_read_or_refused(position: int, bit: int) -> None:
    changed = bytearray(GOOD)
    changed[position] ^= 1 << bit
    with suppress(FormatError):
        parse_enveloped_data(bytes(changed))
