"""The whole handshake over TLS on loopback: what a guest gets, and everyone who gets nothing."""

import asyncio
import hashlib
import json
import time
from contextlib import ExitStack
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from ccinit.formats.encoding.strict_json import decode_base64url, encode_base64url
from guest_owner.kbs.references.values import encode_reference_set
from guest_owner.kbs.state.policy_text import EMPTY_POLICY
from guest_owner.kbs.state.store import Store, attestation_key_name
from tests.fakes.platforms.tpm_quote import extend
from tests.integration.kbs.harness import (
    DOCUMENT,
    IMAGE,
    LIMITS,
    SECRET,
    TEST_IMAGE,
    URI,
    Kbs,
    booted_tpm,
    put_back,
    refused,
    variant,
)
from tests.unit.guest_owner.kbs.values import reference_set, register, registers_of


def test_handshake_releases_the_resource_and_audits_it(kbs: Kbs) -> None:
    client = kbs.client()
    challenge = client.auth()
    assert challenge.json() == {"nonce": client.nonce, "extra-params": ""}
    assert len(client.nonce) == 44
    assert abs(parsedate_to_datetime(challenge.headers["date"]).timestamp() - time.time()) < 60
    cookie = challenge.headers["set-cookie"]
    assert cookie.startswith("kbs-session-id=")
    assert "Expires=" in cookie
    reply = client.attest()
    assert reply.status_code == 200, reply.text
    token = reply.json()["token"]
    resource = client.get()
    assert resource.headers["content-type"] == "application/json"
    assert "set-cookie" not in resource.headers
    assert client.open(resource) == SECRET

    attest, release = kbs.audit()
    assert (attest["event"], attest["decision"]) == ("attest", "accepted")
    assert attest["pcr"] == {str(i): value.hex() for i, value in enumerate(client.tpm.pcrs)}
    assert (attest["reference"], attest["profile"]) == ("image-1", "prod")
    assert attest["basis"] == "tpm sha256:" + hashlib.sha256(client.tpm.public_der).hexdigest()
    assert attest["initdata"] == "sha256:" + hashlib.sha256(DOCUMENT).hexdigest()
    assert (release["decision"], release["resource"]) == ("released", "kbs:///" + URI)
    assert release["session"] == attest["session"]
    # The secret was released and opened above, so its absence below means something.
    log = (kbs.state / "audit.jsonl").read_bytes()
    server_key = (kbs.state / "token-key.pem").read_bytes()
    cookie_value = client.http.cookies["kbs-session-id"].encode()
    for secret in (SECRET, SECRET.hex().encode(), token.encode(), cookie_value, server_key):
        assert secret not in log
    assert (kbs.state / "resources" / URI).read_bytes() == SECRET


def test_token_has_the_claims_that_clients_read(kbs: Kbs) -> None:
    client = kbs.client()
    token = client.handshake().json()["token"]
    header, claims = (json.loads(decode_base64url(part, "token")) for part in token.split(".")[:2])
    assert header["alg"] == "ES256"
    assert claims["exp"] - claims["iat"] == LIMITS.token_seconds
    assert claims["tee-pubkey"] == client.jwk
    module = claims["submods"]["cpu0"]
    assert module["ear.status"] == "affirming"
    evidence = module["ear.veraison.annotated-evidence"]
    assert evidence["tpm"]["pcr09"] == registers_of(IMAGE)[9].hex()
    assert evidence["runtime_data_claims"]["tee-pubkey"] == client.jwk


def test_published_key_set_verifies_the_token(kbs: Kbs) -> None:
    client = kbs.client()
    signed, _, signature = client.handshake().json()["token"].rpartition(".")
    header = json.loads(decode_base64url(signed.partition(".")[0], "header"))
    reply = client.http.get("/.well-known/jwks.json")
    assert reply.headers["content-type"] == "application/json"
    (key,) = reply.json()["keys"]
    assert (key["kid"], key["alg"], key["use"]) == (header["kid"], "ES256", "sig")
    x, y = (int.from_bytes(decode_base64url(key[name], name), "big") for name in ("x", "y"))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    raw = decode_base64url(signature, "signature")
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    public.verify(encode_dss_signature(r, s), signed.encode(), ec.ECDSA(SHA256()))
    assert "d" not in key


def test_metrics_count_what_was_decided_and_why(kbs: Kbs) -> None:
    tpm = booted_tpm()
    tpm.pcrs[9] = register("other")
    for client in (kbs.client(tpm), kbs.client()):
        client.handshake()
    client.get()
    reply = client.http.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    name = "guest_owner_kbs_decisions_total"
    assert [line for line in reply.text.splitlines() if line.startswith(name)] == [
        f'{name}{{event="attest",decision="accepted",claim=""}} 1',
        f'{name}{{event="attest",decision="refused",claim="pcr.9"}} 1',
        f'{name}{{event="resource",decision="released",claim=""}} 1',
    ]


def test_bearer_token_serves_without_the_cookie_until_it_is_changed(kbs: Kbs) -> None:
    client = kbs.client()
    token = client.handshake().json()["token"]
    client.http.cookies.clear()
    assert refused(client.get(), "TokenNotFound")
    assert client.open(client.get(token=token)) == SECRET
    head, claims, signature = token.split(".")
    forged = json.loads(decode_base64url(claims, "claims"))
    forged["exp"] += 3600
    changed = encode_base64url(json.dumps(forged).encode())
    for bad in (f"{head}.{changed}.{signature}", token[:-4] + "AAAA", "x.y.z", "é"):
        reply = client.http.get(
            f"/kbs/v0/resource/{URI}", headers=[(b"authorization", b"Bearer " + bad.encode())]
        )
        assert refused(reply, "TokenVerifierError")


def test_wrong_version_is_answered_as_trustee_answers(kbs: Kbs) -> None:
    reply = kbs.client().auth(version="0.2.0")
    assert "KBS Client Protocol Version Mismatch" in refused(reply)
    assert kbs.client().auth().status_code == 200


def test_platform_without_verifier_is_refused(kbs: Kbs) -> None:
    assert "sampledevice" in refused(kbs.client().auth(tee="sampledevice"))


def test_unregistered_key_learns_nothing_about_the_registers(kbs: Kbs) -> None:
    tpm = booted_tpm(key=1)
    tpm.pcrs[9] = register("other")
    client = kbs.client(tpm)
    detail = refused(client.handshake())
    assert "ak.unregistered" in detail
    assert "pcr" not in detail
    claims = kbs.audit()[-1]["claims"]
    assert isinstance(claims, list)
    assert [claim["name"] for claim in claims if not claim["holds"]] == [
        "ak.unregistered",
        "pcr.9",
    ]


def test_changed_image_is_told_which_register_differs(kbs: Kbs) -> None:
    tpm = booted_tpm()
    tpm.pcrs[9] = register("other")
    client = kbs.client(tpm)
    assert "pcr.9" in refused(client.handshake())


def test_document_of_the_host_is_refused(kbs: Kbs) -> None:
    document = DOCUMENT + b"# pod of the host\n"
    tpm = booted_tpm()
    tpm.pcrs[8] = extend(bytes(32), hashlib.sha256(document).digest())
    client = kbs.client(tpm)
    assert "initdata.digest" in refused(client.handshake(document=document.decode()))


def test_test_image_gets_no_production_resource(kbs: Kbs) -> None:
    client = kbs.client(booted_tpm(TEST_IMAGE))
    assert client.handshake().status_code == 200
    refused(client.get(), "PolicyDeny")
    assert kbs.audit()[-1]["reason"] == "the guest's image has profile test"


def test_policy_and_absence_are_told_apart_only_after_the_policy(kbs: Kbs) -> None:
    client = kbs.client()
    client.handshake()
    refused(client.get("ccinit/bank/pin"), "PolicyDeny")
    refused(client.get("ccinit/bank/absent"), "PolicyDeny")
    assert refused(client.get("ccinit/shop/absent"), "PluginInternalError") == (
        "Plugin internal error"
    )
    assert client.open(client.get()) == SECRET


def test_cookie_of_attest_ends_with_the_session_that_auth_began(kbs: Kbs) -> None:
    client = kbs.client()
    first = client.auth().headers["set-cookie"]
    time.sleep(1.1)  # Expires counts whole seconds
    assert client.attest().headers["set-cookie"] == first


def test_rule_covers_a_document_by_a_name_that_is_not_its_first(kbs: Kbs) -> None:
    (shop,) = (kbs.state / "initdata").glob("shop.toml")
    copy = shop.with_name("a-copy.toml")
    copy.write_bytes(shop.read_bytes())
    try:
        client = kbs.client()
        client.handshake()
        assert client.open(client.get()) == SECRET
        assert kbs.audit()[-1]["initdata_name"] == "a-copy"
        copy.write_bytes(shop.read_bytes() + b"# another")
        refused(client.get(), "PolicyDeny")
    finally:
        copy.unlink()


def test_withdrawn_reference_stops_an_attested_guest(kbs: Kbs) -> None:
    client = kbs.client()
    client.handshake()
    path = kbs.state / "references/image-1.json"
    with put_back(path):
        path.unlink()
        refused(client.get(), "PolicyDeny")
    assert client.open(client.get()) == SECRET


@pytest.mark.parametrize(
    ("file", "kept", "reason"),
    [
        (
            "attestation-keys/{ak}.der",
            None,
            "a key, certificate or requirement that the guest was appraised by was withdrawn",
        ),
        ("policy.toml", EMPTY_POLICY, "no rule covers the resource"),
    ],
    ids=["ak", "rule"],
)
def test_what_an_appraisal_stood_on_ends_sessions_and_tokens_with_it(
    kbs: Kbs, file: str, kept: bytes | None, reason: str
) -> None:
    client, store = kbs.client(), Store(kbs.state)
    token = client.handshake().json()["token"]
    # Another machine of the fleet comes and goes; that is nothing to this guest.
    store.add_attestation_key("other", booted_tpm(key=1).public_der)
    assert client.open(client.get()) == SECRET
    (kbs.state / "attestation-keys/other.der").unlink()
    assert client.open(client.get(token=token)) == SECRET

    path = kbs.state / file.format(ak=attestation_key_name(client.tpm.public_der))
    with put_back(path):
        path.unlink()
        if kept is not None:
            path.write_bytes(kept)
        refused(client.get(), "PolicyDeny")
        assert kbs.audit()[-1]["reason"] == reason
        client.http.cookies.clear()
        refused(client.get(token=token), "PolicyDeny")
        assert kbs.audit()[-1]["reason"] == reason
    assert client.open(client.get(token=token)) == SECRET


def test_image_registered_anew_stops_guests_of_the_old_one(kbs: Kbs) -> None:
    client = kbs.client()
    token = client.handshake().json()["token"]
    store = Store(kbs.state)
    store.add_reference(replace(reference_set("image-2"), name="image-1"))
    try:
        refused(client.get(), "PolicyDeny")
        assert kbs.audit()[-1]["reason"] == (
            "the registration that the guest was appraised with was withdrawn"
        )
        client.http.cookies.clear()
        refused(client.get(token=token), "PolicyDeny")
        assert client.auth().status_code == 200
        assert "pcr.4" in refused(client.attest())
    finally:
        store.add_reference(IMAGE)
    assert client.open(client.get(token=token)) == SECRET


def test_rule_covers_an_image_by_a_name_that_is_not_its_first(kbs: Kbs) -> None:
    path = kbs.state / "policy.toml"
    copy = kbs.state / "references/a-copy.json"
    copy.write_bytes(encode_reference_set(replace(IMAGE, name="a-copy")))
    with put_back(path) as policy, ExitStack() as undo:
        undo.callback(copy.unlink)
        path.write_bytes(policy + b'references = ["image-1"]\n')
        client = kbs.client()
        client.handshake()
        assert client.open(client.get()) == SECRET
        assert kbs.audit()[-1]["reference"] == "a-copy"
        path.write_bytes(policy + b'references = ["image-2"]\n')
        refused(client.get(), "PolicyDeny")


def test_broken_policy_file_releases_nothing(kbs: Kbs) -> None:
    client = kbs.client()
    client.handshake()
    path = kbs.state / "policy.toml"
    with put_back(path) as policy:
        path.write_bytes(policy + b"oops")
        reply = client.get()
        assert (reply.status_code, variant(reply)) == (500, "PluginInternalError")
        assert str(kbs.audit()[-1]["reason"]).startswith("policy.toml")
    assert client.open(client.get()) == SECRET


def test_broken_registration_is_told_to_the_owner_and_to_nobody_else(kbs: Kbs) -> None:
    path = kbs.state / "references/image-1.json"
    client = kbs.client()
    with put_back(path) as reference:
        path.write_bytes(reference + b"oops")
        reply = client.handshake()
    record = kbs.audit()[-1]
    assert (reply.status_code, variant(reply)) == (500, "AttestationError")
    assert reply.json()["detail"] == f"internal error (audit session {record['session']})"
    assert record["reason"] == f"reference.json: {path}: malformed JSON"
    assert client.handshake().status_code == 200


def test_full_log_releases_nothing(kbs: Kbs, caplog: pytest.LogCaptureFixture) -> None:
    client = kbs.client()
    client.handshake()
    path = kbs.state / "audit.jsonl"
    path.unlink()
    path.mkdir()
    try:
        reply = client.get()
        assert (reply.status_code, variant(reply)) == (500, "PluginInternalError")
    finally:
        path.rmdir()
    assert f"audit.write: cannot write {path}" in caplog.text
    assert client.open(client.get()) == SECRET


def test_many_guests_at_once_are_all_served(kbs: Kbs) -> None:
    async def guest() -> bytes:
        return await asyncio.to_thread(one_guest)

    def one_guest() -> bytes:
        client = kbs.client()
        client.handshake()
        return client.open(client.get())

    async def all_guests() -> list[bytes]:
        return await asyncio.gather(*(guest() for _ in range(12)))

    assert asyncio.run(all_guests()) == [SECRET] * 12


def test_state_whose_disk_is_not_mounted_refuses_nobody(kbs: Kbs, tmp_path: Path) -> None:
    client = kbs.client()
    client.auth()
    for path in kbs.state.iterdir():
        path.rename(tmp_path / path.name)
    try:
        reply = client.attest()
    finally:
        for path in tmp_path.iterdir():
            path.rename(kbs.state / path.name)
    assert (reply.status_code, variant(reply)) == (500, "AttestationError")  # come again
    assert str(kbs.audit()[-1]["reason"]).startswith("state.read: cannot read ")
    assert client.handshake().status_code == 200
