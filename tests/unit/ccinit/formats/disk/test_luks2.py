"""Headers of LUKS2: the one shape that is accepted, and the corpus of hostile ones."""

import hashlib
import hmac
import json
import random

import pytest

from ccinit.errors import CcinitError, FormatError, VerificationError
from ccinit.formats.disk.luks2 import (
    COPY_BYTES,
    SEAL_BYTES,
    SEAL_OFFSET,
    Pbkdf2,
    make_seal,
    parse_luks2_header,
    seal_info,
    verify_seal,
)
from tests.fakes.machine.luks2 import (
    ADDITIONS,
    NULL_CIPHERS,
    REDIRECTIONS,
    Edit,
    make_copy,
    make_header,
    make_metadata,
)

TEXT = json.dumps(make_metadata()).encode()
KEY = bytes(range(32))


def refusal(header: bytes) -> str:
    with pytest.raises(CcinitError) as error:
        parse_luks2_header(header)
    assert isinstance(error.value, FormatError | VerificationError)
    return error.value.reason


def with_copies(first: bytes, second: bytes) -> bytes:
    return (first + second).ljust(COPY_BYTES, b"\0")


def both(binary: dict[int, bytes], text: bytes = TEXT) -> bytes:
    return with_copies(make_copy(0, text, binary), make_copy(1, text, binary))


def test_header_as_it_must_be_gives_salts_counts_digest_and_area() -> None:
    header = parse_luks2_header(make_header())
    assert header.slot == header.check == Pbkdf2(salt=bytes(range(32)), iterations=1000)
    assert len(header.digest) == 32
    assert len(header.area) == 256_000


@pytest.mark.parametrize(("edit", "reason"), NULL_CIPHERS.values(), ids=NULL_CIPHERS)
def test_r38_cipher_that_is_not_the_constant_is_refused(edit: Edit, reason: str) -> None:
    assert refusal(make_header(edit, null_slot=True)) == reason


@pytest.mark.parametrize(("edit", "reason"), ADDITIONS.values(), ids=ADDITIONS)
def test_r39_anything_additional_is_refused(edit: Edit, reason: str) -> None:
    assert refusal(make_header(edit)) == reason


@pytest.mark.parametrize(
    ("binary", "reason"),
    [
        pytest.param({0: b"NOPE"}, "luks2.magic", id="magic"),
        pytest.param({6: b"\0\1"}, "luks2.version", id="luks1"),
        pytest.param({8: (1 << 40).to_bytes(8, "big")}, "luks2.header_size", id="huge"),
        pytest.param({24: b"label"}, "luks2.label", id="label"),
        pytest.param({72: b"sha1\0\0"}, "luks2.checksum_algorithm", id="algorithm"),
        pytest.param({208: b"x"}, "luks2.subsystem", id="subsystem"),
        pytest.param({256: b"\1"}, "luks2.header_offset", id="offset"),
        pytest.param({300: b"x"}, "luks2.padding", id="padding"),
        pytest.param({600: b"x"}, "luks2.padding", id="padding-of-block"),
    ],
)
def test_r40_binary_field_that_is_not_the_constant_is_refused(
    binary: dict[int, bytes], reason: str
) -> None:
    assert refusal(both(binary)) == reason


def test_r40_copies_that_differ_are_refused() -> None:
    good = make_copy(0, TEXT), make_copy(1, TEXT)
    parse_luks2_header(with_copies(*good))  # the control
    newer = make_copy(1, TEXT, {16: (4).to_bytes(8, "big")})
    other_uuid = make_copy(1, TEXT, {168: b"ffffffff"})
    other_text = make_copy(1, TEXT.replace(b"1000", b"1001", 1))
    for second in (newer, other_uuid, other_text):
        assert refusal(with_copies(good[0], second)) == "luks2.copies"
    assert refusal(with_copies(good[0], good[0])) == "luks2.magic"
    assert refusal(with_copies(good[0], bytes(16_384))) == "luks2.magic"


@pytest.mark.parametrize("offset", [20, 110, 170, 449, 4096 + 10], ids=str)
def test_r40_byte_that_the_checksum_does_not_cover_is_refused(offset: int) -> None:
    header = bytearray(make_header())
    header[offset] ^= 1
    assert refusal(bytes(header)) == "luks2.checksum"


def test_r40_bytes_behind_the_text_are_refused() -> None:
    assert refusal(both({}, TEXT + b"\0 more")) == "luks2.json.padding"


def test_r40_text_that_is_no_strict_json_is_refused() -> None:
    twice = TEXT.replace(b'"tokens": {}', b'"tokens": {}, "tokens": {}')
    assert refusal(both({}, twice)) == "luks2.json.duplicate"
    assert refusal(both({}, b"{")) == "luks2.json.json"
    assert refusal(both({}, b"[]")) == "luks2"
    assert refusal(both({}, json.dumps(list(make_metadata())).encode())) == "luks2"


def test_r40_copy_of_another_length_is_refused() -> None:
    assert refusal(make_header()[:-1]) == "luks2.length"


@pytest.mark.parametrize(("edit", "reason"), REDIRECTIONS.values(), ids=REDIRECTIONS)
def test_r41_place_size_or_count_that_is_not_allowed_is_refused(edit: Edit, reason: str) -> None:
    assert refusal(make_header(edit)) == reason


def test_seal_is_an_hmac_over_everything_before_it() -> None:
    header = make_header()
    tag = hmac.digest(KEY, b"ccinit/luks2/v1\0" + header[:SEAL_OFFSET], hashlib.sha256)
    assert make_seal(header, KEY) == (b"ccinit/luks2/v1\0" + tag).ljust(SEAL_BYTES, b"\0")
    assert seal_info("web", "data") == b"ccinit/volume/v1/web/data/header"


def test_sealed_header_is_returned_and_parses() -> None:
    header = make_header()
    sealed = header[:SEAL_OFFSET] + make_seal(header, KEY)
    assert verify_seal(sealed, KEY) == sealed
    parse_luks2_header(sealed)


@pytest.mark.parametrize("offset", [0, 5000, 40_000, SEAL_OFFSET, COPY_BYTES - 1], ids=str)
def test_seal_that_does_not_fit_is_refused(offset: int) -> None:
    header = make_header()
    sealed = bytearray(header[:SEAL_OFFSET] + make_seal(header, KEY))
    sealed[offset] ^= 1
    with pytest.raises(VerificationError) as error:
        verify_seal(bytes(sealed), KEY)
    assert error.value.reason == "luks2.seal"


def test_header_without_seal_or_under_another_key_is_refused() -> None:
    header = make_header()
    for block, key in ((bytes(SEAL_BYTES), KEY), (make_seal(header, KEY), bytes(32))):
        with pytest.raises(VerificationError) as error:
            verify_seal(header[:SEAL_OFFSET] + block, key)
        assert error.value.reason == "luks2.seal"


def test_r88_seal_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other comparison decides: where this one says yes, a header without a seal passes."""
    header = make_header()
    with pytest.raises(VerificationError):
        verify_seal(header, KEY)
    monkeypatch.setattr(hmac, "compare_digest", lambda _found, _expected: True)
    assert verify_seal(header, KEY) == header


def test_changed_metadata_is_refused_or_harmless() -> None:
    """Seeded: any byte of the text replaced, in both copies, with the checksums made good."""
    choose = random.Random(38)  # noqa: S311  # repeatable
    accepted = 0
    for _ in range(300):
        text = bytearray(TEXT)
        text[choose.randrange(len(text))] = choose.randrange(256)
        try:
            parse_luks2_header(both({}, bytes(text)))
            accepted += 1
        except (FormatError, VerificationError):
            pass
    assert accepted < 100  # salts, digest and counts may be anything
