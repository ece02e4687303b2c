"""A pod that runs, and its end: the guest's, unless it was stopped for debugging."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Never, cast

import pytest

from ccinit.agent.figures import Figures
from ccinit.agent.state import BootState
from ccinit.errors import KernelError
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.init import main as module
from ccinit.kernel import memory
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.task import sleep

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest


EXIT_CODE = 7


def make_guest(
    monkeypatch: pytest.MonkeyPatch, loop: EventLoop, *, debug: bool, seconds: float = 0.0
) -> "Guest":
    """A guest whose pod ends after so long, with debug opened meanwhile or not."""
    state = BootState()
    state.enter(Phase.START)

    async def run() -> None:
        await sleep(seconds)
        if debug:
            state.open_debug()

    async def boot(_guest: object) -> object:
        return SimpleNamespace(run=run, exit_code=lambda: EXIT_CODE)

    monkeypatch.setattr(module, "boot", boot)
    guest = SimpleNamespace(
        loop=loop,
        state=state,
        log=SimpleNamespace(public_event=lambda *_: None),
        event=lambda _: None,
        figures=Figures(),
        service=SimpleNamespace(first_answer_us=0, exit_code=None),
    )
    return cast("Guest", guest)


@pytest.mark.parametrize(
    ("debug", "code", "exit_code"), [(False, Code.WORKLOAD_EXIT, EXIT_CODE), (True, Code.OK, None)]
)
def test_pod_that_is_stopped_for_debugging_leaves_the_guest(
    monkeypatch: pytest.MonkeyPatch,
    debug: bool,  # noqa: FBT001
    code: Code,
    exit_code: int | None,
) -> None:
    loop = EventLoop()
    guest = make_guest(monkeypatch, loop, debug=debug)

    async def main() -> bool:
        life = loop.start(module._boot_and_run(guest), "life")
        await sleep(0.05)
        ended = life.is_done()
        if not ended:
            await life.stop()
        return ended

    assert loop.run(main()) is not debug
    assert (guest.state.code, guest.service.exit_code) == (code, exit_code)
    assert guest.state.phase is Phase.RUN


def test_pod_that_its_host_stops_has_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its containers end, too, but not by themselves; PID 1 ends the life before them."""
    loop = EventLoop()
    guest = make_guest(monkeypatch, loop, debug=False, seconds=60)

    async def main() -> None:
        life = loop.start(module._boot_and_run(guest), "life")
        await sleep(0.01)
        await life.stop()

    loop.run(main())
    assert (guest.state.code, guest.service.exit_code) == (Code.OK, None)


def test_memory_that_cannot_be_given_back_ends_no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> Never:
        raise KernelError(11, "madvise", "")

    monkeypatch.setattr(memory, "page_out_code", refuse)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.0)
    loop, events = EventLoop(), list[str]()
    guest = make_guest(monkeypatch, loop, debug=False, seconds=0.3)
    monkeypatch.setattr(guest, "event", events.append)
    loop.run(module._boot_and_run(guest))
    assert (guest.state.code, guest.service.exit_code) == (Code.WORKLOAD_EXIT, EXIT_CODE)
    assert "kernel.madvise" in events[-1]


def test_memory_that_only_the_start_used_is_given_back_once_the_pod_has_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_back: list[object] = []
    monkeypatch.setattr(memory, "trim_heap", lambda: given_back.append("heap"))
    monkeypatch.setattr(memory, "page_out_code", lambda *, singly: given_back.append(singly))
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.3)
    loop = EventLoop()
    guest = make_guest(monkeypatch, loop, debug=False, seconds=0.8)

    async def main() -> None:
        life = loop.start(module._boot_and_run(guest), "life")
        await sleep(0.01)
        assert given_back == []
        await life.join()

    loop.run(main())
    assert given_back == ["heap", True]
