"""The whole handshake over TLS on loopback: what a guest gets, and everyone who gets nothing."""

import asyncio
import hashlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from ccinit.formats.strict_json import decode_base64url, encode_base64url
from guest_owner.kbs.server import open_listener
from tests.fakes.tpm_quote import extend
from tests.integration.kbs_harness import (
    DOCUMENT,
    IMAGE,
    LIMITS,
    SECRET,
    TEST_IMAGE,
    URI,
    Kbs,
    booted_tpm,
    make_state,
    register,
    running_kbs,
)


@pytest.fixture(scope="module")
def registered_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_state(tmp_path_factory.mktemp("owner"))


@pytest.fixture
def kbs(registered_state: Path) -> Iterator[Kbs]:
    with running_kbs(registered_state) as server:
        yield server


def variant(reply: httpx.Response) -> str:
    body = reply.json()
    assert set(body) == {"type", "detail"}
    prefix = "https://github.com/confidential-containers/kbs/errors/"
    assert body["type"].startswith(prefix)
    return str(body["type"]).removeprefix(prefix)


def refused(reply: httpx.Response, error: str = "AttestationError") -> str:
    assert reply.status_code == 401, reply.text
    assert variant(reply) == error
    return str(reply.json()["detail"])


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
    client.auth()
    token = client.attest().json()["token"]
    header, claims = (json.loads(decode_base64url(part, "token")) for part in token.split(".")[:2])
    assert header["alg"] == "ES256"
    assert claims["exp"] - claims["iat"] == LIMITS.token_seconds
    assert claims["tee-pubkey"] == client.jwk
    module = claims["submods"]["cpu0"]
    assert module["ear.status"] == "affirming"
    evidence = module["ear.veraison.annotated-evidence"]
    assert evidence["tpm"]["pcr09"] == IMAGE.measured.pcr[9].hex()
    assert evidence["runtime_data_claims"]["tee-pubkey"] == client.jwk


def test_published_key_set_verifies_the_token(kbs: Kbs) -> None:
    client = kbs.client()
    client.auth()
    signed, _, signature = client.attest().json()["token"].rpartition(".")
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
        client.auth()
        client.attest()
    client.get()
    reply = client.http.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    name = "guest_owner_kbs_decisions_total"
    assert [line for line in reply.text.splitlines() if not line.startswith("#")] == [
        f'{name}{{event="attest",decision="accepted",claim=""}} 1',
        f'{name}{{event="attest",decision="refused",claim="pcr.9"}} 1',
        f'{name}{{event="resource",decision="released",claim=""}} 1',
    ]


def test_bearer_token_serves_without_the_cookie_until_it_is_changed(kbs: Kbs) -> None:
    client = kbs.client()
    client.auth()
    token = client.attest().json()["token"]
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


def test_nonce_of_another_session_is_refused(kbs: Kbs) -> None:
    first, second = kbs.client(), kbs.client()
    first.auth()
    second.auth()
    captured = first.attestation()
    reply = second.http.post("/kbs/v0/attest", json=captured)
    assert "nonce" in refused(reply)
    assert first.http.post("/kbs/v0/attest", json=captured).status_code == 200


def test_replayed_evidence_under_a_fresh_nonce_is_refused(kbs: Kbs) -> None:
    client = kbs.client()
    client.auth()
    old = client.tpm.quote(client.report_data()).to_json_value()
    client.http.cookies.clear()
    client.auth()
    assert "quote.report_data" in refused(client.attest(evidence=old))
    record = kbs.audit()[-1]
    claims = record["claims"]
    assert isinstance(claims, list)
    assert [claim["name"] for claim in claims if not claim["holds"]] == ["quote.report_data"]


def test_second_attest_is_refused_and_the_session_keeps_serving(kbs: Kbs) -> None:
    client = kbs.client()
    client.auth()
    body = client.attestation()
    assert client.http.post("/kbs/v0/attest", json=body).status_code == 200
    assert "begin with auth" in refused(client.http.post("/kbs/v0/attest", json=body))
    assert client.open(client.get()) == SECRET


def test_attest_after_a_failed_one_finds_no_session(kbs: Kbs) -> None:
    client = kbs.client()
    client.auth()
    good = client.attestation()
    refused(client.attest(evidence={}))
    assert "no such session" in refused(client.http.post("/kbs/v0/attest", json=good))


def test_concurrent_attests_give_one_token(kbs: Kbs) -> None:
    client = kbs.client()
    client.auth()
    body = client.attestation()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: client.http.post("/kbs/v0/attest", json=body), range(8)))
    assert sorted(reply.status_code for reply in replies) == [200] + [401] * 7
    assert {variant(reply) for reply in replies if reply.status_code == 401} == {"AttestationError"}


def test_session_that_expired_before_attest_is_gone(kbs: Kbs) -> None:
    client = kbs.client()
    client.auth()
    kbs.clock.now += LIMITS.session_seconds
    assert "expired" in refused(client.attest())
    client.auth()
    kbs.clock.now += LIMITS.session_seconds - 1
    assert client.attest().status_code == 200


def test_attested_session_that_expired_serves_nothing(kbs: Kbs) -> None:
    client = kbs.client()
    client.auth()
    client.attest()
    kbs.clock.now += LIMITS.session_seconds - 1
    assert client.open(client.get()) == SECRET
    kbs.clock.now += 1
    refused(client.get(), "TokenNotFound")


def test_key_that_the_evidence_does_not_bind_is_refused(kbs: Kbs) -> None:
    guest, thief = kbs.client(), kbs.client()
    guest.auth()
    reply = guest.attest(tee_pubkey=thief.jwk)
    assert "quote.report_data" in refused(reply)


def test_reply_opens_only_with_the_attested_key(kbs: Kbs) -> None:
    guest, other = kbs.client(), kbs.client()
    guest.auth()
    guest.attest()
    reply = guest.get()
    with pytest.raises((InvalidUnwrap, InvalidTag)):
        other.open(reply)
    assert guest.open(reply) == SECRET


def test_unregistered_key_learns_nothing_about_the_registers(kbs: Kbs) -> None:
    tpm = booted_tpm(key=1)
    tpm.pcrs[9] = register("other")
    client = kbs.client(tpm)
    client.auth()
    detail = refused(client.attest())
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
    client.auth()
    assert "pcr.9" in refused(client.attest())


def test_document_of_the_host_is_refused(kbs: Kbs) -> None:
    document = DOCUMENT + b"# pod of the host\n"
    tpm = booted_tpm()
    tpm.pcrs[8] = extend(bytes(32), hashlib.sha256(document).digest())
    client = kbs.client(tpm)
    client.auth()
    assert "initdata.digest" in refused(client.attest(document=document.decode()))


def test_test_image_gets_no_production_resource(kbs: Kbs) -> None:
    client = kbs.client(booted_tpm(TEST_IMAGE))
    client.auth()
    assert client.attest().status_code == 200
    refused(client.get(), "PolicyDeny")
    assert kbs.audit()[-1]["reason"] == "the guest's image has profile test"


def test_policy_and_absence_are_told_apart_only_after_the_policy(kbs: Kbs) -> None:
    client = kbs.client()
    client.auth()
    client.attest()
    refused(client.get("ccinit/bank/pin"), "PolicyDeny")
    refused(client.get("ccinit/bank/absent"), "PolicyDeny")
    assert refused(client.get("ccinit/shop/absent"), "PluginInternalError") == (
        "Plugin internal error"
    )
    assert client.open(client.get()) == SECRET


def test_withdrawn_reference_stops_an_attested_guest(kbs: Kbs) -> None:
    client = kbs.client()
    client.auth()
    client.attest()
    path = kbs.state / "references/image-1.json"
    saved = path.read_bytes()
    path.unlink()
    try:
        refused(client.get(), "PolicyDeny")
    finally:
        path.write_bytes(saved)
    assert client.open(client.get()) == SECRET


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/", 404, "InvalidRequestPath"),
        ("GET", "/kbs/v0", 404, "InvalidRequestPath"),
        ("GET", "/kbs/v0/", 404, "InvalidRequestPath"),
        ("GET", "/kbs/v1/resource/a/b/c", 404, "InvalidRequestPath"),
        ("GET", "/kbs/v0/pkcs11/a", 404, "PluginNotFound"),
        ("GET", "/kbs/v0/auth", 404, "PluginNotFound"),
        ("POST", "/kbs/v0/resource/a/b/c", 401, "AdminAuthAccess"),
        ("DELETE", "/kbs/v0/resource/a/b/c", 401, "AdminAuthAccess"),
        ("POST", "/kbs/v0/resource-policy", 401, "AdminAuthAccess"),
        ("POST", "/kbs/v0/attestation-policy", 401, "AdminAuthAccess"),
        ("GET", "/kbs/v0/resource/a/b/c", 401, "TokenNotFound"),
    ],
)
def test_other_paths_are_answered_as_trustee_answers(
    kbs: Kbs, method: str, path: str, status: int, error: str
) -> None:
    reply = kbs.client().http.request(method, path)
    assert (reply.status_code, variant(reply)) == (status, error)


@pytest.mark.parametrize(
    "path",
    [
        "ccinit/shop",
        "ccinit/shop/file-password/x",
        "ccinit/shop/..%2Fbank",
        "ccinit/shop/%2e%2e",
        "ccinit//file-password",
        "ccinit/shop/.hidden",
    ],
)
def test_odd_resource_paths_are_refused(kbs: Kbs, path: str) -> None:
    client = kbs.client()
    client.auth()
    client.attest()
    refused(client.get(path), "PluginInternalError")
    assert client.open(client.get()) == SECRET


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("auth", b""),
        ("auth", b"[]"),
        ("auth", b'{"version":"0.4.0","tee":"tpm"}'),
        ("auth", b'{"version":"0.4.0","tee":"tpm","extra-params":"","x":1}'),
        ("auth", b"[" * 60_000),
        ("attest", b"{}"),
        ("attest", b"\xff"),
    ],
)
def test_malformed_bodies_are_refused(kbs: Kbs, path: str, body: bytes) -> None:
    client = kbs.client()
    client.auth()
    refused(client.http.post(f"/kbs/v0/{path}", content=body))


@pytest.mark.parametrize(
    ("path", "cap"), [("auth", LIMITS.request_bytes), ("attest", LIMITS.attestation_bytes)]
)
def test_oversize_body_is_cut_off(kbs: Kbs, path: str, cap: int) -> None:
    client = kbs.client()
    reply = client.http.post(f"/kbs/v0/{path}", content=b" " * cap)
    assert reply.status_code == 401
    # Trustee's HTTP layer says 413 too; chunks without a declared length are counted as they come.
    chunk = b" " * 65536
    reply = client.http.post(
        f"/kbs/v0/{path}", content=(chunk for _ in range(cap // len(chunk) + 1))
    )
    assert (reply.status_code, variant(reply)) == (413, "AttestationError")
    assert kbs.client().auth().status_code == 200


def tls_connection(kbs: Kbs) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", kbs.port), 10)
    return kbs.tls.wrap_socket(raw, server_hostname="localhost")


def test_slow_body_is_cut_off(kbs: Kbs) -> None:
    head = b"POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    with tls_connection(kbs) as connection:
        begin = time.monotonic()
        connection.sendall(head + b"{")
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - begin < 5
    assert kbs.client().auth().status_code == 200


def test_slow_head_is_cut_off(kbs: Kbs) -> None:
    with tls_connection(kbs) as connection:
        for byte in b"POST /kbs/v0/auth HTTP":
            connection.sendall(bytes((byte,)))
            time.sleep(0.01)
        assert connection.recv(4096) == b""
    assert kbs.client().auth().status_code == 200


def test_tls_below_1_3_is_refused(kbs: Kbs) -> None:
    context = kbs.tls
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", kbs.port), 10) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(raw, server_hostname="localhost")
    with tls_connection(kbs) as connection:
        assert connection.version() == "TLSv1.3"


def test_certificate_names_only_what_the_owner_said(kbs: Kbs) -> None:
    with (
        socket.create_connection(("127.0.0.1", kbs.port), 10) as raw,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        kbs.tls.wrap_socket(raw, server_hostname="kbs.example")


def test_broken_policy_file_releases_nothing(kbs: Kbs) -> None:
    client = kbs.client()
    client.auth()
    client.attest()
    path = kbs.state / "policy.toml"
    saved = path.read_bytes()
    path.write_bytes(saved + b"oops")
    try:
        refused(client.get(), "PolicyDeny")
    finally:
        path.write_bytes(saved)
    assert client.open(client.get()) == SECRET


def test_full_log_releases_nothing(kbs: Kbs) -> None:
    client = kbs.client()
    client.auth()
    client.attest()
    path = kbs.state / "audit.jsonl"
    path.unlink()
    path.mkdir()
    try:
        reply = client.get()
        assert (reply.status_code, variant(reply)) == (500, "PluginInternalError")
    finally:
        path.rmdir()
    assert client.open(client.get()) == SECRET


def test_many_guests_at_once_are_all_served(kbs: Kbs) -> None:
    async def guest() -> bytes:
        return await asyncio.to_thread(one_guest)

    def one_guest() -> bytes:
        client = kbs.client()
        client.auth()
        client.attest()
        return client.open(client.get())

    async def all_guests() -> list[bytes]:
        return await asyncio.gather(*(guest() for _ in range(12)))

    assert asyncio.run(all_guests()) == [SECRET] * 12


def test_listener_sends_replies_without_delay() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
