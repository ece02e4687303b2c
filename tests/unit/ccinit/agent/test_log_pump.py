"""The kernel's records are sealed, and PID 1 does other things meanwhile."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from ccinit.agent import log_pump
from ccinit.agent.log_pump import LogPump
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.event_loop import EventLoop, sleep
from ccinit.kernel.kmsg import KernelRecord

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest


class EndlessLog:
    """Always has another record, and each tells of one that is lost."""

    def __init__(self) -> None:
        self.given = 0
        self.is_closed = False

    async def next(self) -> KernelRecord:
        return self.read()

    def read(self) -> KernelRecord:
        self.given += 1
        return KernelRecord(
            priority=4, sequence=self.given, boottime_us=self.given, text=b"again", dropped=1
        )

    def close(self) -> None:
        self.is_closed = True


def test_records_without_end_leave_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    endless, loop = EndlessLog(), EventLoop()
    sealed: list[tuple[Kind, str, bytes]] = []
    events: list[str] = []
    guest = SimpleNamespace(
        log=SimpleNamespace(append=lambda *entry: sealed.append(entry)), event=events.append
    )
    monkeypatch.setattr(log_pump, "KernelLog", lambda: endless)

    async def main() -> None:
        task = loop.start(LogPump(cast("Guest", guest)).run(), "kernel log")
        for _ in range(3):
            await sleep(0)
        await task.stop()

    loop.run(main())
    assert endless.given in (64, 128, 192)  # in portions, for each turn lets the host collect
    assert len(sealed) == len(events) == endless.given
    assert sealed[0] == (Kind.KERNEL, "kernel", b"<4>[1] again")
    assert events[0] == "1 kernel records were overwritten unread"
    assert endless.is_closed
