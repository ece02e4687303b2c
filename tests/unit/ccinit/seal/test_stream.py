"""The ratchet, against an independent computation of its first steps."""

import hashlib
import hmac

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ccinit.errors import FormatError
from ccinit.formats.sealed_log import (
    HEADER_BYTES,
    BootId,
    Header,
    Kind,
    Record,
    SizeClass,
    parse_header,
    parse_plaintext,
)
from ccinit.seal.stream import SealedStream, open_stream
from ccinit.secret import Secret
from guest_owner.sealed_log.key import LogKey

BOOT_ID = BootId(b"0123456789abcdef")
SEED = bytes(range(32))
HEADER = Header(boot_id=BOOT_ID, sealed_seed=b"\x55" * 1168)


def stream() -> SealedStream:
    key = Ed25519PrivateKey.from_private_bytes(b"\x11" * 32)
    return SealedStream(header=HEADER, seed=Secret(SEED), signing_key=key)


def bound_stream() -> SealedStream:
    made = stream()
    made.evidence_records(b"evidence", boottime_us=1, dropped=0)
    return made


def event(data: bytes = b"x") -> Record:
    return Record(boottime_us=2, kind=Kind.EVENT, source="ccinit", dropped=0, data=data)


def hkdf(key: bytes, info: bytes) -> bytes:
    """RFC 5869 by hand: no salt, one block."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def open_record(wire: bytes, key: bytes, index: int, previous: bytes) -> Record:
    assert wire[1:9] == index.to_bytes(8, "big")
    aad = BOOT_ID + wire[1:9] + wire[:1] + previous
    return parse_plaintext(AESGCM(key).decrypt(bytes(12), wire[9:], aad))


def test_open_stream_seals_the_seed_to_the_owner() -> None:
    owner = LogKey(bytes(32))
    made = open_stream(owner.public_bytes, BOOT_ID)
    assert len(made.header) == HEADER_BYTES
    assert parse_header(made.header).boot_id == BOOT_ID
    assert open_stream(owner.public_bytes, BOOT_ID).header != made.header
    assert open_stream(owner.public_bytes, BOOT_ID).public_key != made.public_key


@pytest.mark.parametrize(
    "owner_key",
    [
        b"",
        LogKey(bytes(32)).public_bytes[:-1],
        b"\xff" * 1216,  # coefficients beyond q
        LogKey(bytes(32)).public_bytes[:1184] + bytes(32),  # X25519 point of low order
    ],
)
def test_open_stream_with_a_bad_key_is_refused(owner_key: bytes) -> None:
    with pytest.raises(FormatError) as error:
        open_stream(owner_key, BOOT_ID)
    assert error.value.reason == "seal.owner_key"


def test_seed_for_a_key_that_agrees_on_nothing_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[Secret] = []

    def keep(content: bytes) -> Secret:
        assert len(content) == 32
        seeds.append(Secret(content))
        return seeds[-1]

    monkeypatch.setattr("ccinit.seal.stream.Secret", keep)
    with pytest.raises(FormatError):
        open_stream(LogKey(bytes(32)).public_bytes[:1184] + bytes(32), BOOT_ID)
    assert [len(seed) for seed in seeds] == [0]


def test_records_follow_the_ratchet_and_the_chain_of_tags() -> None:
    made = stream()
    first = made.evidence_records(b"evidence", boottime_us=1, dropped=0)
    second = made.record(event(b"two"), SizeClass.MEDIUM)
    tag0 = hashlib.sha256(HEADER.to_bytes()).digest()[:16]
    evidence = open_record(first, SEED, 1, tag0)
    assert (evidence.kind, evidence.data) == (Kind.EVIDENCE, made.public_key + b"evidence")
    assert open_record(second, hkdf(SEED, b"next"), 2, first[-16:]).data == b"two"
    assert (len(first), len(second)) == (512, 4096)
    with pytest.raises(InvalidTag):
        open_record(second, SEED, 2, first[-16:])


def test_mix_makes_the_next_key_depend_on_the_shared_one() -> None:
    made = stream()
    first = made.evidence_records(b"", boottime_us=1, dropped=0)
    marker = made.mix_record(Secret(b"shared"), boottime_us=2, dropped=0)
    third = made.record(event(b"three"), SizeClass.SMALL)
    second_key = hkdf(SEED, b"next")
    assert open_record(marker, second_key, 2, first[-16:]).kind is Kind.MIX
    third_key = hkdf(hkdf(second_key, b"next") + b"shared", b"mix")
    assert open_record(third, third_key, 3, marker[-16:]).data == b"three"


def test_signature_covers_place_tag_and_everything_before() -> None:
    made = stream()
    first = made.evidence_records(b"", boottime_us=1, dropped=0)
    second = made.signature_record(boottime_us=2, dropped=5)
    record = open_record(second, hkdf(SEED, b"next"), 2, first[-16:])
    message = (
        b"ccinit/log/signature/v1\0"
        + BOOT_ID
        + (2).to_bytes(8, "big")
        + first[-16:]
        + hashlib.sha256(HEADER.to_bytes() + first).digest()
    )
    Ed25519PublicKey.from_public_bytes(made.public_key).verify(record.data, message)
    assert (record.kind, record.dropped) == (Kind.SIGNATURE, 5)


def test_long_evidence_goes_on_in_further_records() -> None:
    made = stream()
    wire = made.evidence_records(bytes(10_000), boottime_us=1, dropped=0)
    assert len(wire) == 3 * 4096
    with pytest.raises(RuntimeError):
        made.evidence_records(b"", boottime_us=1, dropped=0)


def test_signature_is_due_after_63_records_and_then_demanded() -> None:
    made = bound_stream()
    for _ in range(62):
        assert not made.signature_due
        made.record(event(), SizeClass.SMALL)
    assert made.signature_due
    with pytest.raises(RuntimeError):
        made.record(event(), SizeClass.SMALL)
    with pytest.raises(RuntimeError):
        made.mix_record(Secret(b"k"), boottime_us=1, dropped=0)
    with pytest.raises(RuntimeError):
        made.end_records(boottime_us=1, dropped=0)
    made.signature_record(boottime_us=1, dropped=0)
    assert not made.signature_due


def test_nothing_precedes_the_evidence() -> None:
    made = stream()
    with pytest.raises(RuntimeError):
        made.record(event(), SizeClass.SMALL)
    with pytest.raises(RuntimeError):
        made.signature_record(boottime_us=1, dropped=0)
    with pytest.raises(RuntimeError):
        made.mix_record(Secret(b"k"), boottime_us=1, dropped=0)
    with pytest.raises(RuntimeError):
        made.end_records(boottime_us=1, dropped=0)


@pytest.mark.parametrize("kind", [Kind.EVIDENCE, Kind.SIGNATURE, Kind.MIX, Kind.END])
def test_kinds_of_the_chain_itself_are_not_for_callers(kind: Kind) -> None:
    record = Record(boottime_us=2, kind=kind, source="", dropped=0, data=b"")
    with pytest.raises(RuntimeError):
        bound_stream().record(record, SizeClass.SMALL)


def test_nothing_follows_the_end_and_the_keys_are_gone() -> None:
    made = bound_stream()
    assert len(made.end_records(boottime_us=9, dropped=0)) == 1024
    assert made.ended
    assert bytes(made._key) == bytes(32)
    with pytest.raises(RuntimeError):
        made.record(event(), SizeClass.SMALL)
    with pytest.raises(RuntimeError):
        made.signature_record(boottime_us=1, dropped=0)


def test_left_keys_are_overwritten() -> None:
    made = stream()
    first_key = made._key
    assert bytes(first_key) == SEED
    made.evidence_records(b"", boottime_us=1, dropped=0)
    assert bytes(first_key) == bytes(32)
    assert bytes(made._key) != bytes(32)


def test_seed_and_what_the_shared_key_was_mixed_into_are_overwritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[bytearray] = []
    step = SealedStream._step

    def keep(made: SealedStream, material: bytearray, label: bytes) -> None:
        assert any(material)
        used.append(material)
        step(made, material, label)

    monkeypatch.setattr(SealedStream, "_step", keep)
    seed = Secret(SEED)
    key = Ed25519PrivateKey.from_private_bytes(b"\x11" * 32)
    made = SealedStream(header=HEADER, seed=seed, signing_key=key)
    assert len(seed) == 0
    made.evidence_records(b"", boottime_us=1, dropped=0)
    made.mix_record(Secret(b"shared"), boottime_us=2, dropped=0)
    assert [len(material) for material in used] == [32, 32, 32 + len(b"shared")]
    assert not any(map(any, used))
