"""The first process of shared PID namespaces: how its end is told; the process is a fake."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ccinit.agent.jobs.messages.reaper import Reaping
from ccinit.agent.phases import pod_namespaces as module
from ccinit.agent.phases.pod_namespaces import Reaper
from ccinit.agent.teardown import Teardown
from ccinit.errors import ChildError, KernelError
from ccinit.formats.planes.host_rpc import Code
from ccinit.kernel.event_loop import Event, EventLoop, deadline, sleep

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest

PATH = "/run/ccinit/shared/process"


class FakeChild:
    """Says that it collects, and lives until it is ended."""

    pid = 4321

    def __init__(self) -> None:
        self.ended = Event()

    async def run(self, *_: object, notices: Mapping[type, Any], **__: object) -> None:
        notices[Reaping](Reaping())
        await self.ended.wait()
        raise ChildError("child.ended", "reaper: signal 9")


def see(
    monkeypatch: pytest.MonkeyPatch, *, is_released: bool, dies: bool
) -> tuple[list[str], list[str]]:
    """Return why the guest gave up, and which steps of its teardown failed and why."""
    loop, child, given_up, files = EventLoop(), FakeChild(), list[str](), set[str]()

    @asynccontextmanager
    async def prepare(*_: object, **__: object) -> AsyncIterator[FakeChild]:
        yield child

    def give_up(error: ChildError, code: Code) -> None:
        assert code is Code.INTERNAL
        given_up.append(str(error))

    def release(path: str) -> None:
        files.remove(path)
        if not is_released:
            raise KernelError(16, "umount2", path)

    monkeypatch.setattr(module, "bind_namespace", lambda _source, target: files.add(target))
    monkeypatch.setattr(module, "release_namespace", release)
    guest = SimpleNamespace(
        loop=loop, teardown=Teardown(), children=SimpleNamespace(prepare=prepare), give_up=give_up
    )
    failures: list[str] = []

    async def main() -> None:
        async with deadline(60, "test.late"):
            await Reaper(cast("Guest", guest), PATH).start()
            assert files == {PATH}
            if dies:
                child.ended.set()
                await sleep(0.01)
            failures.extend(f"{name}: {error}" for name, error in await guest.teardown.run())

    loop.run(main())
    assert not files
    return given_up, failures


@pytest.mark.parametrize("is_released", [True, False])
@pytest.mark.parametrize("dies", [True, False])
def test_namespace_that_is_not_released_is_a_failed_step_and_hides_no_cause(
    monkeypatch: pytest.MonkeyPatch,
    dies: bool,  # noqa: FBT001
    is_released: bool,  # noqa: FBT001
) -> None:
    given_up, failures = see(monkeypatch, is_released=is_released, dies=dies)
    gone = "the first process of the pod's PID namespace is gone: child.ended: reaper: signal 9"
    assert given_up == ([f"pod.processes: {gone}"] if dies else [])
    kept = f"shared processes: kernel.umount2: {PATH}: errno 16 (EBUSY)"
    assert failures == ([] if is_released else [kept])
