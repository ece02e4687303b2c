import errno
from pathlib import Path
from typing import IO

import pytest

from ccinit.errors import KernelError
from ccinit.kernel import block
from ccinit.kernel.block import BlockDevice, describe_mapping, list_virtio_disks


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


def test_mapping_is_described_by_its_name_or_by_that_of_what_is_built_on_it(tmp_path: Path) -> None:
    mapped = tmp_path / "class/block/dm-1"
    (mapped / "dm").mkdir(parents=True)
    (mapped / "holders").mkdir()
    (mapped / "dm/name").write_text("ccinit-data\n")
    disk = tmp_path / "dev/block/254:16/holders"
    disk.mkdir(parents=True)
    (disk / "dm-1").symlink_to(mapped)
    assert describe_mapping("dm-1", str(tmp_path)) == "ccinit-data"
    assert describe_mapping("254:16", str(tmp_path)) == "ccinit-data"
    for absent in ("dm-2", "254:32", ""):
        assert describe_mapping(absent, str(tmp_path)) == absent
