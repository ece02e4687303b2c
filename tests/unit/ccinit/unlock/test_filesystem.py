import errno
from contextlib import nullcontext

import pytest

from ccinit.errors import KernelError, VerificationError
from ccinit.formats.disk.ext4 import GROUP_BLOCKS
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.mount import MountFlag
from ccinit.unlock import filesystem
from ccinit.unlock.filesystem import (
    LOST_WRITE,
    create_ext4,
    find_backups,
    mount_ext4,
    plan_mkfs,
    unmount_kept,
)


def test_scratch_has_no_journal_and_no_backup_superblocks() -> None:
    assert plan_mkfs("/dev/dm-1", 16 << 30, journal=False) == (
        *("-F", "-q", "-t", "ext4", "-b", "4096", "-m", "0"),
        *("-O", "^has_journal,^resize_inode,sparse_super2"),
        *("-E", "nodiscard,lazy_itable_init=0,num_backup_sb=0", "/dev/dm-1"),
    )


def test_tables_are_left_alone_where_any_block_can_be_read() -> None:
    written = plan_mkfs("/dev/dm-1", 16 << 30, journal=False)
    left = plan_mkfs("/dev/dm-1", 16 << 30, journal=False, tables=False)
    assert [
        (ours, theirs) for ours, theirs in zip(written, left, strict=True) if ours != theirs
    ] == [
        (
            "nodiscard,lazy_itable_init=0,num_backup_sb=0",
            "nodiscard,lazy_itable_init=1,num_backup_sb=0",
        )
    ]


def test_volume_has_a_journal_that_is_written_at_once() -> None:
    assert plan_mkfs("/dev/dm-1", 256 << 30, journal=True) == (
        *("-F", "-q", "-t", "ext4", "-b", "4096", "-m", "0"),
        *("-O", "^resize_inode,meta_bg", "-J", "size=16"),
        *("-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", "/dev/dm-1"),
    )


@pytest.mark.parametrize(
    ("journal", "default_bytes", "most"), [(False, 16 << 30, 1 << 20), (True, 256 << 30, 1 << 24)]
)
def test_tables_of_a_large_disk_take_no_longer_than_those_of_a_smaller_one(
    default_bytes: int, most: int, *, journal: bool
) -> None:
    assert "-N" not in plan_mkfs("/dev/dm-1", default_bytes, journal=journal)
    options = plan_mkfs("/dev/dm-1", 4 * default_bytes, journal=journal)
    assert options[options.index("-N") + 1] == str(most)


def test_backups_are_in_group_one_and_in_powers_of_three_five_and_seven() -> None:
    groups = [block // GROUP_BLOCKS for block in find_backups(130 * GROUP_BLOCKS)]
    assert groups == [1, 3, 5, 7, 9, 25, 27, 49, 81, 125]


def test_backup_that_would_lie_behind_the_end_is_none() -> None:
    assert find_backups(GROUP_BLOCKS) == ()
    assert find_backups(GROUP_BLOCKS + 1) == (GROUP_BLOCKS,)
    assert find_backups(3 * GROUP_BLOCKS) == (GROUP_BLOCKS,)


@pytest.mark.parametrize("journal", [True, False])
def test_no_superblock_of_an_earlier_file_system_is_there_when_one_is_made(
    monkeypatch: pytest.MonkeyPatch, *, journal: bool
) -> None:
    """Neither its beginning nor, where there are any, the places of its backups."""
    blocks = 3 * GROUP_BLOCKS + 100
    zeroed: list[tuple[int, int]] = []
    made: list[tuple[str, tuple[str, ...], list[tuple[int, int]]]] = []

    def write(_node: str, offset: int, data: bytes) -> None:
        assert not any(data)
        zeroed.append((offset, len(data)))

    async def make(node: str, options: tuple[str, ...]) -> None:
        made.append((node, options, zeroed.copy()))

    monkeypatch.setattr(filesystem, "write_direct", write)
    monkeypatch.setattr(filesystem, "zero_direct", lambda _node, extents: zeroed.extend(extents))
    monkeypatch.setattr(filesystem, "read_size_bytes", lambda _node: 4096 * blocks)
    EventLoop().run(create_ext4("/dev/dm-1", make, journal=journal))
    backups = [(4096 * group * GROUP_BLOCKS, 4096) for group in (1, 3)] * journal
    options = plan_mkfs("/dev/dm-1", 4096 * blocks, journal=journal)
    assert made == [("/dev/dm-1", options, [(0, 64 << 10), *backups])]


def test_mounted_file_system_has_no_devices_and_no_programs_of_other_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mounts: list[tuple[object, ...]] = []
    monkeypatch.setattr(filesystem, "mount", lambda *arguments: mounts.append(arguments))
    mount_ext4("/dev/dm-1", "/run/data")
    options = "noinit_itable,inode_readahead_blks=0,errors=remount-ro"
    flags = MountFlag.NODEV | MountFlag.NOSUID
    assert mounts == [("/dev/dm-1", "/run/data", "ext4", flags, options)]


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_shall_be_kept_is_unmounted_and_a_loss_is_told(
    monkeypatch: pytest.MonkeyPatch, *, is_whole: bool
) -> None:
    steps: list[str] = []

    def sync(target: str) -> None:
        steps.append(f"sync {target}")
        if not is_whole:
            raise KernelError(errno.EIO, "syncfs", target)

    monkeypatch.setattr(filesystem, "sync_file_system", sync)
    monkeypatch.setattr(filesystem, "unmount", lambda target: steps.append(f"unmount {target}"))
    with nullcontext() if is_whole else pytest.raises(VerificationError, match=LOST_WRITE):
        unmount_kept("/data")
    assert steps == ["sync /data", "unmount /data"]
