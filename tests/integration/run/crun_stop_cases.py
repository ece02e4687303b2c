"""Whoever starts or keeps a container's programs is stopped meanwhile: cases of `crun_cases`."""

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ccinit.errors import CcinitError
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.event_loop import TaskGroup, sleep
from ccinit.run.crun import PROGRAM, Crun
from ccinit.run.supervisor import Supervisor
from ccinit.run.users import Identity, UserRequest
from ccinit.run.workload import SecretFile
from ccinit.secret import Secret
from tests.fakes.machine.failing_calls import each_failing_call
from tests.fakes.machine.interruptions import Way, each_stop
from tests.fakes.machine.scarcity import count_descriptors
from tests.fakes.machine.user_child import play_user_child
from tests.vm.guest.containers import (
    SLEEPER,
    Record,
    children,
    container,
    summary,
    supervisor,
    workload,
)

GONE_SECONDS, STEP_SECONDS = 20.0, 0.02
LINGERING = ("/bin/sh", "-c", f'{PROGRAM[0]} "$@"; end=$?; sleep 0.3; exit $end', "crun")
"""Is there for a while when the program that it has started runs already, as on a slow machine."""


async def stopped_exec(work: Path) -> dict[str, object]:
    """Stop it at each wait, and as soon as the program runs; say after which one still does."""
    record, still_running = Record(), []
    null = os.memfd_create("null")
    (work / "state").mkdir()
    crun = Crun(state_dir=str(work / "state"), log=record.crun.extend, program=LINGERING)
    given = workload(container(SLEEPER), work)
    made = Supervisor(given, crun, record.sinks(), play_user_child)

    async def ask() -> None:
        program = await made.exec(("/usr/bin/sleep", "60"), stdin=null, stdout=null, stderr=null)
        program.kill()
        program.disown()

    async with TaskGroup() as group:
        group.start(made.run(), "container")
        await made.up.wait()
        alone = pids_of(made.cgroup)
        for stop in each_stop():
            stop.verify(await stop.attempt(ask()))
            if not await becomes(alone, made.cgroup):
                still_running.append(repr(stop))
        async with TaskGroup() as asking:
            asking.start(ask(), "ask")
            while pids_of(made.cgroup) == alone:
                await sleep(0)
            asking.cancel()
        if not await becomes(alone, made.cgroup):
            still_running.append("once it runs")
        await made.stop(0)
    os.close(null)
    return summary(made, work, record) | {"still_running": still_running}


async def refused_exec(work: Path) -> dict[str, object]:
    """Refuse each call that it makes; say after which a program runs that nobody has."""
    record, still_running = Record(), []
    null = os.memfd_create("null")
    made = supervisor(workload(container(SLEEPER), work), work, record)
    async with TaskGroup() as group:
        group.start(made.run(), "container")
        while not record.stdout:  # from then on its own tasks make no call
            await sleep(STEP_SECONDS)
        alone = pids_of(made.cgroup)
        for failing in each_failing_call(errno.EMFILE):
            program, sleeper = None, ("/usr/bin/sleep", "60")
            with failing.refusing(), suppress(CcinitError):
                program = await made.exec(sleeper, stdin=null, stdout=null, stderr=null)
            if program is not None:
                program.kill()
                program.disown()
            if not await becomes(alone, made.cgroup):
                still_running.append(repr(failing))
                break  # there is one more from now on
        await made.stop(0)
    os.close(null)
    return summary(made, work, record) | {"still_running": still_running}


def pids_of(cgroup: Cgroup) -> tuple[str, ...]:
    """The processes that are there."""
    return tuple(Path(cgroup.path, "cgroup.procs").read_text().split())


async def becomes(pids: tuple[str, ...], cgroup: Cgroup) -> bool:
    """Whether a cgroup has only these processes, once what was killed is gone."""
    for _ in range(int(GONE_SECONDS / STEP_SECONDS)):
        if pids_of(cgroup) == pids:
            return True
        await sleep(STEP_SECONDS)
    return False


async def stopped_supervisor(work: Path) -> dict[str, object]:
    """Stop it at each wait of a container's life; say after which something of it is left."""
    left = []
    before = held()
    for number, stop in enumerate(each_stop(Way.CANCELLED, Way.LATE)):
        place, record = work / str(number), Record()
        place.mkdir()
        given = workload(container("print('hello')"), place)
        made = supervisor(given, place, record, wait_for_user_child)
        stop.verify(await stop.attempt(made.run()))
        files = [*place.glob("run"), *place.glob("state/bundles/*")]
        if files or held() != before or await count_children():
            left.append(repr(stop))
    return summary(made, place, record) | {"left_after": left}


async def wait_for_user_child(request: UserRequest, fds: Mapping[str, int]) -> Identity:
    """Play the child that takes its time, as a process does."""
    await sleep(0)
    return await play_user_child(request, fds)


def held() -> tuple[int, str]:
    """The descriptors and mounts of this process."""
    return count_descriptors(), Path("/proc/self/mounts").read_text()


async def count_children() -> int:
    """Children, once what was killed is gone."""
    for _ in range(int(GONE_SECONDS / STEP_SECONDS)):
        if not children():
            break
        await sleep(STEP_SECONDS)
    return len(children())


async def refused_supervisor(work: Path) -> dict[str, object]:
    """Refuse each call that it makes; say after which something of a container is left untold."""
    left = []
    before = held()
    for number, failing in enumerate(each_failing_call(errno.EMFILE)):
        place, record = work / str(number), Record()
        place.mkdir()
        secret = SecretFile(path="/run/secrets/key", mode=0o400, content=Secret(b"the key"))
        given = workload(container("print('hello')"), place, secret_files=(secret,))
        made, is_told = supervisor(given, place, record), False
        try:
            with failing.refusing():
                await made.run()
        except CcinitError:
            is_told = True
        files = [*place.glob("run"), *place.glob("state/bundles/*")]
        if (files and not is_told) or held() != before or await count_children():
            left.append(repr(failing))
        if failing.name and not is_told and record.events in ([], ["probe: exit code 0"]):
            left.append(f"{failing} is not told")
    return summary(made, place, record) | {"left_after": left}
