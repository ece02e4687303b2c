"""Faults that the host makes outside of the guest, while its disk is used.

`test_disk_faults` has the same rows with device-mapper inside the guest, for every profile. Each
test here ends by asking the host how often it lied: a fault that was never met proves nothing.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, ChildError, KernelError, VerificationError
from ccinit.formats.disk.luks2 import COPY_BYTES
from ccinit.formats.disk.verity import Salt, build_hash_tree
from ccinit.formats.pod.volume import ScratchProfile
from ccinit.kernel.block import BlockDevice, list_virtio_disks, read_direct, write_direct
from ccinit.kernel.dm import DmControl
from ccinit.secret import Secret
from ccinit.unlock.integrity import MetaDevice, plan_disk_layout, plan_memory_layout
from ccinit.unlock.luks2 import copy_header
from ccinit.unlock.stack import activate_stack
from tests.vm.guest.disks import (
    blank,
    disk,
    dm_names,
    drop_caches,
    format_device,
    open_scratch,
    open_volume,
)
from tests.vm.guest.host import Host
from tests.vm.guest.made_elsewhere import make_luks2
from tests.vm.guest.test_disk_faults import write_and_sync
from tests.vm.guest.test_verity import DATA, open_verity

MIB = 1 << 20
BLOCK = 4096
PROFILES = pytest.mark.parametrize("profile", ScratchProfile)
WITH_TAGS = pytest.mark.parametrize("profile", [ScratchProfile.AEAD_RAM, ScratchProfile.AEAD_DISK])
FAR = 32 * MIB
"""Where no file system of these tests has anything of its own."""


@pytest.fixture
def host() -> Iterator[Host]:
    """The host, which behaves; its disk is blank."""
    made = Host()
    made.heal()
    blank(disk("hostile"))
    yield made
    made.close()
    assert dm_names() == set()


@pytest.fixture
def raw(host: Host) -> Iterator[tuple[Host, str, BlockDevice]]:
    """Scratch of `aead-ram` below its file system: block n of one is block n of the other."""
    device = disk("hostile")
    ram = MetaDevice(node="/dev/ram1", number="1:1")
    layout = plan_memory_layout(device.size_bytes, ram)
    write_direct(ram.node, 0, bytes(BLOCK))
    with DmControl() as control:
        stack = activate_stack(control, "raw", device, layout, Secret(bytes(range(96))))
        try:
            yield host, stack.node, device
        finally:
            host.heal()
            stack.close()


ROOT, TREE = build_hash_tree([DATA], Salt(bytes(range(32))))
IN_ROOT = 200 * BLOCK


@contextmanager
def open_root(device: BlockDevice) -> Iterator[str]:
    """A root on `device`, as stage 0 opens it but for the kernel's end at the first fault."""
    write_direct(device.node, 0, DATA + TREE)
    with open_verity(Path(device.node), ROOT) as node:
        assert read_direct(node, 0, BLOCK) == DATA[:BLOCK]
        yield node


def read_error(node: str, offset: int) -> int:
    with pytest.raises(KernelError) as error:
        read_direct(node, offset, BLOCK)
    return error.value.errno or 0


def test_r12_block_of_the_root_that_the_host_changes_is_an_error_and_no_other_bytes(
    host: Host,
) -> None:
    with open_root(disk("hostile")) as node:
        host.do("flip", start=IN_ROOT + 17, step=disk("hostile").size_bytes)
        assert read_error(node, IN_ROOT) == errno.EIO
        assert read_direct(node, IN_ROOT + BLOCK, BLOCK) == DATA[IN_ROOT + BLOCK :][:BLOCK]


def test_r13_block_of_the_root_that_the_host_does_not_give_is_an_error(host: Host) -> None:
    """It is not asked for again and again: PID 1 would stand still for as long as it is absent."""
    with open_root(disk("hostile")) as node:
        host.do("fail_reads", offset=IN_ROOT, length=BLOCK)
        assert read_error(node, IN_ROOT) == errno.EIO
        assert 0 < host.heal() < 10
        assert read_direct(node, IN_ROOT, BLOCK) == DATA[IN_ROOT : IN_ROOT + BLOCK]


def bytes_or_errno(path: Path) -> bytes | int | None:
    try:
        return path.read_bytes()
    except OSError as error:
        return error.errno


@PROFILES
def test_r36_disk_that_shrinks_between_listing_and_use_is_refused(
    tmp_path: Path, profile: ScratchProfile
) -> None:
    host, listed = Host(), disk("resized")
    try:
        with open_scratch(listed, tmp_path, profile):
            assert os.path.ismount(tmp_path)
        host.do("resize", disk="resized", size=listed.size_bytes // 2)
        wait_for_size("resized", listed.size_bytes // 2)
        with pytest.raises(VerificationError) as error, open_scratch(listed, tmp_path, profile):
            pass
        assert error.value.reason == "disk.changed"
    finally:
        host.do("resize", disk="resized", size=listed.size_bytes)
        wait_for_size("resized", listed.size_bytes)
        host.close()


def test_r36_disk_that_shrinks_while_it_is_used_gives_errors_and_no_other_bytes(
    tmp_path: Path,
) -> None:
    host, listed = Host(), disk("resized")
    with open_scratch(listed, tmp_path):
        write_and_sync(tmp_path / "file", b"f" * (40 * MIB))
        host.do("resize", disk="resized", size=8 * MIB)
        wait_for_size("resized", 8 * MIB)
        with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
            (tmp_path / "file").read_bytes()
        assert error.value.errno == errno.EIO
        host.do("resize", disk="resized", size=listed.size_bytes)
        wait_for_size("resized", listed.size_bytes)
    host.close()


def wait_for_size(serial: str, size_bytes: int) -> None:
    deadline = time.monotonic() + 60
    while disk(serial).size_bytes != size_bytes:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("field", ["interleave", "journal sections", "recalculating"])
def test_r37_superblock_that_only_the_kernel_gets_is_refused(
    host: Host, tmp_path: Path, field: str
) -> None:
    """Our read finds the zeros that were written, the kernel's the host's own superblock."""
    device = disk("hostile")
    layout = plan_disk_layout(device.size_bytes, journal_bytes=0)
    crafted = bytearray(layout.to_superblock())
    offset, value = {
        "interleave": (9, b"\x14"),
        "journal sections": (12, (300).to_bytes(4, "little")),
        "recalculating": (24, (2).to_bytes(4, "little")),
    }[field]
    crafted[offset : offset + len(value)] = value
    write_direct(device.node, 0, bytes(crafted))
    host.do("copy")
    host.do("alternate", offset=0, length=BLOCK)
    with (
        pytest.raises(CcinitError) as error,
        open_scratch(device, tmp_path, ScratchProfile.AEAD_DISK),
    ):
        pass
    assert error.value.reason in {"kernel.dm.load", "integrity.table", "integrity.sectors"}
    assert host.heal() > 0
    with open_scratch(device, tmp_path, ScratchProfile.AEAD_DISK):
        assert os.path.ismount(tmp_path)


def test_r37_disk_that_keeps_nothing_is_refused(host: Host, tmp_path: Path) -> None:
    device = disk("hostile")
    write_direct(device.node, 0, b"\x55" * MIB)
    host.do("ignore_writes")
    with (
        pytest.raises(VerificationError) as error,
        open_scratch(device, tmp_path, ScratchProfile.AEAD_DISK),
    ):
        pass
    assert error.value.reason == "scratch.superblock"
    assert host.heal() > 0


def test_r42_header_that_is_another_when_it_is_read_again_is_read_once(
    host: Host, tmp_path: Path
) -> None:
    device = disk("hostile")
    make_luks2(device, tmp_path)
    honest = read_direct(device.node, 0, COPY_BYTES)
    content = bytearray(honest)
    content[4096:8192] = honest[4096:8192].replace(b"aes-xts-plain64", b"cipher_null-ecb")
    write_direct(device.node, 0, bytes(content))
    host.do("copy")
    write_direct(device.node, 0, honest)
    host.do("alternate", offset=0, length=COPY_BYTES)
    assert copy_header("data", device) == honest
    assert read_direct(device.node, 0, COPY_BYTES) == bytes(content)
    assert host.heal() > 0


def test_r43_blank_disk_in_the_place_of_a_volume_is_not_formatted(
    host: Host, tmp_path: Path
) -> None:
    device = disk("hostile")
    host.do("copy")
    with open_volume(device, tmp_path, may_create=True):
        write_and_sync(tmp_path / "file", b"kept")
    host.do("put_back", offset=0, length=device.size_bytes)
    with pytest.raises(VerificationError) as error, open_volume(device, tmp_path):
        pass
    assert error.value.reason == "volume.blank"
    assert not any(read_direct(device.node, 0, MIB))


def test_r44_old_blocks_of_a_volume_are_accepted_as_documented(host: Host, tmp_path: Path) -> None:
    device = disk("hostile")
    with open_volume(device, tmp_path, may_create=True):
        write_and_sync(tmp_path / "file", b"old")
    host.do("copy")
    with open_volume(device, tmp_path):
        write_and_sync(tmp_path / "file", b"new")
    host.do("put_back", offset=0, length=device.size_bytes)
    with open_volume(device, tmp_path):
        assert (tmp_path / "file").read_bytes() == b"old"


def test_r45_block_that_the_host_puts_back_is_an_error(
    raw: tuple[Host, str, BlockDevice],
) -> None:
    host, node, _ = raw
    write_direct(node, FAR, b"old!" * 1024)
    host.do("copy")
    write_direct(node, FAR, b"new!" * 1024)
    assert read_direct(node, FAR, BLOCK) == b"new!" * 1024
    host.do("put_back", offset=FAR, length=BLOCK)
    assert read_error(node, FAR) == errno.EILSEQ


def test_r45_content_that_alternates_is_right_or_an_error(
    raw: tuple[Host, str, BlockDevice],
) -> None:
    host, node, _ = raw
    write_direct(node, FAR, b"old!" * 1024)
    host.do("copy")
    write_direct(node, FAR, b"new!" * 1024)
    host.do("alternate", offset=FAR, length=BLOCK)
    seen: set[object] = set()
    for _ in range(8):
        try:
            seen.add(read_direct(node, FAR, BLOCK))
        except KernelError as error:
            seen.add(error.errno)
    assert host.heal() > 0
    assert errno.EILSEQ in seen
    assert seen <= {b"new!" * 1024, errno.EILSEQ}


@WITH_TAGS
def test_r45_bit_that_the_host_flips_under_a_file_is_an_error(
    host: Host, tmp_path: Path, profile: ScratchProfile
) -> None:
    """In every block of the disk, so that no block of the file is as it was."""
    with open_scratch(disk("hostile"), tmp_path, profile):
        write_and_sync(tmp_path / "file", os.urandom(MIB))
        drop_caches()
        assert len((tmp_path / "file").read_bytes()) == MIB
        host.do("flip", start=100, step=BLOCK)
        with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
            (tmp_path / "file").read_bytes()
        assert error.value.errno == errno.EIO


@PROFILES
def test_r46_disk_that_the_host_says_is_full_is_an_error_and_can_be_made_anew(
    host: Host, tmp_path: Path, profile: ScratchProfile
) -> None:
    """Blocks of the file system are lost, too; what is read again is right, or an error."""
    with open_scratch(disk("hostile"), tmp_path, profile):
        write_and_sync(tmp_path / "before", b"good")
        host.do("be_full")
        with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
            write_and_sync(tmp_path / "lost", b"lost" * 1024)
        assert error.value.errno in (errno.ENOSPC, errno.EIO, errno.EROFS)
        assert host.heal() > 0
        assert bytes_or_errno(tmp_path / "before") in (b"good", errno.EIO)
    with open_scratch(disk("hostile"), tmp_path, profile):
        write_and_sync(tmp_path / "after", b"works")
        assert (tmp_path / "after").read_bytes() == b"works"


def test_r47_reads_that_fail_at_one_place_leave_the_others(
    raw: tuple[Host, str, BlockDevice],
) -> None:
    host, node, _ = raw
    write_direct(node, FAR, b"a" * (3 * BLOCK))
    host.do("fail_reads", offset=FAR + BLOCK, length=BLOCK)
    assert read_direct(node, FAR, BLOCK) == b"a" * BLOCK
    assert read_error(node, FAR + BLOCK) == errno.EIO
    assert read_direct(node, FAR + 2 * BLOCK, BLOCK) == b"a" * BLOCK
    assert host.heal() > 0
    assert read_direct(node, FAR + BLOCK, BLOCK) == b"a" * BLOCK


@PROFILES
def test_r47_sync_that_the_host_fails_is_an_error(
    host: Host, tmp_path: Path, profile: ScratchProfile
) -> None:
    with open_scratch(disk("hostile"), tmp_path, profile):
        host.do("fail_writes")
        with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
            write_and_sync(tmp_path / "lost", b"lost" * 1024)
        assert error.value.errno in (errno.EIO, errno.EROFS)
        assert host.heal() > 0


def test_r48_writes_that_the_host_forgets_are_noticed(host: Host, tmp_path: Path) -> None:
    """It acknowledges what it does not do, flushes too: no volume of mixed age comes of it."""
    device = disk("hostile")
    with open_volume(device, tmp_path, may_create=True):
        write_and_sync(tmp_path / "file", b"acknowledged")
    host.do("ignore_writes", offset=16 * MIB, length=device.size_bytes - 16 * MIB)
    with open_volume(device, tmp_path):
        write_and_sync(tmp_path / "large", os.urandom(24 * MIB))
        drop_caches()
        with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
            (tmp_path / "large").read_bytes()
        assert error.value.errno in (errno.EIO, errno.EUCLEAN)
        assert host.heal() > 0
    blank(device)


@PROFILES
def test_r49_disk_that_the_host_fails_half_way_leaves_nothing(
    host: Host, tmp_path: Path, profile: ScratchProfile
) -> None:
    async def format_and_fail(node: str, arguments: tuple[str, ...]) -> None:
        host.do("fail_writes")
        await format_device(node, arguments)

    device = disk("hostile")
    opening = open_scratch(device, tmp_path, profile, format_and_fail)
    with pytest.raises(ChildError) as error, opening:
        pass
    assert error.value.reason == "test.mkfs"
    assert dm_names() == set()
    assert host.heal() > 0
    with open_scratch(device, tmp_path, profile):
        assert os.path.ismount(tmp_path)


def test_r94_disk_of_the_boot_before_is_put_back_in_vain(host: Host, tmp_path: Path) -> None:
    device = disk("hostile")
    with open_scratch(device, tmp_path) as stack:
        write_direct(stack.node, FAR, b"old!" * 1024)
        host.do("copy")
    with open_scratch(device, tmp_path) as stack:
        write_direct(stack.node, FAR, b"new!" * 1024)
        host.do("put_back", offset=FAR, length=BLOCK)
        assert read_error(stack.node, FAR) == errno.EILSEQ


def test_r14_disk_that_the_host_unplugs_gives_errors_and_can_be_taken_down(tmp_path: Path) -> None:
    """A root and scratch on one disk, which only once it is gone is the same for both."""
    host = Host()
    with open_root(disk("unplugged")) as root, open_scratch(disk("unplugged"), tmp_path):
        write_and_sync(tmp_path / "before", b"good")
        drop_caches()
        host.do("unplug", disk="unplugged")
        deadline = time.monotonic() + 60
        while any(one.serial == "unplugged" for one in list_virtio_disks()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
            write_and_sync(tmp_path / "lost", b"lost" * 1024)
        assert error.value.errno in (errno.EIO, errno.EROFS, errno.ENODEV)
        with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
            (tmp_path / "before").read_bytes()
        assert error.value.errno in (errno.EIO, errno.ENODEV)
        assert read_error(root, IN_ROOT) in (errno.EIO, errno.ENODEV)
    assert dm_names() == set()
    host.close()
