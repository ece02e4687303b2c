"""The exported Rego on a real engine: what is accepted, and each thing that must be refused.

Every row of the tables breaks one item of the list in DESIGN section 4, and says by which check
the appraisal has to refuse it.
"""

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from guest_owner.kbs.references.measurements.image import Boot
from guest_owner.kbs.references.values import References
from tests.fakes.kbs.trustee import Trustee
from tests.fakes.platforms.tpm_quote import FakeTpm, rsa_key
from tests.unit.guest_owner.kbs.values import (
    boot_of,
    booted_tpm,
    reference_set,
    references,
    register,
    registers_of,
)
from tests.unit.guest_owner.trustee.installed import PATH, trustee_with

IMAGE, OTHER, DIRECT = (
    reference_set(),
    reference_set("image-2"),
    reference_set("direct", boot=Boot.DIRECT),
)
ZERO = "00" * 32
OTHER_VALUE = register("another value").hex()


def tpm_claims(tpm: FakeTpm, **changes: str | None) -> dict[str, Any]:
    """The claims of Trustee's `tpm` verifier; a change to None leaves the claim out."""
    claims: dict[str, str | None] = {
        f"pcr{index:02}": value.hex() for index, value in enumerate(tpm.pcrs)
    }
    claims["ak_public"] = base64.b64encode(tpm.public_der).decode()
    claims |= changes
    return {
        "tpm": {name: value for name, value in claims.items() if value is not None},
        "report_data": "00" * 32,
        "init_data": tpm.pcrs[8].hex(),
    }


@pytest.fixture(scope="module")
def trustee() -> Trustee:
    return trustee_with(references(IMAGE, OTHER, DIRECT, tpm=booted_tpm(IMAGE)))


@pytest.mark.parametrize("image", [IMAGE, DIRECT], ids=["uki", "direct"])
def test_genuine_tpm_guest_is_affirmed_and_gets_its_resource(trustee: Trustee, image: Any) -> None:
    claims = tpm_claims(booted_tpm(image))
    appraisal = trustee.appraise(claims)
    assert (appraisal.status, appraisal.failed) == ("affirming", frozenset())
    assert trustee.releases(trustee.token(claims), PATH)


HOSTILE_TPM: list[tuple[str, dict[str, str | None], set[str]]] = [
    ("another key", {"ak_public": "AAAA"}, {"ak.unregistered"}),
    ("no key", {"ak_public": None}, {"ak.unregistered"}),
    ("pcr 4", {"pcr04": OTHER_VALUE}, {"pcr.4", "pcr.image"}),
    ("pcr 4 zero", {"pcr04": ZERO}, {"pcr.4", "pcr.image"}),
    ("pcr 9", {"pcr09": OTHER_VALUE}, {"pcr.9", "pcr.image"}),
    ("pcr 9 zero", {"pcr09": ZERO}, {"pcr.9", "pcr.image"}),
    ("pcr 11", {"pcr11": OTHER_VALUE}, {"pcr.11", "pcr.image"}),
    # Zero is right for direct boot, of which one image is registered: but not of this one.
    ("pcr 11 zero", {"pcr11": ZERO}, {"pcr.image"}),
    ("two images", {"pcr09": registers_of(OTHER)[9].hex()}, {"pcr.image"}),
    ("another document", {"pcr08": OTHER_VALUE}, {"pcr.8"}),
    ("no document", {"pcr08": ZERO}, {"pcr.8"}),
    ("something added (12)", {"pcr12": OTHER_VALUE}, {"pcr.12"}),
    ("something added (13)", {"pcr13": OTHER_VALUE}, {"pcr.13"}),
    ("debug opened", {"pcr15": OTHER_VALUE}, {"pcr.15"}),
    ("no claim", {"pcr15": None}, {"pcr.15"}),
    ("23 registers", {"pcr23": None}, {"quote.selection"}),
    ("25 registers", {"pcr24": ZERO}, {"quote.selection"}),
]


@pytest.mark.parametrize(
    ("changes", "failed"), [row[1:] for row in HOSTILE_TPM], ids=[row[0] for row in HOSTILE_TPM]
)
def test_hostile_tpm_claims_are_refused_by_name(
    trustee: Trustee, changes: dict[str, str | None], failed: set[str]
) -> None:
    claims = tpm_claims(booted_tpm(IMAGE), **changes)
    appraisal = trustee.appraise(claims)
    assert appraisal.failed == failed
    assert appraisal.status in {"warning", "contraindicated"}
    assert not trustee.releases(trustee.token(claims), PATH)


@pytest.mark.parametrize("index", sorted(set(range(24)) - {4, 8, 9, 11, 12, 13, 15}))
def test_registers_that_say_nothing_about_image_and_pod_do_not_matter(
    trustee: Trustee, index: int
) -> None:
    claims = tpm_claims(booted_tpm(IMAGE), **{f"pcr{index:02}": OTHER_VALUE})
    assert trustee.appraise(claims).failed == frozenset()


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"sample": {"svn": "1"}},
        {"cca": {"tpm": tpm_claims(booted_tpm(IMAGE))["tpm"]}},
        {**tpm_claims(booted_tpm(IMAGE)), "snp": {"measurement": "00"}},
    ],
    ids=["none", "sample", "cca", "two platforms"],
)
def test_claims_of_no_known_platform_or_of_two_are_refused(
    trustee: Trustee, claims: Mapping[str, Any]
) -> None:
    appraisal = trustee.appraise(claims)
    assert appraisal.failed == {"platform"}
    assert appraisal.status == "contraindicated"
    assert not trustee.releases(trustee.token(claims, status="affirming"), PATH)


@pytest.mark.parametrize(
    ("path", "released"),
    [
        (PATH, True),
        ("/ccinit/shop/file-password", True),  # older servers
        (["ccinit", "bank", "pin"], False),
        (["ccinit", "shop"], False),
        (["ccinit", "shop", "file", "password"], False),
        (["ccinit", "shopping", "file"], False),
        ("", False),
    ],
)
def test_resource_policy_releases_what_the_rule_names(
    trustee: Trustee, path: object, *, released: bool
) -> None:
    token = trustee.token(tpm_claims(booted_tpm(IMAGE)))
    assert trustee.releases(token, path) is released


def test_resource_policy_reads_the_token_of_newer_servers(trustee: Trustee) -> None:
    token = trustee.token(tpm_claims(booted_tpm(IMAGE)))
    assert trustee.releases({"trust_context": {"attestation_summary": {"claims": token}}}, PATH)
    token["submods"]["cpu0"]["ear.status"] = "warning"
    wrapped = {"trust_context": {"attestation_summary": {"claims": token}}}
    assert not trustee.releases(wrapped, PATH)


def test_resource_policy_reads_tokens_of_draft_04(trustee: Trustee) -> None:
    """`ear_status` and `ear_attester_claims` in place of the names with dots."""
    claims = tpm_claims(booted_tpm(IMAGE))
    token = trustee.token_of_draft_04(claims)
    assert trustee.releases(token, PATH)
    assert trustee.releases({"trust_context": {"attestation_summary": {"claims": token}}}, PATH)
    assert not trustee.releases(trustee.token_of_draft_04(claims, status="warning"), PATH)
    for module in ({"ear_status": "warning"}, {}):
        devices = {**token["submods"], "gpu0": module}
        assert not trustee.releases({"submods": devices}, PATH)
    assert trustee.releases(
        {"submods": {**token["submods"], "gpu0": {"ear_status": "affirming"}}}, PATH
    )


def test_draft_04_claims_of_no_known_platform_are_refused(trustee: Trustee) -> None:
    tpm = tpm_claims(booted_tpm(IMAGE))["tpm"]
    token = trustee.token_of_draft_04({"cca": tpm}, status="affirming")
    assert not trustee.releases(token, PATH)
    token["submods"]["cpu0"]["ear_attester_claims"]["tee"] = "tpm"
    assert trustee.releases(token, PATH)


def test_resource_policy_serves_no_other_plugin(trustee: Trustee) -> None:
    token = trustee.token(tpm_claims(booted_tpm(IMAGE)))
    assert not trustee.releases(token, PATH, plugin="pkcs11")


def test_resource_policy_wants_every_device_affirmed(trustee: Trustee) -> None:
    token = trustee.token(tpm_claims(booted_tpm(IMAGE)))
    for module in ({"ear.status": "warning"}, {}):
        token["submods"]["gpu0"] = module
        assert not trustee.releases(token, PATH)
    token["submods"]["gpu0"] = {"ear.status": "affirming"}
    assert trustee.releases(token, PATH)


@pytest.mark.parametrize(
    "claims",
    [
        tpm_claims(booted_tpm(OTHER)),  # registered, but the rule does not name it
        tpm_claims(booted_tpm(IMAGE, b"another document")),
        tpm_claims(booted_tpm(IMAGE), pcr11=ZERO),
    ],
    ids=["image", "document", "mixed"],
)
def test_resource_policy_is_a_second_line_behind_the_appraisal(
    trustee: Trustee, claims: Mapping[str, Any]
) -> None:
    assert not trustee.releases(trustee.token(claims, status="affirming"), PATH)
    assert not trustee.releases(trustee.token_of_draft_04(claims, status="affirming"), PATH)


def test_without_reference_values_nothing_is_affirmed() -> None:
    trustee = trustee_with(References())
    claims = tpm_claims(booted_tpm(IMAGE))
    assert trustee.appraise(claims).failed == {
        "ak.unregistered", "pcr.4", "pcr.9", "pcr.11", "pcr.image", "pcr.8",
    }  # fmt: skip
    assert not trustee.releases(trustee.token(claims, status="affirming"), PATH)


def test_key_of_another_tpm_with_the_same_registers_is_refused(trustee: Trustee) -> None:
    claims = tpm_claims(booted_tpm(IMAGE, key=1))
    assert rsa_key(1) is not rsa_key(0)
    assert trustee.appraise(claims).failed == {"ak.unregistered"}


def test_boot_value_is_what_the_appraisal_policy_splits() -> None:
    registers = [registers_of(IMAGE)[index].hex() for index in (4, 9, 11)]
    assert boot_of(IMAGE).split(":") == ["uki", *registers]
