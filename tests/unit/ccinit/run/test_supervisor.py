"""A container's end, whatever it was at when the end came; crun and its processes are fakes."""

import errno
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from ccinit.errors import ChildError, ConfigError, KernelError
from ccinit.formats.pod.container import Restart
from ccinit.formats.pod.probe import LivenessProbe, Probe
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.event_loop import Event, EventLoop, sleep
from ccinit.kernel.process import ExitStatus
from ccinit.run import preparation
from ccinit.run import supervisor as module
from ccinit.run.container import ContainerState
from ccinit.run.supervisor import Supervisor
from ccinit.run.workload import Sinks, Workload
from ccinit.values import replace
from tests.fakes.documents.containers import CONTAINER, IMAGE
from tests.unit.ccinit.run.supervisor_world import (
    USER,
    FakeCrun,
    FakeProcess,
    no_child,
    prepare,
    run,
)

if TYPE_CHECKING:
    from ccinit.run.crun import Crun

ALIVE = LivenessProbe(
    probe=Probe(exec=(), tcp_port=80, delay_seconds=0, period_seconds=1, timeout_seconds=1),
    failures=1,
)


@pytest.fixture
def crun(monkeypatch: pytest.MonkeyPatch) -> FakeCrun:
    prepare(monkeypatch, {})
    return FakeCrun()


def test_container_that_is_stopped_while_it_is_made_never_starts(crun: FakeCrun) -> None:
    async def stop(supervisor: Supervisor) -> None:
        await sleep(0.01)
        assert crun.diary == ["create"]
        await supervisor.stop(0)

    assert run(crun, stop).life.state is ContainerState.STOPPED
    assert crun.diary == ["create", "delete"]


def test_container_that_is_stopped_while_it_starts_is_not_left_to_its_grace(
    crun: FakeCrun,
) -> None:
    """The first process of a PID namespace gets no signal that it has no handler for."""
    crun.start_seconds = 0.02

    async def stop(supervisor: Supervisor) -> None:
        while "start" not in crun.diary:
            await sleep(0.001)
        await supervisor.stop(60)

    assert run(crun, stop).life.state is ContainerState.STOPPED
    assert crun.diary == ["create", "start", "delete"]


@pytest.mark.parametrize(
    ("wish", "asked"), [("", signal.SIGTERM), ("SIGQUIT", signal.SIGQUIT)], ids=str
)
def test_container_that_is_stopped_while_it_runs_is_asked_first(
    crun: FakeCrun, wish: str, asked: signal.Signals
) -> None:
    async def stop(supervisor: Supervisor) -> None:
        await supervisor.up.wait()
        await supervisor.stop(0.02)
        assert supervisor.life.state is ContainerState.STOPPED
        assert crun.diary == ["create", "start", "delete"]

    run(crun, stop, image=replace(IMAGE, stop_signal=wish))
    assert crun.process.signals[:2] == [asked, signal.SIGKILL]


def test_container_that_is_stopped_between_two_starts_says_so(crun: FakeCrun) -> None:
    """Its log is followed until it is over, and nothing else would tell that it is."""
    events: list[str] = []

    async def stop(supervisor: Supervisor) -> None:
        await supervisor.up.wait()
        crun.process.end(ExitStatus(code=1, signal=0))
        while supervisor.life.state is not ContainerState.RETRYING:
            await sleep(0.001)
        assert events == ["web: exit code 1"]
        await supervisor.stop(0)

    assert run(crun, stop, events.append).life.state is ContainerState.STOPPED
    assert events == ["web: exit code 1", "web: stopped, and not started again"]


def test_processes_killed_for_memory_are_told_and_counted_over_all_runs(
    crun: FakeCrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel counts is gone with each run's cgroup, and a kill ends the run."""
    events: list[str] = []

    def kills(_cgroup: Cgroup) -> int:
        assert crun.diary[-1] != "delete"
        return 2

    async def restart(supervisor: Supervisor) -> None:
        await supervisor.up.wait()
        crun.process.kill()
        while crun.diary.count("start") < 2:
            await sleep(0.01)
        await supervisor.stop(0)

    monkeypatch.setattr(Cgroup, "oom_kills", kills)
    monkeypatch.setattr(Supervisor, "_pause", lambda _: sleep(0))
    counted = run(crun, restart, events.append).oom_kills
    killed = "web: out of memory, 2 processes were killed"
    assert events[:2] == [killed, "web: signal 9"]
    assert events.count(killed) >= 2  # more where the machine is busy: what is killed starts again
    assert counted == 2 * events.count(killed)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EMFILE])
def test_count_that_cannot_be_read_is_told_unless_there_is_none(
    crun: FakeCrun, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    events: list[str] = []
    failure = KernelError(number, "cgroup", "memory.events")

    def refuse(_cgroup: Cgroup) -> int:
        raise failure

    async def end(supervisor: Supervisor) -> None:
        await supervisor.up.wait()
        crun.process.end(ExitStatus(code=0, signal=0))

    monkeypatch.setattr(Cgroup, "oom_kills", refuse)
    assert run(crun, end, events.append, restart=Restart.NEVER).oom_kills == 0
    assert crun.diary == ["create", "start", "delete"]
    told = [f"web: {failure}"] if number == errno.EMFILE else []
    assert events == [*told, "web: exit code 0"]


def test_container_whose_probe_cannot_be_made_is_ended_all_the_same(
    crun: FakeCrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise KernelError(24, "socket", "AF_INET")

    monkeypatch.setattr(module, "wait_for_no", fail)

    async def wait(supervisor: Supervisor) -> None:
        while "delete" not in crun.diary:
            await sleep(0.01)
        assert supervisor.life.state is ContainerState.RETRYING
        await supervisor.stop(0)

    assert run(crun, wait, alive=ALIVE).life.state is ContainerState.STOPPED
    assert crun.diary == ["create", "start", "delete"]


@pytest.mark.parametrize("probe", ["ready", "alive"])
def test_end_of_a_program_does_not_wait_for_its_probes(
    crun: FakeCrun, monkeypatch: pytest.MonkeyPatch, probe: str
) -> None:
    async def wait_for_ever(*_: object) -> None:
        await Event().wait()

    async def end(_supervisor: Supervisor) -> None:
        crun.process.end(ExitStatus(code=0, signal=0))

    monkeypatch.setattr(module, "wait_for_yes", wait_for_ever)
    monkeypatch.setattr(module, "wait_for_no", wait_for_ever)
    asked = {"alive": ALIVE} if probe == "alive" else {"ready": ALIVE.probe}
    assert run(crun, end, restart=Restart.NEVER, **asked).life.state is ContainerState.DONE


def test_output_that_somebody_else_holds_open_does_not_keep_a_container(
    crun: FakeCrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, held = crun.create, list[int]()

    async def create_and_hold(*names: object, stdout: int, stderr: int) -> FakeProcess:
        held.append(os.dup(stdout))
        return await create(*names, stdout=stdout, stderr=stderr)

    async def end(_supervisor: Supervisor) -> None:
        crun.process.end(ExitStatus(code=0, signal=0))

    crun.create = create_and_hold  # type: ignore[assignment]
    monkeypatch.setattr(module, "_DRAIN_SECONDS", 0.01)
    assert run(crun, end, restart=Restart.NEVER).life.state is ContainerState.DONE
    for descriptor in held:
        os.close(descriptor)


@pytest.mark.parametrize("is_cleared", [True, False])
def test_container_that_is_not_cleared_away_is_told_and_ended_as_its_program_did(
    crun: FakeCrun,
    is_cleared: bool,  # noqa: FBT001
) -> None:
    failure = ChildError("crun.delete", "web: exit code 1")
    supervisors: list[Supervisor] = []

    async def fail(_name: str) -> None:
        raise failure

    async def end(supervisor: Supervisor) -> None:
        supervisors.append(supervisor)
        await supervisor.up.wait()
        crun.process.end(ExitStatus(code=3, signal=0))

    if not is_cleared:
        crun.delete = fail  # type: ignore[method-assign]
    with nullcontext() if is_cleared else pytest.raises(ChildError, match=r"crun\.delete"):
        run(crun, end, restart=Restart.NEVER)
    (supervisor,) = supervisors
    assert supervisor.life.state is ContainerState.FAILED
    assert str(supervisor.last_status) == "exit code 3"


def test_container_that_a_later_run_clears_away_is_not_told_as_left(
    crun: FakeCrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete, failures = crun.delete, [ChildError("crun.delete", "web: exit code 1")]

    async def fail_once(name: str) -> None:
        if failures:
            raise failures.pop()
        await delete(name)

    async def stop_after_two(supervisor: Supervisor) -> None:
        crun.process.end(ExitStatus(code=1, signal=0))
        while "delete" not in crun.diary:
            await sleep(0.001)
        await supervisor.stop(0)

    crun.delete = fail_once  # type: ignore[assignment]
    monkeypatch.setattr(Supervisor, "_pause", lambda _: sleep(0))
    events: list[str] = []
    assert run(crun, stop_after_two, events.append).life.state is ContainerState.STOPPED
    assert events[0] == "web: crun.delete: web: exit code 1"


async def exec_id(supervisor: Supervisor) -> None:
    await supervisor.exec(("/bin/id",), stdin=0, stdout=1, stderr=2)


async def exec_on_terminal(supervisor: Supervisor) -> None:
    await supervisor.exec_on_terminal(("/bin/sh",), rows=24, columns=80)


async def send_signal(supervisor: Supervisor) -> None:
    supervisor.send_signal(signal.SIGUSR1)


async def open_file(supervisor: Supervisor) -> None:
    supervisor.open_file("/etc/hostname", into=True, mode=0o640)


REQUESTS = (exec_id, exec_on_terminal, send_signal, open_file)


async def refuse_all(supervisor: Supervisor) -> None:
    for ask in REQUESTS:
        with pytest.raises(ConfigError) as refused:
            await ask(supervisor)
        assert refused.value.reason == "run.exec"


def test_container_is_asked_for_nothing_but_while_it_runs(
    crun: FakeCrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(monkeypatch, {"process": {"env": []}})
    crun.start_seconds = 0.02
    opened: list[tuple[object, ...]] = []

    def note(*place: object, **what: object) -> int:
        opened.append((*place, what))
        return -1

    monkeypatch.setattr(module, "open_file", note)

    async def act(supervisor: Supervisor) -> None:
        await refuse_all(supervisor)
        await sleep(0.01)
        assert crun.diary == ["create"]
        await refuse_all(supervisor)
        while "start" not in crun.diary:
            await sleep(0.001)
        assert supervisor.life.state is ContainerState.CREATED
        await refuse_all(supervisor)
        await supervisor.up.wait()
        for ask in REQUESTS:
            await ask(supervisor)
        crun.process.status = ExitStatus(code=0, signal=0)
        await refuse_all(supervisor)  # /proc/4321 may be another process's by now
        await supervisor.stop(0)
        while not supervisor.life.is_final:
            await sleep(0)
        await refuse_all(supervisor)

    run(crun, act)
    assert crun.diary == [
        "create",
        "start",
        "exec ['/bin/id']",
        "exec ['/bin/sh'] on {'height': 24, 'width': 80}",
        "delete",
    ]
    assert crun.process.signals[0] == signal.SIGUSR1
    how = {"into": True, "mode": 0o640, "owner": USER}
    assert opened == [(crun.process.pid, "/etc/hostname", how)]


def test_secrets_are_replaced_between_preparation_and_the_end(
    crun: FakeCrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: list[tuple[object, ...]] = []
    monkeypatch.setattr(module, "replace_secrets", lambda *what: replaced.append(what))

    def refuse(supervisor: Supervisor) -> None:
        with pytest.raises(ConfigError) as refused:
            supervisor.replace_secrets(())
        assert refused.value.reason == "run.exec"

    async def act(supervisor: Supervisor) -> None:
        refuse(supervisor)
        await supervisor.up.wait()
        supervisor.replace_secrets(())
        crun.process.end(ExitStatus(code=1, signal=0))
        while supervisor.life.state is not ContainerState.RETRYING:
            await sleep(0.001)
        supervisor.replace_secrets(())  # the next run finds them
        await supervisor.stop(0)
        refuse(supervisor)  # they are erased

    run(crun, act)
    assert replaced == [("/secrets", (), (), USER)] * 2


@pytest.mark.parametrize("is_erased", [True, False])
@pytest.mark.parametrize("is_prepared", [True, False])
def test_secrets_that_are_not_erased_are_what_the_owner_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_prepared: bool,  # noqa: FBT001
    is_erased: bool,  # noqa: FBT001
) -> None:
    """The directories above them stay for it, and why the container never ran is told besides."""

    def write(directory: str, *_: object) -> tuple[()]:
        Path(directory, "kept").mkdir(parents=True)
        if not is_prepared:
            raise KernelError(28, "write_secret", "secrets")
        return ()

    def erase(directory: str) -> None:
        if not is_erased:
            raise KernelError(5, "erase_secret", "secrets")
        Path(directory, "kept").rmdir()
        Path(directory).rmdir()

    async def look(*_: object) -> tuple[None, tuple[()]]:
        return None, ()

    for name in ("activate_rootfs", "detach"):
        monkeypatch.setattr(preparation, name, lambda *_: None)
    monkeypatch.setattr(preparation, "_inspect_root", look)
    monkeypatch.setattr(preparation, "plan_spec", lambda *_, **__: {})
    monkeypatch.setattr(preparation, "write_secrets", write)
    monkeypatch.setattr(preparation, "erase_secrets", erase)
    events: list[str] = []
    workload = Workload(
        container=CONTAINER, image=IMAGE, lowers=("/low",), scratch="",
        run_dir=str(tmp_path / "web"), hostname="", address="", cgroup_path="/test",
    )  # fmt: skip
    sinks = Sinks(stdout=lambda _: None, stderr=lambda _: None, event=events.append)
    crun = FakeCrun()
    crun.process.end(ExitStatus(code=0, signal=0))
    supervisor = Supervisor(workload, cast("Crun", crun), sinks, no_child)
    reason = "erase_secret" if is_prepared else "write_secret"
    with nullcontext() if is_prepared and is_erased else pytest.raises(KernelError, match=reason):
        EventLoop().run(supervisor.run())
    told = [event for event in events if "erase_secret" in event]
    assert told == ([] if is_erased else ["web: kernel.erase_secret: secrets: errno 5 (EIO)"])
    assert (tmp_path / "web").exists() != is_erased
