"""A session of the KBS belongs to one nonce and one key, serves one attestation, and ends."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from tests.integration.kbs.harness import LIMITS, SECRET, Kbs, refused, variant


def too_late(reply: httpx.Response) -> str:
    """Return the detail of a refusal after which a guest begins anew; 401 would end it."""
    assert (reply.status_code, variant(reply)) == (408, "AttestationError")
    return str(reply.json()["detail"])


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
    assert "quote.report_data" in refused(client.handshake(evidence=old))
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
    assert "no such session" in too_late(client.http.post("/kbs/v0/attest", json=good))


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
    assert "expired" in too_late(client.attest())
    client.auth()
    kbs.clock.now += LIMITS.session_seconds - 1
    assert client.attest().status_code == 200


def test_attested_session_that_expired_serves_nothing(kbs: Kbs) -> None:
    client = kbs.client()
    client.handshake()
    kbs.clock.now += LIMITS.session_seconds - 1
    assert client.open(client.get()) == SECRET
    kbs.clock.now += 1
    refused(client.get(), "TokenNotFound")


def test_key_that_the_evidence_does_not_bind_is_refused(kbs: Kbs) -> None:
    guest, thief = kbs.client(), kbs.client()
    reply = guest.handshake(tee_pubkey=thief.jwk)
    assert "quote.report_data" in refused(reply)


def test_reply_opens_only_with_the_attested_key(kbs: Kbs) -> None:
    guest, other = kbs.client(), kbs.client()
    guest.handshake()
    reply = guest.get()
    with pytest.raises((InvalidUnwrap, InvalidTag)):
        other.open(reply)
    assert guest.open(reply) == SECRET
