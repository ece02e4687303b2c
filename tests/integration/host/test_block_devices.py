"""Block devices as a guest's disks, and disks that a guest has: real loop devices, and QEMU."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from ccinit.kernel.loop import open_loop
from host_runtime.commands.boot_files import parse_disks, require_file
from host_runtime.programs.socket_folder import open_socket_folder
from tests.integration.host.test_boot_command import boot, descendants

DISK_BYTES = 1 << 20


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "image"
    image.write_bytes(bytes(DISK_BYTES))
    with open_loop(str(image), read_only=False) as loop:
        yield loop.node


def test_guest_has_a_block_device_as_its_disk(tmp_path: Path, device: str) -> None:
    with open_socket_folder() as runtime, boot(tmp_path / "g", runtime, "--disk", device) as child:
        qemu = descendants(child.pid)["qemu"]
        opened = {str(each.readlink()) for each in Path(f"/proc/{qemu}/fd").iterdir()}
        assert device in opened
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 128 + signal.SIGTERM


@pytest.mark.parametrize("suffix", ["", ":ro"])
def test_disk_of_a_guest_that_runs_is_refused_by_its_name(
    tmp_path: Path, device: str, suffix: str
) -> None:
    """Whether it is a file or a device; who only reads shares it with who only reads."""
    image = tmp_path / "disk"
    image.write_bytes(bytes(DISK_BYTES))
    given = [option for disk in (image, device) for option in ("--disk", f"{disk}{suffix}")]
    with open_socket_folder() as runtime, boot(tmp_path / "guest", runtime, *given) as child:
        for disk in (str(image), device):
            for word in (disk, f"{disk}:ro"):
                if suffix and word.endswith(suffix):
                    parse_disks([word])
                    continue
                with pytest.raises(ConfigError) as error:
                    parse_disks([word])
                assert error.value.reason == "boot.disk"
                assert error.value.detail.startswith(f"{disk} is the disk of a guest that runs")
        child.terminate()
        child.wait(20)
    assert len(parse_disks([str(image), device])) == 2


def test_device_that_this_machine_uses_is_no_disk_to_write_to(device: str) -> None:
    """As a mounted file system holds its device."""
    held = os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    try:
        with pytest.raises(ConfigError) as error:
            parse_disks([device])
        (shared,) = parse_disks([f"{device}:ro"])
    finally:
        os.close(held)
    assert (error.value.reason, error.value.detail) == (
        "boot.disk",
        f"{device}: Device or resource busy",
    )
    (disk,) = parse_disks([device])
    assert shared.is_device
    assert disk.is_device


def test_device_is_one_disk_by_whatever_name(device: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.symlink_to(device)
    with pytest.raises(ConfigError) as error:
        parse_disks([device, str(other)])
    assert error.value.detail == f"{other} and {device} are the same device: a device is one disk"


def test_device_is_no_file_to_boot(device: str) -> None:
    with pytest.raises(ConfigError) as error:
        require_file(Path(device))
    assert (error.value.reason, error.value.detail) == (
        "boot.what",
        f"{device} is a block device, not a file",
    )
