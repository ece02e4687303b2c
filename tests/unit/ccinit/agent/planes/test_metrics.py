"""What is told of containers, also of those that do not run now."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from ccinit.agent.planes import metrics as module
from ccinit.kernel.cgroup import Cgroup
from ccinit.run.container import ContainerState, Life

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest


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
