"""What the owner's calls hold: descriptors, where there are hardly any (R79), and memory."""

import os
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Never, cast

import pytest

from ccinit.agent.planes import owner_service
from ccinit.agent.planes.owner_caller import Caller
from ccinit.agent.planes.owner_copies import OpenCopies
from ccinit.agent.planes.owner_service import OwnerService
from ccinit.agent.planes.owner_streams import attend, follow_entries, open_outgoing
from ccinit.errors import ChildError, KernelError
from ccinit.formats.planes.owner_rpc import MAX_CALLS, ClientRole, Stream
from ccinit.formats.planes.owner_wire import LogLine, LogLineReader
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.event_loop import Event, EventLoop, TaskGroup, deadline, readable
from ccinit.kernel.task import sleep
from ccinit.owner.messages import Attach, Copy, Exec, Flow, Greeting, Logs
from ccinit.seal.recent import RecentEntries
from ccinit.values import replace
from tests.fakes.machine.scarcity import count_descriptors, descriptors_left

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest
    from ccinit.agent.phases.configuration import Configured

COPY = Copy(container="web", path="/etc/motd", into=False, mode=0)
EXEC = Exec(container="web", args=("/bin/sh",), tty=False, rows=0, columns=0)


class Container:
    """Refuses to start anything, and notes that it was asked to."""

    def __init__(self) -> None:
        self.asked = 0
        self.life = SimpleNamespace(is_final=False)

    async def exec(self, *_: object, **__: object) -> Any:
        self.asked += 1
        raise ChildError("crun.exec", "no such program")

    async def exec_on_terminal(self, *_: object, **__: object) -> Any:
        return await self.exec()

    def open_file(self, *_: object, **__: object) -> int:
        self.asked += 1
        raise KernelError(2, "openat2", "no such file")


def make_service(container: object, loop: EventLoop | None = None) -> OwnerService:
    service = OwnerService.__new__(OwnerService)
    service.guest = cast(
        "Guest",
        SimpleNamespace(
            containers={"web": container},
            log=SimpleNamespace(recent=RecentEntries(1 << 16)),
            loop=loop,
        ),
    )
    service.copies = OpenCopies(service.guest)
    manifest = SimpleNamespace(
        containers=(SimpleNamespace(name="web"),), allow=SimpleNamespace(exec=("web",))
    )
    service.configured = cast("Configured", SimpleNamespace(manifest=manifest))
    return service


CALLS = {
    "attach": (OwnerService.attach, Attach(container="web"), 6),
    "logs": (OwnerService.logs, Logs(container="web", since=0, follow=True), 4),
    "exec": (OwnerService.exec, EXEC, 8),
    "copy": (OwnerService.copy, COPY, 2),
}


@pytest.mark.parametrize(
    ("name", "left"), [(name, left) for name, call in CALLS.items() for left in range(call[2])]
)
def test_r79_call_without_enough_descriptors_leaves_none_behind(name: str, left: int) -> None:
    handler, call, _ = CALLS[name]
    container = Container()
    caller = Caller(lambda _: None, b"")

    async def main() -> None:
        async with caller.tasks:
            await cast("Any", handler)(make_service(container), caller, call)

    loop = EventLoop()
    before = count_descriptors()
    with descriptors_left(left), pytest.raises(KernelError, match="pipe2"):
        loop.run(main())
    assert count_descriptors() == before - 1  # the loop's own
    assert container.asked == 0  # nothing is started that nobody could attend


def test_pipe_that_a_client_does_not_read_never_holds_up_pid_1() -> None:
    (pipe,) = open_outgoing(1)
    try:
        assert not os.get_blocking(pipe.writer)
        assert os.get_blocking(pipe.reader)  # as the child expects it
    finally:
        pipe.close()


def test_child_that_lets_through_more_calls_than_a_client_has_gets_no_more_descriptors() -> None:
    """Or it could have all of PID 1's, and nobody else be answered."""
    service, caller = make_service(Container()), Caller(lambda _: None, b"")
    caller.greet(Greeting(role=ClientRole.LOGS, subject="ops", group=0x11EC))
    call: Any = partial(service.answers(caller)[Logs], Logs(container="", since=0, follow=True))
    recent = service.guest.log.recent

    async def main() -> int:
        async with caller.tasks:
            answers = [await call() for _ in range(MAX_CALLS)]
            held = count_descriptors()
            with pytest.raises(ChildError, match=r"child\.protocol"):
                await call()
            more = count_descriptors() - held
            for fd in answers.pop().fds:  # as a client does whose call is over
                os.close(fd)
            recent.append(0, Kind.STDOUT, "web", b"a")
            await sleep(0.01)
            answers.append(await call())
            for fd in (fd for answer in answers for fd in answer.fds):
                os.close(fd)
            caller.tasks.cancel()
        return more

    assert EventLoop().run(main()) == 0


@pytest.mark.parametrize("tty", [False, True])
def test_program_that_cannot_be_started_leaves_no_descriptor_behind(
    tty: bool,  # noqa: FBT001
) -> None:
    container = Container()
    call = Exec(container="web", args=("/bin/sh",), tty=tty, rows=24, columns=80)
    before = count_descriptors()
    start = owner_service._exec_on_terminal if tty else owner_service._exec_on_pipes
    with pytest.raises(ChildError, match=r"crun\.exec"):
        EventLoop().run(start(cast("Any", container), Caller(lambda _: None, b""), call))
    assert count_descriptors() == before
    assert container.asked == 1


class Starts:
    """Starts what it is asked for: the program has said something, and could be told something."""

    def __init__(self) -> None:
        self.options: dict[str, object] = {}
        self.stdin = -1

    async def exec(self, args: tuple[str, ...], *, stdin: int, stdout: int, stderr: int) -> Any:
        assert args == ("/bin/sh",)
        os.write(stdout, b"out")
        os.write(stderr, b"err")
        self.stdin = os.dup(stdin)

    async def exec_on_terminal(self, args: tuple[str, ...], *, rows: int, columns: int) -> Any:
        assert args == ("/bin/sh",)
        self.options = {"rows": rows, "columns": columns}
        return None, 77

    def open_file(self, path: str, **options: object) -> int:
        self.options = {"path": path, **options}
        return 78


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> tuple[Starts, Any]:
    """A container, and a caller whose programs nobody attends."""
    monkeypatch.setattr(owner_service, "attend", lambda _program, *, end: end)
    return Starts(), SimpleNamespace(start=lambda end, _name: os.close(end))


def test_program_has_the_other_end_of_each_of_its_callers_pipes(starts: tuple[Starts, Any]) -> None:
    container, caller = starts
    before = count_descriptors()
    answer: Any = EventLoop().run(OwnerService.exec(make_service(container), caller, EXEC))
    assert [(port.flow, port.fd) for port in answer.value.ports] == [
        (Flow.INPUT, Stream.INPUT),
        (Flow.OUTPUT, Stream.OUTPUT),
        (Flow.OUTPUT, Stream.ERROR),
        (Flow.END, 0),
    ]
    stdin, stdout, stderr, end = answer.fds
    assert (os.read(stdout, 9), os.read(stderr, 9), os.read(end, 9)) == (b"out", b"err", b"")
    os.write(stdin, b"in")
    assert os.read(container.stdin, 9) == b"in"
    for fd in (*answer.fds, container.stdin):
        os.close(fd)
    assert count_descriptors() == before


def test_program_on_a_terminal_is_told_its_size(starts: tuple[Starts, Any]) -> None:
    container, caller = starts
    call = replace(EXEC, tty=True, rows=24, columns=80)
    answer: Any = EventLoop().run(OwnerService.exec(make_service(container), caller, call))
    assert container.options == {"rows": 24, "columns": 80}
    assert answer.fds[:3] == (77, 77, 77)
    os.close(answer.fds[3])


@pytest.mark.parametrize(
    ("into", "flow", "stream"),
    [(True, Flow.INPUT, Stream.INPUT), (False, Flow.OUTPUT, Stream.OUTPUT)],
)
def test_file_is_opened_for_the_way_that_its_bytes_go(
    starts: tuple[Starts, Any],
    into: bool,  # noqa: FBT001
    flow: Flow,
    stream: Stream,
) -> None:
    container, caller = starts
    call = Copy(container="web", path="/etc/motd", into=into, mode=0o640)
    loop = EventLoop()
    answer: Any = loop.run(OwnerService.copy(make_service(container, loop), caller, call))
    assert container.options == {"path": "/etc/motd", "into": into, "mode": 0o640}
    assert [(port.flow, port.fd) for port in answer.value.ports] == [(Flow.END, 0), (flow, stream)]
    end, file = answer.fds
    assert file == 78
    os.close(end)


class Program:
    """A program that hangs in the kernel: a kill does not end it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def wait(self) -> Never:
        await Event().wait()
        raise AssertionError("it hangs")

    def kill(self) -> None:
        self.done.append("kill")

    def disown(self) -> None:
        self.done.append("disown")


def test_program_that_hangs_does_not_keep_its_connection() -> None:
    program, (reader, writer) = Program(), os.pipe()

    async def main() -> None:
        async with deadline(60, "test.hangs"), TaskGroup() as tasks:
            tasks.start(attend(cast("Any", program), end=writer), "exec")
            await sleep(0.01)
            tasks.cancel()  # as the end of the connection does

    EventLoop().run(main())
    assert program.done == ["kill", "disown"]
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_client_that_stands_still_holds_its_pipe_and_as_much_again() -> None:
    recent = RecentEntries(1 << 20)

    def log(count: int) -> None:
        for _ in range(count):
            recent.append(0, Kind.EVENT, "", bytes(16000))

    async def main() -> list[LogLine]:
        lines, content = LogLineReader(), os.pipe()
        end = os.pipe()
        os.set_blocking(content[1], False)
        log(60)
        follower = follow_entries(
            recent, 0, lambda _: True, method="events", follow=False, output=content[1], end=end[1]
        )
        got: list[LogLine] = []
        try:
            async with TaskGroup() as group:
                group.start(follower, "follower")
                await sleep(0.01)  # it has filled the pipe, and nobody reads
                log(100)
                await readable(content[0])
                while data := os.read(content[0], 1 << 20):
                    got += lines.feed(data)
                    await readable(content[0])
        finally:
            os.close(content[0])
            os.close(end[0])
        return got

    numbers = [line.sequence for line in EventLoop().run(main())]
    assert len([number for number in numbers if number < 60]) <= 8  # 64 KiB in the pipe, 64 here
    assert numbers[-50:] == list(range(110, 160))
