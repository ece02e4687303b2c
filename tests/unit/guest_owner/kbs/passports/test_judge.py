"""What issuers say, against registrations: genuine tokens pass, each hostile one fails by name."""

from typing import Any

import pytest

from ccinit.formats.encoding.strict_json import MAX_INTEGER
from ccinit.formats.evidence.snp_report import TcbVersion, parse_snp_report
from ccinit.formats.evidence.tdx_quote import parse_tdx_quote
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.jwe import public_jwk
from guest_owner.kbs.passports.issuer import Issuer
from guest_owner.kbs.passports.judge import AppraisedPassport, judge_passport
from guest_owner.kbs.passports.signature import verify_signature
from guest_owner.kbs.references.values import References
from tests.fakes.kbs.attestation_tokens import POLICY_HASH
from tests.fakes.platforms.tdx_quote import p256_key
from tests.unit.guest_owner.kbs import values
from tests.unit.guest_owner.kbs.passports.passport_values import (
    KINDS,
    NOW,
    OTHER32,
    OTHER48,
    SNP_TABLE,
    TDX_TABLE,
    azure_about,
    azure_issuer,
    both_documents,
    intel_issuer,
    passport_references,
    tee_key,
)
from tests.unit.guest_owner.kbs.snp_values import booted_snp
from tests.unit.guest_owner.kbs.verifiers.tdx_values import booted_domain

EVERY = pytest.mark.parametrize("name", KINDS)
ZERO48 = "00" * 48
FLOOR = TcbVersion(fmc=None, bootloader=4, tee=0, snp=24, microcode=219)
DAY, UNSHOWN = "2027-01-15T08:00:00Z", "smt not shown"


def judge(
    token: str,
    issuer: Issuer,
    references: References | None = None,
    now: float = NOW,
) -> AppraisedPassport:
    signed = verify_signature(token, (issuer,))
    return judge_passport(signed, references or passport_references(), now=now)


def failed(token: str, issuer: Issuer, references: References | None = None) -> set[str]:
    """The claims that do not hold of a token that its issuer did sign."""
    with pytest.raises(EvidenceRefusedError) as refused:
        judge(token, issuer, references)
    assert refused.value.authentic
    return set(values.failed(refused.value))


@EVERY
def test_genuine_token_says_who_asks(name: str) -> None:
    kind = KINDS[name]
    passport = judge(kind.token(), kind.issuer())
    assert passport.tee_pubkey == tee_key()
    evidence = passport.evidence
    assert (evidence.tee, evidence.reference.name) == (kind.tee, "image-1")
    assert evidence.initdata.name == ("shop" if kind.tee is Tee.SNP else "shop-tdx")
    assert evidence.measured == measured(kind.tee) | {"passport": {"issuer": kind.issuer().name}}
    document = next(claim for claim in evidence.claims if claim.name == "initdata.digest")
    assert document.got in document.expected
    assert evidence.initdata_field.hex() == document.got.partition(":")[2]


def measured(tee: Tee) -> dict[str, dict[str, str]]:
    """What the hardware says of the guest that every genuine token is about."""
    if tee is Tee.SNP:
        report = parse_snp_report(booted_snp().report(bytes(64)))
        said = {"measurement": report.measurement.hex(), "host_data": report.host_data.hex()}
        return {"snp": said}
    body = parse_tdx_quote(booted_domain().quote(bytes(64))).body
    rtmrs = {str(index): body.rtmrs[index].hex() for index in (1, 2)}
    return {"td": {"mrtd": body.mrtd.hex()}, "rtmr": rtmrs}


@EVERY
@pytest.mark.parametrize(
    ("changes", "claims"),
    [
        ({"exp": NOW}, {"passport.expired"}),
        ({"exp": None}, {"passport.time"}),
        ({"iat": None}, {"passport.time"}),
        ({"iat": True}, {"passport.time"}),
        ({"nbf": "soon"}, {"passport.time"}),
        ({"exp": "soon"}, {"passport.time"}),
        ({"iat": NOW + 61, "nbf": None}, {"passport.time"}),
        ({"nbf": NOW + 61}, {"passport.time"}),
        ({"iat": NOW - 301}, {"passport.age"}),
        ({"iat": -MAX_INTEGER, "nbf": None}, {"passport.age"}),
        ({"exp": -MAX_INTEGER}, {"passport.expired"}),
        ({"nbf": MAX_INTEGER}, {"passport.time"}),
        ({"aud": "another KBS"}, {"passport.audience"}),
    ],
)
def test_times_and_audience_are_the_owners(
    name: str, changes: dict[str, Any], claims: set[str]
) -> None:
    kind = KINDS[name]
    assert failed(kind.token(**changes), kind.issuer()) == claims


@EVERY
@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW + 1},
        {"exp": MAX_INTEGER},
        {"iat": NOW + 60, "nbf": None},
        {"nbf": NOW + 60},
        {"iat": NOW - 300},
    ],
)
def test_times_within_what_the_owner_allows_pass(name: str, changes: dict[str, Any]) -> None:
    kind = KINDS[name]
    assert judge(kind.token(**changes), kind.issuer())


def test_audience_that_is_demanded_must_be_there() -> None:
    issuer = azure_issuer('audience = "kbs.example"\n')
    kind = KINDS["azure snp"]
    assert judge(kind.token(aud="kbs.example"), issuer)
    assert failed(kind.token(), issuer) == {"passport.audience"}
    assert failed(kind.token(aud=["kbs.example"]), issuer) == {"passport.audience"}


def test_policies_that_are_demanded_must_have_been_applied() -> None:
    azure, intel = KINDS["azure tdx"].token(), KINDS["intel v2 tdx"].token()
    assert judge(azure, azure_issuer(f'policies = ["{POLICY_HASH}"]\n'))
    assert judge(intel, intel_issuer('policies = ["p1"]\n'))
    assert failed(azure, azure_issuer('policies = ["another"]\n')) == {"passport.policy"}
    assert failed(intel, intel_issuer('policies = ["p1", "p2"]\n')) == {"passport.policy"}
    unmatched = KINDS["intel v2 tdx"].token(policy_ids_matched=None)
    assert failed(unmatched, intel_issuer('policies = ["p1"]\n')) == {"passport.policy"}
    nameless = KINDS["intel v2 tdx"].token(policy_ids_matched=["p1", {"name": "p1"}])
    assert failed(nameless, intel_issuer('policies = ["p1"]\n')) == {"passport.policy"}


@pytest.mark.parametrize(
    ("terms", "changes", "name", "expected", "got"),
    [
        ('audience = "kbs.example"\n', {}, "passport.audience", "kbs.example", "nobody"),
        ("", {"aud": "b" * 81}, "passport.audience", "nobody", "b" * 80),
        ('policies = ["b", "a"]\n', {}, "passport.policy", "a, b", POLICY_HASH),
        ('policies = ["a"]\n', {"x-ms-policy-hash": None}, "passport.policy", "a", "none"),
        ("", {"exp": NOW}, "passport.expired", f"after {DAY}", DAY),
        ("", {"x-ms-sevsnpvm-vmpl": 1}, "snp.vmpl", "0", "1"),
        ("", {"x-ms-sevsnpvm-tee-svn": None}, "snp.tcb.reported", f"at least {FLOOR}", "not shown"),
        ("", {"x-ms-sevsnpvm-is-debuggable": True}, "snp.policy.debug", "off", "on"),
        ("", {"x-ms-sevsnpvm-smt-allowed": None}, "snp.policy.allowed", "smt on or off", UNSHOWN),
    ],
)
def test_owner_reads_what_was_demanded_and_what_the_token_says(
    terms: str, changes: dict[str, Any], name: str, expected: str, got: str
) -> None:
    token, issuer = KINDS["azure snp"].token(**changes), azure_issuer(terms)
    with pytest.raises(EvidenceRefusedError) as refused:
        judge(token, issuer)
    (claim,) = (claim for claim in refused.value.claims if not claim.holds)
    assert (claim.name, claim.expected, claim.got) == (name, expected, got)


@EVERY
def test_platform_that_is_not_taken_from_the_issuer_is_refused(name: str) -> None:
    kind = KINDS[name]
    make = azure_issuer if name.startswith("azure") else intel_issuer
    of_it, of_the_other = (SNP_TABLE, TDX_TABLE) if kind.tee is Tee.SNP else (TDX_TABLE, SNP_TABLE)
    assert judge(kind.token(), make(tables=of_it))
    assert failed(kind.token(), make(tables=of_the_other)) == {"passport.platform"}


@pytest.mark.parametrize(
    ("changes", "claims"),
    [
        ({"x-ms-attestation-type": "azurevm"}, {"passport.platform"}),
        ({"x-ms-attestation-type": "sgx"}, {"passport.platform"}),
        ({"x-ms-attestation-type": None}, {"passport.platform"}),
        ({"x-ms-attestation-type": ["sevsnpvm"]}, {"passport.platform"}),
        ({"x-ms-ver": "2.0"}, {"passport.version"}),
        ({"x-ms-runtime": None}, {"passport.runtime_data.type"}),
        ({"x-ms-runtime": {"keys": []}}, {"passport.runtime_data.members"}),
        (
            {"x-ms-runtime": {"tee-pubkey": tee_key().to_json_object(), "user-data": "00"}},
            {"passport.runtime_data.members"},
        ),
        ({"x-ms-runtime": {"tee-pubkey": "key"}}, {"jwk.type"}),
        ({"x-ms-sevsnpvm-vmpl": "0"}, {"passport.claims"}),
        ({"x-ms-sevsnpvm-is-debuggable": "false"}, {"passport.claims"}),
        ({"x-ms-sevsnpvm-hostdata": "00"}, {"passport.claims"}),
        ({"x-ms-sevsnpvm-hostdata": "zz" * 32}, {"passport.claims"}),
        ({"x-ms-sevsnpvm-hostdata": "00 " * 32}, {"passport.claims"}),
        ({"x-ms-sevsnpvm-launchmeasurement": 7}, {"passport.claims"}),
        ({"x-ms-sevsnpvm-guestsvn": -1}, {"passport.claims"}),
        ({"x-ms-sevsnpvm-guestsvn": True}, {"passport.claims"}),
        ({"x-ms-policy-hash": "x" * 257}, {"passport.claims"}),
    ],
)
def test_token_of_another_form_is_refused_by_name(
    changes: dict[str, Any], claims: set[str]
) -> None:
    kind = KINDS["azure snp"]
    assert failed(kind.token(**changes), kind.issuer()) == claims


def test_key_that_was_exchanged_is_not_bound() -> None:
    kind = KINDS["azure snp"]
    another = public_jwk(p256_key("another session").public_key()).to_json_object()
    token = kind.token(**{"x-ms-runtime": {"tee-pubkey": another}})
    assert failed(token, kind.issuer()) == {"passport.report_data"}


SNP_LIES: list[tuple[str, Any, set[str]]] = [
    ("launchmeasurement", OTHER48, {"snp.measurement"}),
    ("launchmeasurement", None, {"snp.measurement"}),
    ("hostdata", OTHER32, {"initdata.digest"}),
    ("hostdata", "00" * 32, {"initdata.digest"}),
    ("hostdata", None, {"initdata.digest"}),
    ("reportdata", "00" * 64, {"passport.report_data"}),
    ("reportdata", None, {"passport.report_data"}),
    ("is-debuggable", True, {"snp.policy.debug"}),
    ("is-debuggable", None, {"snp.policy.debug"}),
    ("migration-allowed", True, {"snp.policy.migrate_ma"}),
    ("migration-allowed", None, {"snp.policy.migrate_ma"}),
    ("smt-allowed", None, {"snp.policy.allowed"}),
    ("vmpl", 1, {"snp.vmpl"}),
    ("vmpl", None, {"snp.vmpl"}),
    ("bootloader-svn", 3, {"snp.tcb.reported"}),
    ("snpfw-svn", 23, {"snp.tcb.reported"}),
    ("microcode-svn", 218, {"snp.tcb.reported"}),
    ("tee-svn", None, {"snp.tcb.reported"}),
    ("idkeydigest", OTHER48, {"snp.id_key"}),
    ("idkeydigest", None, {"snp.id_key"}),
    ("authorkeydigest", OTHER48, {"snp.author_key"}),
    ("authorkeydigest", None, {"snp.author_key"}),
    ("familyId", "01" * 16, {"snp.family_id"}),
    ("imageId", "01" * 16, {"snp.image_id"}),
    ("guestsvn", 1, {"snp.guest_svn"}),
    ("guestsvn", None, {"snp.guest_svn"}),
]


@pytest.mark.parametrize(("field", "value", "claims"), SNP_LIES)
@pytest.mark.parametrize("name", ["azure snp", "intel v2 snp"])
def test_what_differs_on_snp_is_named(name: str, field: str, value: Any, claims: set[str]) -> None:
    kind = KINDS[name]
    if name.startswith("azure"):
        changes: dict[str, Any] = {f"x-ms-sevsnpvm-{field}": value}
    else:
        about = {**kind.claims()["sevsnp"], "sevsnp_" + field.replace("-", "_"): value}
        changes = {"sevsnp": {key: one for key, one in about.items() if one is not None}}
    assert failed(kind.token(**changes), kind.issuer()) == claims
    assert judge(kind.token(), kind.issuer())


def test_signed_launch_needs_a_registered_key() -> None:
    kind = KINDS["azure snp"]
    launch = {
        "x-ms-sevsnpvm-idkeydigest": OTHER48,
        "x-ms-sevsnpvm-authorkeydigest": OTHER48,
        "x-ms-sevsnpvm-familyId": "01" * 16,
        "x-ms-sevsnpvm-guestsvn": 2,
    }
    terms = f'id_keys = ["{OTHER48}"]\nauthor_keys = ["{OTHER48}"]\nguest_svn = 2\n'
    issuer = azure_issuer(tables=SNP_TABLE + terms)
    assert judge(kind.token(**launch), issuer)
    assert judge(kind.token(), issuer)
    for member, value, claim in (
        ("guestsvn", 1, "snp.guest_svn"),
        ("guestsvn", None, "snp.guest_svn"),
        ("familyId", None, "snp.family_id"),
        ("imageId", None, "snp.image_id"),
    ):
        token = kind.token(**launch | {f"x-ms-sevsnpvm-{member}": value})
        assert failed(token, issuer) == {claim}


def test_smt_is_open_only_where_the_owner_allows_it() -> None:
    kind = KINDS["azure snp"]
    strict = azure_issuer(tables=SNP_TABLE.replace('["smt"]', "[]"))
    assert failed(kind.token(), strict) == {"snp.policy.allowed"}
    with pytest.raises(EvidenceRefusedError) as refused:
        judge(kind.token(), strict)
    (claim,) = (claim for claim in refused.value.claims if not claim.holds)
    assert (claim.expected, claim.got) == ("smt off", "smt on")
    assert judge(kind.token(**{"x-ms-sevsnpvm-smt-allowed": False}), strict)


TDX_LIES: list[tuple[str, Any, set[str]]] = [
    ("tdx_mrtd", OTHER48, {"td.mrtd"}),
    ("tdx_mrtd", None, {"td.mrtd"}),
    ("tdx_rtmr1", OTHER48, {"rtmr.1"}),
    ("tdx_rtmr2", OTHER48, {"rtmr.2"}),
    ("tdx_rtmr2", None, {"rtmr.2"}),
    ("tdx_mrconfigid", OTHER48, {"initdata.digest"}),
    ("tdx_mrconfigid", ZERO48, {"initdata.digest"}),
    ("tdx_mrconfigid", None, {"initdata.digest"}),
    ("tdx_mrowner", OTHER48, {"td.mrowner"}),
    ("tdx_mrownerconfig", OTHER48, {"td.mrownerconfig"}),
    ("tdx_mrsignerseam", OTHER48, {"td.mrsignerseam"}),
    ("tdx_seam_attributes", "01" + "00" * 7, {"td.seam_attributes"}),
    ("tdx_mrseam", OTHER48, {"td.mrseam"}),
    ("tdx_mrseam", None, {"td.mrseam"}),
    ("tdx_tee_tcb_svn", "03" + "ff" * 15, {"td.tee_tcb_svn"}),
    ("tdx_tee_tcb_svn", None, {"td.tee_tcb_svn"}),
    ("tdx_td_attributes_debug", True, {"td.debug"}),
    ("tdx_td_attributes_debug", None, {"td.debug"}),
    ("tdx_td_attributes", "0100001000000000", {"td.attributes"}),
    ("tdx_td_attributes", None, {"td.attributes"}),
    ("tdx_xfam", "00" * 8, {"td.xfam"}),
    ("tdx_report_data", "00" * 64, {"passport.report_data"}),
    ("attester_tcb_status", "OutOfDate", {"pck.tcb_status"}),
    ("attester_tcb_status", None, {"pck.tcb_status"}),
]


@pytest.mark.parametrize(("field", "value", "claims"), TDX_LIES)
@pytest.mark.parametrize("name", ["azure tdx", "intel v1 tdx", "intel v2 tdx"])
def test_what_differs_on_tdx_is_named(name: str, field: str, value: Any, claims: set[str]) -> None:
    kind = KINDS[name]
    changes: dict[str, Any] = {field: value}
    if name == "intel v2 tdx":
        about = {**kind.claims()["tdx"], field: value}
        changes = {"tdx": {key: one for key, one in about.items() if one is not None}}
    assert failed(kind.token(**changes), kind.issuer()) == claims
    assert judge(kind.token(), kind.issuer())


@pytest.mark.parametrize(
    ("name", "changes", "claims"),
    [
        ("intel v2 tdx", {"ver": "3.0.0"}, {"passport.version"}),
        ("intel v2 tdx", {"ver": None}, {"passport.version"}),
        ("intel v2 tdx", {"sevsnp": {}}, {"passport.platform"}),
        ("intel v2 tdx", {"tdx": None}, {"passport.platform"}),
        ("intel v2 tdx", {"tdx": []}, {"passport.claims"}),
        ("intel v2 tdx", {"policy_ids_matched": {}}, set()),
        ("intel v2 tdx", {"policy_ids_matched": ["p1"]}, set()),
        ("intel v2 tdx", {"policy_ids_matched": {"id": "p1"}}, {"passport.claims"}),
        ("intel v1 tdx", {"verifier_nonce": None}, {"passport.nonce.type"}),
        (
            "intel v1 tdx",
            {"verifier_nonce": {"val": "YQ==", "iat": "YQ==", "signature": ""}},
            {"passport.report_data"},
        ),
        ("intel v1 tdx", {"attester_runtime_data": None}, {"passport.runtime_data.type"}),
    ],
)
def test_form_of_intels_tokens_is_exact(
    name: str, changes: dict[str, Any], claims: set[str]
) -> None:
    kind = KINDS[name]
    if claims:
        assert failed(kind.token(**changes), kind.issuer()) == claims
    else:
        assert judge(kind.token(**changes), kind.issuer())


def test_nonce_of_version_2_may_stand_beside_the_attester() -> None:
    kind = KINDS["intel v2 tdx"]
    claims = kind.claims()
    nonce = claims["tdx"].pop("verifier_nonce")
    assert judge(kind.token(tdx=claims["tdx"], verifier_nonce=nonce), kind.issuer())


@EVERY
def test_what_is_not_registered_is_not_accepted(name: str) -> None:
    kind = KINDS[name]
    image = "snp.measurement" if kind.tee is Tee.SNP else "td.mrtd"
    nothing = References(initdata=both_documents())
    assert failed(kind.token(), kind.issuer(), nothing) == {image}
    unlisted = References(sets=passport_references().sets)
    assert failed(kind.token(), kind.issuer(), unlisted) == {"initdata.digest"}


def test_azure_vm_behind_a_paravisor_has_a_runtime_of_its_own() -> None:
    """Its report vouches for the paravisor, whose keys are not the guest's."""
    claims = azure_about(Tee.SNP)
    claims["x-ms-runtime"] = {"keys": [{"kid": "HCLAkPub"}], "user-data": "00" * 64}
    kind = KINDS["azure snp"]
    assert failed(kind.token(**claims), kind.issuer()) == {"passport.runtime_data.members"}
