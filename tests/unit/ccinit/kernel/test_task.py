"""What a task may wait for: descriptors, locks, events and time."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.clock import boottime
from ccinit.kernel.event_loop import (
    Event,
    EventLoop,
    Lock,
    TaskGroup,
    readable,
    sleep,
    writable,
)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_readable_waits_for_bytes(pipe: tuple[int, int]) -> None:
    loop = EventLoop()
    reader, writer = pipe

    async def write() -> None:
        await writable(writer)
        os.write(writer, b"x")

    async def main() -> bytes:
        loop.start(write(), "write")
        await readable(reader)
        return os.read(reader, 10)

    assert loop.run(main()) == b"x"


def test_readable_twice_for_one_fd_is_refused(pipe: tuple[int, int]) -> None:
    loop = EventLoop()

    async def wait() -> None:
        await readable(pipe[0])

    async def main() -> None:
        loop.start(wait(), "first")
        await sleep(0)
        await wait()

    with pytest.raises(RuntimeError, match="two tasks wait"):
        loop.run(main())


def test_readable_of_an_fd_that_epoll_refuses_is_a_kernel_error() -> None:
    async def main() -> None:
        fd = os.open(os.devnull, os.O_RDONLY)
        try:
            await readable(fd)
        finally:
            os.close(fd)

    with pytest.raises(KernelError) as error:
        EventLoop().run(main())
    assert error.value.reason == "kernel.epoll_ctl"


@pytest.mark.parametrize("is_closed", [False, True])
def test_wait_that_is_a_bug_fails_its_task_and_others_end_in_order(
    pipe: tuple[int, int],
    is_closed: bool,  # noqa: FBT001
) -> None:
    loop, steps = EventLoop(), []

    async def wait() -> None:
        await readable(-1 if is_closed else pipe[0])

    async def undo() -> None:
        try:
            await readable(pipe[0])
        finally:
            await sleep(0)
            steps.append("undone")

    async def main() -> None:
        loop.start(undo(), "other")
        await sleep(0)
        loop.start(wait(), "bug")
        await sleep(60)

    with pytest.raises(ValueError if is_closed else RuntimeError):
        loop.run(main())
    assert steps == ["undone"]


def test_both_directions_of_one_fd_are_watched_apart() -> None:
    loop = EventLoop()
    near, far = socket.socketpair()

    async def main() -> list[str]:
        seen = []

        async def write() -> None:
            await writable(near.fileno())
            seen.append("writable")

        async with TaskGroup() as group:
            group.start(write(), "write")
            await sleep(0.001)
            far.send(b"x")
            await readable(near.fileno())
            seen.append("readable")
        return seen

    with near, far:
        assert loop.run(main()) == ["writable", "readable"]


def test_turn_lets_one_task_in_at_a_time() -> None:
    lock, inside, seen = Lock(), [], []

    async def visit(name: str) -> None:
        async with lock:
            inside.append(name)
            seen.append(tuple(inside))
            await sleep(0)
            inside.remove(name)

    async def main() -> None:
        async with TaskGroup() as group:
            for name in "abc":
                group.start(visit(name), name)

    EventLoop().run(main())
    assert sorted(seen) == [("a",), ("b",), ("c",)]


def test_turn_is_free_again_after_a_failure() -> None:
    lock = Lock()

    async def main() -> str:
        with suppress(ValueError):
            async with lock:
                raise ValueError
        async with lock:
            return "inside"

    assert EventLoop().run(main()) == "inside"


def test_event_set_wakes_every_waiter() -> None:
    loop, event, woken = EventLoop(), Event(), []

    async def wait(name: str) -> None:
        await event.wait()
        woken.append(name)

    async def main() -> None:
        async with TaskGroup() as group:
            for name in ("a", "b"):
                group.start(wait(name), name)
            await sleep(0)
            event.set()

    loop.run(main())
    assert woken == ["a", "b"]


def test_sleep_takes_at_least_its_time_and_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    began, have_begun = boottime(), False
    monkeypatch.setattr(
        "ccinit.kernel.event_loop.boottime", lambda: boottime() if have_begun else began
    )

    async def nap(seconds: float) -> None:
        await sleep(seconds)
        order.append(f"{seconds:g}")

    async def main() -> float:
        nonlocal have_begun
        async with TaskGroup() as group:
            for seconds in (0.03, 0.01, 0.02):
                group.start(nap(seconds), "nap")
            await sleep(0)
            have_begun = True  # all of them at one moment
        return boottime() - began

    assert EventLoop().run(main()) >= 0.03
    assert order == ["0.01", "0.02", "0.03"]
