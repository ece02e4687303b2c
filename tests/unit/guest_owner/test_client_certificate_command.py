"""`guest-owner client-cert` and `owner-identity`: a file with a key replaces none."""

import os
import stat
from pathlib import Path

import pytest
from cryptography import x509

from tests.unit.guest_owner.command_line import error_of, run

CLIENT = ("client-cert", "new", "alice", "--role", "logs")
IDENTITY = ("owner-identity", "new", "shop")


@pytest.fixture
def authority(state: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run("client-ca", "init", "--state", state) == 0
    capsys.readouterr()
    return state


@pytest.mark.parametrize("command", [CLIENT, IDENTITY])
def test_key_goes_into_a_file_of_its_owner_alone(
    authority: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "new" / "shop.pem"
    assert run(*command, "--output", path, "--state", authority) == 0
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("command", [CLIENT, IDENTITY])
def test_certificate_that_ends_with_its_authority_is_told(
    authority: Path,
    tmp_path: Path,
    command: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ends = x509.load_pem_x509_certificate((authority / "owner-ca.pem").read_bytes())
    for days, told in (("3650", f", valid until {ends.not_valid_after_utc:%Y-%m-%d}"), ("3", "\n")):
        path = tmp_path / days
        assert run(*command, "--days", days, "--output", path, "--state", authority) == 0
        assert capsys.readouterr().out.startswith(f"wrote {path}{told}")


def unread(path: Path) -> tuple[int, ...]:
    """What is there, without the time at which a link was last followed."""
    state = path.lstat()
    return state.st_ino, state.st_mode, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@pytest.mark.parametrize("command", [CLIENT, IDENTITY])
@pytest.mark.parametrize("kind", ["file", "link", "link to nothing", "folder", "fifo"])
def test_what_is_there_is_not_overwritten(
    authority: Path,
    tmp_path: Path,
    command: tuple[str, ...],
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, disk = tmp_path / "there", tmp_path / "disk.img"
    disk.write_bytes(b"a disk")
    match kind:
        case "file":
            path.write_bytes(b"a disk")
        case "link":
            path.symlink_to(disk)
        case "link to nothing":
            path.symlink_to(tmp_path / "nothing")
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
    before = unread(path)
    assert run(*command, "--output", path, "--state", authority) == 1
    said = error_of(capsys)
    assert said == (f"guest-owner: {path} exists; it may be somebody's key [certificate.exists]\n")
    assert unread(path) == before
    assert disk.read_bytes() == b"a disk"
    assert not (tmp_path / "nothing").exists()
