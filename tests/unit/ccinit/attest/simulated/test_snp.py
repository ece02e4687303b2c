"""The stand-in for SEV-SNP: really verified under its own chain, and under no other."""

import hashlib
from pathlib import Path

import pytest

from ccinit.agent.jobs.evidence import snp_attester
from ccinit.agent.jobs.measure import BINDERS
from ccinit.attest.detect import detect_platform
from ccinit.attest.simulated.machine import SERIAL_NUMBER, serial_number
from ccinit.attest.simulated.snp import MEASUREMENT
from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import NO_REPORT_DATA, ReportData, Tee
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.references.measurements.image import SnpMeasurements
from guest_owner.kbs.references.roots import parse_certificates
from guest_owner.kbs.references.values import Profile, References, ReferenceSet
from guest_owner.kbs.verifiers.snp import verify_evidence
from tests.fakes.platforms.platform_signs import FakeSigns
from tests.fakes.platforms.snp import Chain
from tests.unit.guest_owner.kbs.snp_values import snp_references
from tests.unit.guest_owner.kbs.values import DOCUMENT

ROOT = Path(__file__).parents[5]
REPORT_DATA = ReportData(bytes(range(64)))
HOST_DATA = hashlib.sha256(DOCUMENT).digest()
SIGNS = FakeSigns(texts={SERIAL_NUMBER: f"{serial_number(Tee.SNP, HOST_DATA)}\n"})


def evidence() -> JsonValue:
    platform = detect_platform(SIGNS)
    assert platform.tee is Tee.SNP
    assert platform.open_report is not None
    with platform.open_report(REPORT_DATA) as fds:
        return snp_attester(fds).collect_evidence(REPORT_DATA)


def references(certificates: tuple[bytes, ...] | None = None) -> References:
    image = ReferenceSet(
        name="sim", profile=Profile.TEST, measured=SnpMeasurements(values=(MEASUREMENT,))
    )
    if certificates is None:
        pem = (ROOT / "tests/vectors/snp_sim/ask_ark.pem").read_bytes()
        certificates = parse_certificates(pem)
    return snp_references(image, certificates=certificates)


def verify(trusted: References) -> str:
    appraised = verify_evidence(
        evidence(), report_data=REPORT_DATA, initdata_digest=HOST_DATA, references=trusted
    )
    return appraised.reference.name


def test_simulated_evidence_is_verified_under_its_own_chain() -> None:
    assert verify(references()) == "sim"


def test_simulated_evidence_is_refused_under_a_vendors_roots() -> None:
    with pytest.raises(EvidenceRefusedError) as refused:
        verify(references(Chain(number=3).trusted))
    assert refused.value.reason == "snp.chain"


def test_initdata_is_compared_with_what_the_host_gave() -> None:
    platform = detect_platform(SIGNS)
    assert platform.open_report is not None
    for digest, reason in ((HOST_DATA, ""), (bytes(32), "config.mismatch")):
        with platform.open_report(NO_REPORT_DATA) as fds:
            if not reason:
                BINDERS[Tee.SNP](fds, digest)
                continue
            with pytest.raises(CcinitError) as refused:
                BINDERS[Tee.SNP](fds, digest)
            assert refused.value.reason == reason
