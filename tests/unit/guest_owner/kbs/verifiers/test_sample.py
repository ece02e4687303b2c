"""Sample evidence: refused by name unless the owner asked for it, and never for production."""

from dataclasses import replace

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import JsonValue, encode_base64
from ccinit.formats.kbs.resource_uri import ResourceUri
from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError
from guest_owner.kbs.policy import Allow, Deny, decide, parse_policy
from guest_owner.kbs.references.measurements.sample import SampleMeasurements
from guest_owner.kbs.references.values import (
    Profile,
    References,
    ReferenceSet,
    encode_reference_set,
    parse_reference_set,
    register_initdata,
)
from guest_owner.kbs.verifiers.sample import verify_evidence
from tests.unit.guest_owner.kbs.values import DOCUMENT, failed, reference_set

IMAGE = ReferenceSet(name="any", profile=Profile.TEST, measured=SampleMeasurements(svns=("0", "1")))
POD = register_initdata("pod", DOCUMENT)
TRUSTED = References(sets=(IMAGE,), initdata=(POD,))
REPORT_DATA = bytes(range(48))
GOOD: dict[str, JsonValue] = {"svn": "1", "report_data": encode_base64(REPORT_DATA)}


def verify(
    evidence: JsonValue = GOOD,
    references: References = TRUSTED,
    digest: bytes | None = POD.digest.raw,
) -> AppraisedEvidence:
    return verify_evidence(
        evidence, report_data=REPORT_DATA, initdata_digest=digest, references=references
    )


def test_verify_evidence_with_a_listed_document_is_accepted() -> None:
    appraised = verify()
    booted = replace(IMAGE, measured=SampleMeasurements(svns=("1",)))
    assert (appraised.reference, appraised.initdata) == (booted, POD)
    assert appraised.subject.image == "sample:31"
    assert (appraised.initdata_field, appraised.measured) == (b"", {"sample": {"svn": "1"}})


@pytest.mark.parametrize(
    ("evidence", "references", "digest", "reason"),
    [
        (GOOD, replace(TRUSTED, sets=()), POD.digest.raw, "sample.svn"),
        (GOOD, replace(TRUSTED, sets=(reference_set(),)), POD.digest.raw, "sample.svn"),
        ({**GOOD, "svn": "2"}, TRUSTED, POD.digest.raw, "sample.svn"),
        (
            {**GOOD, "report_data": encode_base64(REPORT_DATA + bytes(16))},
            TRUSTED,
            POD.digest.raw,
            "sample.report_data",
        ),
        (GOOD, replace(TRUSTED, initdata=()), POD.digest.raw, "initdata.digest"),
        (GOOD, TRUSTED, bytes(32), "initdata.digest"),
        (GOOD, TRUSTED, None, "initdata.digest"),
    ],
)
def test_verify_evidence_names_what_differs(
    evidence: JsonValue, references: References, digest: bytes | None, reason: str
) -> None:
    with pytest.raises(EvidenceRefusedError) as refused:
        verify(evidence, references, digest)
    assert failed(refused.value) == [reason]
    assert not refused.value.authentic


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ([], "sample_evidence.type"),
        ({"svn": "1"}, "sample_evidence.report_data"),
        ({**GOOD, "svn": 1}, "sample_evidence.svn"),
        ({**GOOD, "report_data": "no base64"}, "sample_evidence.report_data"),
        ({**GOOD, "more": ""}, "sample_evidence.unknown"),
    ],
)
def test_verify_evidence_of_another_form_is_refused(evidence: JsonValue, reason: str) -> None:
    with pytest.raises(FormatError) as refused:
        verify(evidence)
    assert refused.value.reason == reason


def test_reference_set_survives_its_file() -> None:
    assert parse_reference_set(encode_reference_set(IMAGE)) == IMAGE


def test_r19_reference_set_for_production_is_refused() -> None:
    text = encode_reference_set(IMAGE).replace(b'"test"', b'"prod"')
    with pytest.raises(FormatError) as refused:
        parse_reference_set(text)
    assert refused.value.reason == "reference.profile"


@pytest.mark.parametrize(("profile", "decided"), [("test", Allow), ("prod", Deny)])
def test_r19_production_policy_releases_nothing_to_it(
    profile: str, decided: type[Allow] | type[Deny]
) -> None:
    rule = f'[[rule]]\nresources = "*/*/*"\nprofile = "{profile}"\ninitdata = ["pod"]\n'
    policy = parse_policy(f"version = 1\n{rule}".encode())
    decision = decide(policy, ResourceUri("ccinit", "shop", "key"), verify().subject)
    assert isinstance(decision, decided)
