"""Each step of the appraisal of an SVSM's vTPM, refused by its own name."""

import hashlib
from collections.abc import Callable
from dataclasses import replace as but_of

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.evidence.svsm import SvsmEvidence
from ccinit.formats.tcg.tpm2_keys import AK_TEMPLATE, EK_TEMPLATE
from ccinit.values import replace
from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError
from guest_owner.kbs.attestation_requests.svsm import make_svsm_request, open_svsm_secrets
from guest_owner.kbs.references.values import References
from guest_owner.kbs.verifiers.svsm import verify_evidence
from tests.unit.guest_owner.kbs.svsm_values import (
    EK_NUMBER,
    IMAGE,
    LAUNCH,
    REPORT_DATA,
    SEALING_KEY,
    keys,
    public_area,
    svsm_evidence,
    svsm_references,
)
from tests.unit.guest_owner.kbs.values import DOCUMENT, booted_tpm, failed

INITDATA = hashlib.sha256(DOCUMENT).digest()
HONEST = svsm_evidence()


def appraise(evidence: SvsmEvidence, references: References | None = None) -> AppraisedEvidence:
    return verify_evidence(
        evidence.to_json_value(),
        report_data=REPORT_DATA,
        initdata_digest=INITDATA,
        references=references or svsm_references(),
    )


def refused(evidence: SvsmEvidence, references: References | None = None) -> EvidenceRefusedError:
    with pytest.raises(EvidenceRefusedError) as caught:
        appraise(evidence, references)
    return caught.value


def test_guest_below_a_registered_svsm_is_accepted() -> None:
    appraised = appraise(HONEST)
    assert (appraised.reference.name, appraised.initdata.name) == ("image-1", "shop")
    assert appraised.measured["snp"]["measurement"] == LAUNCH.hex()
    assert appraised.initdata_field.hex() == appraised.measured["pcr"]["8"]


OTHER_AK = public_area(AK_TEMPLATE, 1)
OTHER_QUOTE = booted_tpm(IMAGE).quote(bytes(64))
CHANGES: dict[str, tuple[Callable[[], SvsmEvidence], list[str]]] = {
    "what the credential held": (
        lambda: replace(HONEST, activated=bytes(32)),
        ["svsm.credential"],
    ),
    "another handshake's request": (
        lambda: replace(HONEST, sealed=make_svsm_request(keys(), SEALING_KEY).sealed),
        ["svsm.credential"],
    ),
    "a request of nobody's": (
        lambda: replace(HONEST, sealed=bytes(124)),
        ["svsm.request", "svsm.manifest", "svsm.ak", "svsm.credential"],
    ),
    "another key than the credential's": (
        lambda: replace(HONEST, ak=OTHER_AK),
        ["svsm.ak", "svsm.ak_public"],
    ),
    "another key that quotes": (
        lambda: replace(HONEST, tpm=booted_tpm(IMAGE, key=1).quote(REPORT_DATA)),
        ["svsm.ak_public"],
    ),
    "a key that is not restricted": (
        lambda: replace(HONEST, ak=AK_TEMPLATE[:5] + b"\4" + HONEST.ak[6:]),
        ["svsm.ak", "svsm.ak"],
    ),
    "another endorsement key": (
        lambda: replace(HONEST, manifest=public_area(EK_TEMPLATE, EK_NUMBER + 1)),
        ["svsm.manifest", "snp.report_data"],
    ),
    "a manifest of another form": (
        lambda: replace(HONEST, manifest=b"manifest"),
        ["svsm.manifest", "svsm.ek", "snp.report_data"],
    ),
    "another nonce in the quote": (
        lambda: replace(HONEST, tpm=booted_tpm(IMAGE).quote(bytes(64))),
        ["quote.report_data"],
    ),
    "the signature of another quote": (
        lambda: replace(HONEST, tpm=replace(HONEST.tpm, signature=OTHER_QUOTE.signature)),
        ["ak.signature"],
    ),
    "a report that the guest's own level asked for": (
        lambda: svsm_evidence(vmpl=2),
        ["snp.vmpl"],
    ),
}


@pytest.mark.parametrize(("change", "names"), CHANGES.values(), ids=CHANGES)
def test_every_changed_part_is_refused_by_name(
    change: Callable[[], SvsmEvidence], names: list[str]
) -> None:
    assert appraise(HONEST)
    error = refused(change())
    assert failed(error) == names
    assert not error.authentic


def test_two_guests_parts_make_no_evidence() -> None:
    """Named keys of one TPM, and the report of another: the credential was for the first alone."""
    request = make_svsm_request(replace(keys(), ek=public_area(EK_TEMPLATE, 3)), SEALING_KEY)
    opened = open_svsm_secrets(SEALING_KEY, request.sealed).content
    mixed = replace(HONEST, sealed=request.sealed, activated=opened)
    assert failed(refused(mixed)) == ["svsm.manifest"]


def test_registrations_are_needed() -> None:
    assert failed(refused(HONEST, svsm_references(request_key=None)))[0] == "svsm.request"
    without = but_of(svsm_references(), roots=())
    assert failed(refused(HONEST, without))[0] == "snp.endorsement_key"
    undemanded = but_of(svsm_references(), requirements=())
    error = refused(HONEST, undemanded)
    assert failed(error) == ["paravisor.requirements"]
    assert error.authentic


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"measurement": bytes(48)}, ["paravisor.measurement"]),
        ({"policy": 0x30000 | 1 << 19}, ["snp.policy.debug"]),
    ],
)
def test_machine_that_the_owner_does_not_want_is_authentic_and_refused(
    fields: dict[str, bytes | int], names: list[str]
) -> None:
    error = refused(svsm_evidence(**fields))  # type: ignore[arg-type]
    assert failed(error) == names
    assert error.authentic


def test_registers_of_another_image_are_authentic_and_refused() -> None:
    tpm = booted_tpm(IMAGE)
    tpm.pcrs[15] = b"d" * 32
    error = refused(svsm_evidence(tpm))
    assert failed(error) == ["pcr.15"]
    assert error.authentic


def test_other_evidence_is_none() -> None:
    with pytest.raises(CcinitError) as caught:
        verify_evidence(
            {}, report_data=REPORT_DATA, initdata_digest=None, references=svsm_references()
        )
    assert caught.value.reason == "svsm_evidence.members"
