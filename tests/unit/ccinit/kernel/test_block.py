import errno
import os
from pathlib import Path
from typing import IO

import pytest

from ccinit.errors import KernelError
from ccinit.kernel import block
from ccinit.kernel.block import (
    BlockDevice,
    list_virtio_disks,
    read_direct,
    write_direct,
    zero_direct,
)
from tests.fakes.machine.scarcity import count_descriptors


def add_device(sysfs: Path, name: str, driver: str | None, **files: str) -> None:
    directory = sysfs / name
    (directory / "holders").mkdir(parents=True)
    values = {"dev": "254:0\n", "size": "2048\n", "ro": "0\n", "serial": "\n", **files}
    for file, text in values.items():
        (directory / file).write_text(text)
    if driver is not None:
        (directory / "device").mkdir()
        (directory / "device" / "driver").symlink_to(f"../../../bus/virtio/drivers/{driver}")


def test_virtio_disks_are_listed_in_kernel_order(tmp_path: Path) -> None:
    add_device(tmp_path, "vdaa", "virtio_blk", dev="254:416\n")
    add_device(tmp_path, "vdb", "virtio_blk", dev="254:16\n", ro="1\n", serial="data\n")
    (tmp_path / "vdb" / "holders" / "dm-0").mkdir()
    disks = list_virtio_disks(str(tmp_path))
    assert [disk.name for disk in disks] == ["vdb", "vdaa"]
    assert disks[0] == BlockDevice(
        name="vdb",
        number="254:16",
        size_bytes=1 << 20,
        read_only=True,
        serial="data",
        holders=("dm-0",),
    )
    assert disks[0].node == "/dev/vdb"


def test_other_devices_are_left_out(tmp_path: Path) -> None:
    add_device(tmp_path, "vda", "virtio_blk")
    add_device(tmp_path, "vda1", None)
    add_device(tmp_path, "sda", "sd")
    add_device(tmp_path, "ram0", None)
    assert [disk.name for disk in list_virtio_disks(str(tmp_path))] == ["vda"]


def test_disk_that_vanishes_is_a_kernel_error(tmp_path: Path) -> None:
    add_device(tmp_path, "vda", "virtio_blk")
    assert len(list_virtio_disks(str(tmp_path))) == 1
    (tmp_path / "vda" / "size").unlink()
    with pytest.raises(KernelError) as error:
        list_virtio_disks(str(tmp_path))
    assert error.value.reason == "kernel.block.list"
    assert error.value.errno == errno.ENOENT


def refuse_to_read(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Have the kernel refuse to read the file `name` of any device."""

    def open_or_refuse(path: str, mode: str) -> IO[bytes]:
        if path.endswith(f"/{name}"):
            raise OSError(number, "refused", path)
        return Path(path).open(mode)

    monkeypatch.setattr(block, "open", open_or_refuse, raising=False)


def test_disk_that_cannot_be_asked_for_its_serial_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_device(tmp_path, "vda", "virtio_blk", serial="data\n")
    assert [disk.serial for disk in list_virtio_disks(str(tmp_path))] == ["data"]
    refuse_to_read(monkeypatch, "serial", errno.EOPNOTSUPP)
    assert [disk.serial for disk in list_virtio_disks(str(tmp_path))] == [""]


@pytest.mark.parametrize(("name", "number"), [("serial", errno.ENOMEM), ("size", errno.EOPNOTSUPP)])
def test_disk_whose_description_cannot_be_read_is_a_kernel_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    add_device(tmp_path, "vda", "virtio_blk")
    refuse_to_read(monkeypatch, name, number)
    with pytest.raises(KernelError) as error:
        list_virtio_disks(str(tmp_path))
    assert (error.value.reason, error.value.errno) == ("kernel.block.list", number)


PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of two pages. What is opened past the page cache, and flushed, is in the file."""

    def open_direct(path: str, flags: int, _mode: int) -> int:
        assert flags & os.O_DIRECT
        return open_file(path, flags & ~os.O_DIRECT)  # not every file system has that

    open_file = os.open
    monkeypatch.setattr(os, "open", open_direct)
    path = tmp_path / "disk"
    path.write_bytes(b"a" * PAGE + b"b" * PAGE)
    return str(path)


def test_disk_is_read_past_the_page_cache(disk: str) -> None:
    assert read_direct(disk, PAGE, PAGE) == b"b" * PAGE
    assert read_direct(disk, 0, 2 * PAGE) == b"a" * PAGE + b"b" * PAGE


def test_disk_that_ends_within_a_read_is_an_error_and_no_zeros(disk: str) -> None:
    before = count_descriptors()
    for offset in (PAGE, 2 * PAGE):
        with pytest.raises(KernelError) as error:
            read_direct(disk, offset, 2 * PAGE)
        assert (error.value.reason, error.value.errno) == ("kernel.block.read", errno.EIO)
    assert count_descriptors() == before


def test_disk_is_written_past_the_page_cache_and_flushed(
    disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _fd: flushed.append(Path(disk).read_bytes()))
    write_direct(disk, PAGE, b"c" * PAGE)
    zero_direct(disk, [(0, PAGE), (2 * PAGE, 2 * PAGE)])
    zero_direct(disk, [])
    written = b"c" * PAGE
    assert flushed == [b"a" * PAGE + written, bytes(PAGE) + written + bytes(2 * PAGE)]


def test_write_that_is_cut_short_is_an_error(disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = count_descriptors()
    monkeypatch.setattr(os, "pwritev", lambda _fd, _buffers, _offset: PAGE)
    write_direct(disk, 0, bytes(PAGE))
    zero_direct(disk, [(0, PAGE)])
    with pytest.raises(KernelError) as cut:
        write_direct(disk, 0, bytes(2 * PAGE))
    with pytest.raises(KernelError) as zeros_cut:
        zero_direct(disk, [(0, PAGE), (0, 2 * PAGE)])
    for error in (cut.value, zeros_cut.value):
        assert (error.reason, error.errno) == ("kernel.block.write", errno.EIO)
    assert count_descriptors() == before
