"""The stand-in for TDX: really verified under its own chain, and under no other."""

import hashlib

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.agent.jobs.evidence import tdx_attester
from ccinit.agent.jobs.measure import BINDERS
from ccinit.attest.detect import detect_platform
from ccinit.attest.simulated.machine import SERIAL_NUMBER, serial_number
from ccinit.attest.simulated.tdx import make_td_report
from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tdx_report import parse_td_report
from ccinit.formats.evidence.tee import NO_REPORT_DATA, ReportData, Tee
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.references.requirements import parse_requirements
from guest_owner.kbs.references.roots import parse_certificates
from guest_owner.kbs.references.values import References, RegisteredRoot, register_initdata
from guest_owner.kbs.verifiers.tdx import verify_evidence
from tests.chain.platforms import TDX
from tests.fakes.platforms.platform_signs import FakeSigns
from tests.fakes.platforms.tdx_quote import FakePck
from tests.unit.guest_owner.kbs.verifiers.tdx_values import DOCUMENT

REPORT_DATA = ReportData(bytes(range(64)))
MRCONFIGID = hashlib.sha384(DOCUMENT).digest()
SIGNS = FakeSigns(texts={SERIAL_NUMBER: f"{serial_number(Tee.TDX, MRCONFIGID)}\n"})


def evidence() -> JsonValue:
    platform = detect_platform(SIGNS)
    assert (platform.tee, platform.register) == (Tee.TDX, None)
    assert platform.open_report is not None
    with platform.open_report(REPORT_DATA) as fds:
        return tdx_attester(fds, b"").collect_evidence(REPORT_DATA)


def verify(certificates: tuple[bytes, ...]) -> str:
    trusted = References(
        sets=(TDX.reference,),
        roots=(RegisteredRoot(name="sim", platform=Tee.TDX, certificates=certificates),),
        requirements=(parse_requirements(TDX.requirements.encode(), Tee.TDX),),
        initdata=(register_initdata("pod", DOCUMENT),),
    )
    appraised = verify_evidence(
        evidence(), report_data=REPORT_DATA, initdata_digest=MRCONFIGID, references=trusted
    )
    return appraised.reference.name


def test_simulated_evidence_is_verified_under_its_own_chain() -> None:
    assert TDX.roots is not None
    assert verify(parse_certificates(TDX.roots.read_bytes())) == "demo"


def test_simulated_evidence_is_refused_under_a_vendors_roots() -> None:
    vendor = FakePck().root_certificate.public_bytes(Encoding.DER)
    with pytest.raises(EvidenceRefusedError) as refused:
        verify((vendor,))
    assert refused.value.reason == "pck.chain"


def test_initdata_is_compared_with_what_the_host_gave() -> None:
    platform = detect_platform(SIGNS)
    assert platform.open_report is not None
    for digest, reason in ((MRCONFIGID, ""), (bytes(48), "config.mismatch")):
        with platform.open_report(NO_REPORT_DATA) as fds:
            if not reason:
                BINDERS[Tee.TDX](fds, digest)
                continue
            with pytest.raises(CcinitError) as refused:
                BINDERS[Tee.TDX](fds, digest)
            assert refused.value.reason == reason


def test_report_of_the_module_has_what_the_quote_has() -> None:
    report = parse_td_report(make_td_report(MRCONFIGID, REPORT_DATA))
    assert (report.report_data, report.mrconfigid) == (REPORT_DATA, MRCONFIGID)
    measured = TDX.measured.to_json_object()
    assert [value.hex() for value in report.rtmrs[1:3]] == [measured["rtmr1"], measured["rtmr2"]]
