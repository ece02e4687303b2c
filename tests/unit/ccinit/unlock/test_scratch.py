import pytest

from ccinit.errors import ConfigError
from ccinit.formats.pod_volume import ScratchProfile
from ccinit.kernel.block import BlockDevice
from ccinit.unlock.integrity import count_meta_bytes
from ccinit.unlock.scratch import ScratchRequest, plan_scratch, verify_memory
from ccinit.values import replace

GIB = 1 << 30
DISK = BlockDevice(
    name="vdb", number="254:16", size_bytes=32 * GIB, read_only=False, serial="", holders=()
)
REQUEST = ScratchRequest(
    name="data", disk=DISK, target="/run/scratch/data", profile=ScratchProfile.AEAD_RAM
)
ON_DISK = replace(REQUEST, profile=ScratchProfile.AEAD_DISK)
CRYPT = replace(REQUEST, profile=ScratchProfile.CRYPT)
NEEDED_BYTES = count_meta_bytes(32 * GIB)


def test_scratch_within_its_budget_is_planned() -> None:
    (plan,) = plan_scratch([REQUEST], budget_bytes=NEEDED_BYTES)
    assert plan.layout is not None
    assert plan.layout.meta_node == "/dev/ram0"
    assert plan.meta_bytes == NEEDED_BYTES
    assert plan.layout.provided_bytes == 32 * GIB
    assert plan.layout.mode == "D"


def test_each_scratch_disk_has_a_memory_device_of_its_own() -> None:
    plans = plan_scratch([REQUEST] * 4, budget_bytes=4 * NEEDED_BYTES)
    nodes = [plan.layout.meta_node for plan in plans if plan.layout]
    assert nodes == [f"/dev/ram{index}" for index in range(4)]


def test_scratch_with_tags_on_its_disk_takes_no_memory_and_no_journal() -> None:
    ours, theirs = plan_scratch([ON_DISK, REQUEST], budget_bytes=NEEDED_BYTES)
    assert ours.meta_bytes == 0
    assert ours.layout is not None
    assert ours.layout.meta_node == ""
    assert ours.layout.mode == "D"
    assert ours.layout.provided_bytes < 32 * GIB
    assert theirs.layout is not None
    assert theirs.layout.meta_node == "/dev/ram0"


def test_scratch_without_tags_has_no_layout() -> None:
    (plan,) = plan_scratch([CRYPT], budget_bytes=0)
    assert (plan.layout, plan.meta_bytes) == (None, 0)


def test_only_tags_in_memory_count_against_the_memory_devices() -> None:
    plans = plan_scratch([REQUEST] * 4 + [ON_DISK, CRYPT], budget_bytes=4 * NEEDED_BYTES)
    assert len(plans) == 6


def test_tags_may_take_half_of_the_memory_that_is_free_and_no_more() -> None:
    plans = plan_scratch([REQUEST, ON_DISK], budget_bytes=NEEDED_BYTES)
    verify_memory(plans, 2 * NEEDED_BYTES)
    with pytest.raises(ConfigError) as error:
        verify_memory(plans, 2 * NEEDED_BYTES - 2)
    assert error.value.reason == "scratch.memory"


def refused(disk: BlockDevice = DISK, *, count: int = 1, budget_bytes: int = 1 << 40) -> str:
    request = replace(REQUEST, disk=disk)
    with pytest.raises(ConfigError) as error:
        plan_scratch([request] * count, budget_bytes=budget_bytes)
    return error.value.reason


def test_scratch_one_byte_over_its_budget_is_refused() -> None:
    assert refused(budget_bytes=NEEDED_BYTES - 1) == "scratch.budget"


def test_scratch_disks_share_one_budget() -> None:
    assert refused(count=2, budget_bytes=2 * NEEDED_BYTES - 1) == "scratch.budget"


def test_scratch_whose_tags_exceed_a_memory_device_is_refused() -> None:
    assert refused(replace(DISK, size_bytes=2048 * GIB)) == "scratch.budget"


def test_more_scratch_disks_than_memory_devices_are_refused() -> None:
    assert refused(count=5) == "scratch.count"


def test_read_only_scratch_is_refused() -> None:
    assert refused(replace(DISK, read_only=True)) == "disk.read_only"


@pytest.mark.parametrize("profile", ScratchProfile)
def test_scratch_of_partial_blocks_is_refused(profile: ScratchProfile) -> None:
    disk = replace(DISK, size_bytes=GIB + 512)
    with pytest.raises(ConfigError) as error:
        plan_scratch([replace(REQUEST, disk=disk, profile=profile)], budget_bytes=1 << 40)
    assert error.value.reason == "disk.size"
