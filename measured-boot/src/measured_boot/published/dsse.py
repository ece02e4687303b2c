"""Sign and verify a payload in a DSSE envelope with an Ed25519 key.

The caller decides what the payload says (`rootfs_builder.publication.provenance`).

Specification: Dead Simple Signing Envelope 1.0, `protocol.md` and `envelope.md`; RFC 8032.
"""

import base64
import hashlib
import json
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import FormatError, LimitExceededError, VerificationError

ENVELOPE: Final = "provenance.dsse.json"
PUBLIC_KEY: Final = "builder.pub"
"""Names beside images, of what a builder has signed and of their key."""

MAX_ENVELOPE_BYTES: Final = 4 * 1024 * 1024
IN_TOTO: Final = "application/vnd.in-toto+json"
_MAX_SIGNATURES: Final = 16


def sign_envelope(payload: bytes, payload_type: str, key: Ed25519PrivateKey) -> bytes:
    """Return the envelope as JSON; the same bytes for the same payload and key."""
    envelope = {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {
                "keyid": key_id(key.public_key()),
                "sig": base64.b64encode(key.sign(_encode(payload, payload_type))).decode(),
            }
        ],
    }
    return json.dumps(envelope, indent=1).encode() + b"\n"


def verify_envelope(data: bytes, payload_type: str, key: Ed25519PublicKey) -> bytes:
    """Return the payload of an envelope that this key has signed.

    Steps: (1) form and size; (2) the payload's type is the expected one; (3) one signature, over
    type and payload, verifies. The key's name in the envelope is only a hint, and ignored.

    Raises:
        FormatError: `dsse.form`.
        VerificationError: `dsse.type`, `dsse.signature`.
    """
    stated_type, payload, signatures = _read(data)  # 1
    if stated_type != payload_type:  # 2
        raise VerificationError("dsse.type", f"the payload is {stated_type[:80]!r}")
    for signature in signatures:  # 3
        try:
            key.verify(signature, _encode(payload, payload_type))
        except InvalidSignature:
            continue
        return payload
    raise VerificationError("dsse.signature", "no signature of this key")


def key_id(key: Ed25519PublicKey) -> str:
    """Return the name of a key: SHA-256 of its SubjectPublicKeyInfo, hex."""
    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def _read(data: bytes) -> tuple[str, bytes, list[bytes]]:
    if len(data) > MAX_ENVELOPE_BYTES:
        raise LimitExceededError("dsse.form", f"more than {MAX_ENVELOPE_BYTES} bytes")
    try:
        envelope = json.loads(data)
        payload_type, rows = envelope["payloadType"], envelope["signatures"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(row["sig"], validate=True) for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError("dsse.form", "not an envelope") from error
    if not isinstance(payload_type, str) or len(signatures) > _MAX_SIGNATURES:
        raise FormatError("dsse.form", "not an envelope")
    return payload_type, payload, signatures


def _encode(payload: bytes, payload_type: str) -> bytes:
    """Return what is signed (pre-authentication encoding)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
