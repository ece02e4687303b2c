"""Which evidence gets which resource, why another gets none, and what the owner reads of it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from ccinit.attest.sample_device import SampleDevice
from ccinit.errors import ConfigError, VerificationError
from ccinit.formats.encoding.strict_json import encode_base64url
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.rcar import Request, encode_request
from guest_owner.kbs.appraisal import Claim, EvidenceRefusedError
from guest_owner.kbs.references.values import Profile
from guest_owner.kbs.state.policy_text import EMPTY_POLICY
from guest_owner.kbs.state.store import Store
from tests.fakes.platforms.ultravisor import host_key_pem
from tests.unit.guest_owner.kbs.broker_values import (
    AUTH,
    DOCUMENT,
    PATH,
    SECRET,
    Kbs,
    outcome,
    refused,
    resource,
)
from tests.unit.guest_owner.kbs.values import booted_tpm, reference_set

IMAGE = reference_set()
DENIED = (403, "PolicyDeny")
ABSENT = (401, "PluginInternalError")
UNATTESTED = (401, "TokenNotFound")
BROKEN = (500, "PluginInternalError")


@pytest.fixture
def kbs(store: Store) -> Kbs:
    return Kbs(store)


def test_attested_guest_gets_its_resource_and_the_log_has_both_decisions(kbs: Kbs) -> None:
    guest = kbs.guest()
    guest.attest()
    (attested,) = kbs.records()
    assert guest.get() == SECRET
    released = kbs.last()
    about = {
        "session": guest.session.label,
        "tee": "tpm",
        "reference": "image-1",
        "profile": "prod",
        "initdata_name": "shop",
    }
    assert about.items() <= attested.items()
    assert about.items() <= released.items()
    assert (attested["event"], attested["decision"]) == ("attest", "accepted")
    assert attested["basis"].startswith("tpm sha256:")
    assert (released["event"], released["decision"]) == ("resource", "released")
    assert released["resource"] == f"kbs:///{PATH}"
    assert "minted" not in released
    assert len(kbs.records()) == 2


def test_each_guest_has_a_reply_for_its_own_key(kbs: Kbs) -> None:
    guest, other = kbs.guest(), kbs.guest()
    guest.attest()
    other.attest()
    reply = kbs.broker.resource(guest.cookie, None, PATH)
    with pytest.raises(VerificationError):
        other.open(reply)
    assert guest.open(reply) == SECRET


@pytest.mark.parametrize(
    ("body", "claimed", "told"),
    [
        (b"{}", "", "missing or unknown members"),
        (
            encode_request(Request(version="0.2.0", tee="tpm", extra_params={})),
            "tpm",
            "KBS Client Protocol Version Mismatch: expect =0.4.0 while the request is 0.2.0",
        ),
        (encode_request(Request(version="0.4.0", tee="cca", extra_params={})), "cca", "cca"),
    ],
    ids=["malformed", "version", "platform"],
)
def test_request_that_opens_no_session_is_told_why(
    kbs: Kbs, body: bytes, claimed: str, told: str
) -> None:
    refusal = refused(kbs.broker.authenticate, body)
    assert outcome(refusal) == (401, "AttestationError")
    assert told in refusal.detail
    (record,) = kbs.records()
    assert (record["event"], record["decision"], record["tee"]) == ("auth", "refused", claimed)
    assert told in record["reason"]


def test_platform_that_needs_a_request_gets_one_and_its_hash(kbs: Kbs) -> None:
    body = encode_request(Request(version="0.4.0", tee="se", extra_params={}))
    assert outcome(refused(kbs.broker.authenticate, body)) == (401, "AttestationError")
    assert (kbs.last()["event"], kbs.last()["tee"]) == ("auth", "se")
    kbs.store.add_root("machine", Tee.SE, host_key_pem())
    session, reply = kbs.broker.authenticate(body)
    challenge = json.loads(reply)
    assert challenge["extra-params"] == {"selected-hash-algorithm": "sha512"}
    assert challenge["nonce"] == session.nonce
    assert "request_blob" in json.loads(challenge["nonce"])
    assert json.loads(kbs.broker.authenticate(AUTH)[1])["extra-params"] == ""


ATTESTATIONS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "nonce of another": ({"nonce": "AAECAwQFBgcICQoLDA0ODw=="}, None, "rcar.nonce: "),
    "document of the host": ({"document": DOCUMENT + b"\n"}, None, "pcr.8"),
    "unregistered key": ({}, booted_tpm(IMAGE, DOCUMENT, key=1), "ak.unregistered"),
    "another image": ({}, booted_tpm(reference_set("image-2"), DOCUMENT), "pcr.4"),
}


@pytest.mark.parametrize(
    ("changes", "tpm", "reason"), ATTESTATIONS.values(), ids=ATTESTATIONS.keys()
)
def test_refused_evidence_ends_its_session(
    kbs: Kbs, changes: dict[str, Any], tpm: Any, reason: str
) -> None:
    guest = kbs.guest(tpm)
    refusal = refused(guest.attest, **changes)
    assert outcome(refusal) == (401, "AttestationError")
    assert refusal.detail.endswith(f"(audit session {guest.session.label})")
    record = kbs.last()
    assert (record["event"], record["decision"]) == ("attest", "refused")
    assert record["session"] == guest.session.label
    assert reason in record["reason"]
    guest.tpm = kbs.tpm
    assert "no such session" in refused(guest.attest).detail
    assert kbs.last()["session"] == ""
    assert outcome(refused(guest.get)) == UNATTESTED
    assert kbs.guest().attest()


def test_device_vouches_only_if_a_rule_names_it(kbs: Kbs) -> None:
    trial = reference_set("trial", Profile.TEST)
    kbs.store.add_reference(trial)
    guest, plain = (kbs.guest(booted_tpm(trial, DOCUMENT)) for _ in range(2))
    devices = (SampleDevice(),)
    assert "device.sampledevice" in refused(kbs.guest().attest, devices=devices).detail
    rule = 'profile = "test"\ndevices = ["sampledevice"]'
    kbs.store.edit_policy(lambda text: text.replace('profile = "prod"', rule))
    guest.attest(devices=devices)
    assert kbs.last()["devices"] == "sampledevice"
    assert guest.get() == SECRET
    plain.attest()
    assert outcome(refused(plain.get)) == DENIED
    assert kbs.last()["reason"] == "the guest has no sampledevice"


def test_evidence_of_another_nonce_is_not_even_judged(kbs: Kbs) -> None:
    guest = kbs.guest(booted_tpm(IMAGE, DOCUMENT, key=1))
    refused(guest.attest, nonce="AAECAwQFBgcICQoLDA0ODw==")
    assert kbs.last()["reason"] == "rcar.nonce: not the nonce of this session"
    assert "claims" not in kbs.last()


def test_session_attests_once_and_serves_until_it_ends(kbs: Kbs) -> None:
    guest = kbs.guest()
    assert outcome(refused(guest.get)) == UNATTESTED
    guest.attest()
    assert outcome(refused(guest.attest)) == (401, "AttestationError")
    assert kbs.last()["reason"] == "the session's challenge was used; begin with auth"
    kbs.clock.now += 299
    assert guest.get() == SECRET
    kbs.clock.now += 1
    assert outcome(refused(guest.get)) == UNATTESTED


def test_token_serves_without_a_session_until_it_ends(kbs: Kbs) -> None:
    guest = kbs.guest()
    token = guest.attest()
    kbs.restart()
    assert outcome(refused(guest.get)) == UNATTESTED
    kbs.clock.date += 199
    assert guest.get(token=token) == SECRET
    assert kbs.last()["session"] == guest.session.label
    kbs.clock.date += 1
    assert outcome(refused(guest.get, token=token)) == (401, "TokenVerifierError")
    assert kbs.last()["reason"].startswith("token.expired: ")


def test_whoever_shows_nothing_is_a_stranger_in_the_log(kbs: Kbs) -> None:
    for cookie in (None, "", "0" * 32):
        assert outcome(refused(kbs.broker.resource, cookie, None, PATH)) == UNATTESTED
        record = kbs.last()
        assert (record["event"], record["decision"]) == ("resource", "denied")
        assert record["reason"] == "no attested session and no token"


def test_token_that_is_not_ours_is_refused_and_an_attested_session_needs_none(kbs: Kbs) -> None:
    guest = kbs.guest()
    token = guest.attest()
    forged = f"{token.rpartition('.')[0]}.{encode_base64url(bytes(64))}"
    refusal = refused(guest.get, token=forged)
    assert outcome(refusal) == (401, "TokenVerifierError")
    assert refusal.detail == "Token Verifier error"
    assert kbs.last()["reason"].startswith("token.signature: ")
    refused(guest.get, token="no token")
    assert kbs.last()["reason"].startswith("token.form: ")
    assert guest.open(kbs.broker.resource(guest.cookie, forged, PATH)) == SECRET
    assert kbs.strangers.asked == []


def by_another_verifier() -> str:
    return f".{encode_base64url(json.dumps({'iss': 'https://verifier.example'}).encode())}."


def test_token_of_another_verifier_is_judged_as_such(kbs: Kbs) -> None:
    guest = kbs.guest()
    kbs.strangers.answer = kbs.signer.verify(guest.attest())
    assert guest.get(token=by_another_verifier()) == SECRET
    assert kbs.strangers.asked == [by_another_verifier()]


@pytest.mark.parametrize(
    ("error", "status", "told", "logged"),
    [
        pytest.param(
            EvidenceRefusedError(
                (Claim(name="snp.vmpl", expected="0", got="1", holds=False),), authentic=True
            ),
            401,
            "Token Verifier error: evidence refused: snp.vmpl",
            "",
            id="of-a-registered-issuer",  # who logs it and may know why
        ),
        pytest.param(
            VerificationError("passport.issuer", "nobody registered it"),
            401,
            "Token Verifier error",
            "passport.issuer: nobody registered it",
            id="of-anyone",
        ),
        pytest.param(
            ConfigError("state.read", "cannot read it"),
            500,
            "Token Verifier error",
            "state.read: cannot read it",
            id="while-our-state-is-broken",
        ),
    ],
)
def test_refused_token_of_another_verifier_tells_its_own_issuers_guests_alone(
    kbs: Kbs, error: Exception, status: int, told: str, logged: str
) -> None:
    kbs.strangers.answer = error
    refusal = refused(kbs.broker.resource, None, by_another_verifier(), PATH)
    assert outcome(refusal) == (status, "TokenVerifierError")
    assert refusal.detail == told
    assert [record["reason"] for record in kbs.records()] == [logged] * bool(logged)


WITHDRAWN = "the registration that the guest was appraised with was withdrawn"
BASIS = "a key, certificate or requirement that the guest was appraised by was withdrawn"
UNCOVERED = "no rule covers the resource"
Change = Callable[[Store], object]
CHANGES: dict[str, tuple[Change, str, tuple[int, str], str]] = {
    "another pod's": (lambda _: None, "other/bank/pin", DENIED, UNCOVERED),
    "absent": (
        lambda _: None,
        "ccinit/shop/more",
        ABSENT,
        "resource.absent: kbs:///ccinit/shop/more is not registered",
    ),
    "no name": (lambda _: None, "ccinit/shop", ABSENT, "resource.path: "),
    "image withdrawn": (
        lambda store: store.unregister("references/image-1.json"),
        PATH,
        DENIED,
        WITHDRAWN,
    ),
    "document withdrawn": (
        lambda store: store.unregister("initdata/shop.toml"),
        PATH,
        DENIED,
        WITHDRAWN,
    ),
    "key withdrawn": (
        lambda store: store.unregister("attestation-keys/node.der"),
        PATH,
        DENIED,
        BASIS,
    ),
    "rule withdrawn": (lambda store: store.write_policy(EMPTY_POLICY), PATH, DENIED, UNCOVERED),
    "rule for test images": (
        lambda store: store.edit_policy(lambda text: text.replace('"prod"', '"test"')),
        PATH,
        DENIED,
        "the guest's image has profile prod",
    ),
    "rule of another pod": (
        lambda store: store.edit_policy(lambda text: text.replace('["shop"]', '["bank"]')),
        PATH,
        DENIED,
        "initdata shop is not named",
    ),
    "policy lost": (lambda store: store.policy_path.unlink(), PATH, BROKEN, "state.read: "),
}


@pytest.mark.parametrize(("change", "path", "told", "reason"), CHANGES.values(), ids=CHANGES.keys())
def test_withheld_resource_has_its_reason_in_the_log_and_not_in_the_reply(
    kbs: Kbs, change: Change, path: str, told: tuple[int, str], reason: str
) -> None:
    guest = kbs.guest()
    token = guest.attest()
    assert guest.get() == SECRET
    change(kbs.store)
    for shown in (None, token):
        refusal = refused(guest.get, path, token=shown)
        assert outcome(refusal) == told
        assert refusal.detail in {"Access denied by policy", "Plugin internal error"}
        record = kbs.last()
        assert (record["event"], record["decision"]) == ("resource", "denied")
        assert (record["session"], record["reference"]) == (guest.session.label, "image-1")
        assert record["reason"].startswith(reason)


def test_guest_that_may_not_have_a_resource_learns_not_whether_there_is_one(kbs: Kbs) -> None:
    guest = kbs.guest()
    guest.attest()
    kbs.store.write_resource(resource("other/shop/there"), b"x")
    there, absent = (refused(guest.get, f"other/shop/{name}") for name in ("there", "absent"))
    assert (outcome(there), there.detail) == (outcome(absent), absent.detail)


def test_test_image_gets_no_production_resource(kbs: Kbs) -> None:
    trial = reference_set("trial", Profile.TEST)
    kbs.store.add_reference(trial)
    guest = kbs.guest(booted_tpm(trial, DOCUMENT))
    guest.attest()
    assert outcome(refused(guest.get)) == DENIED
    assert kbs.last()["profile"] == "test"


def test_nothing_leaves_that_the_log_does_not_have(kbs: Kbs) -> None:
    """Neither a resource nor a token, nor does the session count as attested."""
    attested, waiting = kbs.guest(), kbs.guest()
    attested.attest()
    kept = kbs.log.with_name("kept")
    kbs.log.rename(kept)
    kbs.log.mkdir()
    for action in (attested.get, waiting.attest):
        with pytest.raises(ConfigError) as caught:
            action()
        assert caught.value.reason == "audit.write"
    kbs.log.rmdir()
    kept.rename(kbs.log)
    assert outcome(refused(waiting.get)) == UNATTESTED
    assert attested.get() == SECRET
