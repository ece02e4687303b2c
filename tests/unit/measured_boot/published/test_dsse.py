import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ccinit.errors import FormatError, LimitExceededError, VerificationError
from measured_boot.published import dsse
from measured_boot.published.dsse import IN_TOTO, key_id, sign_envelope, verify_envelope

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
GOOD = sign_envelope(b"payload", IN_TOTO, KEY)


def changed(**members: object) -> bytes:
    return json.dumps({**json.loads(GOOD), **members}).encode()


def test_sign_envelope_signs_type_and_payload() -> None:
    envelope = json.loads(GOOD)
    (row,) = envelope["signatures"]
    assert row["keyid"] == key_id(KEY.public_key())
    signed = b"DSSEv1 28 application/vnd.in-toto+json 7 payload"
    KEY.public_key().verify(base64.b64decode(row["sig"]), signed)
    assert sign_envelope(b"payload", IN_TOTO, KEY) == GOOD


def test_verify_envelope_returns_the_payload() -> None:
    assert verify_envelope(GOOD, IN_TOTO, KEY.public_key()) == b"payload"


def test_verify_envelope_looks_at_each_signature() -> None:
    both = [
        *json.loads(sign_envelope(b"payload", IN_TOTO, OTHER))["signatures"],
        *json.loads(GOOD)["signatures"],
    ]
    assert verify_envelope(changed(signatures=both), IN_TOTO, KEY.public_key()) == b"payload"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (changed(payload=base64.b64encode(b"other").decode()), "dsse.signature"),
        (changed(signatures=[]), "dsse.signature"),
        (sign_envelope(b"payload", IN_TOTO, OTHER), "dsse.signature"),
        (sign_envelope(b"payload", "text/plain", KEY), "dsse.type"),
        (changed(payloadType="text/plain"), "dsse.type"),
    ],
)
def test_verify_envelope_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(VerificationError) as error:
        verify_envelope(data, IN_TOTO, KEY.public_key())
    assert error.value.reason == reason


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        changed(payload="*"),
        changed(payloadType=1),
        changed(signatures=1),
        changed(signatures=[{}]),
        changed(signatures=[{"sig": "*"}]),
        changed(signatures=json.loads(GOOD)["signatures"] * 17),
    ],
)
def test_verify_envelope_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError) as error:
        verify_envelope(data, IN_TOTO, KEY.public_key())
    assert error.value.reason == "dsse.form"


def test_verify_envelope_refuses_what_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsse, "MAX_ENVELOPE_BYTES", len(GOOD) - 1)
    with pytest.raises(LimitExceededError) as error:
        verify_envelope(GOOD, IN_TOTO, KEY.public_key())
    assert error.value.reason == "dsse.form"
