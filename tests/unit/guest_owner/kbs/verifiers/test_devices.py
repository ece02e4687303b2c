"""Evidence of devices: judged if a rule names the device, refused by its name if none does."""

import json
from typing import Any

import pytest

from ccinit.attest.composite import collect_additional_evidence
from ccinit.attest.sample_device import SampleDevice
from ccinit.errors import CcinitError
from ccinit.formats.evidence.tee import Tee, report_data_for
from ccinit.formats.kbs.rcar import Attestation, Nonce, device_digest, report_digest
from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError
from guest_owner.kbs.devices import PROVING, Device
from guest_owner.kbs.jwe import public_jwk
from guest_owner.kbs.verifiers.devices import MAX_ADDITIONAL_BYTES, judge_devices
from guest_owner.kbs.verifiers.table import verify_attestation
from tests.fakes.platforms.tdx_quote import p256_key
from tests.unit.guest_owner.kbs.values import DOCUMENT, booted_tpm, reference_set, references

NONCE = Nonce("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
KEY = public_jwk(p256_key("session").public_key())
DIGEST = device_digest(NONCE, KEY, Tee.TPM)
NAMED = frozenset((Device.SAMPLE_DEVICE,))
TPM = booted_tpm(reference_set())


def said(digest: bytes = DIGEST) -> str:
    """What the guest's own code says of its device."""
    return collect_additional_evidence((SampleDevice(),), digest)


def changed(**changes: Any) -> str:
    value = json.loads(said())["sampledevice"]
    return json.dumps({"sampledevice": {**value, **changes}})


def attest(
    text: str, devices: frozenset[Device] = NAMED, covered: str | None = None
) -> AppraisedEvidence:
    """Judge a guest whose platform covers `covered`, or what was sent."""
    digest = report_digest(NONCE, KEY, text if covered is None else covered, Tee.TPM)
    attestation = Attestation(
        nonce=NONCE,
        tee_pubkey=KEY,
        init_data=DOCUMENT.decode(),
        primary_evidence=TPM.quote(report_data_for(Tee.TPM, digest)).to_json_value(),
        additional_evidence=text,
    )
    trusted = references(reference_set(), tpm=TPM)
    return verify_attestation(Tee.TPM, attestation, trusted, devices)


def failed(text: str, devices: frozenset[Device] = NAMED, covered: str | None = None) -> set[str]:
    with pytest.raises(EvidenceRefusedError) as refused:
        attest(text, devices, covered)
    return {claim.name for claim in refused.value.claims if not claim.holds}


def test_no_device_proves_anything_yet() -> None:
    assert not PROVING


def test_named_device_vouches_beside_the_platform() -> None:
    appraised = attest(said())
    assert appraised.subject.devices == {"sampledevice"}
    assert appraised.additional_evidence == said()
    alone = attest("")
    assert [claim.name for claim in appraised.claims] == [
        *(claim.name for claim in alone.claims),
        *("device.sampledevice", "sampledevice.report_data"),
    ]
    assert alone.subject.devices == frozenset()


def test_device_that_no_rule_names_is_refused_by_name() -> None:
    assert failed(said(), frozenset()) == {"device.sampledevice"}
    assert failed('{"nvidia":{}}') == {"device.nvidia"}
    both = json.dumps({**json.loads(said()), "nvidia": {"anything": [1]}})
    assert failed(both) == {"device.nvidia"}


def test_evidence_of_another_handshake_is_refused() -> None:
    assert failed(said(bytes(48))) == {"sampledevice.report_data"}
    assert failed(said(DIGEST + b"\0")) == {"sampledevice.report_data"}


def test_platform_covers_what_its_devices_said() -> None:
    """Nothing can be put in, taken out or written otherwise afterwards."""
    assert failed("", covered=said()) == {"quote.report_data"}
    assert failed(said(), covered="") == {"quote.report_data"}
    assert failed(said() + " ", covered=said()) == {"quote.report_data"}


def test_refusals_of_platform_and_device_are_in_one_list() -> None:
    assert failed(said(bytes(48)), frozenset(NAMED), covered="") == {
        "quote.report_data",
        "sampledevice.report_data",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "rcar.additional_evidence.json"),
        ("{}", "rcar.additional_evidence"),
        ("[]", "rcar.additional_evidence"),
        ('"sampledevice"', "rcar.additional_evidence"),
        ('{"a b": 1}', "rcar.additional_evidence"),
        ('{"": 1}', "rcar.additional_evidence"),
        ('{"\u00e9": 1}', "rcar.additional_evidence"),
        (json.dumps({"d" * 65: 1}), "rcar.additional_evidence"),
        (json.dumps({f"d{number}": 1 for number in range(17)}), "rcar.additional_evidence"),
        (
            '{"sampledevice": 1, "sampledevice": 1}',
            "rcar.additional_evidence.duplicate",
        ),
        (said() + " " * MAX_ADDITIONAL_BYTES, "rcar.additional_evidence.length"),
        ('{"sampledevice": []}', "sampledevice.type"),
        (changed(svn=2), "sampledevice.svn"),
        (changed(svn="2" * 65), "sampledevice.svn"),
        (changed(report_data="!"), "sampledevice.report_data"),
        (changed(more=1), "sampledevice.unknown"),
    ],
)
def test_text_outside_the_form_is_refused(text: str, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        judge_devices(text, DIGEST, NAMED)
    assert refused.value.reason == reason
    assert judge_devices(said(), DIGEST, NAMED).claims.all_hold
