"""Who may administer: registered by a key that is one."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import ConfigError, FormatError
from guest_owner.kbs.administration.administrators import add_administrator, read_administrators

KEY = (
    Ed25519PrivateKey.from_private_bytes(bytes(32))
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)


def test_administrator_is_registered_by_an_ed25519_key(tmp_path: Path) -> None:
    assert read_administrators(tmp_path) == ()
    with pytest.raises(FormatError) as caught:
        add_administrator(tmp_path, "ops", b"no key")
    assert caught.value.reason == "admin.key"
    assert read_administrators(tmp_path) == ()
    add_administrator(tmp_path, "ops", KEY)
    assert [key.name for key in read_administrators(tmp_path)] == ["ops"]


def test_name_of_an_administrator_is_given_once(tmp_path: Path) -> None:
    add_administrator(tmp_path, "ops", KEY)
    with pytest.raises(ConfigError) as caught:
        add_administrator(tmp_path, "ops", KEY)
    assert caught.value.reason == "admin.exists"
