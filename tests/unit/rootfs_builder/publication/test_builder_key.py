import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ccinit.errors import ConfigError
from rootfs_builder.publication.builder_key import open_builder_key
from tests.fakes.unsupported_keys import PRIVATE_PEM


def test_open_builder_key_makes_one_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.pem"
    key = open_builder_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = open_builder_key(path)
    assert again.private_bytes_raw() == key.private_bytes_raw()


def test_open_builder_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    other = X25519PrivateKey.generate()
    for data in (
        b"nothing",
        PRIVATE_PEM,
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ):
        path.write_bytes(data)
        with pytest.raises(ConfigError) as error:
            open_builder_key(path)
        assert error.value.reason == "builder_key.form"
