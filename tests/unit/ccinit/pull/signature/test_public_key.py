"""Which keys may sign, and over which hashes."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from ccinit.errors import FormatError, VerificationError
from ccinit.pull.signature.public_key import check_public_key, load_public_key, verify_signature

MESSAGE = b"message"
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize(
    ("key", "algorithm", "is_good"),
    [
        (P256, SHA256(), True),
        (P256, SHA384(), False),
        (P384, SHA256(), True),
        (P384, SHA384(), True),
        (P384, SHA512(), False),
    ],
)
def test_hash_goes_with_the_curve(
    key: ec.EllipticCurvePrivateKey, algorithm: HashAlgorithm, *, is_good: bool
) -> None:
    signature = key.sign(MESSAGE, ec.ECDSA(algorithm))
    if is_good:
        assert verify_signature(key.public_key(), signature, MESSAGE) == MESSAGE
    for message in (b"another",) if is_good else (MESSAGE,):
        with pytest.raises(VerificationError) as refused:
            verify_signature(key.public_key(), signature, message)
        assert refused.value.reason == "signature.key"


@pytest.mark.parametrize(
    ("bits", "is_good"), [(2047, False), (2048, True), (8192, True), (8193, False)]
)
def test_rsa_has_a_least_and_a_most_size(bits: int, *, is_good: bool) -> None:
    key = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key()
    if is_good:
        assert check_public_key(key, "policy.key") is key
        return
    with pytest.raises(FormatError) as refused:
        check_public_key(key, "policy.key")
    assert refused.value.reason == "policy.key"


def test_key_on_a_curve_that_the_library_does_not_know_is_no_key() -> None:
    """The entry of a log may have one, too."""
    known, sm2 = (bytes.fromhex(oid) for oid in ("2a8648ce3d030107", "2a811ccf5501822d"))
    der = P256.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert der.count(known) == 1
    for content, is_good in ((der, True), (der.replace(known, sm2), False)):
        pem = pem_of(content)
        if is_good:
            assert load_public_key(pem, "policy.key") == load_pem_public_key(pem)
            continue
        with pytest.raises(FormatError) as refused:
            load_public_key(pem, "policy.key")
        assert refused.value.reason == "policy.key"


def pem_of(der: bytes) -> bytes:
    text = base64.encodebytes(der)
    return b"-----BEGIN PUBLIC KEY-----\n" + text + b"-----END PUBLIC KEY-----\n"
