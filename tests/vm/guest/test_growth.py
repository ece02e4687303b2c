"""Persistent volumes on disks that have grown: from the sizes that are named, and no others.

The write log and the cuts are those of `test_crash`: here what is logged is the growing itself.
"""

import errno
import os
import random
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ccinit.errors import KernelError, VerificationError
from ccinit.formats.disk.ext4 import GROUP_BLOCKS
from ccinit.formats.disk.integrity import BLOCK_BYTES
from ccinit.kernel.block import read_direct, write_direct, zero_direct
from ccinit.kernel.dm import DmControl
from ccinit.secret import Secret
from ccinit.unlock import filesystem, growth
from ccinit.unlock.integrity import plan_disk_layout
from ccinit.unlock.stack import activate_stack
from ccinit.unlock.volume import JOURNAL_BYTES, DiskContent, VolumeRequest, examine_disk
from ccinit.unlock.volume_key import derive_encryption_key
from tests.vm.guest.disks import (
    RELEASED,
    blank,
    copy_disk,
    disk,
    dm_names,
    drop_caches,
    kernel_errors,
    open_volume,
    write_files,
)
from tests.vm.guest.faulty_disk import MIB, FaultyDisk
from tests.vm.guest.test_crash import content, replace_state
from tests.vm.guest.write_log import Entry, last_mark, read_log, write_cut

OLD, NEW = 48 * MIB, 160 * MIB  # the second block group begins at 128 MiB
LARGE = 112 * MIB  # more than the first group has left
MANY_OLD, MANY_NEW = 7 * 1024 * MIB, 9 * 1024 * MIB  # descriptors of 64 groups fill a block
BASE, LOG = "volume", "odd"
GROUPS_DESCRIBED = 64  # in one block
SEED = 5
CUTS_SHORT, CUTS_LONG = 3, 60


@pytest.fixture
def below() -> Iterator[None]:
    """The host's disk, zero at first."""
    clear("small", NEW)
    yield
    assert dm_names() == set()


def clear(serial: str, size_bytes: int) -> None:
    zero_direct(disk(serial).node, [(start, MIB) for start in range(0, size_bytes, MIB)])


@contextmanager
def sized(size_bytes: int, serial: str = "small") -> Iterator[FaultyDisk]:
    """The host's disk as long as the host has made it."""
    with FaultyDisk(disk(serial), size_bytes) as device:
        yield device


def make_old(target: Path, size_bytes: int = OLD, serial: str = "small") -> None:
    with sized(size_bytes, serial) as device, open_volume(device.disk, target, may_create=True):
        replace_state(target, 1)


def superblock(serial: str = "small") -> bytes:
    return read_direct(disk(serial).node, 0, 4096)


def laid_out(size_bytes: int) -> bytes:
    return plan_disk_layout(size_bytes, JOURNAL_BYTES).to_superblock()


def total_bytes(target: Path) -> int:
    found = os.statvfs(target)
    return found.f_blocks * found.f_frsize


def refused(size_bytes: int, target: Path, *former_bytes: int) -> str:
    with (
        sized(size_bytes) as device,
        pytest.raises(VerificationError) as error,
        open_volume(device.disk, target, former_bytes=former_bytes),
    ):
        pass
    return error.value.reason


def write_ends(path: Path, size_bytes: int) -> None:
    """Take all the blocks, and write the first and the last."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(fd, 0, size_bytes)
    os.pwrite(fd, b"first", 0)
    os.pwrite(fd, b"last", size_bytes - 4)
    os.close(fd)


def read_ends(path: Path, size_bytes: int) -> tuple[bytes, bytes]:
    fd = os.open(path, os.O_RDONLY)
    ends = os.pread(fd, 5, 0), os.pread(fd, 4, size_bytes - 4)
    os.close(fd)
    return ends


def read_nothing_ahead(node: str) -> None:
    """Have the kernel read from a device what a program asks for, and no neighbours.

    The page cache of a device has pieces of several blocks in Linux 7.3 (of one in 6.12), which are
    read ahead, and as one: an unwritten block is an error of the written ones beside it, too.
    """
    Path(f"/sys/class/block/{Path(node).name}/queue/read_ahead_kb").write_text("0")


def read_tables(node: str) -> None:
    """Read every block of the inode tables, of inodes that nobody has used yet, too."""
    start = read_direct(node, 0, BLOCK_BYTES)[1024:]
    (blocks,), (inodes,) = (struct.unpack_from("<I", start, offset) for offset in (4, 40))
    length = inodes * struct.unpack_from("<H", start, 88)[0]
    for first in range(0, -(-blocks // GROUP_BLOCKS), GROUPS_DESCRIBED):
        descriptors = read_direct(node, (first * GROUP_BLOCKS or 1) * BLOCK_BYTES, BLOCK_BYTES)
        for group in range(first, min(first + GROUPS_DESCRIBED, -(-blocks // GROUP_BLOCKS))):
            (table,) = struct.unpack_from("<I", descriptors, (group - first) * 64 + 8)
            read_direct(node, table * BLOCK_BYTES, length)


def check_ext4(device: FaultyDisk) -> None:
    """Every structure is as it must be; all that is in use can be read, and all of its tables."""
    layout = plan_disk_layout(device.size_bytes, JOURNAL_BYTES)
    with (
        DmControl() as control,
        derive_encryption_key(Secret(RELEASED), "web", "data") as key,
        closing(activate_stack(control, "data", device.disk, layout, key)) as stack,
    ):
        read_nothing_ahead(stack.node)
        done = subprocess.run(
            ("/usr/sbin/e2fsck", "-f", "-n", stack.node), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout.decode()
        read_tables(stack.node)


def test_volume_grows_from_a_size_that_is_named(below: None, tmp_path: Path) -> None:
    make_old(tmp_path)
    with sized(NEW) as device:
        with kernel_errors() as errors:
            with open_volume(device.disk, tmp_path, former_bytes=(16 * MIB, OLD)):
                assert (tmp_path / "state").read_bytes() == content(1)
                assert total_bytes(tmp_path) > NEW * 8 // 10
                write_ends(tmp_path / "large", LARGE)
            with open_volume(device.disk, tmp_path):
                drop_caches()
                assert (tmp_path / "large").stat().st_size == LARGE
                assert read_ends(tmp_path / "large", LARGE) == (b"first", b"last")
                assert (tmp_path / "state").read_bytes() == content(1)
        assert errors == []
        check_ext4(device)


def test_volume_grows_over_many_groups_and_reads_nothing_unwritten(tmp_path: Path) -> None:
    blank(disk("big"))
    make_old(tmp_path, MANY_OLD, "big")
    with sized(MANY_NEW, "big") as device:
        with kernel_errors() as errors:
            with open_volume(device.disk, tmp_path, former_bytes=(MANY_OLD,)):
                assert total_bytes(tmp_path) > MANY_NEW * 9 // 10
                for number in range(80):  # directories are spread over the groups
                    (tmp_path / f"{number}").mkdir()
                    write_files(tmp_path / f"{number}", 5)
            with open_volume(device.disk, tmp_path):
                drop_caches()
                for number in range(80):
                    assert (tmp_path / f"{number}" / "file-4").read_bytes() == b"4"
        assert errors == []
        check_ext4(device)
    blank(disk("big"))


def test_tables_of_added_groups_are_written_because_the_mount_says_so(
    below: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control: left for later, they could not be read, which two processes at once may do."""
    make_old(tmp_path)
    with sized(NEW) as device:
        options = "inode_readahead_blks=0,errors=remount-ro"
        monkeypatch.setattr(filesystem, "_MOUNT_OPTIONS", options)
        with open_volume(device.disk, tmp_path, former_bytes=(OLD,)):
            assert total_bytes(tmp_path) > NEW * 8 // 10
        with pytest.raises(KernelError) as error:
            check_ext4(device)
        assert error.value.errno == errno.EILSEQ


def test_volume_grows_twice(below: None, tmp_path: Path) -> None:
    make_old(tmp_path)
    for size, former in ((100 * MIB, OLD), (NEW, 100 * MIB)):
        with sized(size) as device, open_volume(device.disk, tmp_path, former_bytes=(former,)):
            assert total_bytes(tmp_path) > size * 7 // 10
            assert (tmp_path / "state").read_bytes() == content(1)


@pytest.mark.parametrize("former", [(), (OLD + MIB,), (OLD - MIB, OLD + MIB)])
def test_r36_disk_that_only_the_host_made_larger_is_refused(
    below: None, tmp_path: Path, former: tuple[int, ...]
) -> None:
    make_old(tmp_path)
    assert refused(NEW, tmp_path, *former) == "volume.unlock"
    assert superblock() == laid_out(OLD)
    with sized(OLD) as device, open_volume(device.disk, tmp_path):
        assert (tmp_path / "state").read_bytes() == content(1)


def test_old_superblock_that_the_host_puts_back_changes_nothing(
    below: None, tmp_path: Path
) -> None:
    make_old(tmp_path)
    with sized(NEW) as device, open_volume(device.disk, tmp_path, former_bytes=(OLD,)):
        replace_state(tmp_path, 2)
        grown = total_bytes(tmp_path)
    write_direct(disk("small").node, 0, laid_out(OLD))
    assert refused(NEW, tmp_path) == "volume.unlock"
    with sized(NEW) as device, open_volume(device.disk, tmp_path, former_bytes=(OLD,)):
        assert (tmp_path / "state").read_bytes() == content(2)
        assert total_bytes(tmp_path) == grown


@pytest.mark.parametrize("former", [(), (OLD + MIB,)])
def test_new_superblock_that_the_host_writes_does_not_make_it_grow(
    below: None, tmp_path: Path, former: tuple[int, ...]
) -> None:
    """The host can have the device opened in its new size; the file system in it is the owner's."""
    make_old(tmp_path)
    write_direct(disk("small").node, 0, laid_out(NEW))
    assert refused(NEW, tmp_path, *former) == "volume.size"
    write_direct(disk("small").node, 0, laid_out(OLD))
    with sized(OLD) as device, open_volume(device.disk, tmp_path):
        assert (tmp_path / "state").read_bytes() == content(1)


def test_disk_of_an_earlier_size_under_another_key_is_left_as_it_was(
    below: None, tmp_path: Path
) -> None:
    make_old(tmp_path)
    with sized(NEW) as device, DmControl() as control:
        request = VolumeRequest(
            pod="web", name="data", disk=device.disk, may_create=False, former_bytes=(OLD,)
        )
        other = Secret(bytes(reversed(RELEASED)))
        with pytest.raises(VerificationError) as error:
            examine_disk(control, request, other)
        assert error.value.reason == "volume.unlock"
        found = examine_disk(control, request, Secret(RELEASED))
    assert found is DiskContent.VOLUME
    assert superblock() == laid_out(OLD)


def test_volume_of_an_older_version_opens_and_does_not_grow(
    below: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (
        *("-F", "-q", "-t", "ext4", "-b", "4096", "-m", "0"),
        *("-O", "^resize_inode,sparse_super2", "-J", "size=16"),
        *("-E", "nodiscard,lazy_itable_init=1,num_backup_sb=0,lazy_journal_init=0"),
    )
    with monkeypatch.context() as patch:
        patch.setattr(filesystem, "plan_mkfs", lambda node, *_, **__: (*options, node))
        make_old(tmp_path)
    assert refused(NEW, tmp_path, OLD) == "volume.growth"
    assert superblock() == laid_out(OLD)
    with sized(OLD) as device, open_volume(device.disk, tmp_path):
        assert (tmp_path / "state").read_bytes() == content(1)


def grow_without(part: slice, device: FaultyDisk, target: Path) -> KernelError:
    """Grow with nothing written before but `part` of what should be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth, "zero_direct", lambda node, found: zero_direct(node, found[part]))
        with (
            pytest.raises(KernelError) as error,
            open_volume(device.disk, target, former_bytes=(OLD,)),
        ):
            pass
    assert error.value.reason == "kernel.ext4.resize"
    return error.value


def test_growing_needs_what_is_written_before_and_is_tried_again(
    below: None, tmp_path: Path
) -> None:
    """A control: the kernel does read the last block of the new size before it writes it."""
    make_old(tmp_path)
    with sized(NEW) as device:
        assert grow_without(slice(0), device, tmp_path).errno == errno.ENOSPC
        with open_volume(device.disk, tmp_path, former_bytes=(OLD,)):
            assert (tmp_path / "state").read_bytes() == content(1)
            assert total_bytes(tmp_path) > NEW * 8 // 10
        check_ext4(device)


def test_volume_with_which_growing_failed_opens_as_it_is(below: None, tmp_path: Path) -> None:
    """The other control: bitmaps are read too. Here that is the host's disk failing half-way."""
    make_old(tmp_path)
    with sized(NEW) as device:
        assert grow_without(slice(-1, None), device, tmp_path).errno == errno.EIO
        with open_volume(device.disk, tmp_path, former_bytes=(OLD,)):
            assert (tmp_path / "state").read_bytes() == content(1)
            assert total_bytes(tmp_path) < NEW * 8 // 10
            replace_state(tmp_path, 2)
        with open_volume(device.disk, tmp_path, former_bytes=(OLD,)):
            assert (tmp_path / "state").read_bytes() == content(2)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """All writes from a volume of the old size, kept on another disk, to one that has grown."""
    target = tmp_path_factory.mktemp("growing")
    clear("small", NEW)
    make_old(target)
    with sized(OLD) as device:
        copy_disk(device.disk, disk(BASE))
    blank(disk(LOG))
    with sized(NEW) as device:
        device.log_writes(disk(LOG))
        with open_volume(device.disk, target, former_bytes=(OLD,)):
            for number in (2, 3):
                replace_state(target, number)
                device.mark(str(number))
        device.work()
    return read_log(disk(LOG).node)


def check_cuts(log: list[Entry], target: Path, count: int) -> None:
    choose = random.Random(SEED)  # noqa: S311  # repeatable
    with sized(NEW) as device, FaultyDisk(disk(BASE), OLD, "test-base") as base:
        for _ in range(count):
            position = choose.randrange(len(log) + 1)
            write_cut(device.disk, disk(LOG).node, log[:position], choose, base=base.disk)
            acknowledged = max(1, last_mark(log[:position]))
            with open_volume(device.disk, target, former_bytes=(OLD,)):
                found = (target / "state").read_bytes()
                number = int(found.partition(b"\n")[0])
                assert found == content(number), f"mixed at {position}"
                assert acknowledged <= number <= acknowledged + 1, f"lost at {position}"
                assert total_bytes(target) > NEW * 8 // 10, f"not grown at {position}"
            check_ext4(device)
    assert dm_names() == set()


def test_r48_power_cut_while_it_grows_leaves_a_volume_that_opens(
    log: list[Entry], tmp_path: Path
) -> None:
    check_cuts(log, tmp_path, CUTS_SHORT)


@pytest.mark.long
@pytest.mark.timeout(800)
def test_r48_many_power_cuts_while_it_grows_leave_a_volume_that_opens(
    log: list[Entry], tmp_path: Path
) -> None:
    check_cuts(log, tmp_path, CUTS_LONG)
