"""Private keys of a command line: what is wrong with one is told with its file's name."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from ccinit.errors import ConfigError
from measured_boot.command_line.private_keys import ed25519_key, elliptic_curve_key

PATH = Path("builder-key.pem")


def pem(key: Ed25519PrivateKey, encryption: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def refusal(content: bytes) -> str:
    with pytest.raises(ConfigError) as refused:
        ed25519_key(content, PATH, "builder.key")
    assert refused.value.reason == "builder.key"
    return refused.value.detail


def test_key_with_a_passphrase_is_not_called_something_else() -> None:
    key = Ed25519PrivateKey.generate()
    sealed = pem(key, BestAvailableEncryption(b"words"))
    assert refusal(sealed) == "builder-key.pem: the key has a passphrase: remove it"
    bare = pem(key, NoEncryption())
    assert ed25519_key(bare, PATH, "builder.key").public_key() == key.public_key()


@pytest.mark.parametrize("content", [b"", b"\xff", b"-----BEGIN CERTIFICATE-----\n"])
def test_what_is_no_key_is_told(content: bytes) -> None:
    assert refusal(content) == "builder-key.pem: no private key in PEM"


def test_key_of_another_kind_is_told() -> None:
    other = generate_private_key(SECP256R1())
    content = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert refusal(content) == "builder-key.pem: expected an Ed25519 key"
    assert elliptic_curve_key(content, PATH, "k.ey").public_key() == other.public_key()
    with pytest.raises(ConfigError, match="expected an elliptic-curve key"):
        elliptic_curve_key(pem(Ed25519PrivateKey.generate(), NoEncryption()), PATH, "k.ey")
