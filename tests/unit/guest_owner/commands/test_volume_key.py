"""Volume keys on the command line, and the seal that a guest asks for."""

from pathlib import Path

import pytest

from ccinit.errors import VerificationError
from ccinit.formats.disk.luks2 import COPY_BYTES, parse_luks2_header, verify_seal
from ccinit.secret import Secret
from ccinit.unlock.volume_key import derive_seal_key
from tests.fakes.machine.luks2 import NULL_CIPHERS, make_header
from tests.unit.guest_owner.command_line import error_of, run, status_of_wrong_usage


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    assert run("volume-key", "new", path) == 0
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(make_header() + b"payload")
    return path


def test_new_key_is_never_written_over_another(
    key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = key.read_bytes()
    assert len(before) == 64
    assert run("volume-key", "new", key) != 0
    assert "volume_key.exists" in error_of(capsys)
    assert key.read_bytes() == before


def test_sealed_header_is_what_the_guest_asks_for(key: Path, disk: Path) -> None:
    assert run("volume-key", "seal-header", disk, key, "--pod", "web", "--volume", "data") == 0
    content = disk.read_bytes()
    assert content[COPY_BYTES:] == b"payload"
    released = Secret(key.read_bytes())
    sealed = verify_seal(content[:COPY_BYTES], derive_seal_key(released, "web", "data").reveal())
    parse_luks2_header(sealed)
    with pytest.raises(VerificationError):
        verify_seal(sealed, derive_seal_key(released, "web", "other").reveal())


def test_header_that_the_guest_would_refuse_is_not_sealed(
    key: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit, reason = NULL_CIPHERS["segment"]
    disk.write_bytes(make_header(edit))
    assert run("volume-key", "seal-header", disk, key, "--pod", "web", "--volume", "data") != 0
    assert reason in error_of(capsys)
    assert disk.read_bytes() == make_header(edit)


@pytest.mark.parametrize("option", ["--pod", "--volume"])
def test_name_that_no_manifest_can_have_is_refused_before_the_disk_is_touched(
    key: Path, disk: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    names = {"--pod": "web", "--volume": "data"}
    for name in ("", "Web", "a/b", "bad\udcff"):
        words = [word for pair in {**names, option: name}.items() for word in pair]
        assert status_of_wrong_usage("volume-key", "seal-header", disk, key, *words) == 2
        assert f"[volume_key.{option.removeprefix('--')}]" in error_of(capsys)
        assert disk.read_bytes() == make_header() + b"payload"
