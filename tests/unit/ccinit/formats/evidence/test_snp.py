"""Trustee's JSON form of a report, and the hypervisor's table of certificates."""

import json
from typing import Any
from uuid import UUID

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import parse_json
from ccinit.formats.evidence.snp import (
    Certificate,
    CertType,
    parse_certificate_table,
    parse_snp_evidence,
)
from tests.fakes.platforms.snp import ARK, ASK, VCEK, VLEK, FakeSnp, certificate_table

REPORT_DATA = bytes(range(64))
# As kbs-types and the `sev` crate spell them.
REPORT_MEMBERS = (
    "version guest_svn policy family_id image_id vmpl sig_algo current_tcb plat_info key_info "
    "report_data measurement host_data id_key_digest author_key_digest report_id report_id_ma "
    "reported_tcb cpuid_fam_id cpuid_mod_id cpuid_step chip_id committed_tcb current committed "
    "launch_tcb launch_mit_vector current_mit_vector signature"
)


def evidence(**fields: bytes | int) -> dict[str, Any]:
    """As it comes from the wire."""
    text = json.dumps(FakeSnp().with_fields(**fields).evidence(REPORT_DATA)).encode()
    value = parse_json(text, "evidence", 1 << 20)
    assert isinstance(value, dict)
    return value


def reason_of(value: dict[str, Any]) -> str:
    with pytest.raises(FormatError) as caught:
        parse_snp_evidence(value)
    return caught.value.reason


def test_evidence_has_trustees_members() -> None:
    value = evidence()
    assert set(value) == {"attestation_report", "cert_chain"}
    report = value["attestation_report"]
    assert set(report) == set(REPORT_MEMBERS.split())
    assert report["report_data"] == list(REPORT_DATA)
    assert report["reported_tcb"] == {
        "fmc": None,
        "bootloader": 4,
        "tee": 0,
        "snp": 24,
        "microcode": 219,
    }
    assert report["current"] == {"major": 1, "minor": 55, "build": 21}
    assert [len(report["signature"][part]) for part in "rs"] == [72, 72]
    (entry,) = value["cert_chain"]
    assert entry["cert_type"] == "VCEK"


def test_evidence_is_read_back() -> None:
    value = evidence()
    assert parse_snp_evidence(value).to_json_value() == value
    assert parse_snp_evidence(value).report.to_bytes()[:672] == FakeSnp().report(REPORT_DATA)[:672]


def test_older_clients_leave_out_what_older_reports_do_not_have() -> None:
    value = evidence(version=3, launch_mit_vector=0, current_mit_vector=0)
    parsed = parse_snp_evidence(value)
    del value["attestation_report"]["launch_mit_vector"]
    assert reason_of(value) == "snp_evidence.report.members"
    del value["attestation_report"]["current_mit_vector"]
    assert parse_snp_evidence(value) == parsed


def test_evidence_without_certificates_is_null() -> None:
    value = evidence() | {"cert_chain": None}
    assert parse_snp_evidence(value).certificates == ()
    assert parse_snp_evidence(value).to_json_value()["cert_chain"] is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"extra": 1}, "snp_evidence.report.members"),
        ({"version": "5"}, "snp_evidence.version"),
        ({"version": True}, "snp_evidence.version"),
        ({"version": -1}, "snp_evidence.version"),
        ({"version": 1 << 32}, "snp_report.form"),
        ({"version": 6}, "snp_report.version"),
        ({"version": 4}, "snp_report.reserved"),
        ({"cpuid_fam_id": None}, "snp_evidence.report"),
        ({"report_data": [0] * 63}, "snp_evidence.report_data"),
        ({"report_data": "0" * 64}, "snp_evidence.report_data"),
        ({"report_data": 64}, "snp_evidence.report_data"),
        ({"host_data": [256] * 32}, "snp_evidence.host_data"),
        ({"reported_tcb": {"snp": 1}}, "snp_evidence.reported_tcb.members"),
        ({"current": {"major": 1, "minor": 1, "build": 256}}, "snp_evidence.current"),
        ({"signature": {"r": [0] * 72, "s": [0] * 71}}, "snp_evidence.signature"),
    ],
)
def test_report_of_another_form_is_refused(change: dict[str, Any], reason: str) -> None:
    value = evidence()
    value["attestation_report"] |= change
    assert reason_of(value) == reason


def test_report_that_is_no_object_is_refused() -> None:
    assert reason_of({**evidence(), "attestation_report": None}) == "snp_evidence.report.type"


def test_turins_tcb_on_another_processor_is_refused() -> None:
    value = evidence()
    value["attestation_report"]["reported_tcb"]["fmc"] = 1
    assert reason_of(value) == "snp_report.form"


ONE = {"cert_type": "VCEK", "data": [1]}
CAP = "expected at most 8 entries"
SIZE = "expected 1 byte to 16 KiB"


@pytest.mark.parametrize(
    ("chain", "detail"),
    [
        ({}, CAP),
        ([ONE] * 9, CAP),
        ([{"cert_type": "VCEK"}], ""),
        ([{"cert_type": "OTHER", "data": [1]}], "unknown type of certificate"),
        ([{"cert_type": ["VCEK"], "data": [1]}], "unknown type of certificate"),
        ([{"cert_type": "VCEK", "data": "1"}], SIZE),
        ([{"cert_type": "VCEK", "data": []}], SIZE),
        ([{"cert_type": "VCEK", "data": [0] * 16385}], SIZE),
        ([{"cert_type": "VCEK", "data": [256]}], "expected a byte"),
    ],
)
def test_chain_of_another_form_is_refused(chain: object, detail: str) -> None:
    assert parse_snp_evidence(evidence() | {"cert_chain": [ONE]})
    with pytest.raises(FormatError) as caught:
        parse_snp_evidence(evidence() | {"cert_chain": chain})
    assert caught.value.reason.startswith("snp_evidence.cert_chain")
    assert detail in caught.value.detail


def test_chain_may_be_as_long_as_the_caps_say() -> None:
    longest = [{"cert_type": "ASK", "data": [0] * 16384}] * 8
    assert len(parse_snp_evidence(evidence() | {"cert_chain": longest}).certificates) == 8


def test_certificate_table_is_read() -> None:
    entries = {VCEK: b"vcek", VLEK: b"vlek", ASK: b"ask", ARK: b"ark", b"?" * 16: b"unknown"}
    assert parse_certificate_table(certificate_table(entries) + bytes(100)) == tuple(
        Certificate(cert_type=kind, data=kind.value.lower().encode())
        for kind in (CertType.VCEK, CertType.VLEK, CertType.ASK, CertType.ARK)
    )


def test_names_of_entries_are_read_in_either_order_of_their_bytes() -> None:
    mixed = {UUID(bytes=guid).bytes_le: guid for guid in (VCEK, VLEK, ASK, ARK)}
    assert not set(mixed) & set(mixed.values())
    expected = parse_certificate_table(certificate_table(dict.fromkeys(mixed.values(), b"x")))
    assert parse_certificate_table(certificate_table(dict.fromkeys(mixed, b"x"))) == expected
    assert len(expected) == len(mixed)


def test_table_may_have_as_many_entries_as_the_cap_says() -> None:
    entries = {bytes((number,)) * 16: b"x" for number in range(1, 8)} | {VCEK: b"vcek"}
    assert len(parse_certificate_table(certificate_table(entries))) == 1


NINE = certificate_table({bytes((number,)) * 16: b"x" for number in range(1, 10)})


@pytest.mark.parametrize("data", [b"", bytes(24), bytes(16384)])
def test_table_that_nobody_wrote_is_empty(data: bytes) -> None:
    assert parse_certificate_table(data) == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(16385), "snp_certificates.length"),
        (NINE, "snp_certificates.length"),
        (certificate_table({VCEK: b"vcek"})[:-1], "snp_certificates.form"),
        (certificate_table({VCEK: b""}), "snp_certificates.form"),
        (VCEK + b"\xff" * 8 + bytes(24), "snp_certificates.form"),
        (VCEK + bytes(8), "snp_certificates.form"),
        (VCEK, "snp_certificates.form"),
    ],
)
def test_table_of_another_form_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_certificate_table(data)
    assert caught.value.reason == reason
