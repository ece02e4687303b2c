"""What `host-runtime boot` makes of its disks."""

from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from host_runtime.boot_command import _parse_disk


def test_files_of_one_name_are_disks_of_other_serial_numbers(tmp_path: Path) -> None:
    """A guest takes two disks of one serial number for the same one, and ends."""
    long = "the-volume-of-a-pod-with-a-long-name"
    names = ("shop.img", "shop.scratch", "other/shop.img", f"{long}-1", f"{long}-2")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    disks = [_parse_disk(number, f"{tmp_path / name}:ro") for number, name in enumerate(names)]
    assert disks[0].serial == "0-shop"
    assert len({disk.serial for disk in disks}) == len(names)
    assert all(len(disk.serial) <= 20 for disk in disks)
    assert all(disk.is_read_only for disk in disks)
    with pytest.raises(ConfigError, match=r"boot\.disk"):
        _parse_disk(0, f"{tmp_path}/none")
