"""Sealed secrets as `secret-cli` of Confidential Containers makes them, and their keys."""

import json
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ccinit.formats.encoding.strict_json import encode_base64url

KEY_URI = "kbs:///ccinit/demo/file-signing-key"
HEADER = {"alg": "ES256", "kid": KEY_URI}
PAYLOAD = {
    "version": "0.1.0",
    "type": "vault",
    "name": "kbs:///ccinit/demo/file-token",
    "provider": "kbs",
    "provider_settings": {},
    "annotations": {},
}


@cache
def signing_key(name: str = "owner") -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(name.encode().ljust(16), "big"), ec.SECP256R1())


def jwk(name: str = "owner", **changes: object) -> bytes:
    numbers = signing_key(name).public_key().public_numbers()
    point = {"x": numbers.x.to_bytes(32, "big"), "y": numbers.y.to_bytes(32, "big")}
    value = {"kty": "EC", "crv": "P-256", "alg": "ES256"}
    value |= {key: encode_base64url(number) for key, number in point.items()}
    return json.dumps(value | changes).encode()


def part(value: object) -> str:
    return encode_base64url(json.dumps(value).encode())


def seal(header: object = HEADER, payload: object = PAYLOAD, *, signed_by: str = "owner") -> str:
    signed = f"{part(header)}.{part(payload)}"
    signature = signing_key(signed_by).sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(signature)
    return f"sealed.{signed}.{encode_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
