"""What is told of containers, also of those that do not run now."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from ccinit.agent.planes import metrics as module
from ccinit.kernel.cgroup import Cgroup
from ccinit.run.container import ContainerState, Life

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest


def test_usage_is_told_of_those_that_run(tmp_path: Path) -> None:
    for file, text in (
        ("memory.current", "4096\n"),
        ("cpu.stat", "usage_usec 1500000\nuser_usec 0\n"),
        ("pids.current", "2\n"),
    ):
        (tmp_path / file).write_text(text)
    web, ended = (
        SimpleNamespace(life=Life(), cgroup=Cgroup(path), oom_kills=0)
        for path in (str(tmp_path), "/sys/fs/cgroup/ccinit-none")
    )
    guest = cast("Guest", SimpleNamespace(containers={"ended": ended, "web": web}))
    told = {one.name: one.samples for one in module._of_containers(guest)}
    for name, value in (("memory_bytes", 4096), ("cpu_seconds_total", 1.5), ("processes", 2)):
        (sample,) = told[f"ccinit_container_{name}"]
        assert (sample.value, sample.labels) == (value, (("container", "web"),))


def test_kills_for_memory_are_told_when_the_run_and_its_cgroup_are_gone() -> None:
    web = SimpleNamespace(
        life=Life(state=ContainerState.RETRYING, starts=1),
        cgroup=Cgroup("/sys/fs/cgroup/ccinit-none"),
        oom_kills=3,
    )
    guest = cast("Guest", SimpleNamespace(containers={"web": web}))
    told = {one.name: one.samples for one in module._of_containers(guest)}
    assert told["ccinit_container_memory_bytes"] == ()
    (sample,) = told["ccinit_container_oom_kills_total"]
    assert (sample.value, sample.labels) == (3, (("container", "web"),))
