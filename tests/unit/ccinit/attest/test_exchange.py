"""The handshake's states: one way through, and FAILED has no way out."""

import hashlib
import json
from collections.abc import Callable

import pytest

from ccinit.attest.exchange import _MOVES, Event, Exchange, State, UsedNonces
from ccinit.attest.tee_key import EcTeeKey
from ccinit.errors import CcinitError, LimitExceededError
from ccinit.formats.encoding.strict_json import encode_base64
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.rcar import (
    Nonce,
    device_digest,
    parse_attestation,
    parse_request,
    report_digest,
)

NONCE = Nonce(encode_base64(bytes(32)))
CHALLENGE = json.dumps({"nonce": NONCE, "extra-params": ""}).encode()
TOKEN = b'{"token":"header.claims.signature"}'
KEY = EcTeeKey.generate()


def at(state: State, *, used_nonces: frozenset[Nonce] = frozenset()) -> Exchange:
    """An exchange that has come to `state` by the way that leads there."""
    exchange = Exchange(Tee.TPM, KEY, used_nonces=used_nonces)
    steps: tuple[tuple[State, Callable[[], object]], ...] = (
        (State.START, lambda: exchange.encode_request()),  # noqa: PLW0108
        (State.REQUESTED, lambda: exchange.receive_challenge(200, CHALLENGE)),
        (State.CHALLENGED, lambda: exchange.bind_devices("")),
        (State.BOUND, lambda: exchange.encode_attestation({"a": 1}, "toml")),
        (State.SUBMITTED, lambda: exchange.receive_token(200, TOKEN)),
        (State.ATTESTED, lambda: None),
    )
    if state is State.FAILED:
        exchange.encode_request()
        with pytest.raises(CcinitError):
            exchange.receive_challenge(500, b"")
        return exchange
    for before, step in steps:
        if state is before:
            break
        step()
    assert exchange.state is state
    return exchange


def test_whole_handshake_binds_nonce_and_key() -> None:
    exchange = Exchange(Tee.TPM, KEY)
    request = parse_request(exchange.encode_request())
    assert (request.version, request.tee) == ("0.4.0", "tpm")
    digest = exchange.receive_challenge(200, CHALLENGE)
    assert digest == device_digest(NONCE, KEY.public_jwk, Tee.TPM)
    additional = '{ "sampledevice":{}}'
    report_data = exchange.bind_devices(additional)
    assert report_data == report_digest(NONCE, KEY.public_jwk, additional, Tee.TPM)[:32]
    assert report_data != report_digest(NONCE, KEY.public_jwk, "", Tee.TPM)[:32]
    attestation = parse_attestation(
        exchange.encode_attestation({"quote": "x"}, "version = 1"), Tee.TPM
    )
    assert attestation.nonce == NONCE
    assert attestation.tee_pubkey == KEY.public_jwk
    assert attestation.init_data == "version = 1"
    assert attestation.primary_evidence == {"quote": "x"}
    assert attestation.additional_evidence == additional
    assert exchange.receive_token(200, TOKEN).token == "header.claims.signature"
    assert exchange.state is State.ATTESTED


def test_secure_executions_handshake_is_by_its_own_hash() -> None:
    exchange = Exchange(Tee.SE, KEY)
    request = parse_request(exchange.encode_request())
    assert request.extra_params == {"supported-hash-algorithms": ["sha512"]}
    text = json.dumps({"request_blob": "AAAA"})
    challenge = {"nonce": text, "extra-params": {"selected-hash-algorithm": "sha512"}}
    digest = exchange.receive_challenge(200, json.dumps(challenge).encode())
    nonce = Nonce(text)
    assert digest == device_digest(nonce, KEY.public_jwk, Tee.SE)
    report_data = exchange.bind_devices("")
    escaped = json.dumps(text)
    key = json.dumps(KEY.public_jwk.to_json_object(), sort_keys=True, separators=(",", ":"))
    hashed = f'{{"additional-evidence":"","nonce":{escaped},"tee-pubkey":{key}}}'
    assert report_data == hashlib.sha512(hashed.encode()).digest()
    sent = parse_attestation(exchange.encode_attestation({}, None), Tee.SE)
    assert sent.nonce == nonce


def test_request_says_what_a_platform_has_to_say() -> None:
    exchange = Exchange(Tee.SVSM, KEY, parameters={"svsm": {"ek": "AAAA"}})
    assert parse_request(exchange.encode_request()).extra_params == {
        "supported-hash-algorithms": ["sha384"],
        "svsm": {"ek": "AAAA"},
    }


ACTIONS: dict[State, Callable[[Exchange], object]] = {
    State.START: lambda exchange: exchange.encode_request(),
    State.REQUESTED: lambda exchange: exchange.receive_challenge(200, CHALLENGE),
    State.CHALLENGED: lambda exchange: exchange.bind_devices(""),
    State.BOUND: lambda exchange: exchange.encode_attestation({}, None),
    State.SUBMITTED: lambda exchange: exchange.receive_token(200, TOKEN),
}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("wanted", list(ACTIONS))
def test_step_in_another_state_is_a_bug_and_moves_nothing(state: State, wanted: State) -> None:
    exchange = at(state)
    if state is wanted:
        ACTIONS[wanted](exchange)
        return
    with pytest.raises(RuntimeError):
        ACTIONS[wanted](exchange)
    assert exchange.state is state


@pytest.mark.parametrize("state", list(State))
def test_refusal_that_nobody_waits_for_is_a_bug_and_moves_nothing(state: State) -> None:
    for wanted, receive in (
        (State.REQUESTED, Exchange.receive_challenge),
        (State.SUBMITTED, Exchange.receive_token),
    ):
        exchange = at(state)
        if state is wanted:
            continue
        with pytest.raises(RuntimeError):
            receive(exchange, 500, b"")
        assert exchange.state is state


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        pytest.param(401, b"", "kbs.status", id="refused"),
        pytest.param(302, CHALLENGE, "kbs.redirect", id="redirected"),
        pytest.param(201, CHALLENGE, "kbs.status", id="another success"),
        pytest.param(200, b"", "rcar.json", id="empty"),
        pytest.param(200, b"{}", "rcar.members", id="no nonce"),
        pytest.param(200, CHALLENGE.replace(b"A", b"!"), "rcar.nonce", id="not base64"),
        pytest.param(
            200,
            json.dumps(
                {"nonce": NONCE, "extra-params": {"selected-hash-algorithm": "sha256"}}
            ).encode(),
            "rcar.hash",
            id="weaker hash",
        ),
    ],
)
def test_challenge_that_cannot_be_accepted_is_final(status: int, body: bytes, reason: str) -> None:
    exchange = at(State.REQUESTED)
    with pytest.raises(CcinitError) as refused:
        exchange.receive_challenge(status, body)
    assert refused.value.reason == reason
    assert exchange.state is State.FAILED
    with pytest.raises(RuntimeError):
        exchange.receive_challenge(200, CHALLENGE)


def test_r24_nonce_of_an_earlier_handshake_is_refused() -> None:
    with pytest.raises(CcinitError) as refused:
        at(State.CHALLENGED, used_nonces=frozenset((NONCE,)))
    assert refused.value.reason == "kbs.nonce_repeated"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        pytest.param(401, b"", "kbs.status", id="refused"),
        pytest.param(200, b'{"token":""}', "rcar.token", id="empty token"),
        pytest.param(200, b'{"token":1}', "rcar.token", id="number"),
        pytest.param(200, b"<html>", "rcar.json", id="a page"),
    ],
)
def test_token_that_cannot_be_accepted_is_final(status: int, body: bytes, reason: str) -> None:
    exchange = at(State.SUBMITTED)
    with pytest.raises(CcinitError) as refused:
        exchange.receive_token(status, body)
    assert refused.value.reason == reason
    assert exchange.state is State.FAILED


def test_ends_have_no_way_out() -> None:
    left = {state for state, _event in _MOVES}
    assert left == set(State) - {State.ATTESTED, State.FAILED}
    assert {event for _state, event in _MOVES} == set(Event)


def test_used_nonces_are_known_again_and_bounded() -> None:
    used, nonce = UsedNonces(max_handshakes=2), Nonce("AAECAwQFBgcICQoLDA0ODw==")
    assert nonce not in used
    used.add(nonce)
    used.add(Nonce("x" * 48 * 1024))
    assert nonce in used
    with pytest.raises(LimitExceededError) as refused:
        used.add(Nonce("another"))
    assert refused.value.reason == "kbs.handshakes"
