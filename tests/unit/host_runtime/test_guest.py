"""How a guest ended, as QEMU's events tell it."""

from pathlib import Path
from typing import Any, cast

import pytest

from ccinit.errors import DeadlineError
from host_runtime.guest import EndReason, Guest
from host_runtime.guest_files import GuestFiles
from host_runtime.qmp import QmpEvent
from host_runtime.transport import UserLink


class FakeQemu:
    """Both the process and its QMP connection: says what it was given, then nothing."""

    def __init__(self, *events: QmpEvent | None) -> None:
        self._events = list(events)

    def next_event(self, _seconds: float) -> QmpEvent | None:
        if not self._events:
            raise DeadlineError("qmp.silent", "QEMU said nothing in time")
        return self._events.pop(0)

    def wait(self, _seconds: float) -> int:
        return 0


def guest(*events: QmpEvent | None) -> Guest:
    qemu = cast("Any", FakeQemu(*events))
    files, link = GuestFiles(folder=Path("run")), UserLink(path=Path("run/vsock"))
    return Guest(files=files, qemu=qemu, qmp=qemu, link=link)


def shutdown(reason: str) -> QmpEvent:
    return QmpEvent(name="SHUTDOWN", data={"guest": True, "reason": reason})


@pytest.mark.parametrize(
    ("events", "end"),
    [
        ((shutdown("guest-reset"),), EndReason.RESET),
        ((QmpEvent(name="RESUME", data={}), shutdown("guest-panic")), EndReason.PANIC),
        ((shutdown("snapshot-load"),), EndReason.OTHER),
        ((None,), EndReason.CRASHED),
    ],
)
def test_end_is_what_qemu_says(events: tuple[QmpEvent | None, ...], end: EndReason) -> None:
    ended = guest(*events)
    assert ended.wait_for_end(1) is end
    assert ended.wait_for_end(1) is end  # asked again, it is known


def test_guest_that_goes_on_is_told_as_that() -> None:
    with pytest.raises(DeadlineError, match="runs after 2 s") as caught:
        guest(QmpEvent(name="RESUME", data={})).wait_for_end(2)
    assert caught.value.reason == "guest.runs"
