import pytest

from ccinit.errors import ConfigError, VerificationError
from ccinit.kernel.dm import DmTarget
from ccinit.unlock.integrity import (
    MetaDevice,
    plan_disk_layout,
    plan_memory_layout,
    verify_active,
)
from ccinit.values import replace

MIB = 1 << 20
GIB = 1 << 30
MEMORY = plan_memory_layout(GIB, MetaDevice(node="/dev/ram1", number="1:1"))
DISK = plan_disk_layout(256 * MIB, 8 * MIB)

# The first 64 bytes that Linux 6.12 wrote on a disk of 256 MiB; the rest of the block is zero.
KERNEL_SUPERBLOCK = bytes.fromhex(
    "696e7465677274000 10f 2000 3e000000 08b0070000000000 00000000 03 0c 0000".replace(" ", "")
).ljust(4096, b"\0")


def test_memory_table_asks_for_the_smallest_journal() -> None:
    target = MEMORY.to_target("/dev/vdb")
    assert (target.kind, target.length_sectors) == ("integrity", GIB // 512)
    assert target.parameters == (
        "/dev/vdb 0 32 D 3 block_size:4096 journal_sectors:264 meta_device:/dev/ram1"
    )


def test_memory_layout_uses_the_whole_disk() -> None:
    assert MEMORY.provided_bytes == GIB


def test_disk_layout_is_the_kernels() -> None:
    assert DISK.journal_sectors == 62 * 264
    assert DISK.provided_bytes == 0x7B008 * 512
    assert DISK.to_superblock() == KERNEL_SUPERBLOCK


def test_disk_table_uses_the_journal() -> None:
    assert DISK.to_target("/dev/vdc").parameters == (
        "/dev/vdc 0 32 J 2 block_size:4096 journal_sectors:16368"
    )


@pytest.mark.parametrize("disk_bytes", [4096, 8 * MIB])
def test_disk_without_room_for_its_tags_is_refused(disk_bytes: int) -> None:
    assert plan_disk_layout(16 * MIB, 8 * MIB).provided_bytes > 0
    with pytest.raises(ConfigError) as error:
        plan_disk_layout(disk_bytes, 8 * MIB)
    assert error.value.reason == "disk.size"


def active(parameters: str) -> DmTarget:
    return DmTarget(length_sectors=GIB // 512, kind="integrity", parameters=parameters)


GOOD_TABLE = active(
    "254:16 0 32 D 5 meta_device:1:1 block_size:4096 journal_sectors:264"
    " interleave_sectors:1 buffer_sectors:128"
)
GOOD_STATUS = active(f"0 {GIB // 512} -")


def test_active_device_as_planned_is_returned() -> None:
    assert verify_active(MEMORY, "254:16", GOOD_TABLE, GOOD_STATUS) == GOOD_TABLE


def test_active_device_as_newer_kernels_tell_of_it_is_returned() -> None:
    """Linux 7.3 names what there is of a journal last, and nothing of one that is not used."""
    table = active(
        "254:16 0 32 D 4 meta_device:1:1 block_size:4096 interleave_sectors:1 buffer_sectors:128"
    )
    assert verify_active(MEMORY, "254:16", table, GOOD_STATUS) == table


def test_journal_that_is_used_is_told_of_in_either_order() -> None:
    sectors = DISK.provided_bytes // 512
    status = active(f"0 {sectors} -")

    def on_disk(parameters: str) -> DmTarget:
        return DmTarget(length_sectors=sectors, kind="integrity", parameters=parameters)

    buffers = "interleave_sectors:32768 buffer_sectors:128"
    start, end = "254:16 0 32 J 6 block_size:4096", "journal_watermark:50 commit_time:10000"
    for journal in (f"journal_sectors:16368 {buffers}", f"{buffers} journal_sectors:16368"):
        table = on_disk(f"{start} {journal} {end}")
        assert verify_active(DISK, "254:16", table, status) == table
    for other in (f"{buffers} journal_sectors:264", buffers):
        with pytest.raises(VerificationError) as error:
            verify_active(DISK, "254:16", on_disk(f"{start} {other} {end}"), status)
        assert error.value.reason == "integrity.table"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("254:16", "254:32", id="another-disk"),
        pytest.param(" 32 ", " 17 ", id="another-tag"),
        pytest.param(" D ", " J ", id="another-mode"),
        pytest.param("meta_device:1:1", "meta_device:1:2", id="another-meta-device"),
        pytest.param("block_size:4096", "block_size:512", id="another-block-size"),
        pytest.param("interleave_sectors:1 ", "interleave_sectors:32768 ", id="interleave"),
        pytest.param("journal_sectors:264", "journal_sectors:528", id="another-journal"),
        pytest.param("5 meta", "6 recalculate meta", id="recalculating"),
    ],
)
def test_active_table_that_differs_is_refused(old: str, new: str) -> None:
    table = active(GOOD_TABLE.parameters.replace(old, new, 1))
    assert table != GOOD_TABLE
    with pytest.raises(VerificationError) as error:
        verify_active(MEMORY, "254:16", table, GOOD_STATUS)
    assert error.value.reason == "integrity.table"


def test_active_table_of_another_length_is_refused() -> None:
    table = replace(GOOD_TABLE, length_sectors=8)
    with pytest.raises(VerificationError) as error:
        verify_active(MEMORY, "254:16", table, GOOD_STATUS)
    assert error.value.reason == "integrity.table"


@pytest.mark.parametrize("status", [f"1 {GIB // 512} -", f"0 {GIB // 512 - 8} -", "0", ""])
def test_active_status_that_differs_is_refused(status: str) -> None:
    with pytest.raises(VerificationError) as error:
        verify_active(MEMORY, "254:16", GOOD_TABLE, active(status))
    assert error.value.reason == "integrity.sectors"
