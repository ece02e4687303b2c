"""Which keys of encrypted images may be registered: those that guests can use, and no others."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ccinit.errors import FormatError
from ccinit.formats.oci.layer_encryption import is_packet_key
from ccinit.pull.encryption.unwrap import load_private_key
from guest_owner.resources.image_key import check_image_key
from tests.unit.guest_owner.command_line import error_of, run

NEITHER = "expected 32 bytes or a private key, found {} bytes that are neither"
WRONG_KIND = "neither RSA of 2048 bits nor on a NIST curve"
PASSPHRASE = "the key has a passphrase, which no guest knows: remove it"


def encode(
    key: PrivateKeyTypes,
    encoding: Encoding = Encoding.PEM,
    form: PrivateFormat = PrivateFormat.PKCS8,
    passphrase: bytes = b"",
) -> bytes:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(encoding, form, protection)


RSA_KEY = rsa.generate_private_key(65537, 2048)
SHORT_KEY = rsa.generate_private_key(65537, 1024)  # noqa: S505  # to be refused
EC_KEY = ec.generate_private_key(ec.SECP384R1())
OLDER = PrivateFormat.TraditionalOpenSSL
GOOD = {
    "of the KBS's own, for packets": os.urandom(32),
    "RSA": encode(RSA_KEY),
    "RSA, the older form": encode(RSA_KEY, form=OLDER),
    "RSA in DER": encode(RSA_KEY, Encoding.DER),
    "EC": encode(EC_KEY),
    "EC, the older form in DER": encode(EC_KEY, Encoding.DER, OLDER),
    "PEM behind a blank line": b"\n" + encode(EC_KEY),
}
BAD = {
    "in hex": (os.urandom(32).hex().encode() + b"\n", NEITHER.format(65)),
    "short": (bytes(31), NEITHER.format(31)),
    "nothing": (b"", NEITHER.format(0)),
    "a JWK": (b'{"kty": "EC", "crv": "P-256"}', NEITHER.format(29)),
    "with a passphrase": (encode(EC_KEY, passphrase=b"open"), PASSPHRASE),
    "with a passphrase, the older form": (encode(RSA_KEY, form=OLDER, passphrase=b"a"), PASSPHRASE),
    "cut": (encode(EC_KEY)[:-60], NEITHER.format(len(encode(EC_KEY)) - 60)),
    "of a short modulus": (encode(SHORT_KEY), WRONG_KIND),
    "on another curve": (encode(ec.generate_private_key(ec.SECP256K1())), WRONG_KIND),
    "for signatures": (encode(ed25519.Ed25519PrivateKey.generate()), WRONG_KIND),
}


def guest_takes(data: bytes) -> bool:
    """Whether the guest's child would use this key."""
    try:
        return is_packet_key(len(data)) or bool(load_private_key(data))
    except FormatError:
        return False


@pytest.mark.parametrize("name", GOOD)
def test_key_that_guests_use_is_taken(name: str) -> None:
    check_image_key(GOOD[name])
    assert guest_takes(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_key_that_no_guest_could_use_is_refused(name: str) -> None:
    data, detail = BAD[name]
    with pytest.raises(FormatError) as refused:
        check_image_key(data)
    assert (refused.value.reason, refused.value.detail) == ("enc.key", detail)
    assert refused.value.__cause__ is None
    assert not guest_takes(data)


@pytest.mark.parametrize("envelope", [(), ("--envelope",)])
def test_registering_says_so_and_stores_nothing(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], envelope: tuple[str, ...]
) -> None:
    path, uri = tmp_path / "kek", "kbs:///ccinit/shop/image-key-web"
    words = ("register", "resource", "--state", state, uri, path, "--kind", "image-key", *envelope)
    path.write_bytes(BAD["in hex"][0])
    assert run(*words) == 1
    assert error_of(capsys) == f"guest-owner: {path}: {NEITHER.format(65)} [enc.key]\n"
    assert not (state / "resources/ccinit/shop").exists()
    path.write_bytes(os.urandom(32))
    assert run(*words) == 0
