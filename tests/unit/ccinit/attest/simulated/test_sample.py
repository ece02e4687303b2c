"""The sample platform: what is written down is what the verifier reads, and no more is claimed."""

import pytest

from ccinit.agent.jobs.measure import BINDERS
from ccinit.attest.simulated.sample import SampleAttester
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import Tee, report_data_for
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.references.values import References, register_initdata
from guest_owner.kbs.verifiers.table import VERIFIERS
from tests.chain.platforms import SAMPLE
from tests.unit.guest_owner.kbs.values import DOCUMENT

REPORT_DATA = report_data_for(Tee.SAMPLE, bytes(range(48)))
POD = register_initdata("pod", DOCUMENT)


def evidence() -> JsonValue:
    return SampleAttester().collect_evidence(REPORT_DATA)


def verify(references: References) -> str:
    appraised = VERIFIERS[Tee.SAMPLE](
        evidence(),
        report_data=REPORT_DATA,
        initdata_digest=POD.digest.raw,
        references=references,
    )
    return f"{appraised.reference.name} {appraised.reference.profile}"


def test_evidence_is_accepted_by_an_owner_who_registered_the_platform() -> None:
    assert verify(References(sets=(SAMPLE.reference,), initdata=(POD,))) == "demo test"


def test_evidence_is_refused_by_default() -> None:
    with pytest.raises(EvidenceRefusedError) as refused:
        verify(References(initdata=(POD,)))
    assert refused.value.reason == "sample.svn"
    assert not refused.value.authentic


def test_no_field_holds_the_initdata() -> None:
    BINDERS[Tee.SAMPLE]({}, POD.digest.raw)
    BINDERS[Tee.SAMPLE]({}, bytes(32))
