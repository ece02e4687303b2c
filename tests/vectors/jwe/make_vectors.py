"""Make `flattened.json`: a KBS's reply from fixed keys, by the steps of RFC 7516 section 5.1.

Run as `python -m tests.vectors.jwe.make_vectors`; with `--check` it compares and writes nothing.
The steps are written here a second time and not taken from the project, so that both ends of the
tests are not the same code.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

FILE = Path(__file__).with_name("flattened.json")
PLAINTEXT = b"the body of a resource"
CONTENT_KEY = bytes(range(32))
IV = bytes(range(12))

Json = dict[str, object]
Recipient = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def private_key(text: bytes, curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """A key from a seed, on P-256 if no other curve is named; for tests only."""
    scalar = int.from_bytes(hashlib.sha256(text).digest(), "big")
    return ec.derive_private_key(scalar, curve or ec.SECP256R1())


RECIPIENT = private_key(b"recipient")
SENDER = private_key(b"sender")


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def epk(key: ec.EllipticCurvePublicKey) -> Json:
    numbers = key.public_numbers()
    size = (key.key_size + 7) // 8
    return {
        "crv": f"P-{key.key_size}",
        "kty": "EC",
        "x": encode(numbers.x.to_bytes(size, "big")),
        "y": encode(numbers.y.to_bytes(size, "big")),
    }


def seal(
    plaintext: bytes,
    recipient: Recipient,
    *,
    header: Json | None = None,
    protected: str | None = None,
) -> Json:
    """Encrypt by the book, whatever `header` or `protected` claims about it."""
    right, encrypted_key = seal_key(recipient)
    if protected is None:
        protected = encode(json.dumps(header or right, separators=(",", ":")).encode())
    sealed = AESGCM(CONTENT_KEY).encrypt(IV, plaintext, protected.encode())
    return {
        "protected": protected,
        "encrypted_key": encode(encrypted_key),
        "iv": encode(IV),
        "ciphertext": encode(sealed[:-16]),
        "tag": encode(sealed[-16:]),
    }


def seal_key(recipient: Recipient) -> tuple[Json, bytes]:
    """The header and the encrypted content key by the kind of the recipient's key."""
    if isinstance(recipient, rsa.RSAPublicKey):
        oaep = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
        return {"alg": "RSA-OAEP-256", "enc": "A256GCM"}, recipient.encrypt(CONTENT_KEY, oaep)
    on_p256 = recipient.curve.name == "secp256r1"
    sender = SENDER if on_p256 else private_key(b"sender", recipient.curve)
    shared = sender.exchange(ec.ECDH(), recipient)
    algorithm = b"ECDH-ES+A256KW"
    info = len(algorithm).to_bytes(4, "big") + algorithm + bytes(8) + (256).to_bytes(4, "big")
    wrapping_key = hashlib.sha256(b"\0\0\0\1" + shared + info).digest()
    header: Json = {
        "alg": "ECDH-ES+A256KW",
        "enc": "A256GCM",
        "epk": epk(sender.public_key()),
    }
    return header, aes_key_wrap(wrapping_key, CONTENT_KEY)


def main() -> None:
    text = json.dumps(seal(PLAINTEXT, RECIPIENT.public_key()), indent=2) + "\n"
    if "--check" in sys.argv:
        assert FILE.read_text() == text
    else:
        FILE.write_text(text)


if __name__ == "__main__":
    main()
