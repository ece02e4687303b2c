"""The state that the host sees only moves forward, and every change is noticed."""

import pytest

from ccinit.agent.state import BootState
from ccinit.formats.planes.host_rpc import Code, Phase, StateFlag
from ccinit.kernel.clock import boottime
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.task import sleep


def test_state_counts_every_change() -> None:
    state = BootState()
    state.enter(Phase.MOUNT)
    state.enter(Phase.LISTEN)
    assert state.report() == (Phase.LISTEN, Code.OK, 2, 0)


def test_count_of_changes_begins_again_behind_what_the_host_can_be_told() -> None:
    state = BootState()
    state._seq = 0xFFFF_FFFF

    async def main() -> None:
        loop.start(change(), "change")
        await state.wait_for_change(0xFFFF_FFFF, 10.0)

    async def change() -> None:
        await sleep(0)
        state.enter(Phase.RUN)

    loop = EventLoop()
    loop.run(main())
    assert state.report() == (Phase.RUN, Code.OK, 0, 0)


@pytest.mark.parametrize("phase", [Phase.LISTEN, Phase.MOUNT])
def test_state_going_back_is_a_bug(phase: Phase) -> None:
    state = BootState()
    state.enter(Phase.LISTEN)
    with pytest.raises(RuntimeError):
        state.enter(phase)


def test_state_first_code_stays() -> None:
    state = BootState()
    state.fail(Code.STORAGE)
    state.fail(Code.IMAGE)
    assert state.report() == (Phase.ENTRY, Code.STORAGE, 1, 0)


def test_debug_is_one_bit_that_stays_and_no_phase() -> None:
    state = BootState()
    state.enter(Phase.RUN)
    bits = [state.is_debug]
    state.open_debug()
    bits.append(state.is_debug)
    assert bits == [False, True]
    state.enter(Phase.STOP)
    assert state.report() == (Phase.STOP, Code.OK, 3, StateFlag.DEBUG)


def test_wait_returns_on_a_change_and_all_waiters_see_it() -> None:
    state = BootState()
    loop = EventLoop()
    seen: list[int] = []

    async def waiter() -> None:
        await state.wait_for_change(0, 60)
        seen.append(state.report()[2])

    async def main() -> None:
        waiters = [loop.start(waiter(), f"waiter {n}") for n in range(3)]
        await sleep(0.01)
        assert not seen
        state.enter(Phase.MOUNT)
        for task in waiters:
            await task.join()

    loop.run(main())
    assert seen == [1, 1, 1]


def test_wait_returns_at_once_for_an_old_counter_and_after_its_time() -> None:
    state = BootState()
    state.enter(Phase.MOUNT)

    async def main() -> float:
        began = boottime()
        await state.wait_for_change(0, 60)
        await state.wait_for_change(1, 0.02)
        return boottime() - began

    assert 0.02 <= EventLoop().run(main()) < 10
