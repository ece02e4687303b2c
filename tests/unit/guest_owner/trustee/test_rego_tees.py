"""The exported Rego on SEV-SNP and TDX: claims of our own verifiers, then each item broken."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import pytest

from guest_owner.kbs.verifiers.snp import verify_evidence as verify_snp
from guest_owner.kbs.verifiers.tdx import verify_evidence as verify_tdx
from guest_owner.trustee.export import appraisal_policy, boot_values
from tests.fakes.kbs.trustee import Trustee
from tests.fakes.platforms.tdx_boot import FakeBoot
from tests.unit.guest_owner.kbs.snp_values import HOST_DATA, booted_snp, snp_image, snp_references
from tests.unit.guest_owner.kbs.snp_values import REPORT_DATA as SNP_REPORT_DATA
from tests.unit.guest_owner.kbs.verifiers import tdx_values
from tests.unit.guest_owner.kbs.verifiers.tdx_values import (
    booted_domain,
    tdx_reference,
    tdx_references,
)
from tests.unit.guest_owner.trustee.installed import PATH, broken, trustee_with

HASH32, HASH48 = "ab" * 32, "cd" * 48
TCB = {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219}
SNP = {
    "measurement": HASH48,
    "policy": {"debug_allowed": False, "migrate_ma_allowed": False},
    "reported_tcb": TCB,
    "vmpl": 0,
}
SNP_VALUES = {
    "ccinit_snp_measurement": [HASH48],
    "ccinit_snp_tcb": ["4:0:24:219"],
    "ccinit_initdata_sha256": [HASH32],
}


def snp_claims(**changes: Any) -> dict[str, Any]:
    document = changes.pop("init_data", HASH32)
    return {"snp": {"evidence": SNP | changes}, "init_data": document}


@pytest.mark.parametrize(
    ("claims", "failed"),
    [
        (snp_claims(), set()),
        (snp_claims(reported_tcb=TCB | {"snp": 25}), set()),
        (snp_claims(measurement="ab" * 48), {"snp.measurement"}),
        (snp_claims(init_data="00" * 32), {"snp.host_data"}),
        (snp_claims(policy={"debug_allowed": True, "migrate_ma_allowed": False}),
         {"snp.policy.debug"}),
        (snp_claims(policy={"debug_allowed": False}), {"snp.policy.migrate_ma"}),
        (snp_claims(vmpl=1), {"snp.vmpl"}),
        (snp_claims(reported_tcb=TCB | {"snp": 23}), {"snp.tcb"}),
        ({"snp": {}, "init_data": HASH32},
         {"snp.measurement", "snp.policy.debug", "snp.policy.migrate_ma", "snp.tcb"}),
    ],
)  # fmt: skip
def test_snp_claims(claims: Mapping[str, Any], failed: set[str]) -> None:
    appraisal = Trustee(appraisal_policy(), "", SNP_VALUES).appraise(claims)
    assert appraisal.failed == failed
    assert (appraisal.status == "affirming") == (not failed)


def flat_snp_claims(**changes: str) -> dict[str, Any]:
    """The same, as releases show it that give every claim as text."""
    claims = {
        "measurement": HASH48,
        "policy_debug_allowed": "false",
        "policy_migrate_ma": "false",
        "reported_tcb_bootloader": "4",
        "reported_tcb_tee": "0",
        "reported_tcb_snp": "24",
        "reported_tcb_microcode": "219",
    }
    return {"snp": claims | changes, "init_data": HASH32}


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, set()),
        ({"policy_debug_allowed": "true"}, {"snp.policy.debug"}),
        ({"policy_debug_allowed": ""}, {"snp.policy.debug"}),
        ({"policy_migrate_ma": "true"}, {"snp.policy.migrate_ma"}),
        ({"reported_tcb_microcode": "218"}, {"snp.tcb"}),
        ({"reported_tcb_microcode": "220"}, set()),
        ({"reported_tcb_microcode": "x"}, {"snp.tcb"}),
    ],
)
def test_flat_snp_claims(changes: dict[str, str], failed: set[str]) -> None:
    appraisal = Trustee(appraisal_policy(), "", SNP_VALUES).appraise(flat_snp_claims(**changes))
    assert appraisal.failed == failed
    assert (appraisal.status == "affirming") == (not failed)


@pytest.mark.parametrize(
    ("floors", "failed"),
    [
        ([], {"snp.tcb"}),
        (["4:0:24:219", "9:0:23:72"], {"snp.tcb"}),
        (["4:0:24:219", "3:0:23:72"], set()),
        (["4:0:24"], {"snp.tcb"}),
        (["rubbish"], {"snp.tcb"}),
    ],
)
def test_firmware_has_to_reach_every_floor(floors: list[str], failed: set[str]) -> None:
    values = SNP_VALUES | {"ccinit_snp_tcb": floors}
    assert Trustee(appraisal_policy(), "", values).appraise(flat_snp_claims()).failed == failed


@pytest.fixture(scope="module")
def snp_trustee() -> Trustee:
    return trustee_with(snp_references(snp_image(), snp_image("image-2")))


def verified_snp_claims(image: str = "image-1") -> dict[str, Any]:
    """What our own verifier says about a report in Trustee's words, as in our tokens."""
    measurement = hashlib.sha384(image.encode()).digest()
    evidence = verify_snp(
        booted_snp(measurement=measurement).evidence(SNP_REPORT_DATA),
        report_data=SNP_REPORT_DATA,
        initdata_digest=HOST_DATA,
        references=snp_references(snp_image(), snp_image("image-2")),
    )
    return {"snp": evidence.token_claims, "init_data": evidence.initdata_field.hex()}


def test_genuine_snp_guest_is_affirmed_and_gets_its_resource(snp_trustee: Trustee) -> None:
    claims = verified_snp_claims()
    assert snp_trustee.appraise(claims).failed == frozenset()
    assert snp_trustee.releases(snp_trustee.token(claims), PATH)
    for init_data in (HOST_DATA.hex(), base64.b64encode(HOST_DATA).decode()):
        bound = claims | {"init_data": init_data}
        assert snp_trustee.releases(snp_trustee.token(bound), PATH)
        assert snp_trustee.releases(snp_trustee.token_of_draft_04(bound), PATH)


@pytest.mark.parametrize(
    ("claims", "failed"),
    [
        ({"init_data": "00" * 32}, {"snp.host_data"}),
        ({"measurement": "00"}, {"snp.measurement"}),
        ({"policy_debug_allowed": "true"}, {"snp.policy.debug"}),
        ({"policy_migrate_ma": "true"}, {"snp.policy.migrate_ma"}),
        ({"vmpl": 2}, {"snp.vmpl"}),
        ({"reported_tcb_snp": "23"}, {"snp.tcb"}),
    ],
)
def test_hostile_snp_claims_get_nothing(
    snp_trustee: Trustee, claims: dict[str, Any], failed: set[str]
) -> None:
    genuine = verified_snp_claims()
    changed = genuine | {name: claims[name] for name in claims if name in genuine}
    inner = {name: claims[name] for name in claims if name not in genuine}
    changed["snp"] = genuine["snp"] | inner
    assert snp_trustee.appraise(changed).failed == failed
    assert not snp_trustee.releases(snp_trustee.token(changed), PATH)
    assert not snp_trustee.releases(snp_trustee.token_of_draft_04(changed), PATH)


def test_snp_image_that_the_rule_does_not_name_gets_nothing(snp_trustee: Trustee) -> None:
    token = snp_trustee.token(verified_snp_claims("image-2"))
    assert token["submods"]["cpu0"]["ear.status"] == "affirming"
    assert not snp_trustee.releases(token, PATH)


@pytest.fixture(scope="module")
def tdx_trustee() -> Trustee:
    return trustee_with(tdx_references(tdx_reference(), tdx_reference("image-2")))


def tdx_claims() -> dict[str, Any]:
    """What our own verifier says in Trustee's words, and what only Trustee's adds to it."""
    boot = FakeBoot()
    evidence = verify_tdx(
        tdx_values.evidence(booted_domain(boot), boot.log),
        report_data=tdx_values.REPORT_DATA,
        initdata_digest=hashlib.sha384(tdx_values.DOCUMENT).digest(),
        references=tdx_references(),
    )
    added = {"tcb_status": "UpToDate", "collateral_expiration_status": "0"}
    return {
        "tdx": {**evidence.token_claims, **added},
        "init_data": evidence.initdata_field.hex(),
    }


def test_genuine_tdx_guest_is_affirmed_and_gets_its_resource(tdx_trustee: Trustee) -> None:
    claims = tdx_claims()
    assert tdx_trustee.appraise(claims).failed == frozenset()
    assert tdx_trustee.releases(tdx_trustee.token(claims), PATH)
    assert tdx_trustee.releases(tdx_trustee.token_of_draft_04(claims), PATH)


RTMR_2_OF_ANOTHER_IMAGE = boot_values(tdx_reference("image-2"))[0].rpartition(":")[2]
ZERO48, OTHER48 = "00" * 48, "ab" * 48


@pytest.mark.parametrize(
    ("place", "value", "failed"),
    [
        ("quote.body.mr_td", OTHER48, {"td.mrtd", "td.image"}),
        ("quote.body.rtmr_1", OTHER48, {"rtmr.1", "td.image"}),
        ("quote.body.rtmr_2", OTHER48, {"rtmr.2", "td.image"}),
        ("quote.body.rtmr_2", RTMR_2_OF_ANOTHER_IMAGE, {"td.image"}),
        ("quote.body.mr_config_id", ZERO48, {"td.mrconfigid"}),
        ("quote.body.mr_config_id", OTHER48, {"td.mrconfigid"}),
        ("quote.body.mr_owner", OTHER48, {"td.mrowner"}),
        ("quote.body.mr_owner_config", OTHER48, {"td.mrownerconfig"}),
        ("quote.body.mr_servicetd", OTHER48, {"td.mrservicetd"}),
        ("quote.body.mr_servicetd", ZERO48, set()),
        ("quote.body.td_attributes", "01" * 8, {"td.attributes"}),
        ("quote.body.xfam", "00" * 8, {"td.attributes"}),
        ("quote.body.mr_seam", OTHER48, {"td.mrseam"}),
        ("quote.body.rtmr_3", OTHER48, set()),
        ("quote.header.tee_type", "00000000", {"quote.tee_type"}),
        ("quote.header.vendor_id", "00" * 16, {"quote.vendor"}),
        ("td_attributes.debug", True, {"td.debug"}),
        ("td_attributes.debug", "false", {"td.debug"}),
        ("tcb_status", "OutOfDate", {"pck.tcb_status"}),
        ("collateral_expiration_status", "1", {"pck.collateral"}),
    ],
)
def test_hostile_tdx_claims_get_nothing(
    tdx_trustee: Trustee, place: str, value: object, failed: set[str]
) -> None:
    claims = broken(tdx_claims(), f"tdx.{place}", value)
    assert tdx_trustee.appraise(claims).failed == failed
    assert tdx_trustee.releases(tdx_trustee.token(claims), PATH) == (not failed)


def test_tdx_guest_with_a_document_of_the_host_gets_nothing(tdx_trustee: Trustee) -> None:
    claims = tdx_claims()
    claims["tdx"]["quote"]["body"]["mr_config_id"] = claims["init_data"] = OTHER48
    assert tdx_trustee.appraise(claims).failed == {"td.mrconfigid"}
    assert not tdx_trustee.releases(tdx_trustee.token(claims, status="affirming"), PATH)
