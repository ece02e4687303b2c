"""What a container's end means: which is a failure, and what is told of it."""

import signal
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from ccinit.errors import ChildError, ConfigError
from ccinit.formats.pod.container import Restart
from ccinit.formats.pod.probe import LivenessProbe, Probe
from ccinit.kernel.event_loop import EventLoop, deadline
from ccinit.kernel.process import ExitStatus, Process
from ccinit.run import supervisor as module
from ccinit.run.container import ContainerEvent, ContainerState
from ccinit.run.supervisor import Supervisor
from ccinit.run.users import Identity
from ccinit.run.workload import Prepared, Sinks, Workload
from ccinit.values import replace
from tests.fakes.documents.containers import CONTAINER, IMAGE

ALIVE = LivenessProbe(
    probe=Probe(exec=(), tcp_port=80, delay_seconds=0, period_seconds=1, timeout_seconds=1),
    failures=1,
)
GOOD, BAD = ExitStatus(code=0, signal=0), ExitStatus(code=3, signal=0)

Program = Callable[[Supervisor], Coroutine[object, None, ExitStatus]]


async def ends_well(_supervisor: Supervisor) -> ExitStatus:
    return GOOD


async def ends_badly(_supervisor: Supervisor) -> ExitStatus:
    return BAD


async def cannot_be_made(_supervisor: Supervisor) -> ExitStatus:
    raise ChildError("crun.create", "no such program")


class Listening:
    """A process that ends well when it is asked to."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.signals.append(number)


async def does_not_answer(supervisor: Supervisor) -> ExitStatus:
    process = Listening()
    await supervisor._end_if_unhealthy(ALIVE, cast("Process", process))
    assert process.signals == [signal.SIGTERM, signal.SIGKILL]
    return GOOD


@pytest.mark.parametrize(
    ("program", "state", "told"),
    [
        (ends_well, ContainerState.DONE, ["web: exit code 0"]),
        (ends_badly, ContainerState.FAILED, ["web: exit code 3"]),
        (cannot_be_made, ContainerState.FAILED, ["web: crun.create: no such program"]),
        (
            does_not_answer,
            ContainerState.FAILED,
            ["web: does not answer, and is ended", "web: exit code 0"],
        ),
    ],
)
def test_container_has_done_its_work_only_if_its_program_says_so_unasked(
    program: Program, state: ContainerState, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, events = supervise([program], Restart.NEVER, monkeypatch)
    assert supervisor.life.state is state
    assert events == told
    assert supervisor.up.is_set()  # or nobody behind it would ever begin


def test_what_an_earlier_run_came_to_is_not_held_against_a_later_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs = [ends_badly, does_not_answer, cannot_be_made, ends_well]
    supervisor, events = supervise(programs, Restart.ON_FAILURE, monkeypatch)
    assert supervisor.life.state is ContainerState.DONE
    assert supervisor.last_status == GOOD
    assert events[-2:] == ["web: crun.create: no such program", "web: exit code 0"]


def test_container_that_cannot_be_prepared_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object) -> Prepared:
        raise ConfigError("run.user", "no such user")

    async def main() -> None:
        with pytest.raises(ConfigError, match="no such user"):
            await supervisor.run()
        async with deadline(5, "test.late"):
            await supervisor.up.wait()  # as those do that depend on it
            await supervisor.stop(60)

    monkeypatch.setattr(module, "prepare", refuse)
    supervisor, _ = make_supervisor(Restart.NEVER)
    EventLoop().run(main())


def make_supervisor(restart: Restart) -> tuple[Supervisor, list[str]]:
    """Return it, and what it tells."""
    events = list[str]()
    workload = Workload(
        container=replace(CONTAINER, restart=restart), image=IMAGE, lowers=(), scratch="",
        run_dir="", hostname="", address="", cgroup_path="/test",
    )  # fmt: skip
    sinks = Sinks(stdout=lambda _: None, stderr=lambda _: None, event=events.append)
    nobody: Any = None
    return Supervisor(workload, nobody, sinks, nobody), events


def supervise(
    programs: list[Program], restart: Restart, monkeypatch: pytest.MonkeyPatch
) -> tuple[Supervisor, list[str]]:
    """Let the container run one program after the other; return what was told, too."""
    left = iter(programs)

    async def prepare(*_: object) -> Prepared:
        return Prepared(identity=Identity(uid=1, gid=1, additional_gids=(), home=""), spec={})

    async def run_once(supervisor: Supervisor, _spec: object) -> ExitStatus:
        program = next(left)
        if program is not cannot_be_made:
            supervisor._move(ContainerEvent.CREATE)
            supervisor._move(ContainerEvent.START)
        return await program(supervisor)

    async def at_once(*_: object) -> None:
        return None

    monkeypatch.setattr(module, "prepare", prepare)
    monkeypatch.setattr(Supervisor, "_run_once", run_once)
    monkeypatch.setattr(Supervisor, "_pause", at_once)
    monkeypatch.setattr(module, "wait_for_no", at_once)
    monkeypatch.setattr(module, "_UNHEALTHY_SECONDS", 0.001)
    supervisor, events = make_supervisor(restart)

    async def main() -> None:
        async with deadline(5, "test.late"):
            await supervisor.run()

    EventLoop().run(main())
    assert next(left, None) is None
    return supervisor, events
