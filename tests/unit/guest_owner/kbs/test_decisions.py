"""What the audit log has about a decision, and what who asked is told."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.errors import CcinitError, ConfigError, FormatError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import AppraisedDevice, Claim, EvidenceRefusedError, Subject
from guest_owner.kbs.audit.log import AuditLog, read_audit
from guest_owner.kbs.decisions import Decisions
from guest_owner.kbs.jwe import public_jwk
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.policy import Allow, Rule, parse_pattern
from guest_owner.kbs.references.values import Profile
from guest_owner.kbs.refusal import KbsRefusedError, Variant
from guest_owner.kbs.sessions import Attested, Session, Sessions
from guest_owner.kbs.verifiers.tpm import verify_evidence
from tests.unit.guest_owner.kbs.values import (
    DOCUMENT,
    REPORT_DATA,
    booted_tpm,
    reference_set,
    references,
)

RULE = Rule(
    resources=parse_pattern("test/*/key"),
    profile=Profile.TEST,
    references=frozenset(),
    initdata=frozenset(("shop",)),
)
ALLOWED = Allow(RULE, 3)


def guest(*devices: str) -> Attested:
    return Attested(
        label="label",
        tee=Tee.TPM,
        subject=Subject(
            reference="image-1",
            image="tpm:00",
            profile=Profile.TEST,
            initdata_name="shop",
            initdata_digest=sha256_digest(b"pod"),
            devices=frozenset(devices),
        ),
        tee_pubkey=public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()),
    )


def test_record_about_a_resource_has_all_that_the_policy_decided_by(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    decisions = Decisions(AuditLog(log))
    decisions.release(guest("sampledevice"), "kbs:///test/shop/key", ALLOWED, "")
    decisions.deny(guest("b", "a"), "kbs:///test/shop/key", "no", Variant.POLICY_DENY)
    decisions.release(guest(), "kbs:///test/shop/key", ALLOWED, "")
    released, denied, plain = read_audit(log)
    for record in (released, denied, plain):
        assert (record["reference"], record["profile"]) == ("image-1", "test")
        assert (record["initdata"], record["initdata_name"]) == (
            str(sha256_digest(b"pod")),
            "shop",
        )
    assert (released["devices"], denied["devices"]) == ("sampledevice", "a, b")
    assert (released["rule"], plain["rule"], "rule" in denied) == (*2 * ("3: test/*/key",), False)
    assert "devices" not in plain


def test_record_about_accepted_evidence_has_what_was_measured_and_judged(tmp_path: Path) -> None:
    tpm = booted_tpm(reference_set())
    evidence = verify_evidence(
        tpm.quote(REPORT_DATA).to_json_value(),
        report_data=REPORT_DATA,
        initdata_digest=None,
        references=references(reference_set(), tpm=tpm),
    )
    log = tmp_path / "audit.jsonl"
    device = AppraisedDevice(name="sampledevice", token_claims={})
    basis = frozenset(("tpm sha256:00", "requirements snp sha256:11"))
    Decisions(AuditLog(log)).accept_evidence("label", replace(evidence, devices=(device,)), basis)
    (record,) = read_audit(log)
    assert (record["event"], record["decision"], record["session"]) == (
        "attest",
        "accepted",
        "label",
    )
    about = {
        "tee": "tpm",
        "reference": "image-1",
        "image": evidence.subject.image,
        "profile": "prod",
        "initdata": str(sha256_digest(DOCUMENT)),
        "initdata_name": "shop",
        "devices": "sampledevice",
        "basis": "requirements snp sha256:11, tpm sha256:00",
    }
    assert about.items() <= record.items()
    assert record["pcr"] == dict(evidence.measured["pcr"])
    claims = record["claims"]
    assert isinstance(claims, list)
    assert [one["name"] for one in claims] == [claim.name for claim in evidence.claims]


CLAIMS = (
    Claim(name="pcr.8", expected="00", got="00", holds=True),
    Claim(name="pcr.9", expected="secret register", got="11", holds=False),
    Claim(name="pcr.11", expected="another", got="22", holds=False),
)


def opened_session() -> Session:
    return Sessions(Limits(), lambda: 0.0).open(Tee.TPM)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(
            EvidenceRefusedError(CLAIMS, authentic=True),
            "evidence refused: pcr.9, pcr.11",
            id="of-a-registered-key",
        ),
        pytest.param(
            EvidenceRefusedError(CLAIMS, authentic=False), "evidence refused: pcr.9", id="of-anyone"
        ),
        pytest.param(FormatError("quote.form", "not a quote"), "not a quote", id="malformed"),
        pytest.param(
            ConfigError("state.read", "cannot read /srv/kbs/policy.toml"),
            "internal error",
            id="state-of-ours",
        ),
    ],
)
def test_refusal_of_evidence_is_no_oracle_and_the_log_has_everything(
    tmp_path: Path, error: CcinitError, told: str
) -> None:
    log, session = tmp_path / "audit.jsonl", opened_session()
    refused = Decisions(AuditLog(log)).refuse_evidence(session, error)
    assert refused.variant is Variant.ATTESTATION_ERROR
    assert refused.detail == f"{told} (audit session {session.label})"
    (record,) = read_audit(log)
    assert (record["decision"], record["session"], record["tee"]) == (
        "refused",
        session.label,
        "tpm",
    )
    assert record["reason"] == str(error)
    claims = record.get("claims", [])
    assert isinstance(claims, list)
    expected = CLAIMS if isinstance(error, EvidenceRefusedError) else ()
    assert [(one["name"], one["expected"], one["holds"]) for one in claims] == [
        (one.name, one.expected, one.holds) for one in expected
    ]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FormatError("rcar.version", "expect =0.4.0"), "expect =0.4.0"),
        (ConfigError("state.read", "cannot read /srv/kbs/request.key"), "internal error"),
    ],
)
def test_refusal_of_a_session_says_what_is_wrong_with_the_request_alone(
    tmp_path: Path, error: CcinitError, told: str
) -> None:
    log = tmp_path / "audit.jsonl"
    refused = Decisions(AuditLog(log)).refuse_auth("tpm", error)
    assert (refused.variant, refused.detail) == (Variant.ATTESTATION_ERROR, told)
    (record,) = read_audit(log)
    assert (record["event"], record["tee"], record["reason"]) == ("auth", "tpm", str(error))


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        (Variant.POLICY_DENY, "Access denied by policy"),
        (Variant.PLUGIN_INTERNAL_ERROR, "Plugin internal error"),
    ],
)
def test_denied_guest_learns_nothing_about_the_resource(
    tmp_path: Path, variant: Variant, told: str
) -> None:
    log = tmp_path / "audit.jsonl"
    refused = Decisions(AuditLog(log)).deny(guest(), "kbs:///a/b/c", "resource.absent: x", variant)
    assert (refused.variant, refused.detail) == (variant, told)
    (record,) = read_audit(log)
    assert (record["reason"], record["resource"]) == ("resource.absent: x", "kbs:///a/b/c")


def test_strangers_and_passports_are_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    decisions = Decisions(AuditLog(log))
    decisions.deny_stranger("no attested session and no token")
    decisions.refuse_without_session(KbsRefusedError(Variant.ATTESTATION_ERROR, "no such session"))
    decisions.refuse_passport("label", "azure", EvidenceRefusedError(CLAIMS, authentic=True))
    stranger, lost, passport = read_audit(log)
    assert (stranger["event"], stranger["decision"]) == ("resource", "denied")
    assert stranger["reason"] == "no attested session and no token"
    assert (lost["event"], lost["reason"]) == ("attest", "no such session")
    assert passport["passport"] == {"issuer": "azure"}
    assert passport["reason"] == "pcr.9: evidence refused: pcr.9, pcr.11"
    claims = passport["claims"]
    assert isinstance(claims, list)
    assert [one["name"] for one in claims] == [one.name for one in CLAIMS]
    assert passport["session"] == "label"
