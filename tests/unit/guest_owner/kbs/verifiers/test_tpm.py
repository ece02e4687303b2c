"""One refusal for each step of the module docstring, beside evidence that passes all of them."""

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ccinit import values
from ccinit.errors import FormatError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.evidence.tpm import TpmEvidence
from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError
from guest_owner.kbs.references.measurements.image import Boot
from guest_owner.kbs.references.values import Profile, References, RegisteredKey
from guest_owner.kbs.verifiers.tpm import verify_evidence
from guest_owner.kbs.verifiers.tpm_quote import parse_attestation_key
from tests.fakes.platforms.tpm_quote import CERTIFY, RSAPSS, SHA1, SHA384, FakeTpm, extend, rsa_key
from tests.unit.guest_owner.kbs.values import (
    DOCUMENT,
    REPORT_DATA,
    booted_tpm,
    failed,
    reference_set,
    references,
    register,
    registers_of,
)

IMAGE = reference_set()
DIGEST = hashlib.sha256(DOCUMENT).digest()


@pytest.fixture
def tpm() -> FakeTpm:
    return booted_tpm(IMAGE)


@pytest.fixture
def trusted(tpm: FakeTpm) -> References:
    return references(IMAGE, tpm=tpm)


def verify(evidence: TpmEvidence, trusted: References) -> AppraisedEvidence:
    return verify_evidence(
        evidence.to_json_value(),
        report_data=REPORT_DATA,
        initdata_digest=DIGEST,
        references=trusted,
    )


def refusal(evidence: TpmEvidence, trusted: References) -> EvidenceRefusedError:
    with pytest.raises(EvidenceRefusedError) as caught:
        verify(evidence, trusted)
    return caught.value


def test_verify_evidence_as_registered_is_appraised(tpm: FakeTpm, trusted: References) -> None:
    appraised = verify(tpm.quote(REPORT_DATA), trusted)
    assert appraised.reference is IMAGE
    assert appraised.initdata.name == "shop"
    assert appraised.tee is Tee.TPM
    assert appraised.initdata_field == tpm.pcrs[8]
    assert appraised.measured["pcr"] == {str(i): pcr.hex() for i, pcr in enumerate(tpm.pcrs)}
    assert appraised.token_claims["pcr09"] == tpm.pcrs[9].hex()
    assert appraised.subject.profile is Profile.PROD
    assert [claim.name for claim in appraised.claims] == [
        "ak.unregistered",
        "quote.signature",
        "quote.report_data",
        "quote.selection",
        "quote.pcr_digest",
        "pcr.4",
        "pcr.9",
        "pcr.11",
        "pcr.8",
        "initdata.digest",
        "pcr.12",
        "pcr.13",
        "pcr.15",
    ]


@pytest.mark.parametrize(
    ("scheme", "hash_algorithm", "reason"),
    [
        (RSAPSS, 0x000B, "tpm2.signature_scheme"),
        (0x0014, SHA1, "tpm2.signature_hash"),
        (0x0014, SHA384, "tpm2.signature_hash"),
    ],
)
def test_step_1_signature_of_another_scheme_is_refused(
    tpm: FakeTpm, trusted: References, scheme: int, hash_algorithm: int, reason: str
) -> None:
    error = refusal(tpm.quote(REPORT_DATA, scheme=scheme, hash_algorithm=hash_algorithm), trusted)
    assert error.reason == reason
    assert not error.authentic


def test_step_2_key_that_is_not_registered_is_refused(trusted: References) -> None:
    stranger = booted_tpm(IMAGE, key=1)
    error = refusal(stranger.quote(REPORT_DATA), trusted)
    assert failed(error) == ["ak.unregistered"]
    assert not error.authentic


def test_step_2_nothing_registered_is_refused(tpm: FakeTpm) -> None:
    error = refusal(tpm.quote(REPORT_DATA), References())
    assert failed(error) == ["ak.unregistered", "pcr.4", "pcr.9", "pcr.11", "initdata.digest"]
    assert error.claims[0].expected == "nothing is registered"


def test_step_3_message_changed_after_signing_is_refused(tpm: FakeTpm, trusted: References) -> None:
    evidence = tpm.quote(REPORT_DATA)
    changed = bytearray(evidence.message)
    changed[-40 - 16] ^= 1  # firmwareVersion: nothing else looks at it
    error = refusal(values.replace(evidence, message=bytes(changed)), trusted)
    assert failed(error) == ["quote.signature"]
    assert not error.authentic


def test_step_3_signature_of_another_key_under_a_registered_name_is_refused(
    tpm: FakeTpm, trusted: References
) -> None:
    forged = values.replace(
        booted_tpm(IMAGE, key=1).quote(REPORT_DATA), ak_public_der=tpm.public_der
    )
    assert failed(refusal(forged, trusted)) == ["quote.signature"]


@pytest.mark.parametrize(
    ("magic", "kind", "reason"),
    [(0xFF544348, 0x8018, "tpm2.magic"), (0xFF544347, CERTIFY, "tpm2.type")],
)
def test_step_4_message_that_is_no_quote_of_a_tpm_is_refused(
    tpm: FakeTpm, trusted: References, magic: int, kind: int, reason: str
) -> None:
    error = refusal(tpm.quote(REPORT_DATA, magic=magic, kind=kind), trusted)
    assert failed(error) == [reason]
    assert not error.authentic


@pytest.mark.parametrize(
    "extra_data",
    [
        hashlib.sha256(b"another nonce").digest(),
        REPORT_DATA[:31],
        REPORT_DATA + bytes(32),
        bytes(32),
    ],
)
def test_step_5_other_report_data_is_refused(
    tpm: FakeTpm, trusted: References, extra_data: bytes
) -> None:
    assert failed(refusal(tpm.quote(extra_data), trusted)) == ["quote.report_data"]


@pytest.mark.parametrize("selected", [b"\xff\xff\x7f", b"\xff\xfe\xff", b"\x00\x00\x00"])
def test_step_6_selection_of_fewer_registers_is_refused(
    tpm: FakeTpm, trusted: References, selected: bytes
) -> None:
    assert failed(refusal(tpm.quote(REPORT_DATA, selected=selected), trusted)) == [
        "quote.selection"
    ]


def test_step_6_another_bank_is_refused(tpm: FakeTpm, trusted: References) -> None:
    assert failed(refusal(tpm.quote(REPORT_DATA, bank=SHA1), trusted)) == ["tpm2.bank"]


def test_step_7_registers_that_were_not_quoted_are_refused(
    tpm: FakeTpm, trusted: References
) -> None:
    honest = tpm.pcrs.copy()
    tpm.pcrs[9] = register("a changed initrd")
    evidence = values.replace(tpm.quote(REPORT_DATA), pcrs=tuple(honest))
    error = refusal(evidence, trusted)
    assert failed(error) == ["quote.pcr_digest"]
    assert not error.authentic


@pytest.mark.parametrize("index", [4, 9, 11])
@pytest.mark.parametrize("value", [bytes(32), register("another image")])
def test_step_8_boot_register_that_differs_is_refused(
    tpm: FakeTpm, trusted: References, index: int, value: bytes
) -> None:
    tpm.pcrs[index] = value
    error = refusal(tpm.quote(REPORT_DATA), trusted)
    assert failed(error) == [f"pcr.{index}"]
    assert error.reason == f"pcr.{index}"
    assert error.authentic


def test_step_8_registers_of_two_images_mixed_are_refused(tpm: FakeTpm) -> None:
    other = reference_set("image-2")
    tpm.pcrs[9] = registers_of(other)[9]
    error = refusal(tpm.quote(REPORT_DATA), references(IMAGE, other, tpm=tpm))
    assert failed(error) == ["pcr.9"]
    assert "(image-1)" in next(claim.expected for claim in error.claims if not claim.holds)


def test_step_8_direct_boot_needs_a_reference_set_that_says_so(trusted: References) -> None:
    direct = reference_set("image-1", boot=Boot.DIRECT)
    tpm = booted_tpm(direct)
    assert verify(tpm.quote(REPORT_DATA), references(direct, tpm=tpm)).reference is direct
    # The same PCR 4 and 9, registered for UKI boot: PCR 11 must then be there.
    assert failed(refusal(tpm.quote(REPORT_DATA), trusted)) == ["pcr.11"]


def test_step_8_direct_boot_with_pcr_11_used_is_refused() -> None:
    direct = reference_set(boot=Boot.DIRECT)
    tpm = booted_tpm(direct)
    tpm.pcrs[11] = register("a stub")
    assert failed(refusal(tpm.quote(REPORT_DATA), references(direct, tpm=tpm))) == ["pcr.11"]


@pytest.mark.parametrize(
    "value",
    [
        bytes(32),
        extend(extend(bytes(32), DIGEST), DIGEST),
        DIGEST,
        extend(bytes(32), hashlib.sha256(b"pod of the host").digest()),
    ],
)
def test_step_9_pcr_8_other_than_one_extend_of_the_document_is_refused(
    tpm: FakeTpm, trusted: References, value: bytes
) -> None:
    tpm.pcrs[8] = value
    assert failed(refusal(tpm.quote(REPORT_DATA), trusted)) == ["pcr.8"]


def test_step_10_document_that_is_not_listed_is_refused(trusted: References) -> None:
    document = DOCUMENT + b"# the host's pod\n"
    tpm = booted_tpm(IMAGE, document)
    with pytest.raises(EvidenceRefusedError) as caught:
        verify_evidence(
            tpm.quote(REPORT_DATA).to_json_value(),
            report_data=REPORT_DATA,
            initdata_digest=hashlib.sha256(document).digest(),
            references=trusted,
        )
    assert failed(caught.value) == ["initdata.digest"]


def test_step_10_without_a_document_pcr_8_selects_a_listed_one(
    tpm: FakeTpm, trusted: References
) -> None:
    evidence = tpm.quote(REPORT_DATA).to_json_value()
    appraised = verify_evidence(
        evidence, report_data=REPORT_DATA, initdata_digest=None, references=trusted
    )
    assert appraised.initdata.digest.raw == DIGEST
    tpm.pcrs[8] = bytes(32)
    with pytest.raises(EvidenceRefusedError) as caught:
        verify_evidence(
            tpm.quote(REPORT_DATA).to_json_value(),
            report_data=REPORT_DATA,
            initdata_digest=None,
            references=trusted,
        )
    assert failed(caught.value) == ["initdata.digest"]


@pytest.mark.fault_row("R11")
@pytest.mark.parametrize("index", [12, 13, 15])
def test_step_11_register_that_must_be_unused_is_refused(
    tpm: FakeTpm, trusted: References, index: int
) -> None:
    tpm.pcrs[index] = register("an addon")
    assert failed(refusal(tpm.quote(REPORT_DATA), trusted)) == [f"pcr.{index}"]


def test_refusal_collects_every_difference(tpm: FakeTpm, trusted: References) -> None:
    tpm.pcrs[4] = register("other")
    tpm.pcrs[8] = bytes(32)
    tpm.pcrs[15] = register("debug")
    error = refusal(tpm.quote(b"stale nonce"), trusted)
    assert failed(error) == ["quote.report_data", "pcr.4", "pcr.8", "pcr.15"]
    assert error.reason == "quote.report_data"
    claim = next(claim for claim in error.claims if claim.name == "pcr.15")
    assert (claim.expected, claim.got) == ("00" * 32, register("debug").hex())


def test_same_registers_under_two_profiles_cannot_be_registered() -> None:
    other = replace(IMAGE, name="image-1-test", profile=Profile.TEST)
    with pytest.raises(FormatError) as caught:
        References(sets=(IMAGE, other))
    assert caught.value.reason == "reference.profile"
    assert References(sets=(IMAGE, replace(other, profile=Profile.PROD)))


def test_parse_attestation_key_refuses_short_and_foreign_keys() -> None:
    short = FakeTpm(key=rsa_key(0, 1024)).public_der
    edwards = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    other = edwards.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    longer = FakeTpm(key=rsa_key(0)).public_der + b"\0"
    for public_der in (short, other, b"", b"\x30\x00", longer):
        with pytest.raises(FormatError) as caught:
            parse_attestation_key(public_der)
        assert caught.value.reason == "ak.form"
    assert parse_attestation_key(FakeTpm(key=rsa_key(0)).public_der).key_size == 2048


def test_short_key_is_refused_even_if_it_got_registered() -> None:
    tpm = booted_tpm(IMAGE)
    tpm.key = rsa_key(0, 1024)
    trusted = replace(
        references(IMAGE, tpm=tpm),
        attestation_keys=(RegisteredKey(name="short", public_der=tpm.public_der),),
    )
    assert failed(refusal(tpm.quote(REPORT_DATA), trusted)) == ["quote.signature"]


@given(data=st.data())
def test_any_changed_byte_of_the_quote_is_refused(data: st.DataObject) -> None:
    tpm = booted_tpm(IMAGE)
    trusted = references(IMAGE, tpm=tpm)
    evidence = tpm.quote(REPORT_DATA)
    part = data.draw(st.sampled_from(("message", "signature", "ak_public_der")))
    changed = bytearray(getattr(evidence, part))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    error = refusal(values.replace(evidence, **{part: bytes(changed)}), trusted)
    assert not error.authentic
