"""Whom a token of another Verifier admits, and what the audit log has by then."""

import hashlib
from typing import Any

import pytest

from ccinit.errors import CcinitError, ConfigError
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs import passport_admission
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.audit.log import AUDIT_NAME, AuditLog, read_audit
from guest_owner.kbs.decisions import Decisions
from guest_owner.kbs.passport_admission import PassportAdmission
from guest_owner.kbs.sessions import Attested
from guest_owner.kbs.state.store import Store
from tests.unit.guest_owner.kbs.broker_values import DOCUMENT
from tests.unit.guest_owner.kbs.passports.passport_values import (
    AZURE_SIGNER,
    AZURE_TOML,
    KINDS,
    NOW,
    SNP_TABLE,
    tee_key,
)
from tests.unit.guest_owner.kbs.snp_values import snp_image

AGE_SECONDS = 300


def make_token(**changes: object) -> str:
    """Of the guest that runs `DOCUMENT`."""
    pod = {"x-ms-sevsnpvm-hostdata": hashlib.sha256(DOCUMENT).hexdigest()}
    return KINDS["azure snp"].token(**pod, **changes)


class Door:
    """An admission over a state with one issuer, image and pod, at a time of the test's."""

    def __init__(self, store: Store) -> None:
        self.store, self.now = store, float(NOW)
        store.register((snp_image(),), documents={"shop": DOCUMENT})
        keys = AZURE_SIGNER.key_set(in_certificate=True)
        store.add_issuer("azure", (AZURE_TOML + SNP_TABLE).encode(), keys)
        self.log = store.root / AUDIT_NAME
        self.admission = PassportAdmission(
            store, Decisions(AuditLog(self.log)), clock=lambda: self.now
        )

    def admit(self, token: str) -> Attested:
        return self.admission.admit(token)

    def records(self) -> list[dict[str, Any]]:
        return list(read_audit(self.log)) if self.log.exists() else []


@pytest.fixture
def door(store: Store) -> Door:
    return Door(store)


def test_token_admits_the_guest_that_it_is_about_under_a_label_that_hides_it(door: Door) -> None:
    token = make_token()
    attested = door.admit(token)
    assert (attested.tee, attested.tee_pubkey) == (Tee.SNP, tee_key())
    assert (attested.subject.reference, attested.subject.initdata_name) == ("image-1", "shop")
    assert attested.label == hashlib.sha256(token.encode()).hexdigest()[:16]
    (record,) = door.records()
    assert (record["event"], record["decision"]) == ("attest", "accepted")
    assert (record["session"], record["reference"]) == (attested.label, "image-1")
    assert record["passport"] == {"issuer": "azure"}


def test_each_token_is_in_the_log_once_until_it_is_forgotten(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passport_admission, "_MAX_REMEMBERED", 2)
    first, second, third = (make_token(jti=name) for name in ("first", "second", "third"))
    admitted = [door.admit(token).label for token in (first, first, second, second)]
    assert [record["session"] for record in door.records()] == [admitted[0], admitted[2]]
    for token in (third, second, first):  # the third pushes out the first
        door.admit(token)
    assert [record["session"] for record in door.records()[2:]] == [
        door.admit(third).label,
        admitted[0],
    ]


def test_token_that_was_admitted_is_judged_anew_by_the_time_and_by_what_is_registered(
    door: Door,
) -> None:
    token = make_token(iat=NOW, exp=NOW + 2 * AGE_SECONDS)
    label = door.admit(token).label
    door.now += AGE_SECONDS
    assert door.admit(token).label == label
    door.now += 1
    with pytest.raises(EvidenceRefusedError) as refused:
        door.admit(token)
    assert refused.value.reason == "passport.age"
    door.now -= 1
    door.store.unregister("references/image-1.json")
    with pytest.raises(EvidenceRefusedError) as refused:
        door.admit(token)
    assert refused.value.reason == "snp.measurement"
    accepted, *others = door.records()
    assert accepted["decision"] == "accepted"
    assert [(one["decision"], one["session"]) for one in others] == [("refused", label)] * 2
    assert [one["passport"] for one in others] == [{"issuer": "azure"}] * 2


def test_token_of_nobody_registered_is_left_for_the_broker_to_log(door: Door) -> None:
    door.admit(make_token())
    door.store.unregister("issuers/azure.toml")
    with pytest.raises(CcinitError) as caught:
        door.admit(make_token())
    assert caught.value.reason == "passport.issuer"
    assert [record["decision"] for record in door.records()] == ["accepted"]


def test_nobody_is_admitted_that_the_log_does_not_have(door: Door) -> None:
    token = make_token()
    door.log.mkdir()
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            door.admit(token)
        assert caught.value.reason == "audit.write"
    door.log.rmdir()
    label = door.admit(token).label
    assert [record["session"] for record in door.records()] == [label]


def test_state_without_a_policy_judges_no_token(door: Door) -> None:
    door.store.policy_path.unlink()
    with pytest.raises(ConfigError) as caught:
        door.admit(make_token())
    assert caught.value.reason == "state.read"
    assert door.records() == []
