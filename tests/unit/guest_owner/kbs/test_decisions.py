"""What the audit log has about a decision."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.formats.digest import sha256_digest
from guest_owner.kbs.appraisal import Subject
from guest_owner.kbs.audit import AuditLog, read_audit
from guest_owner.kbs.decisions import Decisions
from guest_owner.kbs.jwe import public_jwk
from guest_owner.kbs.references import Profile
from guest_owner.kbs.refusal import Variant
from guest_owner.kbs.sessions import Attested


def guest(*devices: str) -> Attested:
    return Attested(
        label="label",
        tee="tpm",
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
    decisions.release(guest("sampledevice"), "kbs:///test/shop/key")
    decisions.deny(guest("b", "a"), "kbs:///test/shop/key", "no", Variant.POLICY_DENY)
    decisions.release(guest(), "kbs:///test/shop/key")
    released, denied, plain = read_audit(log)
    for record in (released, denied, plain):
        assert (record["reference"], record["profile"]) == ("image-1", "test")
        assert (record["initdata"], record["initdata_name"]) == (
            str(sha256_digest(b"pod")),
            "shop",
        )
    assert (released["devices"], denied["devices"]) == ("sampledevice", "a, b")
    assert "devices" not in plain
