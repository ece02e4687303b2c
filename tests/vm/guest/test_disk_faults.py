"""Disks that fail while they are used: what the kernel answers, and what is left behind."""

import errno
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.errors import ChildError, KernelError, LimitExceededError, VerificationError
from ccinit.formats.pod.volume import ScratchProfile
from ccinit.kernel.block import BlockDevice, read_direct, write_direct
from ccinit.kernel.dm import DmControl
from ccinit.pull.layers.file import write_all
from ccinit.secret import Secret
from ccinit.unlock.filesystem import START_BYTES
from ccinit.unlock.integrity import MetaDevice, plan_memory_layout
from ccinit.unlock.stack import activate_stack
from ccinit.unlock.volume import VolumeRequest, activate_volume
from ccinit.values import replace
from tests.vm.guest.disks import (
    RELEASED,
    blank,
    copy_disk,
    disk,
    dm_names,
    drop_caches,
    flip_bit,
    format_device,
    open_scratch,
    open_volume,
    refuse_to_format,
    run,
    told_of_a_loss,
)
from tests.vm.guest.faulty_disk import MIB, FaultyDisk

SIZE_BYTES = 64 * MIB
PROFILES = pytest.mark.parametrize("profile", ScratchProfile)


@contextmanager
def faulty(size_bytes: int = SIZE_BYTES) -> Iterator[FaultyDisk]:
    blank(disk("small"))
    with FaultyDisk(disk("small"), size_bytes) as device:
        yield device
    assert dm_names() == set()


def write_and_sync(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


@PROFILES
def test_r36_disk_that_shrank_since_it_was_listed_is_refused(
    tmp_path: Path, profile: ScratchProfile
) -> None:
    with faulty() as device:
        with open_scratch(device.disk, tmp_path, profile):
            assert os.path.ismount(tmp_path)
        device.shrink(SIZE_BYTES // 2)
        with pytest.raises(VerificationError) as error, open_scratch(device.disk, tmp_path):
            pass
        assert error.value.reason == "disk.changed"


def test_r36_read_only_disk_that_claims_to_be_writable_is_refused(tmp_path: Path) -> None:
    sealed = replace(disk("sealed"), read_only=False)
    with pytest.raises(KernelError) as error, open_scratch(sealed, tmp_path):
        pass
    assert error.value.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
    assert dm_names() == set()


def test_r45_flipped_bit_is_an_error_to_the_reader_and_to_nobody_else(tmp_path: Path) -> None:
    """With tags in memory, where a block's place is known; `test_host_faults` has the others."""
    with faulty() as device, open_scratch(device.disk, tmp_path):
        write_and_sync(tmp_path / "kept", b"k" * 4096)
        write_and_sync(tmp_path / "hit", b"h" * 4096)
        drop_caches()
        before = {name: (tmp_path / name).read_bytes() for name in ("kept", "hit")}
        assert before == {"kept": b"k" * 4096, "hit": b"h" * 4096}
        drop_caches()
        offset = find_block(device.disk, tmp_path / "hit")
        flip_bit(device.below, offset)
        with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
            (tmp_path / "hit").read_bytes()
        assert error.value.errno == errno.EIO
        assert (tmp_path / "kept").read_bytes() == b"k" * 4096


def find_block(device: BlockDevice, path: Path) -> int:
    """Offset of a file's one block on a disk whose block n holds the ciphertext of block n.

    Found without asking the file system: it is the block that changes when the file is rewritten.
    """
    before = block_hashes(device)
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"h" * 4096, 0)
    os.fdatasync(fd)
    os.close(fd)
    after = block_hashes(device)
    drop_caches()
    return 4096 * max(index for index, one in enumerate(before) if after[index] != one)


def block_hashes(device: BlockDevice) -> list[int]:
    """A hash of every block; the guest has no memory for two copies of a disk.

    Python's own: nobody forges here, and a cryptographic one takes seconds under emulation.
    """
    return [
        hash(piece[start : start + 4096])
        for offset in range(0, device.size_bytes, MIB)
        for piece in [read_direct(device.node, offset, MIB)]
        for start in range(0, MIB, 4096)
    ]


def fill(layer: int) -> None:
    """Write as much as the whole disk has."""
    for _ in range(SIZE_BYTES // MIB):
        write_all(layer, os.urandom(MIB), "layer-0.tar")


def test_r46_full_scratch_ends_the_pull_and_the_disk_works_on(tmp_path: Path) -> None:
    with faulty() as device, open_scratch(device.disk, tmp_path):
        path = tmp_path / "layer-0.tar"
        with path.open("wb", buffering=0) as layer, pytest.raises(LimitExceededError) as error:
            fill(layer.fileno())
        assert error.value.reason == "pull.enospc"
        path.unlink()
        write_and_sync(tmp_path / "after", b"works")
        drop_caches()
        assert (tmp_path / "after").read_bytes() == b"works"


def test_r46_tags_that_find_no_memory_are_an_error_and_no_wrong_bytes() -> None:
    """What brd answers when memory is out: a failed write of the tags."""
    ram = replace(disk("small"), name="ram3", number="1:3")
    blank(ram)
    with faulty() as data, FaultyDisk(ram, 32 * MIB, "test-tags") as tags, DmControl() as control:
        beside = MetaDevice(node=tags.disk.node, number=tags.disk.number)
        layout = plan_memory_layout(SIZE_BYTES, beside)
        stack = activate_stack(control, "data", data.disk, layout, Secret(bytes(range(96))))
        try:
            write_direct(stack.node, 0, b"old!" * 1024)
            assert read_direct(stack.node, 0, 4096) == b"old!" * 1024
            tags.fail_writes()
            with pytest.raises(KernelError) as error:
                write_direct(stack.node, 4096, b"new!" * 1024)
            assert error.value.errno == errno.EIO
            tags.work()
            with pytest.raises(KernelError) as error:
                read_direct(stack.node, 4096, 4096)
            assert error.value.errno in (errno.EIO, errno.EILSEQ)
        finally:
            stack.close()


@PROFILES
def test_r47_sync_to_a_failing_disk_is_an_error(tmp_path: Path, profile: ScratchProfile) -> None:
    with faulty() as device, open_scratch(device.disk, tmp_path, profile):
        write_and_sync(tmp_path / "before", b"good")
        device.fail_writes()
        try:
            with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
                write_and_sync(tmp_path / "lost", b"lost" * 1024)
            assert error.value.errno in (errno.EIO, errno.EROFS)
        finally:
            device.work()


def test_r47_volume_on_a_failing_disk_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    with faulty() as device:
        with told_of_a_loss(), open_volume(device.disk, tmp_path, may_create=True):
            write_and_sync(tmp_path / "acknowledged", b"kept")
            device.fail_writes()
            with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
                write_and_sync(tmp_path / "lost", b"lost" * 4096)
            assert error.value.errno in (errno.EIO, errno.EROFS)
            device.work()
        with open_volume(device.disk, tmp_path):
            assert (tmp_path / "acknowledged").read_bytes() == b"kept"


def test_r47_close_that_loses_what_nobody_had_synced_says_so(tmp_path: Path) -> None:
    """Unmounting does not: whoever stops a pod in order would take its data for kept."""
    with faulty() as device:
        with told_of_a_loss(), open_volume(device.disk, tmp_path, may_create=True):
            (tmp_path / "unsynced").write_bytes(b"lost" * 4096)
            device.fail_writes()
        assert not os.path.ismount(tmp_path)
        assert dm_names() == {"test-faulty"}
        device.work()


def test_r43_volume_on_a_failing_disk_is_not_taken_for_another_disk(tmp_path: Path) -> None:
    """Else a blank disk beside it would become the volume, and this one could become scratch."""
    with faulty() as device:
        with open_volume(device.disk, tmp_path, may_create=True):
            write_and_sync(tmp_path / "file", b"kept")
        device.fail_behind(START_BYTES)
        with (
            pytest.raises(KernelError) as error,
            open_volume(device.disk, tmp_path, may_create=True),
        ):
            pass
        assert (error.value.reason, error.value.errno) == ("kernel.block.read", errno.EIO)
        assert dm_names() == {"test-faulty"}
        device.work()
        with open_volume(device.disk, tmp_path):
            assert (tmp_path / "file").read_bytes() == b"kept"


def test_r44_old_state_of_a_whole_volume_opens_as_documented(tmp_path: Path) -> None:
    """The limit that docs/storage.md states: no guest alone can tell it from the newest."""
    with faulty() as device:
        with open_volume(device.disk, tmp_path, may_create=True):
            write_and_sync(tmp_path / "balance", b"100")
        copy_disk(device.disk, disk("odd"))
        with open_volume(device.disk, tmp_path):
            write_and_sync(tmp_path / "balance", b"50")
        copy_disk(replace(disk("odd"), size_bytes=SIZE_BYTES), device.disk)
        with open_volume(device.disk, tmp_path):
            assert (tmp_path / "balance").read_bytes() == b"100"


def test_two_volumes_are_open_at_once_and_open_again(tmp_path: Path) -> None:
    targets = [tmp_path / name for name in ("one", "two")]
    blank(disk("small"))
    blank(disk("odd"))
    devices = {"one": disk("small"), "two": disk("odd")}
    for target in targets:
        target.mkdir()
    for may_create in (True, False):
        with DmControl() as control:
            stacks = [
                run(
                    activate_volume(
                        control,
                        VolumeRequest(
                            pod="web",
                            name=target.name,
                            disk=devices[target.name],
                            may_create=may_create,
                        ),
                        Secret(RELEASED),
                        str(target),
                        format_device,
                    )
                )
                for target in targets
            ]
            for target in targets:
                if may_create:
                    write_and_sync(target / "name", target.name.encode())
                assert (target / "name").read_text() == target.name
            for stack in reversed(stacks):
                stack.close()
    assert dm_names() == set()
    blank(disk("odd"))


@PROFILES
def test_disk_unplugged_while_mounted_can_be_taken_down(
    tmp_path: Path, profile: ScratchProfile
) -> None:
    with faulty() as device:
        with open_scratch(device.disk, tmp_path, profile):
            write_and_sync(tmp_path / "before", b"good")
            drop_caches()
            device.fail()
            with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
                write_and_sync(tmp_path / "lost", b"lost" * 1024)
            assert error.value.errno in (errno.EIO, errno.EROFS)
        device.work()
        with open_scratch(device.disk, tmp_path, profile):
            assert not (tmp_path / "before").exists()


@PROFILES
def test_r49_disk_that_fails_half_way_leaves_nothing(
    tmp_path: Path, profile: ScratchProfile
) -> None:
    """The device is there and mkfs at work when the disk fails; the undoing works all the same."""

    async def format_and_fail(node: str, arguments: tuple[str, ...]) -> None:
        device.fail()
        await format_device(node, arguments)

    with faulty() as device:
        before = dm_names()
        opening = open_scratch(device.disk, tmp_path, profile, format_and_fail)
        with pytest.raises(ChildError) as error, opening:
            pass
        assert error.value.reason == "test.mkfs"
        assert dm_names() == before
        assert "ccinit:data: 96" not in Path("/proc/keys").read_text()
        device.work()
        with open_scratch(device.disk, tmp_path, profile):
            assert os.path.ismount(tmp_path)


@pytest.mark.parametrize("boots", [20, pytest.param(100, marks=pytest.mark.long)])
def test_r94_boots_share_no_key(tmp_path: Path, boots: int) -> None:
    """Each is cut off in mkfs, when the first blocks, all zeros, have been written."""
    seen = set()
    with faulty() as device:
        for _ in range(boots):
            opening = open_scratch(device.disk, tmp_path, format_device=refuse_to_format)
            with pytest.raises(ChildError) as error, opening:
                pass
            assert error.value.reason == "test.mkfs"
            seen.add(read_direct(device.disk.node, 0, 4096))
        gc.collect()
        with open_scratch(device.disk, tmp_path):
            (tmp_path / "file").write_bytes(b"works")
    assert len(seen) == boots


def test_r94_state_of_the_boot_before_is_not_used(tmp_path: Path) -> None:
    with faulty() as device:
        with open_scratch(device.disk, tmp_path) as stack:
            write_direct(stack.node, 32 * MIB, b"old!" * 1024)
            old = read_direct(device.disk.node, 32 * MIB, 4096)
        with open_scratch(device.disk, tmp_path) as stack:
            write_direct(stack.node, 32 * MIB, b"new!" * 1024)
            write_direct(device.disk.node, 32 * MIB, old)
            with pytest.raises(KernelError) as error:
                read_direct(stack.node, 32 * MIB, 4096)
            assert error.value.errno == errno.EILSEQ
