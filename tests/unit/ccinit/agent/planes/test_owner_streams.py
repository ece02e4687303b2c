"""Descriptors of the owner's calls, while there are hardly any to be had (R79)."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ccinit.agent.planes import owner_service
from ccinit.agent.planes.owner_service import Caller, OwnerService
from ccinit.errors import ChildError, KernelError
from ccinit.kernel.event_loop import EventLoop, TaskGroup
from ccinit.owner.messages import Attach, Exec, Logs
from ccinit.seal.recent import RecentEntries
from tests.fakes.scarcity import count_descriptors, descriptors_left

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest
    from ccinit.agent.phases.configuration import Configured

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


def make_service(container: Container) -> OwnerService:
    service = OwnerService.__new__(OwnerService)
    service.guest = cast(
        "Guest",
        SimpleNamespace(
            containers={"web": container}, log=SimpleNamespace(recent=RecentEntries(1 << 16))
        ),
    )
    manifest = SimpleNamespace(
        containers=(SimpleNamespace(name="web"),), allow=SimpleNamespace(exec=("web",))
    )
    service.configured = cast("Configured", SimpleNamespace(manifest=manifest))
    return service


CALLS = {
    "attach": (OwnerService.attach, Attach(container="web"), 6),
    "logs": (OwnerService.logs, Logs(container="web", since=0, follow=True), 4),
    "exec": (OwnerService.exec, EXEC, 8),
}


@pytest.mark.parametrize(
    ("name", "left"), [(name, left) for name, call in CALLS.items() for left in range(call[2])]
)
def test_r79_call_without_enough_descriptors_leaves_none_behind(name: str, left: int) -> None:
    handler, call, _ = CALLS[name]
    container = Container()
    caller = Caller(lambda _: None, b"")

    async def main() -> None:
        async with TaskGroup() as caller.tasks:
            await cast("Any", handler)(make_service(container), caller, call)

    loop = EventLoop()
    before = count_descriptors()
    with descriptors_left(left), pytest.raises(KernelError, match="pipe2"):
        loop.run(main())
    assert count_descriptors() == before - 1  # the loop's own
    assert container.asked == 0  # nothing is started that nobody could attend


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
