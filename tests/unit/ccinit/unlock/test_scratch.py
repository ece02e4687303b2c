import dataclasses

import pytest

from ccinit.errors import ConfigError
from ccinit.kernel.block import BlockDevice
from ccinit.unlock.integrity import count_meta_bytes
from ccinit.unlock.scratch import ScratchRequest, plan_scratch

GIB = 1 << 30
DISK = BlockDevice(
    name="vdb", number="254:16", size_bytes=32 * GIB, read_only=False, serial="", holders=()
)
REQUEST = ScratchRequest(name="data", disk=DISK, target="/run/scratch/data")
NEEDED_BYTES = count_meta_bytes(32 * GIB)


def test_scratch_within_its_budget_is_planned() -> None:
    (plan,) = plan_scratch([REQUEST], budget_bytes=NEEDED_BYTES)
    assert plan.meta_node == "/dev/ram0"
    assert plan.meta_bytes == NEEDED_BYTES
    assert plan.layout.provided_bytes == 32 * GIB
    assert plan.layout.mode == "D"


def test_each_scratch_disk_has_a_memory_device_of_its_own() -> None:
    plans = plan_scratch([REQUEST] * 4, budget_bytes=4 * NEEDED_BYTES)
    assert [plan.meta_node for plan in plans] == [f"/dev/ram{index}" for index in range(4)]


def refused(disk: BlockDevice = DISK, *, count: int = 1, budget_bytes: int = 1 << 40) -> str:
    request = dataclasses.replace(REQUEST, disk=disk)
    with pytest.raises(ConfigError) as error:
        plan_scratch([request] * count, budget_bytes=budget_bytes)
    return error.value.reason


def test_scratch_one_byte_over_its_budget_is_refused() -> None:
    assert refused(budget_bytes=NEEDED_BYTES - 1) == "scratch.budget"


def test_scratch_disks_share_one_budget() -> None:
    assert refused(count=2, budget_bytes=2 * NEEDED_BYTES - 1) == "scratch.budget"


def test_scratch_whose_tags_exceed_a_memory_device_is_refused() -> None:
    assert refused(dataclasses.replace(DISK, size_bytes=2048 * GIB)) == "scratch.budget"


def test_more_scratch_disks_than_memory_devices_are_refused() -> None:
    assert refused(count=5) == "scratch.count"


def test_read_only_scratch_is_refused() -> None:
    assert refused(dataclasses.replace(DISK, read_only=True)) == "disk.read_only"


def test_scratch_of_partial_blocks_is_refused() -> None:
    assert refused(dataclasses.replace(DISK, size_bytes=GIB + 512)) == "disk.size"
