import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ccinit.errors import ConfigError
from measured_boot.command_line.files import write_whole
from rootfs_builder import key_file
from rootfs_builder.progress import Progress
from rootfs_builder.publication.builder_key import open_builder_key
from tests.fakes.kbs.unsupported_keys import PRIVATE_PEM

PROGRESS = Progress(name="test")


def test_open_builder_key_makes_one_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.pem"
    key = open_builder_key(path, PROGRESS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = open_builder_key(path, PROGRESS)
    assert again.private_bytes_raw() == key.private_bytes_raw()


def test_two_that_make_a_builder_key_at_once_have_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one signs with a key whose public half is nowhere."""
    path = tmp_path / "key.pem"
    found: list[bytes] = []

    def open_it() -> None:
        found.append(open_builder_key(path, PROGRESS).private_bytes_raw())

    other = threading.Thread(target=open_it)

    def write_late(path: Path, data: bytes, mode: int) -> None:
        if threading.current_thread() is not other:
            other.start()
            other.join(0.5)  # as long as it needs, if nothing keeps it
        write_whole(path, data, mode)

    monkeypatch.setattr(key_file, "write_whole", write_late)
    open_it()
    other.join(60)
    assert len(found) == 2
    assert found[0] == found[1]


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
            open_builder_key(path, PROGRESS)
        assert error.value.reason == "builder_key.form"
