"""LUKS2 headers of real cryptsetup for our reader, and hostile ones for real cryptsetup.

That cryptsetup takes a hostile header is the control: the header is an attack, and no mistake.
"""

import os
from pathlib import Path

import pytest

from ccinit.errors import ConfigError, FormatError
from ccinit.formats.disk.luks2 import COPY_BYTES, SEAL_OFFSET, make_seal, parse_luks2_header
from ccinit.secret import Secret
from ccinit.unlock.luks2 import open_key_slot
from rootfs_builder.tools_tree import ToolsTree
from tests.fakes.machine.luks2 import ADDITIONS, NULL_CIPHERS, PASSPHRASE, VOLUME_KEY, make_header

MIB = 1 << 20
FORMAT = (
    *("cryptsetup", "luksFormat", "-q", "--disable-keyring", "--type", "luks2"),
    *("--cipher", "aes-xts-plain64", "--key-size", "512", "--hash", "sha256"),
    *("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--sector-size", "4096"),
)
TREE = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(PASSPHRASE)
    return path


def open_by_cryptsetup(header: bytes, key_file: Path) -> None:
    """Let cryptsetup try the key on a disk that begins with `header`."""
    disk = key_file.with_name("disk")
    with disk.open("wb") as file:
        file.write(header)
        file.truncate(32 * MIB)
    test = ("cryptsetup", "open", "--test-passphrase", "--key-file", str(key_file), str(disk))
    TREE.run(test, directories=(key_file.parent,))


def test_header_made_by_cryptsetup_opens(tmp_path: Path, key_file: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(32 * MIB)
    made_with = (*FORMAT, "--key-file", str(key_file), str(disk))
    TREE.run(made_with, directories=(tmp_path,))
    with disk.open("rb") as file:
        header = parse_luks2_header(file.read(COPY_BYTES))
    with open_key_slot(header, Secret(PASSPHRASE)) as volume_key:
        assert len(volume_key) == 64


def test_cryptsetup_opens_a_header_of_ours_and_its_sealed_form(key_file: Path) -> None:
    header = make_header()
    open_by_cryptsetup(header, key_file)
    sealed = header[:SEAL_OFFSET] + make_seal(header, bytes(32))
    open_by_cryptsetup(sealed, key_file)
    with open_key_slot(parse_luks2_header(sealed), Secret(PASSPHRASE)) as volume_key:
        assert volume_key.reveal() == VOLUME_KEY
    key_file.write_bytes(PASSPHRASE[::-1])
    with pytest.raises(ConfigError, match="No key available"):
        open_by_cryptsetup(header, key_file)


def test_r38_segment_that_encrypts_nothing_opens_in_cryptsetup_and_not_here(key_file: Path) -> None:
    edit, reason = NULL_CIPHERS["segment"]
    header = make_header(edit)
    open_by_cryptsetup(header, key_file)
    with pytest.raises(FormatError) as error:
        parse_luks2_header(header)
    assert error.value.reason == reason


@pytest.mark.parametrize("name", ["flag", "priority"])
def test_r39_additions_that_cryptsetup_accepts_are_refused_here(key_file: Path, name: str) -> None:
    edit, reason = ADDITIONS[name]
    header = make_header(edit)
    open_by_cryptsetup(header, key_file)
    with pytest.raises(FormatError) as error:
        parse_luks2_header(header)
    assert error.value.reason == reason
