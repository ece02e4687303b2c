"""A promise is kept once, for all who wait."""

import pytest

from ccinit.kernel.event_loop import EventLoop, TaskGroup, sleep
from ccinit.kernel.promise import Promise


def test_all_who_wait_get_the_value_and_so_does_who_comes_later() -> None:
    promise: Promise[str] = Promise()
    got: list[str] = []
    kept: list[bool] = []

    async def wait() -> None:
        got.append(await promise.value())

    async def promised() -> None:
        async with TaskGroup() as group:
            group.start(wait(), "first")
            group.start(wait(), "second")
            await sleep(0)
            kept.append(promise.is_kept)
            assert got == []
            promise.keep("value")
            kept.append(promise.is_kept)
        await wait()

    EventLoop().run(promised())
    assert got == ["value"] * 3
    assert kept == [False, True]


def test_promise_is_kept_once() -> None:
    promise: Promise[None] = Promise()
    promise.keep(None)
    with pytest.raises(RuntimeError):
        promise.keep(None)
