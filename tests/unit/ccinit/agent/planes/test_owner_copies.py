"""The owner's copies at the end of a pod: who is told, who is waited for, who is left behind."""

import errno
import os
import select
import signal
import socket
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ccinit.agent.planes import owner_copies
from ccinit.agent.planes.owner_caller import Caller
from ccinit.agent.planes.owner_copies import MAX_COPIES, OpenCopies
from ccinit.agent.planes.owner_service import OwnerService
from ccinit.errors import CcinitError, ChildError, DeadlineError, KernelError
from ccinit.formats.encoding import wire
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.kernel.descriptor import close_all
from ccinit.kernel.event_loop import EventLoop, sleep
from ccinit.owner.messages import MAX_END_BYTES, CallEnd, Copy
from tests.fakes.machine.interruptions import Stop, each_stop
from tests.fakes.machine.scarcity import count_descriptors, descriptors_left

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest


class Bench:
    """Copies, and the calls and children that have them."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.events: list[str] = []
        guest = SimpleNamespace(loop=self.loop, event=self.events.append)
        self.copies = OpenCopies(cast("Guest", guest))
        self.caller = Caller(self.events.append, b"")

    def run(self, main: Callable[[], Coroutine[object, None, None]]) -> None:
        """Run it, and see that no descriptor of ours is left."""
        before = count_descriptors()
        self.loop.run(main())
        assert count_descriptors() == before - 1  # the loop's own

    async def wait_until_closed(self) -> None:
        while self.copies._open:
            await sleep(0.001)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def told(end: int) -> CallEnd:
    return wire.decode(CallEnd, os.read(end, MAX_END_BYTES))


@pytest.mark.parametrize(
    ("into", "why"),
    [
        (False, "the pod ended before the file was read to its end"),
        (True, "the pod ended, and the file there has only what had come by then"),
    ],
)
def test_end_tells_every_copy_and_waits_until_each_is_closed(
    bench: Bench,
    into: bool,  # noqa: FBT001
    why: str,
) -> None:
    async def main() -> None:
        ends = [bench.copies.begin(bench.caller, into=into) for _ in range(2)]
        ending = bench.loop.start(bench.copies.end(), "end")
        for end in ends:
            await sleep(0.01)
            assert not ending.is_done()
            refused = CallEnd(code=RpcError.FAILED, reason="owner.pod_ended", detail=why)
            assert told(end) == refused
            os.close(end)
        await ending.join()

    bench.run(main)
    assert bench.events == ["owner: nobody: a copy ends with the pod"] * 2


def test_copy_that_is_over_is_not_waited_for(bench: Bench) -> None:
    async def main() -> None:
        os.close(bench.copies.begin(bench.caller, into=True))
        await bench.copies.end()

    bench.run(main)
    assert bench.copies.are_over


def test_pipe_has_nothing_to_read_before_the_end(bench: Bench) -> None:
    async def main() -> None:
        end = bench.copies.begin(bench.caller, into=True)
        os.set_blocking(end, False)
        await sleep(0.01)
        with pytest.raises(BlockingIOError):
            os.read(end, 1)
        os.close(end)
        await bench.wait_until_closed()

    bench.run(main)


def test_child_that_does_not_close_its_file_loses_its_connection_and_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_copies, "CLOSE_SECONDS", 0.02)
    why: list[CcinitError] = []

    async def serve(caller: Caller, end: int) -> None:
        try:
            await caller.until_ended()
        except CcinitError as error:
            why.append(error)
        await sleep(0.02)  # until its child is dead
        os.close(end)

    async def main() -> None:
        other = Caller(bench.events.append, b"")
        idle = bench.loop.start(other.until_ended(), "other connection")
        os.close(bench.copies.begin(other, into=False))
        end = bench.copies.begin(bench.caller, into=True)
        connection = bench.loop.start(serve(bench.caller, end), "connection")
        await bench.copies.end()
        assert connection.is_done()
        assert not idle.is_done()
        await idle.stop()

    bench.run(main)
    (error,) = why
    assert isinstance(error, DeadlineError)
    assert error.reason == "owner.copy_open"


def test_client_has_no_more_copies_than_its_child_can_have_open(bench: Bench) -> None:
    """Or a compromised child could have all of PID 1's descriptors."""

    async def main() -> None:
        ends = [bench.copies.begin(bench.caller, into=True) for _ in range(MAX_COPIES)]
        held = count_descriptors()
        with pytest.raises(ChildError, match=r"child\.protocol"):
            bench.copies.begin(bench.caller, into=True)
        assert count_descriptors() == held
        ends.append(bench.copies.begin(Caller(bench.events.append, b""), into=True))
        os.close(ends.pop(0))
        await sleep(0.01)
        ends.append(bench.copies.begin(bench.caller, into=True))
        for end in ends:
            os.close(end)
        await bench.wait_until_closed()

    bench.run(main)


def test_copy_that_cannot_be_watched_ends_its_connection(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no more watches")

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(bench.loop, "watch", refuse)
            end = bench.copies.begin(bench.caller, into=True)
            with pytest.raises(KernelError, match="epoll_ctl"):
                await bench.caller.until_ended()
        assert os.read(end, 1) == b""
        os.close(end)

    bench.run(main)


@pytest.mark.parametrize("left", [0, 1])
def test_r79_copy_without_enough_descriptors_leaves_none_behind(bench: Bench, left: int) -> None:
    async def main() -> None:
        with descriptors_left(left), pytest.raises(KernelError, match="pipe2"):
            bench.copies.begin(bench.caller, into=True)
        assert not bench.copies._open

    bench.run(main)


def test_end_that_is_stopped_leaves_nothing_and_can_no_longer_be_passed_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner_copies, "CLOSE_SECONDS", 0.01)
    before = count_descriptors()

    async def close_late(end: int) -> None:
        await sleep(0.03)
        os.close(end)

    async def main(bench: Bench, stop: Stop) -> BaseException | None:
        end = bench.copies.begin(bench.caller, into=True)
        child = bench.loop.start(close_late(end), "child")
        await sleep(0)
        failure = await stop.attempt(bench.copies.end())
        await child.join()
        await bench.wait_until_closed()
        return failure

    for stop in each_stop():
        bench = Bench()
        stop.verify(bench.loop.run(main(bench, stop)))
        assert bench.copies.are_over, stop
        assert count_descriptors() == before, stop


def kill_holder(descriptors: tuple[int, ...]) -> None:
    """Kill a process that has received the descriptors, as a child does, and nobody else has."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = os.fork()
        if program == 0:
            os.closerange(3, theirs.fileno())
            os.closerange(theirs.fileno() + 1, 1024)
            socket.recv_fds(theirs, 1, len(descriptors))
            theirs.send(b"x")
            signal.pause()
        socket.send_fds(ours, (b"x",), descriptors)
        ours.recv(1)
        close_all(descriptors)
        os.kill(program, signal.SIGKILL)
        os.waitpid(program, 0)


def test_pipe_of_a_child_that_is_killed_closes_behind_its_file(bench: Bench) -> None:
    """The kernel may still be writing when it closes the file: the disk must not go before."""
    file, shown = os.pipe()
    container = SimpleNamespace(open_file=lambda *_, **__: file)
    service: Any = SimpleNamespace(copies=bench.copies, _allowed=lambda _: container)

    async def main() -> None:
        call = Copy(container="web", path="/data/file", into=True, mode=0)
        answer = await OwnerService.copy(service, bench.caller, call)
        (end,) = bench.copies._open
        with select.epoll() as closing:
            for descriptor in (shown, end):
                closing.register(descriptor, select.EPOLLERR | select.EPOLLET)
            kill_holder(answer.fds)
            closed = [descriptor for descriptor, _ in closing.poll(10)]  # in that order
        assert closed == [shown, end]
        await bench.wait_until_closed()
        os.close(shown)

    bench.loop.run(main())
