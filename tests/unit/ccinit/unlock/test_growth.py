from collections.abc import Iterable

import pytest

from ccinit.errors import VerificationError
from ccinit.formats.disk.ext4 import GROUP_BLOCKS, Ext4Superblock
from ccinit.unlock.growth import Growth, plan_growth, verify_can_grow

STEP = 16 * GROUP_BLOCKS
OLD, NEW = GROUP_BLOCKS + 1000, 40 * GROUP_BLOCKS + 5000


def growth(old_blocks: int, new_blocks: int) -> Growth:
    return Growth(old_blocks=old_blocks, new_blocks=new_blocks)


def plan(
    count: int, device: int = NEW, former: tuple[int, ...] = (OLD,), *, can_grow: bool = True
) -> Growth | None:
    found = Ext4Superblock(block_count=count, can_grow=can_grow, has_errors=False)
    return plan_growth("data", found, device, former)


def refused(
    count: int, device: int = NEW, former: tuple[int, ...] = (OLD,), *, can_grow: bool = True
) -> str:
    with pytest.raises(VerificationError) as error:
        plan(count, device, former, can_grow=can_grow)
    return error.value.reason


@pytest.mark.parametrize("former", [(), (OLD,)])
def test_file_system_that_fills_its_device_does_not_grow(former: tuple[int, ...]) -> None:
    assert plan(NEW, former=former) is None


def test_file_system_grows_from_a_size_that_is_named() -> None:
    assert plan(OLD) == growth(OLD, NEW)
    assert plan(OLD, former=(1000, OLD)) == growth(OLD, NEW)


@pytest.mark.parametrize(
    ("count", "former"),
    [
        pytest.param(OLD, (), id="none-is-named"),
        pytest.param(OLD, (OLD + 8,), id="another-is-named"),
        pytest.param(OLD - 1, (OLD,), id="smaller"),
        pytest.param(OLD + 1, (OLD,), id="larger"),
        pytest.param(2 * GROUP_BLOCKS, (), id="whole-groups-but-none-is-named"),
        pytest.param(GROUP_BLOCKS, (3 * GROUP_BLOCKS,), id="whole-groups-below-the-named"),
        pytest.param(NEW + GROUP_BLOCKS, (OLD,), id="larger-than-the-device"),
        pytest.param(41 * GROUP_BLOCKS, (OLD,), id="whole-groups-beyond-the-device"),
    ],
)
def test_file_system_of_a_size_that_nobody_named_is_refused(
    count: int, former: tuple[int, ...]
) -> None:
    assert refused(count, former=former) == "volume.size"


@pytest.mark.parametrize("groups", [1, 2, 16, 40])
def test_growing_goes_on_where_it_was_cut_off(groups: int) -> None:
    count = groups * GROUP_BLOCKS
    assert plan(count) == growth(count, NEW)


def test_rest_that_is_too_small_for_a_group_may_stay_unused() -> None:
    assert plan(40 * GROUP_BLOCKS, former=()) is None
    assert refused(39 * GROUP_BLOCKS, former=()) == "volume.size"


def test_file_system_of_an_older_version_opens_and_does_not_grow() -> None:
    assert plan(NEW, can_grow=False) is None
    assert plan(40 * GROUP_BLOCKS, can_grow=False) is None
    assert refused(OLD, can_grow=False) == "volume.growth"


def test_file_system_with_errors_is_not_begun_to_grow_and_opens_where_that_had_begun() -> None:
    broken = Ext4Superblock(block_count=2 * GROUP_BLOCKS, can_grow=True, has_errors=True)
    with pytest.raises(VerificationError) as error:
        verify_can_grow("data", broken)
    assert error.value.reason == "volume.growth"
    assert plan_growth("data", broken, NEW, (OLD,)) is None
    with pytest.raises(VerificationError) as error:
        plan_growth("data", broken, NEW, ())
    assert error.value.reason == "volume.size"


def test_steps_end_with_whole_groups_until_the_device_ends() -> None:
    assert list(growth(OLD, NEW).steps()) == [STEP, 2 * STEP, NEW]
    assert list(growth(STEP, 2 * STEP).steps()) == [2 * STEP]
    assert list(growth(OLD, OLD + 8).steps()) == [OLD + 8]


def blocks_of(extents: Iterable[tuple[int, int]]) -> set[int]:
    return {
        block
        for offset, length in extents
        for block in range(offset // 4096, (offset + length) // 4096)
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (OLD, NEW),
        (GROUP_BLOCKS, NEW),
        (OLD, OLD + 8),
        (STEP, STEP + 700),
        (STEP - 1, STEP + 10),
        (3 * STEP, 7 * STEP),
    ],
)
def test_what_the_kernel_reads_is_written_before_and_nothing_that_was_there(
    old: int, new: int
) -> None:
    planned = growth(old, new)
    parts = [blocks_of(part) for part in planned.unwritten()]
    written = set().union(*parts)
    first = -(-old // GROUP_BLOCKS) * GROUP_BLOCKS
    starts = range(first, new, GROUP_BLOCKS)
    heads = {start + index for start in starts for index in range(64)}
    assert written >= {block for block in heads if block < new}
    assert written >= {step - 1 for step in planned.steps()}
    assert old <= min(written)
    assert max(written) == new - 1
    assert len(parts) == len(list(planned.steps()))
