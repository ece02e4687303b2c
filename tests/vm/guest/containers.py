"""Containers for tests of the run room, here and in a guest; their image is the tester's root."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from ccinit.formats.oci.image import ImageConfig
from ccinit.formats.pod.container import Container, ContainerKind, Resources, Restart
from ccinit.kernel.event_loop import EventLoop, TaskGroup, sleep
from ccinit.kernel.process import reap_orphans
from ccinit.run.crun import Crun
from ccinit.run.supervisor import Supervisor
from ccinit.run.user_files import AskUserChild
from ccinit.run.workload import Sinks, Workload
from ccinit.values import replace
from tests.fakes.machine.user_child import play_user_child

R = TypeVar("R")

PYTHON = "/usr/bin/python3.13"
SLEEPER = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
PROBE = Path(__file__).with_name("container_probe.py")
IMAGE = ImageConfig(
    user="1000:1000", env=("LANG=C",), entrypoint=(), cmd=(), working_dir="/tmp", diff_ids=()
)


class Record:
    """Collects what the sinks are given."""

    def __init__(self) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.events: list[str] = []
        self.crun = bytearray()

    def sinks(self) -> Sinks:
        return Sinks(stdout=self.stdout.extend, stderr=self.stderr.extend, event=self.events.append)


def own_cgroup() -> str:
    """A path of nobody else on this machine: it has the number of our PID namespace."""
    return f"/ccinit-test-{Path('/proc/self/ns/pid').stat().st_ino}"


def remove_own_cgroup() -> None:
    """Remove what crun has made above the containers' cgroups; of these none may be left."""
    path = Path(f"/sys/fs/cgroup{own_cgroup()}")
    if path.exists():
        path.rmdir()


def container(*code: str, **changes: object) -> Container:
    """Return a container that runs Python code."""
    plain = Container(
        name="probe",
        image="tools",
        kind=ContainerKind.MAIN,
        args=(PYTHON, "-I", "-c", *code),
        env=(),
        user=None,
        cwd=None,
        read_only=True,
        restart=Restart.NEVER,
        depends_on=(),
        resources=Resources(),
        mounts=(),
    )
    return replace(plain, **changes)


def workload(of: Container, work: Path, **changes: object) -> Workload:
    """Return a workload whose image is this root; `work` is an empty directory on a tmpfs."""
    plain = Workload(
        container=of,
        image=IMAGE,
        lowers=("/",),
        scratch=str(work / "scratch"),
        run_dir=str(work / "run"),
        hostname="pod",
        address="127.0.0.1",
        cgroup_path=f"{own_cgroup()}/probe",
    )
    return replace(plain, **changes)


def supervisor(
    given: Workload, work: Path, record: Record, ask_user_child: AskUserChild = play_user_child
) -> Supervisor:
    """Return a supervisor over the real crun."""
    (work / "state").mkdir(exist_ok=True)
    runner = Crun(state_dir=str(work / "state"), log=record.crun.extend)
    return Supervisor(given, runner, record.sinks(), ask_user_child)


def summary(made: Supervisor, work: Path, record: Record) -> dict[str, object]:
    """Return what a test looks at, as JSON knows it."""
    return {
        "state": made.life.state,
        "starts": made.life.starts,
        "status": str(made.last_status),
        "stdout": record.stdout.decode("latin-1"),
        "stderr": record.stderr.decode("latin-1"),
        "events": record.events,
        "crun": record.crun.decode("latin-1"),
        "left": sorted(path.name for path in (work / "state" / "bundles").glob("*")),
        "run_dir_left": (work / "run").exists(),
        "children": children(),
    }


async def supervise(given: Workload, work: Path) -> dict[str, object]:
    """Supervise to the end."""
    record = Record()
    made = supervisor(given, work, record)
    await made.run()
    return summary(made, work, record)


async def started(
    group: TaskGroup, work: Path, code: str, record: Record, stop_signal: str = ""
) -> Supervisor:
    """Start a container whose program says `ready`, and wait until it has."""
    given = workload(container(code, restart=Restart.ALWAYS), work)
    given = replace(given, image=replace(given.image, stop_signal=stop_signal))
    made = supervisor(given, work, record)
    group.start(made.run(), "container")
    await made.up.wait()
    while b"ready" not in record.stdout:
        await sleep(0.02)
    return made


def run_as_pid1(case: Callable[[], Awaitable[R]]) -> R:
    """Run `case` while orphans are reaped; a dying pid namespace waits for them."""

    async def reap() -> None:
        while True:
            reap_orphans()
            await sleep(0.01)

    async def both() -> R:
        async with TaskGroup() as group:
            group.start(reap(), "reaper")
            result = await case()
            group.cancel()
        return result

    return EventLoop().run(both())


def children() -> list[int]:
    """Return the children of this process."""
    path = f"/proc/self/task/{os.getpid()}/children"
    return [int(pid) for pid in Path(path).read_text().split()]
