"""One supervisor with a container that is none: crun and its processes are fakes."""

import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

import pytest

from ccinit.formats.oci.image import ImageConfig
from ccinit.formats.pod.container import Restart
from ccinit.kernel.event_loop import Event, EventLoop, deadline, sleep
from ccinit.kernel.process import ExitStatus
from ccinit.run import supervisor as module
from ccinit.run.supervisor import Supervisor
from ccinit.run.users import Identity
from ccinit.run.workload import Prepared, Sinks, Workload
from ccinit.values import replace
from tests.fakes.documents.containers import CONTAINER, IMAGE

if TYPE_CHECKING:
    from ccinit.run.crun import Crun

USER = Identity(uid=1000, gid=100, additional_gids=(), home="")


class FakeProcess:
    """A first process that listens to SIGKILL only.

    Attributes:
        status: once it was collected, which may be before whoever waits for it has learnt it.
    """

    pid = 4321
    status: ExitStatus | None = None

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._ended = Event()
        self._status = ExitStatus(code=0, signal=signal.SIGKILL)

    def end(self, status: ExitStatus) -> None:
        self._status = status
        self._ended.set()

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.signals.append(number)
        if number == signal.SIGKILL:
            self._ended.set()

    async def wait(self) -> ExitStatus:
        await self._ended.wait()
        return self._status


class FakeCrun:
    """Takes its time to create, and notes what it is asked for."""

    def __init__(self) -> None:
        self.diary: list[str] = []
        self.process = FakeProcess()
        self.start_seconds = 0.0

    async def create(self, *_: object, **__: object) -> FakeProcess:
        self.diary.append("create")
        await sleep(0.02)
        return self.process

    async def start(self, _name: str) -> None:
        self.diary.append("start")
        await sleep(self.start_seconds)

    async def exec(self, name: str, process: dict[str, object], **streams: int) -> None:
        assert (name, streams) == ("web", {"stdin": 0, "stdout": 1, "stderr": 2})
        self.diary.append(f"exec {process['args']}")

    async def exec_on_terminal(self, name: str, process: dict[str, object]) -> None:
        assert name == "web"
        self.diary.append(f"exec {process['args']} on {process['consoleSize']}")

    async def delete(self, _name: str) -> None:
        assert self.process.signals[-1] == signal.SIGKILL
        self.diary.append("delete")


def prepare(monkeypatch: pytest.MonkeyPatch, spec: dict[str, object]) -> None:
    async def prepared(*_: object) -> Prepared:
        return Prepared(identity=USER, spec=spec)

    monkeypatch.setattr(module, "prepare", prepared)


async def no_child(*_: object) -> Identity:
    raise AssertionError("nobody is asked here")


def run(
    crun: FakeCrun,
    act: Callable[[Supervisor], Coroutine[Any, Any, None]],
    event: Callable[[str], None] = lambda _: None,
    *,
    image: ImageConfig = IMAGE,
    **changes: object,
) -> Supervisor:
    """Run the container while `act` does something to it."""
    container = replace(CONTAINER, **({"restart": Restart.ALWAYS} | changes))
    workload = Workload(
        container=container, image=image, lowers=(), scratch="", run_dir="", hostname="",
        address="", cgroup_path="/test",
    )  # fmt: skip
    sinks = Sinks(stdout=lambda _: None, stderr=lambda _: None, event=event)
    supervisor, loop = Supervisor(workload, cast("Crun", crun), sinks, no_child), EventLoop()

    async def main() -> None:
        async with deadline(5, "test.late"):
            task = loop.start(supervisor.run(), "supervisor")
            await act(supervisor)
            await task.join()

    loop.run(main())
    return supervisor
