"""What the builder encrypts, the guest opens."""

import hmac
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ccinit.errors import ConfigError
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.layer_encryption import LayerKey, parse_layer_encryption
from ccinit.pull.encryption.unwrap import unwrap_job
from ccinit.pull.messages.layers import UnwrapRequest, WrappedKey
from ccinit.secret import Secret
from rootfs_builder.container_image.layer_encryption import (
    KbsRecipient,
    encrypt_layer,
    load_recipient,
)

BLOB = b"a packed layer" * 1000
KBS = KbsRecipient(uri=ResourceUri("a", "image-key", "b"), key=b"K" * 32)
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Channel:
    def __init__(self, key: bytes) -> None:
        self.key = key

    def read_secret(self, _name: str) -> Secret:
        return Secret(self.key)


def public_pem(key: PrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def opened(annotations: object, key: bytes) -> list[LayerKey]:
    found = parse_layer_encryption(annotations)  # type: ignore[arg-type]
    request = UnwrapRequest(
        wrapped=tuple(
            WrappedKey(position=position, wrap=wrap, nonce=found.nonce)
            for position, wrap in enumerate(found.wraps)
        )
    )
    return [one.key for one in unwrap_job(request, Channel(key)).keys]


MAKERS: dict[str, Callable[[], PrivateKey]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
}


@pytest.mark.parametrize("name", MAKERS)
def test_layer_is_opened_by_each_recipient_alone(name: str, tmp_path: Path) -> None:
    private = MAKERS[name]()
    (tmp_path / "pem").write_bytes(public_pem(private))
    encrypted = encrypt_layer(BLOB, [load_recipient(tmp_path / "pem"), KBS])
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (by_private,) = opened(encrypted.annotations, pem)
    (by_kbs,) = opened(encrypted.annotations, KBS.key)
    assert by_private == by_kbs
    cipher = Cipher(algorithms.AES(by_kbs.key), modes.CTR(by_kbs.nonce)).decryptor()
    assert cipher.update(encrypted.blob) == BLOB
    expected = hmac.digest(by_kbs.key, encrypted.blob, "sha256")
    assert parse_layer_encryption(dict(encrypted.annotations)).hmac == expected


def test_every_layer_has_a_key_of_its_own() -> None:
    one, two = (encrypt_layer(BLOB, [KBS]) for _ in range(2))
    assert one.blob != two.blob
    assert opened(one.annotations, KBS.key) != opened(two.annotations, KBS.key)


def test_layer_for_nobody_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        encrypt_layer(BLOB, [])
    assert refused.value.reason == "encrypt.recipient"


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        public_pem(ed25519.Ed25519PrivateKey.generate()),
        public_pem(ec.generate_private_key(ec.SECP256K1())),
        public_pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505  # to be refused
    ],
)
def test_key_of_another_kind_is_refused_by_its_file(pem: bytes, tmp_path: Path) -> None:
    (tmp_path / "pem").write_bytes(pem)
    with pytest.raises(ConfigError) as refused:
        load_recipient(tmp_path / "pem")
    assert refused.value.reason == "encrypt.recipient"
    assert refused.value.detail.startswith(f"{tmp_path / 'pem'}: ")
