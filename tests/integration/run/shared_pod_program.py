"""PID 1 with containers that share namespaces, for real, in namespaces of its own.

The parts are the product's: event loop, the child `reaper` by the table of roles (under Landlock
and seccomp, by the image's Python 3.13), supervisors over crun. Limits are left out as in
`tools_root`.

First half, under the tests' Python: make the tools tree the root. Second half: run one case by
name, take everything down, print what was seen and what is left as JSON.
"""

import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ccinit.agent.guest import Guest
from ccinit.agent.phases.pod import ask_user_child
from ccinit.agent.phases.pod_namespaces import share_namespaces
from ccinit.errors import CcinitError
from ccinit.formats.pod.capability import Capability
from ccinit.formats.pod.container import Restart
from ccinit.formats.pod.share import Share
from ccinit.kernel.clock import boottime
from ccinit.kernel.event_loop import EventLoop, sleep
from ccinit.kernel.namespaces import NamespaceKind, namespace_file
from ccinit.run import preparation
from ccinit.run.crun import Crun
from ccinit.run.shared_namespaces import SharedNamespaces
from ccinit.run.supervisor import Supervisor
from ccinit.values import replace
from tests.fakes.machine.owned import owned_pids
from tests.integration.owner_plane.program import WORK, count_fds, make_guest, reap
from tests.integration.run.tools_root import go_inside, unlimited
from tests.vm.guest.containers import (
    PYTHON,
    Record,
    children,
    container,
    own_cgroup,
    remove_own_cgroup,
    workload,
)

if TYPE_CHECKING:
    from ccinit.kernel.task import Task
    from ccinit.run.container import Life

PROGRAMS = Path(__file__).with_name("shared_pod_containers.py")
SHARED = f"{WORK}/shared"
SHM_BYTES = 1 << 20
PATIENCE_SECONDS = 30.0
NOTHING = SharedNamespaces()


class Pod:
    """Containers by name, and what they said."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.records: dict[str, Record] = {}
        self._tasks: list[Task[Life]] = []
        (WORK / "state").mkdir()

    def start(
        self, name: str, program: str, shared: SharedNamespaces, **changes: object
    ) -> Supervisor:
        """Start a container that runs a function of `shared_pod_containers`."""
        record = self.records[name] = Record()
        of = container(PROGRAMS.read_text(), program, name=name, **changes)
        given = replace(
            workload(of, WORK),
            scratch=f"{WORK}/scratch-{name}",
            run_dir=f"{WORK}/run-{name}",
            cgroup_path=f"{own_cgroup()}/{name}",
            shared=shared,
        )
        crun = Crun(state_dir=str(WORK / "state"), log=record.crun.extend)
        made = self.guest.containers[name] = Supervisor(
            given, crun, record.sinks(), partial(ask_user_child, self.guest.children)
        )
        self._tasks.append(self.guest.loop.start(made.run(), name))
        return made

    async def said(self, name: str, count: int = 1) -> list[object]:
        """Return the first `count` lines of a container, each of them JSON."""
        record = self.records[name]
        await until(lambda: record.stdout.count(b"\n") >= count, record)
        lines = record.stdout.decode().splitlines()
        return [json.loads(line) for line in lines[:count]]

    async def ask(self, name: str, program: str) -> object:
        """Run a function of `shared_pod_containers` as a further program; return its line."""
        reader, writer = os.pipe()
        null = os.memfd_create("null")  # crun gives what it gets to the container's user
        arguments = (PYTHON, "-I", "-c", PROGRAMS.read_text(), program, "end")
        try:
            process = await self.guest.containers[name].exec(
                arguments, stdin=null, stdout=writer, stderr=writer
            )
            group = cgroup_of(process.pid)
        finally:
            os.close(writer)
            os.close(null)
        status = str(await process.wait())
        os.set_blocking(reader, False)
        line = os.read(reader, 65536).decode()
        os.close(reader)
        return {"said": json.loads(line), "cgroup": group, "status": status}

    async def stop(self, *names: str) -> None:
        for name in names:
            await self.guest.containers[name].stop(5)

    async def end(self) -> None:
        for task in self._tasks:
            await task.join()


async def until(holds: Callable[[], bool], record: Record | None = None) -> None:
    """Wait until it holds."""
    end = boottime() + PATIENCE_SECONDS
    while not holds():
        if boottime() > end:
            raise AssertionError(vars(record) if record else "in vain")
        await sleep(0.02)


async def case_ipc(pod: Pod) -> dict[str, object]:
    """Write in one container; read in another, and in one that shares nothing."""
    shared = await share_namespaces(pod.guest, Share(ipc=True, shm_bytes=SHM_BYTES), SHARED)
    pod.start("a", "write_ipc", shared)
    written = await pod.said("a", 2)
    pod.start("b", "read_ipc", shared)
    pod.start("c", "read_ipc", NOTHING)
    found: dict[str, object] = {"a": written, "b": await pod.said("b"), "c": await pod.said("c")}
    await pod.stop("a")
    pod.start("d", "read_ipc", shared)  # what a container wrote stays
    return found | {"d": await pod.said("d")}


async def case_process(pod: Pod) -> dict[str, object]:
    """Look at each other; end one with what it has left, while the other goes on."""
    shared = await share_namespaces(pod.guest, Share(process=True), SHARED)
    (reaper,) = owned_pids()
    environment = (("SECRET", "of a"),)
    pod.start("a", "leave_daemon", shared, env=environment)
    found: dict[str, object] = {"a": await pod.said("a")}
    pod.start("b", "look_around", shared)
    pod.start("killer", "kill_first", shared, user="0", capabilities=(Capability.KILL,))
    pod.start("alone", "look_around", NOTHING)
    found["b"], found["killer"] = await pod.said("b"), await pod.said("killer")
    found["alone"] = await pod.said("alone")
    found["exec"] = await pod.ask("a", "leave_daemon")
    found["before"] = {name: in_cgroup(name) for name in ("a", "b")}
    (first,) = (pid for pid in owned_pids() if cgroup_of(pid) == "/b")
    found["same"] = namespace(first) == namespace(reaper) != namespace("self")
    await pod.stop("a")
    found["after"] = {name: in_cgroup(name) for name in ("a", "b")}
    found["seen by b"] = await pod.ask("b", "look_around")
    for name in ("status", "oom_score_adj", "smaps_rollup"):
        found[name] = read(f"/proc/{reaper}/{name}")
    return found


async def case_restart(pod: Pod) -> dict[str, object]:
    """Fail twice, leaving a process each time; the next run must not meet it."""
    shared = await share_namespaces(pod.guest, Share(process=True), SHARED)
    pod.start("a", "fail_twice", shared, restart=Restart.ON_FAILURE, read_only=False)
    return {"a": await pod.said("a", 3)}


async def case_death(pod: Pod) -> dict[str, object]:
    """End the first process of the namespace."""
    shared = await share_namespaces(pod.guest, Share(process=True), SHARED)
    (reaper,) = owned_pids()
    pod.start("a", "leave_daemon", shared, restart=Restart.ALWAYS)
    pod.start("b", "leave_daemon", NOTHING)
    await pod.said("a")
    await pod.said("b")
    events, before = pod.records["a"].events, pod.guest.service.stopping.is_set()
    os.kill(reaper, signal.SIGKILL)
    await until(pod.guest.service.stopping.is_set)
    await until(lambda: any("crun.create" in event for event in events))
    return {
        "before": before,
        "why": [(code.name, str(error)) for error, code in pod.guest.failures],
        "events": events,
        "b": pod.guest.containers["b"].life.state,
        "bound": os.access(shared.process, os.F_OK),
    }


async def case_no_reaper(pod: Pod) -> dict[str, object]:
    """Have a child that cannot start."""
    pod.guest.children._interpreter = ("/usr/bin/false",)
    try:
        await share_namespaces(pod.guest, Share(process=True), SHARED)
    except CcinitError as error:
        return {"reason": error.reason, "stopping": pod.guest.service.stopping.is_set()}
    return {}


def namespace(pid: int | str) -> str:
    return os.readlink(namespace_file(pid, NamespaceKind.PID))  # noqa: PTH115


def in_cgroup(name: str) -> int:
    """Return the number of processes in a container's cgroup; -1 if it is gone."""
    path = Path(f"/sys/fs/cgroup{own_cgroup()}/{name}/cgroup.procs")
    return len(path.read_text().split()) if path.exists() else -1


def cgroup_of(pid: int) -> str:
    """Return the cgroup of a process, seen from our own."""
    lines = read(f"/proc/{pid}/cgroup").splitlines()  # a machine may have older hierarchies, too
    (path,) = (line.removeprefix("0::") for line in lines if line.startswith("0::"))
    return path.removeprefix(own_cgroup())


CASES: Mapping[str, Callable[[Pod], Awaitable[dict[str, object]]]] = {
    name.removeprefix("case_"): value
    for name, value in list(globals().items())
    if name.startswith("case_")
}


async def live(loop: EventLoop, name: str) -> dict[str, object]:
    """Run one case, and take everything down."""
    guest = make_guest(loop)
    loop.start(reap(), "reaper of orphans")
    before = traces()
    pod = Pod(guest)
    found = await CASES[name](pod)
    await pod.stop(*guest.containers)
    await pod.end()
    failures = await guest.teardown.run()
    return found | {
        "failures": [str(error) for _, error in failures],
        "children": children(),
        "left": traces() != before,
        "crun": {name: record.crun.decode() for name, record in pod.records.items() if record.crun},
        "stderr": {
            name: record.stderr.decode() for name, record in pod.records.items() if record.stderr
        },
    }


def remove_cgroups() -> None:
    """Remove what stands empty: crun leaves the cgroup of a container that it could not make."""
    for path in Path(f"/sys/fs/cgroup{own_cgroup()}").glob("*/"):
        path.rmdir()
    remove_own_cgroup()


def traces() -> list[object]:
    """Return what a pod must leave as it was: descriptors, mounts, where this process is."""
    kinds = ("ipc", "pid", "pid_for_children")
    links = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]  # noqa: PTH115
    return [count_fds(), read("/proc/self/mounts"), *links]


def read(path: str) -> str:
    return Path(path).read_text()


def main() -> None:
    """Be one half or the other."""
    if len(sys.argv) == 5:
        tools, repository, site = map(Path, sys.argv[1:4])
        go_inside("tests.integration.run.shared_pod_program", tools, repository, site, sys.argv[4])
    preparation.plan_spec = unlimited  # type: ignore[attr-defined]
    WORK.mkdir()
    loop = EventLoop()
    report = loop.run(live(loop, sys.argv[1]))
    remove_cgroups()
    report["null_owner"] = Path("/dev/null").stat().st_uid
    print(json.dumps(report))


if __name__ == "__main__":
    main()
