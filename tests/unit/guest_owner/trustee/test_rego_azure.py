"""The exported Rego on Azure's platforms: claims of our own verifier, then each item broken."""

import base64
import copy
import hashlib
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.references.measurements.image import Boot
from guest_owner.kbs.verifiers import azure
from tests.fakes.platforms.azure import PARAVISOR
from tests.unit.guest_owner.kbs.values import DOCUMENT, reference_set, register, registers_of
from tests.unit.guest_owner.kbs.verifiers.azure_values import azure_references, azure_vm
from tests.unit.guest_owner.trustee.installed import PATH, broken, trustee_with

IMAGE, OTHER = reference_set(), reference_set("image-2")
DIRECT = reference_set("direct", boot=Boot.DIRECT)
TRUSTED = replace(azure_references(), sets=(IMAGE, OTHER, DIRECT))
REPORT_DATA = hashlib.sha384(b"nonce and key").digest()
BOTH = pytest.mark.parametrize("tee", [Tee.AZ_SNP_VTPM, Tee.AZ_TDX_VTPM])
ZERO, OTHER_VALUE, OTHER48 = "00" * 32, register("another value").hex(), "ab" * 48
# What Trustee adds to a quote's claims.
COLLATERAL = {"tcb_status": "UpToDate", "collateral_expiration_status": "0"}


def verified_claims(tee: Tee, image: Any = IMAGE) -> dict[str, Any]:
    """What our own verifier says about a VM in Trustee's words, as in our tokens."""
    return copy.deepcopy(_verified_claims(tee, image.name))


@cache
def _verified_claims(tee: Tee, name: str) -> dict[str, Any]:
    (image,) = (known for known in TRUSTED.sets if known.name == name)
    evidence = azure.verify_evidence(
        tee,
        azure_vm(tee, image).evidence(REPORT_DATA),
        report_data=REPORT_DATA,
        initdata_digest=hashlib.sha256(DOCUMENT).digest(),
        references=TRUSTED,
    )
    said = dict(evidence.token_claims) | (COLLATERAL if tee is Tee.AZ_TDX_VTPM else {})
    return {tee.value: said, "init_data": evidence.initdata_field.hex()}


@BOTH
@pytest.mark.parametrize("image", [IMAGE, DIRECT], ids=["uki", "direct"])
def test_genuine_vm_is_affirmed_and_gets_its_resource(tee: Tee, image: Any) -> None:
    claims, servers = verified_claims(tee, image), trustee_with(TRUSTED)
    appraisal = servers.appraise(claims)
    assert (appraisal.status, appraisal.failed) == ("affirming", frozenset())
    assert appraisal.trust_claims["instance-identity"] == 0
    assert servers.releases(servers.token(claims), PATH)
    assert servers.releases(servers.token_of_draft_04(claims), PATH)
    assert not servers.releases(servers.token(claims), ["ccinit", "bank", "pin"])


REGISTERS: list[tuple[str, str | None, set[str]]] = [
    ("tpm.pcr04", OTHER_VALUE, {"pcr.4", "pcr.image"}),
    ("tpm.pcr04", ZERO, {"pcr.4", "pcr.image"}),
    ("tpm.pcr09", OTHER_VALUE, {"pcr.9", "pcr.image"}),
    ("tpm.pcr09", registers_of(OTHER)[9].hex(), {"pcr.image"}),
    ("tpm.pcr11", OTHER_VALUE, {"pcr.11", "pcr.image"}),
    ("tpm.pcr08", OTHER_VALUE, {"pcr.8"}),
    ("tpm.pcr08", ZERO, {"pcr.8"}),
    ("tpm.pcr08", None, {"pcr.8"}),
    ("tpm.pcr12", OTHER_VALUE, {"pcr.12"}),
    ("tpm.pcr13", OTHER_VALUE, {"pcr.13"}),
    ("tpm.pcr15", OTHER_VALUE, {"pcr.15"}),
    ("tpm.pcr15", None, {"pcr.15"}),
    ("tpm.pcr23", None, {"quote.selection"}),
    ("tpm.pcr24", ZERO, {"quote.selection"}),
    ("tpm.pcr14", OTHER_VALUE, set()),
]


@BOTH
@pytest.mark.parametrize(("place", "value", "failed"), REGISTERS)
def test_hostile_registers_get_nothing(
    tee: Tee, place: str, value: str | None, failed: set[str]
) -> None:
    claims, servers = broken(verified_claims(tee), f"{tee}.{place}", value), trustee_with(TRUSTED)
    appraisal = servers.appraise(claims)
    assert appraisal.failed == failed
    assert (appraisal.status == "affirming") == (not failed)
    assert servers.releases(servers.token(claims), PATH) == (not failed)


@pytest.mark.parametrize(
    ("place", "value", "failed"),
    [
        ("measurement", base64.b64encode(bytes(48)).decode(), {"paravisor.measurement"}),
        ("measurement", None, {"paravisor.measurement"}),
        ("measurement", PARAVISOR.hex(), set()),
        ("policy_debug_allowed", "true", {"snp.policy.debug"}),
        ("policy_debug_allowed", None, {"snp.policy.debug"}),
        ("policy_migrate_ma", "true", {"snp.policy.migrate_ma"}),
        ("reported_tcb_snp", "23", {"snp.tcb"}),
        ("reported_tcb_microcode", None, {"snp.tcb"}),
        ("vmpl", 2, {"snp.vmpl"}),
    ],
)
def test_hostile_claims_about_snp_get_nothing(place: str, value: object, failed: set[str]) -> None:
    tee, servers = Tee.AZ_SNP_VTPM, trustee_with(TRUSTED)
    claims = broken(verified_claims(tee), f"{tee}.{place}", value)
    assert servers.appraise(claims).failed == failed
    assert servers.releases(servers.token(claims), PATH) == (not failed)


@pytest.mark.parametrize(
    ("place", "value", "failed"),
    [
        ("quote.body.mr_td", OTHER48, {"paravisor.measurement"}),
        ("quote.body.mr_td", None, {"paravisor.measurement"}),
        ("quote.body.mr_owner", OTHER48, {"td.mrowner"}),
        ("quote.body.mr_owner_config", OTHER48, {"td.mrownerconfig"}),
        ("quote.body.td_attributes", "01" * 8, {"td.attributes"}),
        ("quote.body.xfam", "00" * 8, {"td.attributes"}),
        ("quote.body.mr_seam", OTHER48, {"td.mrseam"}),
        ("quote.body.rtmr_1", OTHER48, set()),
        ("quote.header.tee_type", "00000000", {"quote.tee_type"}),
        ("quote.header.vendor_id", "00" * 16, {"quote.vendor"}),
        ("td_attributes.debug", True, {"td.debug"}),
        ("tcb_status", "OutOfDate", {"pck.tcb_status"}),
        ("collateral_expiration_status", "1", {"pck.collateral"}),
    ],
)
def test_hostile_claims_about_tdx_get_nothing(place: str, value: object, failed: set[str]) -> None:
    tee, servers = Tee.AZ_TDX_VTPM, trustee_with(TRUSTED)
    claims = broken(verified_claims(tee), f"{tee}.{place}", value)
    assert servers.appraise(claims).failed == failed
    assert servers.releases(servers.token(claims), PATH) == (not failed)


@BOTH
def test_registers_of_a_plain_tpm_do_not_stand_for_azures(tee: Tee) -> None:
    """The same registers, and nobody who vouches for whose they are."""
    servers = trustee_with(TRUSTED)
    claims = {tee.value: {"tpm": verified_claims(tee)[tee.value]["tpm"]}}
    assert "paravisor.measurement" in servers.appraise(claims).failed
    assert servers.appraise(claims).status == "contraindicated"
    assert not servers.releases(servers.token(claims), PATH)


@BOTH
def test_claims_of_azure_and_of_the_hardware_below_are_two_platforms(tee: Tee) -> None:
    servers, other = trustee_with(TRUSTED), "snp" if tee is Tee.AZ_SNP_VTPM else "tdx"
    claims = verified_claims(tee)
    claims[other] = claims[tee.value]
    assert servers.appraise(claims).failed == {"platform"}
    assert not servers.releases(servers.token(claims, status="affirming"), PATH)


@BOTH
def test_without_azures_requirements_nothing_is_affirmed(tee: Tee) -> None:
    servers, claims = trustee_with(replace(TRUSTED, requirements=())), verified_claims(tee)
    assert servers.appraise(claims).failed >= {"paravisor.measurement"}
    assert not servers.releases(servers.token(claims), PATH)


@BOTH
def test_image_that_the_rule_does_not_name_gets_nothing(tee: Tee) -> None:
    servers = trustee_with(TRUSTED)
    token = servers.token(verified_claims(tee, OTHER))
    assert token["submods"]["cpu0"]["ear.status"] == "affirming"
    assert not servers.releases(token, PATH)
