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
    from ccinit.agent.storage_watch import StorageWatch

ENDLESS = 1 << 32


class Log:
    """So many records are there; before each, some may have been lost."""

    def __init__(self, there: int, *, dropped: int = 0) -> None:
        self.there, self.dropped = there, dropped
        self.given = 0
        self.is_closed = False

    async def next(self) -> KernelRecord:
        while (record := self.read()) is None:
            await sleep(1)
        return record

    def read(self) -> KernelRecord | None:
        if self.given == self.there:
            return None
        self.given += 1
        return KernelRecord(
            priority=4,
            sequence=self.given,
            boottime_us=self.given,
            text=b"again",
            dropped=self.dropped,
        )

    def close(self) -> None:
        self.is_closed = True


class World:
    """A pump between a kernel log and a sealed one."""

    def __init__(self, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sealed: list[tuple[Kind, str, bytes]] = []
        self.events: list[str] = []
        guest = SimpleNamespace(
            log=SimpleNamespace(append=lambda *entry: self.sealed.append(entry)),
            event=self.events.append,
        )
        monkeypatch.setattr(log_pump, "KernelLog", lambda: log)
        self.pump = LogPump(cast("Guest", guest))


def test_records_without_end_leave_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    endless, loop = Log(ENDLESS, dropped=1), EventLoop()
    world = World(endless, monkeypatch)

    async def main() -> None:
        task = loop.start(world.pump.run(), "kernel log")
        for _ in range(3):
            await sleep(0)
        await task.stop()

    loop.run(main())
    assert endless.given in (128, 192)  # in portions, for each turn lets the host collect
    assert len(world.sealed) == len(world.events) == endless.given
    assert world.sealed[0] == (Kind.KERNEL, "kernel", b"<4>[1] again")
    assert world.events[0] == "1 kernel records were overwritten unread"
    assert endless.is_closed


@pytest.mark.parametrize("earlier", [0, 1, 64, 65, 200])
def test_watch_is_shown_what_comes_after_it(earlier: int, monkeypatch: pytest.MonkeyPatch) -> None:
    log, loop = Log(earlier), EventLoop()
    world = World(log, monkeypatch)
    shown: list[int] = []
    watch = SimpleNamespace(examine=lambda record: shown.append(record.sequence))

    async def main() -> None:
        world.pump.watch(cast("StorageWatch", watch))
        assert len(world.sealed) == earlier
        log.there += 2
        task = loop.start(world.pump.run(), "kernel log")
        await sleep(0)
        await task.stop()

    loop.run(main())
    assert shown == [earlier + 1, earlier + 2]
    assert len(world.sealed) == earlier + 2
    assert world.events == []


def test_watch_that_is_replaced_is_shown_what_was_there_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log(2)
    world = World(log, monkeypatch)
    shown: list[tuple[str, int]] = []

    def watch(name: str) -> "StorageWatch":
        examine = SimpleNamespace(examine=lambda record: shown.append((name, record.sequence)))
        return cast("StorageWatch", examine)

    world.pump.watch(watch("first"))
    log.there += 1
    world.pump.watch(watch("second"))
    log.there += 1
    world.pump.watch(watch("third"))
    assert shown == [("first", 3), ("second", 4)]
