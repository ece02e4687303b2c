"""Persistent volumes end to end: they open again, and nothing else opens in their place."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ccinit.errors import ConfigError, KernelError, VerificationError
from ccinit.kernel.block import read_direct, write_direct, zero_direct
from ccinit.kernel.dm import DmControl
from ccinit.secret import Secret
from ccinit.unlock import filesystem, volume
from ccinit.unlock.filesystem import create_ext4
from ccinit.unlock.integrity import plan_disk_layout
from ccinit.unlock.volume import JOURNAL_BYTES, VolumeRequest, select_volume_disk
from tests.vm.guest.disks import (
    RELEASED,
    blank,
    disk,
    dm_names,
    drop_caches,
    kernel_errors,
    open_volume,
    write_files,
)

OTHER = bytes(range(191, 127, -1))
INODES_PER_BLOCK = 16


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mount point for the volume, which is created here, once: it holds a counter of 1."""
    path = tmp_path_factory.mktemp("volume")
    blank(disk("volume"))
    with open_volume(disk("volume"), path, may_create=True):
        (path / "counter").write_text("1")
    return path


@contextmanager
def changed(offset: int, data: bytes) -> Iterator[None]:
    """The host's disk with other bytes in it, for a while."""
    node = disk("volume").node
    original = read_direct(node, offset, len(data))
    assert data != original
    write_direct(node, offset, data)
    try:
        yield
    finally:
        write_direct(node, offset, original)


def refused(target: Path, **how: Any) -> str:
    with (
        pytest.raises(VerificationError) as error,
        open_volume(disk("volume"), target, **how),
    ):
        pass
    assert dm_names() == set()
    return error.value.reason


def test_volume_opened_again_keeps_its_files(target: Path) -> None:
    with kernel_errors() as errors:
        for count in range(1, 4):
            with open_volume(disk("volume"), target):
                assert (target / "counter").read_text() == str(count)
                (target / "counter").write_text(str(count + 1))
    assert errors == []
    assert dm_names() == set()


def test_volume_with_many_files_reads_nothing_unwritten(target: Path) -> None:
    with kernel_errors() as errors:
        with open_volume(disk("volume"), target):
            write_files(target, 2000)
        with open_volume(disk("volume"), target):
            drop_caches()
            assert all((target / f"file-{i}").read_bytes() == b"%d" % i for i in range(0, 2000, 9))
    assert errors == []


def fill_block_of_inodes(directory: Path) -> Path:
    """Make files until the table of inodes in use ends with a block; return the last."""
    for number in range(2 * INODES_PER_BLOCK):
        last = directory / f"inode-{number}"
        last.touch()
        found = os.statvfs(directory)
        if (found.f_files - found.f_ffree) % INODES_PER_BLOCK == 0:
            return last
    raise AssertionError("no block is full")


def test_volume_of_unwritten_inode_tables_with_a_full_block_reads_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Volumes that were made before their tables were written at once are still there."""
    small = disk("small")  # whose earlier volumes had the same key: nothing of them is left
    zero_direct(small.node, [(at, 1 << 20) for at in range(0, small.size_bytes, 1 << 20)])
    with monkeypatch.context() as before:
        before.setattr(volume, "create_ext4", partial(create_ext4, tables=False))
        with open_volume(small, tmp_path, may_create=True):
            write_files(tmp_path, 2000)
            last = fill_block_of_inodes(tmp_path)

    def read_last() -> list[str]:
        with kernel_errors() as errors, open_volume(small, tmp_path):
            assert last.stat().st_size == 0
        return errors

    assert read_last() == []
    # A control: the kernel as it is reads the next block too, and says that the disk is at fault.
    monkeypatch.setattr(filesystem, "_MOUNT_OPTIONS", "noinit_itable,errors=remount-ro")
    assert any("INTEGRITY" in line for line in read_last())


def test_volume_grant_does_not_format_an_existing_volume(target: Path) -> None:
    with open_volume(disk("volume"), target, may_create=True):
        assert (target / "counter").exists()


def test_volume_with_wrong_key_is_refused(target: Path) -> None:
    assert refused(target, released=OTHER) == "volume.unlock"


def test_volume_of_another_pod_is_refused(target: Path) -> None:
    assert refused(target, pod="other") == "volume.unlock"


def test_r43_volume_on_blank_disk_without_grant_is_refused(target: Path) -> None:
    with changed(0, bytes(1 << 20)):
        assert refused(target) == "volume.blank"
        assert not any(read_direct(disk("volume").node, 0, 1 << 20))


def test_volume_on_foreign_data_is_refused(target: Path) -> None:
    with changed(0, b"\xeb\x3c\x90MSDOS5.0".ljust(65536, b"\x55")):
        assert refused(target) == "volume.unlock"
        assert refused(target, may_create=True) == "volume.unlock"


def test_volume_with_first_block_changed_is_refused(target: Path) -> None:
    layout = plan_disk_layout(disk("volume").size_bytes, JOURNAL_BYTES)
    first_data = 4096 + layout.journal_sectors * 512 + 128 * 1024
    with changed(first_data, bytes(range(256)) * 16):
        assert refused(target) == "volume.unlock"
    with open_volume(disk("volume"), target):
        assert (target / "counter").exists()


FIELDS: dict[str, Callable[[bytearray], None]] = {
    "magic": lambda block: block.__setitem__(0, 0x49),
    "version": lambda block: block.__setitem__(8, 5),
    "interleave": lambda block: block.__setitem__(9, 20),
    "tag-size": lambda block: block.__setitem__(10, 16),
    "journal-sections": lambda block: block.__setitem__(12, block[12] + 1),
    "provided-sectors": lambda block: block.__setitem__(17, block[17] - 1),
    "flag-recalculating": lambda block: block.__setitem__(24, 2),
    "flag-dirty-bitmap": lambda block: block.__setitem__(24, 4),
    "block-size": lambda block: block.__setitem__(28, 0),
    "bitmap-bit": lambda block: block.__setitem__(29, 15),
    "recalc-sector": lambda block: block.__setitem__(32, 1),
    "salt": lambda block: block.__setitem__(48, 1),
    "padding": lambda block: block.__setitem__(4095, 1),
}


@pytest.mark.parametrize("field", FIELDS)
def test_volume_with_tampered_superblock_is_refused(target: Path, field: str) -> None:
    block = bytearray(read_direct(disk("volume").node, 0, 4096))
    FIELDS[field](block)
    with changed(0, bytes(block)):
        assert refused(target) == "volume.unlock"


def test_r36_volume_on_read_only_disk_is_refused(tmp_path: Path) -> None:
    device = disk("sealed")
    assert device.read_only
    with pytest.raises(ConfigError) as error, open_volume(device, tmp_path):
        pass
    assert error.value.reason == "disk.read_only"


def test_volume_is_found_among_disks_of_its_size(target: Path) -> None:
    blank(disk("small"))
    requests = [
        VolumeRequest(pod="web", name="data", disk=disk(serial), may_create=False)
        for serial in ("small", "volume")
    ]
    with DmControl() as control:
        found = select_volume_disk(control, requests, Secret(RELEASED))
        assert found.disk.serial == "volume"
        with pytest.raises(VerificationError) as error:
            select_volume_disk(control, requests, Secret(OTHER))
    assert error.value.reason == "volume.unlock"
    assert dm_names() == set()


def test_r49_volume_mount_failure_is_rolled_back(target: Path) -> None:
    with pytest.raises(KernelError) as error, open_volume(disk("volume"), target / "absent"):
        pass
    assert (error.value.reason, error.value.errno) == ("kernel.mount", errno.ENOENT)
    assert dm_names() == set()
