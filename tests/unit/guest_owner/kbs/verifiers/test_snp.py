"""Every field of a report changed and signed again: only the check of that field can refuse it."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccinit.errors import CcinitError, FormatError
from ccinit.formats.encoding.strict_json import JsonValue, parse_json
from ccinit.formats.evidence.snp import SnpEvidence, parse_snp_evidence
from ccinit.formats.evidence.snp_report import parse_snp_report
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError
from guest_owner.kbs.references.measurements.image import SnpMeasurements
from guest_owner.kbs.references.values import References
from guest_owner.kbs.verifiers.snp import verify_evidence
from tests.fakes.platforms.snp import CHIP_ID, FIELDS, Chain, tcb, turin_tcb
from tests.unit.guest_owner.kbs.snp_values import (
    HOST_DATA,
    MEASUREMENT,
    REPORT_DATA,
    booted_snp,
    requirements,
    snp_image,
    snp_references,
)
from tests.unit.guest_owner.kbs.values import failed

TRUSTED = snp_references()
OLDER = tcb(3, 0, 24, 219)
NEWER = tcb(5, 0, 24, 219)


def verify(
    evidence: JsonValue, trusted: References = TRUSTED, digest: bytes | None = HOST_DATA
) -> AppraisedEvidence:
    # As from the wire: integers and lists, nothing of ours.
    value = parse_json(json.dumps(evidence).encode(), "evidence", 1 << 20)
    return verify_evidence(
        value, report_data=REPORT_DATA, initdata_digest=digest, references=trusted
    )


def refusal(
    evidence: JsonValue, trusted: References = TRUSTED, digest: bytes | None = HOST_DATA
) -> EvidenceRefusedError:
    with pytest.raises(EvidenceRefusedError) as caught:
        verify(evidence, trusted, digest)
    return caught.value


STEPS = """
snp.chain snp.sig_algo snp.key_info snp.signature snp.reported_tcb snp.chip_id snp.cpuid
snp.report_data snp.measurement snp.host_data initdata.digest snp.vmpl
snp.policy.debug snp.policy.migrate_ma snp.policy.reserved snp.policy.abi
snp.platform.reserved snp.platform.smt snp.tcb.committed snp.tcb.current snp.firmware
snp.report_id_ma snp.version snp.revoked
snp.policy.allowed snp.policy.promised snp.platform.states snp.product
snp.tcb.reported snp.tcb.launch snp.mitigations.launch snp.mitigations.current
snp.id_key snp.author_key snp.family_id snp.image_id snp.guest_svn
"""


def test_verify_evidence_as_registered_is_appraised() -> None:
    snp = booted_snp()
    appraised = verify(snp.evidence(REPORT_DATA))
    assert appraised.tee is Tee.SNP
    booted = SnpMeasurements(values=(MEASUREMENT,))
    assert appraised.reference == replace(snp_image(), measured=booted)
    assert (appraised.initdata.name, appraised.initdata_field) == ("shop", HOST_DATA)
    assert appraised.measured["snp"]["measurement"] == hashlib.sha384(b"image-1").hexdigest()
    assert appraised.token_claims["policy_debug_allowed"] == "false"
    assert appraised.token_claims["reported_tcb_snp"] == "24"
    assert [claim.name for claim in appraised.claims] == STEPS.split()
    assert all(claim.holds for claim in appraised.claims)


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_every_version_of_the_report_is_appraised(version: int) -> None:
    late = {"launch_mit_vector": 0, "current_mit_vector": 0} if version < 5 else {}
    cpuid = {"cpuid_fam_id": 0, "cpuid_mod_id": 0, "cpuid_step": 0} if version < 3 else {}
    assert verify(booted_snp(version=version, **late, **cpuid).evidence(REPORT_DATA))


@pytest.mark.parametrize("image", [b"image-1", b"2image-1"])
def test_each_measurement_of_an_image_is_accepted(image: bytes) -> None:
    measurement = hashlib.sha384(image).digest()
    snp = booted_snp(measurement=measurement)
    appraised = verify(snp.evidence(REPORT_DATA))
    assert appraised.subject.reference == "image-1"
    assert appraised.subject.image == f"snp:{measurement.hex()}"


FIELD_CHANGES: list[tuple[str, bytes | int, list[str]]] = [
    ("guest_svn", 1, ["snp.guest_svn"]),
    ("policy", 0x30000 | 1 << 19, ["snp.policy.debug"]),
    ("policy", 0x30000 | 1 << 18, ["snp.policy.migrate_ma"]),
    ("policy", 0x30000 | 1 << 21, ["snp.policy.allowed"]),
    ("policy", 0x10000, ["snp.policy.reserved"]),
    ("policy", 0x30000 | 1 << 40, ["snp.policy.reserved"]),
    ("policy", 0x20000, ["snp.platform.smt"]),
    ("policy", 0x30000 | 0x0138, ["snp.policy.abi"]),
    ("policy", 0x30000 | 0x0200, ["snp.policy.abi"]),
    ("family_id", b"f" * 16, ["snp.family_id"]),
    ("image_id", b"i" * 16, ["snp.image_id"]),
    ("vmpl", 1, ["snp.vmpl"]),
    ("vmpl", 0xFFFFFFFF, ["snp.vmpl"]),
    ("sig_algo", 2, ["snp.sig_algo"]),
    ("sig_algo", 0, ["snp.sig_algo"]),
    ("current_tcb", OLDER, ["snp.tcb.current"]),
    ("plat_info", 1 << 8, ["snp.platform.reserved"]),
    ("key_info", 1, ["snp.author_key"]),
    ("key_info", 1 << 1, ["snp.key_info"]),
    ("key_info", 1 << 2, ["snp.key_info"]),
    ("key_info", 7 << 2, ["snp.key_info"]),
    ("key_info", 1 << 5, ["snp.key_info"]),
    ("report_data", bytes(64), ["snp.report_data"]),
    ("report_data", REPORT_DATA[:48] + bytes(16), ["snp.report_data"]),
    ("measurement", bytes(48), ["snp.measurement"]),
    ("measurement", hashlib.sha384(b"other").digest(), ["snp.measurement"]),
    ("host_data", bytes(32), ["snp.host_data"]),
    ("host_data", hashlib.sha256(b"pod of the host").digest(), ["snp.host_data"]),
    ("id_key_digest", b"k" * 48, ["snp.id_key"]),
    ("author_key_digest", b"a" * 48, ["snp.author_key"]),
    ("report_id_ma", b"m" * 32, ["snp.report_id_ma"]),
    ("reported_tcb", OLDER, ["snp.reported_tcb", "snp.tcb.reported"]),
    ("reported_tcb", NEWER, ["snp.reported_tcb", "snp.tcb.committed"]),
    ("cpuid_fam_id", 0x17, ["snp.cpuid"]),
    ("cpuid_mod_id", 0x11, ["snp.cpuid"]),
    ("chip_id", b"c" * 64, ["snp.chip_id"]),
    ("chip_id", bytes(64), ["snp.chip_id"]),
    ("committed_tcb", OLDER, ["snp.tcb.committed"]),
    ("committed_tcb", NEWER, ["snp.tcb.current"]),
    ("current", bytes((20, 55, 1)), ["snp.firmware"]),
    ("committed", bytes((22, 55, 1)), ["snp.firmware"]),
    ("launch_tcb", OLDER, ["snp.tcb.launch"]),
]
# Judged by requirements that the plain ones do not make, or not at all (module docstring of snp).
ELSEWHERE = {"version", "reserved", "launch_mit_vector", "current_mit_vector"}
NOT_JUDGED = {"report_id", "cpuid_step"}


def test_table_of_changes_has_every_field() -> None:
    changed = {field for field, _, _ in FIELD_CHANGES}
    assert changed | ELSEWHERE | NOT_JUDGED == set(FIELDS)


@pytest.mark.parametrize(("field", "value", "names"), FIELD_CHANGES)
def test_changed_field_is_refused_by_name(field: str, value: bytes | int, names: list[str]) -> None:
    error = refusal(booted_snp(**{field: value}).evidence(REPORT_DATA))
    assert failed(error) == names
    assert error.reason == names[0]


@pytest.mark.parametrize("least", [0x0137, 0x0037, 0x00FF])
def test_policy_may_ask_for_the_firmware_that_is_there_or_an_older_one(least: int) -> None:
    assert verify(booted_snp(policy=0x30000 | least).evidence(REPORT_DATA))


@pytest.mark.parametrize("field", sorted(NOT_JUDGED))
def test_field_that_no_value_makes_worse_is_not_judged(field: str) -> None:
    size = FIELDS[field][1]
    assert verify(booted_snp(**{field: b"\x07" * size}).evidence(REPORT_DATA))


@pytest.mark.parametrize(
    ("demand", "fields", "name"),
    [
        (b'[platform]\nrequire = ["alias-check"]', {"plat_info": 0b101}, "snp.platform.states"),
        (b'[platform]\nrequire = ["ecc", "tsme"]', {"plat_info": 0b110}, ""),
        (b'[id_block]\nkeys = ["' + b"6b" * 48 + b'"]', {"id_key_digest": b"j" * 48}, "snp.id_key"),
        (
            b'[id_block]\nkeys = ["' + b"6b" * 48 + b'"]\nguest_svn = 3',
            {"id_key_digest": b"k" * 48, "guest_svn": 2, "family_id": b"f" * 16},
            "snp.guest_svn",
        ),
        (
            b'[id_block]\nkeys = ["' + b"6b" * 48 + b'"]\nguest_svn = 3',
            {"id_key_digest": b"k" * 48, "guest_svn": 3, "family_id": b"f" * 16},
            "",
        ),
        (
            b'[id_block]\nauthor_keys = ["' + b"61" * 48 + b'"]',
            {"key_info": 1, "author_key_digest": b"a" * 48},
            "",
        ),
        (
            b'[id_block]\nauthor_keys = ["' + b"61" * 48 + b'"]',
            {"key_info": 0, "author_key_digest": b"a" * 48},
            "snp.author_key",
        ),
    ],
)
def test_what_the_owner_demands_is_checked(
    demand: bytes, fields: dict[str, bytes | int], name: str
) -> None:
    trusted = snp_references(demanded=requirements(demand))
    evidence = booted_snp(**fields).evidence(REPORT_DATA)
    if name:
        assert failed(refusal(evidence, trusted)) == [name]
    else:
        assert verify(evidence, trusted)


@pytest.mark.parametrize(
    ("change", "fields", "name"),
    [
        ({"report_version": 4}, {"version": 3}, "snp.version"),
        ({"mitigations": 0b100}, {}, "snp.mitigations.launch"),
        ({"mitigations": 0b1000}, {"launch_mit_vector": 0b1000}, "snp.mitigations.current"),
    ],
)
def test_versions_and_mitigations_are_demanded(
    change: dict[str, Any], fields: dict[str, bytes | int], name: str
) -> None:
    demanded = replace(requirements(), **change)
    late = {"launch_mit_vector": 0, "current_mit_vector": 0} if "version" in fields else {}
    evidence = booted_snp(**late, **fields).evidence(REPORT_DATA)
    assert verify(evidence)
    assert failed(refusal(evidence, snp_references(demanded=demanded))) == [name]


def test_promise_that_the_policy_does_not_make_is_refused() -> None:
    demanded = requirements(b'require = ["single-socket", "aes-256-xts"]')
    trusted = snp_references(demanded=demanded)
    assert failed(refusal(booted_snp(policy=0x30000 | 1 << 20).evidence(REPORT_DATA), trusted)) == [
        "snp.policy.promised"
    ]
    assert verify(booted_snp(policy=0x30000 | 1 << 20 | 1 << 22).evidence(REPORT_DATA), trusted)


def test_smt_is_refused_unless_it_is_allowed() -> None:
    demanded = replace(requirements(), allowed=type(requirements().allowed)(0))
    trusted = snp_references(demanded=demanded)
    assert failed(refusal(booted_snp().evidence(REPORT_DATA), trusted)) == ["snp.policy.allowed"]
    assert verify(booted_snp(policy=0x20000, plat_info=0).evidence(REPORT_DATA), trusted)


def test_nothing_registered_is_refused_for_every_kind_of_registration() -> None:
    error = refusal(booted_snp().evidence(REPORT_DATA), References())
    assert failed(error) == ["snp.root", "snp.measurement", "initdata.digest", "snp.requirements"]
    assert not error.authentic


def test_report_of_nobody_known_has_no_product_and_is_judged_to_the_end() -> None:
    trusted = snp_references()
    (root,) = trusted.roots
    intermediate_alone = replace(root, certificates=root.certificates[:1])
    given = booted_snp().evidence(REPORT_DATA)
    error = refusal(given, replace(trusted, roots=(intermediate_alone,)))
    assert failed(error) == ["snp.root", "snp.product"]
    assert not error.authentic
    assert verify(given, trusted)


def test_floor_of_another_product_does_not_count() -> None:
    chain = Chain(product="Genoa-B1")
    snp = replace(booted_snp(cpuid_mod_id=0x11), chain=chain)
    assert failed(refusal(snp.evidence(REPORT_DATA))) == ["snp.product"]


def test_turin_has_its_own_order_of_tcb_bytes() -> None:
    level = turin_tcb(1, 2, 0, 3, 80)
    chain = Chain(product="Turin-A0", reported=level, fmc=1)
    tcbs = dict.fromkeys(("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"), level)
    snp = replace(booted_snp(cpuid_fam_id=0x1A, cpuid_mod_id=0x02, **tcbs), chain=chain)
    floor = (
        b'[[product]]\nname = "Turin"\nfmc = 1\nbootloader = 2\ntee = 0\nsnp = 3\nmicrocode = 80\n'
    )
    trusted = snp_references(demanded=requirements(floor))
    assert verify(snp.evidence(REPORT_DATA), trusted)
    higher = snp_references(demanded=requirements(floor.replace(b"fmc = 1", b"fmc = 2")))
    assert failed(refusal(snp.evidence(REPORT_DATA), higher)) == [
        "snp.tcb.reported",
        "snp.tcb.launch",
    ]


@pytest.mark.parametrize(
    ("csp_ids", "names"),
    [
        ((), ["snp.csp_id"]),
        (("CN=cc-south-1.cloud.example", "CN=cc-north-1.cloud"), ["snp.csp_id"]),
        (("CN=cc-north-1.cloud.example", "CN=cc-south-1.cloud.example"), []),
    ],
)
def test_key_of_a_provider_is_one_of_a_provider_that_the_owner_names(
    csp_ids: tuple[str, ...], names: list[str]
) -> None:
    chain = Chain(leaf_name="SEV-VLEK")
    snp = replace(booted_snp(key_info=1 << 2, chip_id=bytes(64)), chain=chain)
    demanded = replace(requirements(), csp_ids=frozenset(csp_ids))
    trusted = snp_references(demanded=demanded)
    if names:
        assert failed(refusal(snp.evidence(REPORT_DATA), trusted)) == names
    else:
        assert verify(snp.evidence(REPORT_DATA), trusted)


def test_chip_that_the_owner_revoked_is_refused() -> None:
    evidence = booted_snp().evidence(REPORT_DATA)
    others = replace(requirements(), revoked_chips=frozenset((CHIP_ID[::-1],)))
    assert verify(evidence, snp_references(demanded=others))
    revoked = replace(requirements(), revoked_chips=frozenset((CHIP_ID, CHIP_ID[::-1])))
    error = refusal(evidence, snp_references(demanded=revoked))
    assert failed(error) == ["snp.revoked"]
    assert error.authentic


def test_document_that_is_not_listed_is_refused() -> None:
    digest = hashlib.sha256(b"the host's pod").digest()
    error = refusal(booted_snp(host_data=digest).evidence(REPORT_DATA), digest=digest)
    assert failed(error) == ["initdata.digest"]
    assert error.authentic


def test_without_a_document_host_data_selects_a_listed_one() -> None:
    assert verify(booted_snp().evidence(REPORT_DATA), digest=None).initdata.name == "shop"
    error = refusal(booted_snp(host_data=bytes(32)).evidence(REPORT_DATA), digest=None)
    assert failed(error) == ["initdata.digest"]


def test_report_of_another_key_is_refused() -> None:
    snp, stranger = booted_snp(), replace(booted_snp(), chain=Chain(number=1))
    evidence = stranger.evidence(REPORT_DATA)
    forged = snp.evidence(REPORT_DATA)
    assert isinstance(evidence, dict)
    assert isinstance(forged, dict)
    forged = {**forged, "attestation_report": evidence["attestation_report"]}
    error = refusal(forged)
    assert failed(error) == ["snp.signature"]
    assert not error.authentic


def test_refusal_collects_every_difference() -> None:
    snp = booted_snp(vmpl=3, policy=0x30000 | 1 << 19, host_data=bytes(32))
    error = refusal(snp.evidence(b"stale".ljust(64, b"\0")))
    assert failed(error) == ["snp.report_data", "snp.host_data", "snp.vmpl", "snp.policy.debug"]


SNP = booted_snp()
REPORT = SNP.report(REPORT_DATA)
CERTIFICATES = parse_snp_evidence(SNP.evidence(REPORT_DATA)).certificates


@given(position=st.integers(0, 672 + 2 * 72 - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_report_is_refused(position: int, bit: int) -> None:
    data = bytearray(REPORT)
    data[position] ^= 1 << bit
    with pytest.raises(CcinitError) as caught:
        verify_bytes(bytes(data))
    error = caught.value
    assert isinstance(error, FormatError) or (
        isinstance(error, EvidenceRefusedError) and not error.authentic
    )


def verify_bytes(data: bytes) -> AppraisedEvidence:
    report = parse_snp_report(data)
    return verify(SnpEvidence(report=report, certificates=CERTIFICATES).to_json_value())


def test_report_that_no_bit_was_flipped_of_is_appraised() -> None:
    assert verify_bytes(REPORT)
