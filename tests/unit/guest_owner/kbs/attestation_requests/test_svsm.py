"""Credentials for the keys that a guest names; what a TPM does with one is done here by hand."""

import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.hashes import SHA256

from ccinit.errors import CcinitError
from ccinit.formats.evidence.svsm import (
    SvsmKeys,
    SvsmRequest,
    encode_svsm_keys,
    parse_svsm_request,
)
from ccinit.values import replace
from guest_owner.kbs.attestation_requests.svsm import (
    make_svsm_nonce,
    make_svsm_request,
    open_svsm_secrets,
)
from tests.fakes.platforms.tpm_quote import rsa_key
from tests.unit.guest_owner.kbs.svsm_values import EK_NUMBER, SEALING_KEY, keys, svsm_references

KEYS = keys()
NAME = b"\0\x0b" + hashlib.sha256(KEYS.ak).digest()


def activate(request: SvsmRequest, name: bytes) -> bytes:
    """TPM2_ActivateCredential, after part 1, section 24.5; CFB by single blocks."""
    padding = OAEP(mgf=MGF1(SHA256()), algorithm=SHA256(), label=b"IDENTITY\0")
    seed = rsa_key(EK_NUMBER).decrypt(request.secret, padding)
    size = int.from_bytes(request.blob[:2], "big")
    outer, identity = request.blob[2 : 2 + size], request.blob[2 + size :]
    integrity = hmac.digest(seed, b"\0\0\0\1INTEGRITY\0" + b"\0\0\1\0", "sha256")
    if hmac.digest(integrity, identity + name, "sha256") != outer:
        raise ValueError("TPM_RC_INTEGRITY")
    key = hmac.digest(seed, b"\0\0\0\1STORAGE\0" + name + b"\0\0\0\x80", "sha256")[:16]
    encrypt = Cipher(AES(key), ECB()).encryptor().update  # noqa: S305  # the block cipher itself
    register, plain = bytes(16), b""
    for start in range(0, len(identity), 16):
        block = identity[start : start + 16]
        plain += bytes(a ^ b for a, b in zip(block, encrypt(register), strict=False))
        register = block
    assert int.from_bytes(plain[:2], "big") == len(plain) - 2
    return plain[2:]


def test_credential_opens_for_its_key_and_no_other() -> None:
    request = make_svsm_request(KEYS, SEALING_KEY)
    secrets = open_svsm_secrets(SEALING_KEY, request.sealed)
    assert activate(request, NAME) == secrets.content
    assert secrets.ek == hashlib.sha256(KEYS.ek).digest()
    assert secrets.ak == hashlib.sha256(KEYS.ak).digest()
    with pytest.raises(ValueError, match="INTEGRITY"):
        activate(request, b"\0\x0b" + bytes(32))


def test_every_request_is_another() -> None:
    first, second = (make_svsm_request(KEYS, SEALING_KEY) for _ in range(2))
    assert first.nonce != second.nonce
    assert activate(first, NAME) != activate(second, NAME)


def test_secrets_open_under_their_key_only() -> None:
    sealed = make_svsm_request(KEYS, SEALING_KEY).sealed
    assert open_svsm_secrets(SEALING_KEY, sealed)
    for key, data in ((bytes(32), sealed), (SEALING_KEY, sealed[:-1]), (SEALING_KEY, b"")):
        with pytest.raises(CcinitError) as refused:
            open_svsm_secrets(key, data)
        assert refused.value.reason == "svsm.request"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (SvsmKeys(ek=KEYS.ak, ak=KEYS.ak), "svsm.ek"),
        (SvsmKeys(ek=KEYS.ek, ak=KEYS.ek), "svsm.ak"),
        (replace(KEYS, ek=KEYS.ek + b"\0"), "svsm.ek"),
        (replace(KEYS, ak=KEYS.ak[:-256] + bytes(256)), "tpm2.modulus"),
        (replace(KEYS, ek=KEYS.ek[:-1] + b"\0"), "tpm2.modulus"),  # even: OpenSSL encrypts nothing
    ],
)
def test_keys_of_another_template_get_no_credential(changed: SvsmKeys, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        make_svsm_request(changed, SEALING_KEY)
    assert refused.value.reason == reason


def test_nonce_is_a_request_for_the_named_keys() -> None:
    nonce = make_svsm_nonce(
        svsm_references(),
        {"supported-hash-algorithms": ["sha384"], "svsm": encode_svsm_keys(KEYS)},
    )
    assert activate(parse_svsm_request(nonce.encode()), NAME)
    assert set(json.loads(nonce)) == {"nonce", "credential", "secret", "sealed"}


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ("", "svsm_keys.members"),
        ({}, "svsm_keys.members"),
        ({"svsm": {}}, "svsm_keys.members"),
        ({"svsm": {"ek": "", "ak": ""}}, "svsm_keys.ek"),
    ],
)
def test_request_without_keys_is_refused(parameters: object, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        make_svsm_nonce(svsm_references(), parameters)  # type: ignore[arg-type]
    assert refused.value.reason == reason


def test_platform_without_a_vendor_is_refused() -> None:
    with pytest.raises(CcinitError) as refused:
        make_svsm_nonce(svsm_references(request_key=None), {"svsm": encode_svsm_keys(KEYS)})
    assert refused.value.reason == "svsm.root"
