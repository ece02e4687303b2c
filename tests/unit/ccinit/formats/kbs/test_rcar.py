"""RCAR messages against what is on the wire, and the digests that bind them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.strict_json import JsonValue, encode_base64
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.rcar import (
    MAX_ATTESTATION_BYTES,
    MAX_ATTESTATION_VALUES,
    Attestation,
    Challenge,
    ErrorInformation,
    Nonce,
    Request,
    TokenReply,
    device_digest,
    encode_attestation,
    encode_challenge,
    encode_error_information,
    encode_request,
    encode_token_reply,
    parse_attestation,
    parse_challenge,
    parse_error_information,
    parse_nonce,
    parse_request,
    parse_token_reply,
    report_digest,
)
from ccinit.values import replace

VECTORS = json.loads(Path("tests/vectors/rcar/messages.json").read_text())
NONCE = Nonce(encode_base64(bytes(range(32))))

Rewrite = Callable[[bytes], bytes]

# Each message read and written again.
MESSAGES: tuple[tuple[str, Rewrite], ...] = (
    ("request", lambda data: encode_request(parse_request(data))),
    ("challenge", lambda data: encode_challenge(parse_challenge(data, Tee.TPM))),
    ("attestation", lambda data: encode_attestation(parse_attestation(data, Tee.TPM))),
    ("token", lambda data: encode_token_reply(parse_token_reply(data))),
    ("error", lambda data: encode_error_information(parse_error_information(data))),
)


@pytest.mark.parametrize(("name", "rewrite"), MESSAGES, ids=[row[0] for row in MESSAGES])
def test_message_is_read_and_written_as_on_the_wire(name: str, rewrite: Rewrite) -> None:
    wire = VECTORS[name].encode()
    assert rewrite(wire) == wire


@pytest.mark.parametrize(("name", "rewrite"), MESSAGES, ids=[row[0] for row in MESSAGES])
def test_message_with_an_unknown_or_missing_member_is_refused(name: str, rewrite: Rewrite) -> None:
    value = json.loads(VECTORS[name])
    rewrite(json.dumps(value).encode())
    first = next(iter(value))
    less = {key: item for key, item in value.items() if key != first}
    for changed in (json.dumps({**value, "new": 1}), json.dumps(less), "[]"):
        with pytest.raises(FormatError) as refused:
            rewrite(changed.encode())
        assert refused.value.reason.endswith(("members", "type"))


def test_messages_are_the_values_they_say() -> None:
    key = parse_attestation(VECTORS["attestation"].encode(), Tee.TPM).tee_pubkey
    assert parse_request(VECTORS["request"].encode()) == Request(
        version="0.4.0", tee="tpm", extra_params={"supported-hash-algorithms": ["sha384"]}
    )
    assert parse_challenge(VECTORS["challenge"].encode(), Tee.TPM) == Challenge(
        nonce=NONCE, extra_params=""
    )
    assert parse_attestation(VECTORS["attestation"].encode(), Tee.TPM) == Attestation(
        nonce=NONCE,
        tee_pubkey=key,
        init_data='version = "0.1.0"\n',
        primary_evidence={"svn": "1"},
        additional_evidence="",
    )
    assert parse_token_reply(VECTORS["token"].encode()) == TokenReply(
        token="aGVhZGVy.Y2xhaW1z.c2lnbmF0dXJl"
    )
    error = parse_error_information(VECTORS["error"].encode())
    assert (error.variant, error.detail) == ("PolicyDeny", "Access denied by policy")
    assert ErrorInformation(type="https://elsewhere/PolicyDeny", detail="").variant == ""


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        pytest.param({"selected-hash-algorithm": "sha256"}, "rcar.hash", id="weaker"),
        pytest.param({"selected-hash-algorithm": "sha512"}, "rcar.hash", id="another"),
        pytest.param({"selected-hash-algorithm": "md5"}, "rcar.hash", id="broken"),
        pytest.param({"selected-hash-algorithm": 384}, "rcar.hash", id="number"),
        pytest.param({"selected-hash-algorithm": None}, "rcar.hash", id="null"),
    ],
)
def test_r25_challenge_that_selects_another_hash_is_refused(extra: JsonValue, reason: str) -> None:
    for accepted in ("", {}, {"selected-hash-algorithm": "SHA384"}, "selected-hash-algorithm", 1):
        parse_challenge(json.dumps({"nonce": NONCE, "extra-params": accepted}).encode(), Tee.TPM)
    with pytest.raises(FormatError) as refused:
        parse_challenge(json.dumps({"nonce": NONCE, "extra-params": extra}).encode(), Tee.TPM)
    assert refused.value.reason == reason


def test_platform_that_answers_requests_has_one_in_the_nonces_place() -> None:
    request = '{"request_blob": "AAAA"}'
    extra = {"selected-hash-algorithm": "sha512"}
    challenge = {"nonce": request, "extra-params": extra}
    data = json.dumps(challenge).encode()
    assert parse_challenge(data, Tee.SE) == Challenge(nonce=Nonce(request), extra_params=extra)
    with pytest.raises(FormatError) as refused:
        parse_challenge(json.dumps({**challenge, "extra-params": ""}).encode(), Tee.TPM)
    assert refused.value.reason == "rcar.nonce"
    for other in ("", {}, {"selected-hash-algorithm": "sha384"}):
        with pytest.raises(FormatError) as refused:
            parse_challenge(json.dumps({**challenge, "extra-params": other}).encode(), Tee.SE)
        assert refused.value.reason == "rcar.hash"


@pytest.mark.parametrize("nonce", ["", "\n", "\x7f", "ä", "x" * (48 * 1024 + 1)])
def test_r24_request_outside_the_rule_is_refused(nonce: str) -> None:
    def challenge(text: str) -> bytes:
        extra = {"selected-hash-algorithm": "sha512"}
        return json.dumps({"nonce": text, "extra-params": extra}).encode()

    assert parse_challenge(challenge("x" * (48 * 1024)), Tee.SE)
    with pytest.raises(FormatError) as refused:
        parse_challenge(challenge(nonce), Tee.SE)
    assert refused.value.reason == "rcar.nonce"


@pytest.mark.parametrize(
    "nonce",
    [
        pytest.param("", id="empty"),
        pytest.param(encode_base64(bytes(15)), id="15 bytes"),
        pytest.param(encode_base64(bytes(129)), id="129 bytes"),
        pytest.param("A" * (1 << 15), id="32 KiB"),
        pytest.param("not base64 at all!!!!!!!!", id="not base64"),
        pytest.param(encode_base64(bytes(32)).rstrip("="), id="unpadded"),
        pytest.param(encode_base64(b"\xff" * 33).replace("/", "_"), id="url alphabet"),
        pytest.param(7, id="number"),
    ],
)
def test_r24_nonce_outside_the_rule_is_refused(nonce: JsonValue) -> None:
    for length in (16, 32, 128):
        assert parse_nonce(encode_base64(bytes(length))) == encode_base64(bytes(length))
    with pytest.raises(FormatError) as refused:
        parse_challenge(json.dumps({"nonce": nonce, "extra-params": ""}).encode(), Tee.TPM)
    assert refused.value.reason == "rcar.nonce"


def test_r24_nonce_of_a_mebibyte_is_refused_before_it_is_read() -> None:
    with pytest.raises(FormatError) as refused:
        parse_challenge(b'{"nonce":"' + b"A" * (1 << 20) + b'","extra-params":""}', Tee.TPM)
    assert refused.value.reason == "rcar.length"


@pytest.mark.parametrize(
    ("init_data", "reason"),
    [
        pytest.param({"format": "json", "body": ""}, "rcar.init_data.format", id="json"),
        pytest.param({"format": "toml"}, "rcar.init_data.members", id="no body"),
        pytest.param("text", "rcar.init_data.type", id="text"),
        pytest.param({"format": "toml", "body": "x" * (1 << 20) + "x"}, "rcar.init_data.body"),
    ],
)
def test_attestation_with_other_init_data_is_refused(init_data: JsonValue, reason: str) -> None:
    value = json.loads(VECTORS["attestation"])
    parse_attestation(json.dumps({**value, "init-data": None}).encode(), Tee.TPM)
    with pytest.raises(FormatError) as refused:
        parse_attestation(json.dumps({**value, "init-data": init_data}).encode(), Tee.TPM)
    assert refused.value.reason == reason


def test_parts_may_be_as_long_as_platforms_and_pods_need() -> None:
    attestation = replace(
        parse_attestation(VECTORS["attestation"].encode(), Tee.TPM),
        nonce=Nonce("x" * (48 * 1024)),
        init_data="x" * (1 << 20),
        additional_evidence="x" * (256 * 1024),
    )
    assert parse_attestation(encode_attestation(attestation), Tee.SE) == attestation
    without = replace(attestation, init_data=None)
    assert parse_attestation(encode_attestation(without), Tee.SE) == without
    reply = TokenReply(token="x" * (128 * 1024))
    assert parse_token_reply(encode_token_reply(reply)) == reply


@pytest.mark.parametrize("value", [0, None, "", [], {}], ids=repr)
def test_attestation_of_very_many_values_is_refused(value: JsonValue) -> None:
    """Two mebibytes of them would take half a second of a KBS that serves others, too."""
    attestation = parse_attestation(VECTORS["attestation"].encode(), Tee.TPM)

    def offer(count: int) -> Attestation:
        evidence = {"cert_chain": [value] * count}
        body = encode_attestation(replace(attestation, primary_evidence=evidence))
        assert len(body) <= MAX_ATTESTATION_BYTES
        return parse_attestation(body, Tee.TPM)

    offer(64 * 1024)  # as many bytes of certificates as no platform gives
    with pytest.raises(LimitExceededError) as refused:
        offer(MAX_ATTESTATION_VALUES)
    assert refused.value.reason == "rcar.values"


@pytest.mark.parametrize("token", ["", "with space", "line\nbreak", "é", "\x7f"])
def test_token_that_is_not_printable_is_refused(token: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_token_reply(json.dumps({"token": token}).encode())
    assert refused.value.reason == "rcar.token"


def test_token_is_not_shown() -> None:
    reply = parse_token_reply(b'{"token":"c4n4ry"}')
    assert reply.token == "c4n4ry"
    assert "c4n4ry" not in repr(reply)


def test_digest_is_that_of_the_vector() -> None:
    key = parse_attestation(VECTORS["attestation"].encode(), Tee.TPM).tee_pubkey
    digest = report_digest(NONCE, key, "", Tee.TPM)
    assert digest.hex() == VECTORS["report_digest"]
    assert report_digest(NONCE, key, "{}", Tee.TPM) != digest
    assert device_digest(NONCE, key, Tee.TPM).hex() == VECTORS["device_digest"]
