"""What `host-runtime boot` is given is looked at before anything is started."""

import fcntl
import os
import stat
import struct
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from host_runtime.commands.boot_files import (
    claim_folder,
    parse_disks,
    require_file,
    require_new_folder,
)


def refusal(words: list[str]) -> str:
    with pytest.raises(ConfigError) as error:
        parse_disks(words)
    assert error.value.reason == "boot.disk"
    return error.value.detail


def test_files_of_one_name_are_disks_of_other_serial_numbers(tmp_path: Path) -> None:
    """A guest takes two disks of one serial number for the same one, and ends."""
    long = "the-volume-of-a-pod-with-a-long-name"
    names = ("shop.img", "shop.scratch", "other/shop.img", f"{long}-1", f"{long}-2")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    disks = parse_disks([f"{tmp_path / name}:ro" for name in names])
    assert disks[0].serial == "0-shop"
    assert len({disk.serial for disk in disks}) == len(names)
    assert all(len(disk.serial) <= 20 for disk in disks)
    assert all(disk.is_read_only for disk in disks)


def test_file_is_one_disk_by_whatever_name(tmp_path: Path) -> None:
    disk, other = tmp_path / "disk", tmp_path / "other"
    disk.touch()
    other.symlink_to(disk)
    assert refusal([f"{disk}", f"{disk}:ro"]) == f"{disk}: twice: a file is one disk"
    assert refusal([f"{disk}:ro", f"{other}:ro"]) == (
        f"{other} and {disk} are the same file: a file is one disk"
    )


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (Path.mkdir, "a folder"),
        (os.mkfifo, "a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "a character device"),
        (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "a socket"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ":ro"])
def test_disk_that_is_no_file_is_told_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], kind: str,
    suffix: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    make(Path("disk"))
    assert refusal([f"disk{suffix}"]) == f"disk is {kind}, not a file"


def test_disk_that_cannot_be_opened_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal([f"{tmp_path}/none"]) == f"{tmp_path}/none: No such file or directory"
    disk = tmp_path / "disk"
    disk.touch()

    def of_a_stranger(_path: Path, flags: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return os.dup(0)

    with monkeypatch.context() as changed:
        changed.setattr("host_runtime.commands.boot_files.os.open", of_a_stranger)
        assert refusal([f"{disk}"]) == f"{disk} to be written to: Permission denied"
    assert [each.path for each in parse_disks([f"{disk}:ro"])] == [disk]


@pytest.mark.parametrize(("held", "refused"), [((), []), ((201,), [""]), ((101, 201), ["", ":ro"])])
def test_disk_of_a_guest_that_runs_is_no_disk_but_where_all_only_read(
    tmp_path: Path, held: tuple[int, ...], refused: list[str]
) -> None:
    """The bytes that QEMU locks; that it does is test_block_devices.py's to show."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    with disk.open("rb") as used:
        for byte in held:
            lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0)
            fcntl.fcntl(used, fcntl.F_OFD_SETLK, lock)
        for suffix in ("", ":ro"):
            word = f"{disk}{suffix}"
            if suffix in refused:
                assert refusal([word]).startswith(f"{disk} is the disk of a guest that runs: stop")
            else:
                parse_disks([word])
    parse_disks([str(disk)])


def test_file_system_without_locks_is_one_for_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_arguments: object) -> bytes:
        raise OSError(37, "No locks available")

    (tmp_path / "disk").touch()
    monkeypatch.setattr("host_runtime.commands.boot_files.fcntl.fcntl", without)
    assert len(parse_disks([f"{tmp_path}/disk"])) == 1


def test_file_that_cannot_be_read_keeps_the_callers_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        require_file(tmp_path)
    assert (error.value.reason, error.value.detail) == (
        "boot.what",
        f"{tmp_path} is a folder, not a file",
    )


def test_folder_is_claimed_once(tmp_path: Path) -> None:
    """Both found it empty: they were started together."""
    folder = tmp_path / "deep/guest"
    for _ in range(2):
        require_new_folder(folder)
    before = os.umask(0)
    with ExitStack() as stack:
        stack.callback(os.umask, before)
        claim_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o755
    with pytest.raises(ConfigError, match="another boot has begun") as error:
        claim_folder(folder)
    assert error.value.reason == "boot.folder"
    with pytest.raises(ConfigError, match="not empty"):
        require_new_folder(folder)


def test_folder_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    require_new_folder(tmp_path)
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="everybody may write") as error:
        require_new_folder(tmp_path)
    assert error.value.reason == "boot.folder"
