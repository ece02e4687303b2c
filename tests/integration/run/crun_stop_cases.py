"""Whoever has a program started in a container is stopped meanwhile: a case of `crun_cases`."""

import os
from pathlib import Path

from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.event_loop import TaskGroup, sleep
from ccinit.run.crun import PROGRAM, Crun
from ccinit.run.supervisor import Supervisor
from tests.fakes.machine.interruptions import each_stop
from tests.vm.guest.containers import SLEEPER, Record, container, summary, workload

GONE_SECONDS, STEP_SECONDS = 5.0, 0.02
LINGERING = ("/bin/sh", "-c", f'{PROGRAM[0]} "$@"; end=$?; sleep 0.3; exit $end', "crun")
"""Is there for a while when the program that it has started runs already, as on a slow machine."""


async def stopped_exec(work: Path) -> dict[str, object]:
    """Stop it at each wait, and as soon as the program runs; say after which one still does."""
    record, still_running = Record(), []
    null = os.memfd_create("null")
    (work / "state").mkdir()
    crun = Crun(state_dir=str(work / "state"), log=record.crun.extend, program=LINGERING)
    made = Supervisor(workload(container(SLEEPER), work), crun, record.sinks())

    async def ask() -> None:
        program = await made.exec(("/usr/bin/sleep", "60"), stdin=null, stdout=null, stderr=null)
        program.kill()
        program.disown()

    async with TaskGroup() as group:
        group.start(made.run(), "container")
        await made.up.wait()
        alone = made.cgroup.pids()
        for stop in each_stop():
            stop.verify(await stop.attempt(ask()))
            if not await becomes(alone, made.cgroup):
                still_running.append(repr(stop))
        async with TaskGroup() as asking:
            asking.start(ask(), "ask")
            while made.cgroup.pids() == alone:
                await sleep(0)
            asking.cancel()
        if not await becomes(alone, made.cgroup):
            still_running.append("once it runs")
        await made.stop(0)
    os.close(null)
    return summary(made, work, record) | {"still_running": still_running}


async def becomes(pids: tuple[int, ...], cgroup: Cgroup) -> bool:
    """Whether a cgroup has only these processes, once what was killed is gone."""
    for _ in range(int(GONE_SECONDS / STEP_SECONDS)):
        if cgroup.pids() == pids:
            return True
        await sleep(STEP_SECONDS)
    return False
