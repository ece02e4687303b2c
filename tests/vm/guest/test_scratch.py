"""Scratch end to end on the kernel's own device-mapper: what works, and what the host cannot do."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.errors import ChildError, KernelError, VerificationError
from ccinit.formats.disk.integrity import BLOCK_BYTES, SUPERBLOCK_BYTES, TAG_BYTES
from ccinit.formats.pod.volume import ScratchProfile
from ccinit.kernel.block import (
    SECTOR_BYTES,
    BlockDevice,
    read_direct,
    read_size_bytes,
    write_direct,
    zero_direct,
)
from ccinit.kernel.dm import DmControl
from ccinit.kernel.mount import mount, unmount
from ccinit.secret import Secret
from ccinit.unlock.integrity import (
    IntegrityLayout,
    MetaDevice,
    plan_disk_layout,
    plan_memory_layout,
)
from ccinit.unlock.stack import DiskStack, activate_stack
from ccinit.unlock.volume import JOURNAL_BYTES
from tests.vm.guest.disks import (
    blank,
    disk,
    dm_names,
    drop_caches,
    flip_bit,
    format_device,
    kernel_errors,
    open_scratch,
    refuse_to_format,
    run,
    write_files,
)

KEY = bytes(range(96))
RUN_BYTES = 16 << 20  # of data, behind its tags


@contextmanager
def open_raw(device: BlockDevice, ram: int = 1, key: bytes = KEY) -> Iterator[DiskStack]:
    """The device below the file system, with tags in memory."""
    tags = MetaDevice(node=f"/dev/ram{ram}", number=f"1:{ram}")
    layout = plan_memory_layout(device.size_bytes, tags)
    write_direct(tags.node, 0, bytes(SUPERBLOCK_BYTES))
    with DmControl() as control:
        stack = activate_stack(control, "raw", device, layout, Secret(key))
        try:
            yield stack
        finally:
            stack.close()


@contextmanager
def open_tagged(
    device: BlockDevice, layout: IntegrityLayout, superblock: bytes
) -> Iterator[DiskStack]:
    """The device with tags on the disk, which begins with `superblock` when the kernel looks."""
    write_direct(device.node, 0, superblock)
    with DmControl() as control:
        stack = activate_stack(control, "raw", device, layout, Secret(KEY))
        try:
            yield stack
        finally:
            stack.close()


def find_with_tag(layout: IntegrityLayout, block: int) -> tuple[int, int]:
    """Where a block of the first run and its tag are on the disk, in bytes."""
    tags = SUPERBLOCK_BYTES + layout.journal_sectors * SECTOR_BYTES
    return (
        tags + RUN_BYTES // BLOCK_BYTES * TAG_BYTES + block * BLOCK_BYTES,
        tags + block * TAG_BYTES,
    )


def read_with_tag(device: BlockDevice, layout: IntegrityLayout, block: int) -> tuple[bytes, bytes]:
    data, tag = find_with_tag(layout, block)
    drop_caches()
    with Path(device.node).open("rb", buffering=0) as file:
        return os.pread(file.fileno(), BLOCK_BYTES, data), os.pread(file.fileno(), TAG_BYTES, tag)


def write_with_tag(
    device: BlockDevice, layout: IntegrityLayout, block: int, found: tuple[bytes, bytes]
) -> None:
    with Path(device.node).open("r+b", buffering=0) as file:
        for offset, content in zip(find_with_tag(layout, block), found, strict=True):
            assert os.pwrite(file.fileno(), content, offset) == len(content)
        os.fsync(file.fileno())
    drop_caches()


def read_or_errno(node: str, block: int) -> bytes | int | None:
    try:
        return read_direct(node, block * BLOCK_BYTES, BLOCK_BYTES)
    except KernelError as error:
        return error.errno


def written_bytes(device: BlockDevice) -> int:
    """What the disk was given since the boot."""
    return SECTOR_BYTES * int(Path(f"/sys/block/{device.name}/stat").read_text().split()[6])


@pytest.mark.parametrize("profile", ScratchProfile)
def test_scratch_of_64_gib_holds_8000_files(tmp_path: Path, profile: ScratchProfile) -> None:
    started, before = time.monotonic(), written_bytes(disk("big"))
    with kernel_errors() as errors, open_scratch(disk("big"), tmp_path, profile):
        mounted_s = time.monotonic() - started
        made_mib = (written_bytes(disk("big")) - before) >> 20
        write_files(tmp_path, 8000)
        drop_caches()
        assert all((tmp_path / f"file-{i}").read_bytes() == b"%d" % i for i in range(0, 8000, 7))
        status = os.statvfs(tmp_path)
        assert status.f_blocks * status.f_frsize > 61 << 30
    print(f"64 GiB from raw to mounted with {profile}: {mounted_s:.2f} s, {made_mib} MiB")
    assert errors == []
    # Of the inode tables, which are needed where a block that nobody has written cannot be read.
    assert made_mib < 32 if profile is ScratchProfile.CRYPT else made_mib >= 256
    assert mounted_s < 60  # a pass over all of it would take many minutes


@pytest.mark.long
@pytest.mark.timeout(1100)
def test_scratch_of_64_gib_holds_100000_files(tmp_path: Path) -> None:
    """Every tenth has content; the others are what a large image has most of, names and inodes."""
    with kernel_errors() as errors, open_scratch(disk("big"), tmp_path):
        started = time.monotonic()
        write_files(tmp_path, 100_000, step=10)
        written_s = time.monotonic() - started
        drop_caches()
        started = time.monotonic()
        names = {entry.name for entry in os.scandir(tmp_path)}
        listed_s = time.monotonic() - started
        assert {f"file-{index}" for index in range(100_000)} <= names
        for index in range(0, 100_000, 250):
            assert (tmp_path / f"file-{index}").read_bytes() == b"%d" % index
    print(f"100 000 files: written in {written_s:.1f} s, listed in {listed_s:.1f} s")
    assert errors == []


@pytest.mark.parametrize("profile", ScratchProfile)
def test_scratch_throughput_is_reported(tmp_path: Path, profile: ScratchProfile) -> None:
    with open_scratch(disk("small"), tmp_path, profile):
        started = time.monotonic()
        with (tmp_path / "file").open("wb") as file:
            for _ in range(16):
                file.write(os.urandom(1 << 20))
            file.flush()
            os.fsync(file.fileno())
        written_s = time.monotonic() - started
        drop_caches()
        started = time.monotonic()
        assert len((tmp_path / "file").read_bytes()) == 16 << 20
        read_s = time.monotonic() - started
    print(f"16 MiB with {profile}: written in {written_s:.2f} s, read in {read_s:.2f} s")


CANARY = b"plaintext canary"


def find_canary(device: BlockDevice) -> list[tuple[int, int]]:
    """Return the pieces of the disk, all of which is searched, that hold the plaintext."""
    pieces = [(offset, 1 << 20) for offset in range(0, device.size_bytes, 1 << 20)]
    return [piece for piece in pieces if CANARY in read_direct(device.node, *piece)]


def test_disk_without_encryption_holds_the_plaintext(tmp_path: Path) -> None:
    """The control of the next one: so it is written, and so it is found."""
    device = disk("small")
    run(format_device(device.node, ("-q", device.node)))
    mount(device.node, str(tmp_path), "ext4")
    try:
        (tmp_path / "file").write_bytes(CANARY * 4096)
    finally:
        unmount(str(tmp_path))
    found = find_canary(device)
    zero_direct(device.node, found)
    assert found
    assert find_canary(device) == []


@pytest.mark.parametrize("profile", ScratchProfile)
def test_scratch_disk_holds_no_plaintext(tmp_path: Path, profile: ScratchProfile) -> None:
    device = disk("small")
    with open_scratch(disk("small"), tmp_path, profile):
        (tmp_path / "file").write_bytes(CANARY * 4096)
        drop_caches()
    assert find_canary(device) == []
    start = read_direct(device.node, 0, 4096)
    assert start.startswith(b"integrt") == (profile is ScratchProfile.AEAD_DISK)
    assert start[1080:1082] != b"\x53\xef"


def test_scratch_closed_leaves_no_device_no_key_no_mount(tmp_path: Path) -> None:
    before = dm_names()
    with open_scratch(disk("small"), tmp_path) as stack:
        assert dm_names() - before == {"ccinit-data", "ccinit-data.integrity"}
        assert os.path.ismount(tmp_path)
        # A revoked key stays listed, as such, until the kernel has collected it.
        assert "ccinit:data: 96" not in Path("/proc/keys").read_text()
    assert dm_names() == before
    assert not os.path.ismount(tmp_path)
    stack.close()


@pytest.mark.parametrize("profile", ScratchProfile)
def test_r37_scratch_over_foreign_superblock_ignores_it(
    tmp_path: Path, profile: ScratchProfile
) -> None:
    device = disk("small")
    write_direct(device.node, 0, (b"integrt\0" + bytes(range(56))).ljust(4096, b"\xff") * 16)
    with open_scratch(disk("small"), tmp_path, profile):
        (tmp_path / "file").write_bytes(b"works")
        drop_caches()
        assert (tmp_path / "file").read_bytes() == b"works"


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        pytest.param(9, b"\x14", id="interleave"),
        pytest.param(12, (300).to_bytes(4, "little"), id="journal sections"),
        pytest.param(24, (2).to_bytes(4, "little"), id="recalculating"),
    ],
)
def test_r37_superblock_that_the_host_puts_back_is_refused(offset: int, value: bytes) -> None:
    """As if it came between our look at the zeros and the kernel's."""
    device = disk("small")
    layout = plan_disk_layout(device.size_bytes, journal_bytes=0)
    with open_tagged(device, layout, layout.to_superblock()):
        pass  # the control: what the kernel itself would have written
    block = bytearray(layout.to_superblock())
    block[offset : offset + len(value)] = value
    with pytest.raises(KernelError) as error, open_tagged(device, layout, bytes(block)):
        pass
    assert (error.value.reason, error.value.errno) == ("kernel.dm.load", errno.EINVAL)


def test_r45_block_with_flipped_bit_is_an_error() -> None:
    device = disk("small")
    with open_raw(device) as stack:
        write_direct(stack.node, 0, b"a" * 8192)
        flip_bit(device, 0)
        with pytest.raises(KernelError) as error:
            read_direct(stack.node, 0, 4096)
        assert error.value.errno == errno.EILSEQ
        assert read_direct(stack.node, 4096, 4096) == b"a" * 4096


def test_r45_block_replayed_by_the_host_is_refused() -> None:
    device = disk("small")
    with open_raw(device) as stack:
        write_direct(stack.node, 0, b"old!" * 1024)
        old = read_direct(device.node, 0, 4096)
        write_direct(stack.node, 0, b"new!" * 1024)
        write_direct(device.node, 0, old)
        with pytest.raises(KernelError) as error:
            read_direct(stack.node, 0, 4096)
        assert error.value.errno == errno.EILSEQ


def test_block_moved_to_its_neighbour_is_refused() -> None:
    device = disk("small")
    with open_raw(device) as stack:
        write_direct(stack.node, 0, b"0" * 4096 + b"1" * 4096)
        write_direct(device.node, 0, read_direct(device.node, 4096, 4096))
        with pytest.raises(KernelError) as error:
            read_direct(stack.node, 0, 4096)
        assert error.value.errno == errno.EILSEQ


@pytest.mark.parametrize("journal_bytes", [0, JOURNAL_BYTES])
def test_block_moved_with_its_tag_is_refused(journal_bytes: int) -> None:
    """Where the host has the tags, too. A control: it may put back both at their old places."""
    device = disk("small")
    layout = plan_disk_layout(device.size_bytes, journal_bytes)
    blank(device)
    with open_tagged(device, layout, bytes(SUPERBLOCK_BYTES)) as stack:
        write_direct(stack.node, 0, bytes(BLOCK_BYTES) + bytes([1]) * BLOCK_BYTES)
    placed = [read_with_tag(device, layout, block) for block in (0, 1)]
    for moved in (placed[::-1], placed):
        for block, found in enumerate(moved):
            write_with_tag(device, layout, block, found)
        with open_tagged(device, layout, layout.to_superblock()) as stack:
            read = [read_or_errno(stack.node, block) for block in (0, 1)]
        expected = [bytes([block]) * BLOCK_BYTES for block in (0, 1)]
        assert read == (expected if moved is placed else [errno.EILSEQ] * 2)


def test_block_never_written_is_an_error() -> None:
    with open_raw(disk("small"), ram=2) as stack, pytest.raises(KernelError) as error:
        read_direct(stack.node, 128 << 20, 4096)
    assert error.value.errno == errno.EILSEQ


def test_same_plaintext_written_twice_gives_other_ciphertext() -> None:
    device = disk("small")
    with open_raw(device) as stack:
        write_direct(stack.node, 0, b"same" * 1024)
        first = read_direct(device.node, 0, 4096)
        write_direct(stack.node, 0, b"same" * 1024)
        assert read_direct(device.node, 0, 4096) != first


def test_r49_scratch_mkfs_failure_is_rolled_back(tmp_path: Path) -> None:
    before = dm_names()
    opening = open_scratch(disk("small"), tmp_path, format_device=refuse_to_format)
    with pytest.raises(ChildError) as error, opening:
        pass
    assert error.value.reason == "test.mkfs"
    assert dm_names() == before
    with open_scratch(disk("small"), tmp_path):
        assert os.path.ismount(tmp_path)


def test_r49_scratch_mount_failure_is_rolled_back(tmp_path: Path) -> None:
    before = dm_names()
    opening = open_scratch(disk("small"), tmp_path / "absent")
    with pytest.raises(KernelError) as error, opening:
        pass
    assert error.value.errno == errno.ENOENT
    assert dm_names() == before


def test_stack_with_name_in_use_is_rolled_back() -> None:
    device, other = disk("small"), disk("odd")
    with open_raw(device):
        before = dm_names()
        with pytest.raises(KernelError) as error, open_raw(other, ram=2):
            pass
        assert error.value.errno == errno.EBUSY
        assert dm_names() == before


def test_stack_that_the_kernel_lays_out_otherwise_is_refused() -> None:
    device = disk("small")
    tags = MetaDevice(node="/dev/ram1", number="1:2")
    layout = plan_memory_layout(device.size_bytes, tags)
    write_direct(tags.node, 0, bytes(SUPERBLOCK_BYTES))
    before = dm_names()
    with DmControl() as control, pytest.raises(VerificationError) as error:
        activate_stack(control, "raw", device, layout, Secret(KEY))
    assert error.value.reason == "integrity.table"
    assert dm_names() == before


def test_scratch_of_odd_size_is_used_whole() -> None:
    device = disk("odd")
    with open_raw(device) as stack:
        assert read_size_bytes(stack.node) == device.size_bytes
        write_direct(stack.node, device.size_bytes - 4096, b"z" * 4096)
        assert read_direct(stack.node, device.size_bytes - 4096, 4096) == b"z" * 4096
