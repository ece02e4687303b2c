"""The library's own derivation opens a reply, and the guest's own reader does."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from ccinit.attest.jwe import decrypt_jwe
from ccinit.attest.tee_key import generate_tee_key
from ccinit.formats.encoding.strict_json import decode_base64url
from ccinit.formats.kbs.jwk import P256, TeeKeyAlgorithm, parse_epk
from guest_owner.kbs.jwe import encrypt_to_guest, public_jwk


def test_encrypt_to_guest_is_flattened_json_that_the_key_opens() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    reply = json.loads(encrypt_to_guest(b"secret", public_jwk(key.public_key())))
    assert set(reply) == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}
    part = {name: decode_base64url(text, name) for name, text in reply.items()}
    header = json.loads(part["protected"])
    assert list(header) == ["alg", "enc", "epk"]
    assert list(header["epk"]) == ["crv", "kty", "x", "y"]
    assert b" " not in part["protected"]  # a client may authenticate what it builds of the members
    epk = parse_epk(header["epk"], P256)
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + epk.x + epk.y)
    # RFC 7518 section 4.6.2: the algorithm by its length, no party, 256 bits.
    info = b"\0\0\0\x0eECDH-ES+A256KW" + bytes(8) + b"\0\0\1\0"
    wrapping = ConcatKDFHash(SHA256(), 32, info).derive(key.exchange(ec.ECDH(), public))
    content_key = aes_key_unwrap(wrapping, part["encrypted_key"])
    aad = reply["protected"].encode()
    opened = AESGCM(content_key).decrypt(part["iv"], part["ciphertext"] + part["tag"], aad)
    assert opened == b"secret"


@pytest.mark.parametrize("algorithm", TeeKeyAlgorithm)
def test_every_kind_of_key_that_a_guest_offers_opens_its_reply(algorithm: TeeKeyAlgorithm) -> None:
    key = generate_tee_key(algorithm)
    reply = encrypt_to_guest(b"secret", key.public_jwk)
    assert decrypt_jwe(reply, key).reveal() == b"secret"
    header = json.loads(decode_base64url(json.loads(reply)["protected"], "protected"))
    assert header["alg"] == key.public_jwk.to_json_object()["alg"]


def test_encrypt_to_guest_never_repeats_keys_or_nonces() -> None:
    public = public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())
    first, second = (json.loads(encrypt_to_guest(b"secret", public)) for _ in range(2))
    assert all(first[name] != second[name] for name in first)
