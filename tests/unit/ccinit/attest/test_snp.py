"""Evidence of SEV-SNP: the report that was asked for, with its certificates, in Trustee's form."""

import pytest

from ccinit.attest.snp import SnpAttester
from ccinit.errors import CcinitError
from ccinit.formats.evidence.snp import Certificate, CertType, parse_snp_evidence
from ccinit.formats.evidence.tee import ReportData
from ccinit.kernel.tsm import TsmReport
from tests.fakes.platforms.snp import ASK, VCEK, FakeSnp, certificate_table

REPORT_DATA = ReportData(bytes(range(64)))


def attester(snp: FakeSnp, table: bytes = b"") -> SnpAttester:
    return SnpAttester(lambda data: TsmReport(outblob=snp.report(data), auxblob=table))


def reason_of(found: SnpAttester) -> str:
    with pytest.raises(CcinitError) as caught:
        found.collect_evidence(REPORT_DATA)
    return caught.value.reason


def test_evidence_is_the_report_with_its_certificates() -> None:
    snp = FakeSnp()
    table = certificate_table({VCEK: b"vcek", bytes(15) + b"\x01": b"unknown", ASK: b"ask"})
    evidence = attester(snp, table).collect_evidence(REPORT_DATA)
    parsed = parse_snp_evidence(evidence)
    assert parsed.report.report_data == REPORT_DATA
    assert parsed.report.signed_bytes == snp.report(REPORT_DATA)[:672]
    assert parsed.certificates == (
        Certificate(cert_type=CertType.VCEK, data=b"vcek"),
        Certificate(cert_type=CertType.ASK, data=b"ask"),
    )


def test_host_without_certificates_gives_evidence_without() -> None:
    evidence = attester(FakeSnp(), bytes(16384)).collect_evidence(REPORT_DATA)
    assert parse_snp_evidence(evidence).certificates == ()


def test_report_over_something_else_is_refused() -> None:
    assert reason_of(attester(FakeSnp().with_fields(report_data=bytes(64)))) == "attest.report"


def test_r17_short_report_is_refused() -> None:
    short = SnpAttester(lambda _data: TsmReport(outblob=bytes(1183), auxblob=b""))
    assert reason_of(short) == "snp_report.length"


def test_host_data_is_read_from_a_report() -> None:
    assert attester(FakeSnp().with_fields(host_data=b"h" * 32)).read_host_data() == b"h" * 32
