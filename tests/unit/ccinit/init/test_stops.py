"""A guest that has to end wherever one of its tasks waits: one way down, and one report."""

from collections.abc import Callable
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from ccinit.agent.guest import Guest
from ccinit.agent.host_service import HostService
from ccinit.agent.state import BootState
from ccinit.agent.teardown import Teardown, undoing
from ccinit.errors import VerificationError
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.init import ending, main
from ccinit.init.sequence import START, UNLOCK, run_phase
from ccinit.kernel import power
from ccinit.kernel.event_loop import EventLoop, TaskGroup
from ccinit.kernel.task import AnyTask, Task, Wait, sleep
from ccinit.seal.ring import SealedRing
from ccinit.secret import Secret


class ResetError(BaseException):
    """Where the real machine is gone."""


class Bench:
    """A guest that boots, runs for a moment and ends; `steps` are what undoes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = EventLoop()
        self.key: Secret | None = None
        self.has_container = False
        self.steps: list[str] = []
        self.reports: list[bytes] = []
        log: Any = SimpleNamespace(
            public_event=lambda *_: True, append=lambda *_: True, close=self.reports.append
        )
        state = BootState()
        self.guest = Guest(
            loop=self.loop,
            state=state,
            log=log,
            service=HostService(state, bytes(16), SealedRing(1 << 20)),
            children=log,
            teardown=Teardown(),
        )
        monkeypatch.setattr(main, "make_guest", lambda _loop: self.guest)
        monkeypatch.setattr(main, "_boot_and_run", self.boot_and_run)
        monkeypatch.setattr(main, "_handle_signals", self.handle_signals)
        monkeypatch.setattr(ending, "_OFFER_SECONDS", 0.001)
        monkeypatch.setattr(ending, "_REPLY_SECONDS", 0.001)
        monkeypatch.setattr(power, "sync", lambda: self.steps.append("sync"))
        monkeypatch.setattr(power, "reboot", self.reboot)
        monkeypatch.setattr(power, "libc", None)

    def reboot(self) -> None:
        raise ResetError

    async def handle_signals(self, _guest: Guest) -> None:
        await sleep(60)

    async def boot_and_run(self, guest: Guest) -> None:
        await run_phase(guest, UNLOCK, self.unlock(guest))
        await run_phase(guest, START, self.start(guest))
        guest.state.enter(Phase.RUN)
        await sleep(0)
        guest.state.fail(Code.WORKLOAD_EXIT)

    async def unlock(self, guest: Guest) -> None:
        await sleep(0)
        self.key = Secret(b"key")
        guest.teardown.push("secrets", undoing(self.key.wipe))
        await sleep(0)

    async def start(self, guest: Guest) -> None:
        async def stop() -> None:
            self.steps.append("container")
            await sleep(0)

        async def begin() -> None:
            await sleep(0)
            self.has_container = True
            guest.teardown.push("container", stop)

        async with TaskGroup() as group:
            group.start(begin(), "begin")

    def live(self, number: int, act: Callable[[], None]) -> bool:
        """Live; return whether there was a wait of this number, at which `act` was called."""
        park, waits = Task._park, count(1)
        seen: list[int] = []

        def count_waits(task: AnyTask, wait: Wait) -> None:
            seen.append(next(waits))
            park(task, wait)
            if seen[-1] == number:
                act()

        with patch.object(Task, "_park", count_waits), pytest.raises(ResetError):
            self.loop.run(main.live(self.loop))
        for task in self.loop._tasks:  # the reset has left them where they were
            task._coroutine.close()
        return number <= len(seen)

    @property
    def is_undone(self) -> bool:
        """Whether no key is left."""
        return self.key is None or len(self.key) == 0

    def stop(self) -> None:
        self.guest.service.stopping.set()

    def give_up(self) -> None:
        self.guest.give_up(VerificationError("scratch.integrity", "a block"), Code.STORAGE)

    def fail(self) -> None:
        async def fail() -> None:
            raise ZeroDivisionError

        self.loop.start(fail(), "background")

    def stop_and_fail(self) -> None:
        self.stop()
        self.fail()


ENDED = b"every main container has ended"
STOPPED = b"orderly stop"
LOST = b"scratch.integrity: a block"
BUG = b"internal: ZeroDivisionError"


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (Bench.stop, {Code.OK: STOPPED}),
        (Bench.give_up, {Code.STORAGE: LOST}),
        (Bench.fail, {Code.INTERNAL: BUG}),
        (Bench.stop_and_fail, {Code.OK: STOPPED, Code.INTERNAL: BUG}),
    ],
)
def test_guest_that_has_to_end_goes_down_once_and_says_why_once(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[Bench], None], told: dict[Code, bytes]
) -> None:
    for number in count(1):
        bench = Bench(monkeypatch)
        has_acted = bench.live(number, partial(act, bench))
        phase, code, _sequence, _flags = bench.guest.state.report()
        (report,) = bench.reports
        assert phase == Phase.OFF
        # What has ended by itself in the same moment stays so for the host.
        assert told.get(Code(code), ENDED) in report or (BUG in report and BUG in told.values())
        assert bench.is_undone, number
        assert bench.steps == ["container"] * bench.has_container + ["sync"], number
        if not has_acted:
            assert (code, report) == (Code.WORKLOAD_EXIT, ENDED)
            assert bench.has_container
            break
