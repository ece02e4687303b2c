"""How a guest ended, as QEMU's events tell it."""

import itertools
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Never, cast

import pytest

from ccinit.errors import ChildError, DeadlineError, PeerError
from ccinit.formats.planes.host_rpc import METHODS, PROTOCOL
from ccinit.formats.planes.msgpack_rpc import RequestReader, encode_result
from host_runtime.launch.guest import VSOCK_DEVICE, EndReason, Guest
from host_runtime.launch.guest_files import GuestFiles
from host_runtime.machine.qmp import QmpEvent
from host_runtime.plane import rpc_client


class FakeQemu:
    """Both the process and its QMP connection: says what it was given, then nothing."""

    def __init__(self, events: Iterable[QmpEvent | None]) -> None:
        self._events = iter(events)
        self.looks = 0
        self.status = "paused"
        self.has_quit = False

    def next_event(self, seconds: float) -> QmpEvent | None:
        for event in self._events:
            return event
        time.sleep(seconds)
        raise DeadlineError("qmp.silent", "QEMU said nothing in time")

    def execute(self, command: str) -> dict[str, object]:
        assert command in {"query-status", "quit"}
        self.has_quit = self.has_quit or command == "quit"
        return {"running": False, "status": self.status}

    def wait(self, _seconds: float) -> int:
        return 0

    def exit_code(self) -> int | None:
        return None if self.status == "internal-error" and not self.has_quit else -9

    def bound_log(self) -> None:
        self.looks += 1

    def log_tail(self) -> str:
        return "last words"


class SilentLink:
    """A way to a guest in which nothing listens."""

    def connect(self, port: int, _seconds: float) -> Never:
        raise PeerError("vsock.refused", f"the guest refused port {port}")


class SlowLink:
    """A way to a guest that listens long before it says its hello."""

    def __init__(self, seconds: float) -> None:
        self._answers_after = seconds

    def connect(self, _port: int, _seconds: float) -> socket.socket:
        inside, outside = socket.socketpair()
        threading.Thread(target=self._serve, args=(inside,), daemon=True).start()
        return outside

    def _serve(self, stream: socket.socket) -> None:
        with stream:
            for request in RequestReader().feed(stream.recv(4096)):
                time.sleep(self._answers_after)
                answer = encode_result(request.msgid, METHODS["hello"], (PROTOCOL, b"b" * 16))
                with suppress(BrokenPipeError):  # by then nobody waits
                    stream.sendall(answer)


def guest(*events: QmpEvent | None) -> Guest:
    return guest_of(events, [])


def guest_of(events: Iterable[QmpEvent | None], said: list[str]) -> Guest:
    qemu = cast("Any", FakeQemu(events))
    files = GuestFiles(folder=Path("run"))
    return Guest(files=files, qemu=qemu, qmp=qemu, link=SilentLink(), progress=said.append)


def test_hello_may_take_longer_than_other_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_client, "_CALL_SECONDS", 0.05)
    slow = guest(RESUME)
    slow.link = SlowLink(0.2)
    assert slow.wait_for_hello(60).build_id == b"b" * 16
    with pytest.raises(DeadlineError) as error:
        slow.wait_for_hello(0.01)
    assert error.value.reason == "rpc.silent"


def test_hello_takes_no_longer_than_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_client, "_CALL_SECONDS", 0.2)
    slow = guest(RESUME)
    slow.link = SlowLink(1.0)
    with pytest.raises(DeadlineError) as error:
        slow.wait_for_hello(0.5)
    assert error.value.detail == "the guest did not answer `hello` within 0.5 s"


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


def test_logs_of_qemu_and_its_helpers_are_bounded_while_a_guest_is_waited_for() -> None:
    qemu, relay = FakeQemu([RESUME, shutdown("guest-reset")]), FakeQemu(())
    running = Guest(
        files=GuestFiles(folder=Path("run")),
        qemu=cast("Any", qemu),
        qmp=cast("Any", qemu),
        link=SilentLink(),
        progress=print,
        helpers=cast("Any", {"the relay": relay}),
    )
    running.wait_for_end(1)
    assert (qemu.looks, relay.looks) == (2, 2)


def test_helper_that_ends_before_its_guest_is_told_once() -> None:
    """It may be killed, and then nobody reaches the guest any more, which goes on."""
    silence = DeadlineError("qmp.silent", "QEMU said nothing in time")
    qemu = FakeQemu([])
    events: list[QmpEvent | DeadlineError] = [silence, silence, shutdown("guest-reset")]

    def next_event(_seconds: float) -> QmpEvent:
        event = events.pop(0)
        if isinstance(event, DeadlineError):
            raise event
        return event

    said: list[str] = []
    killed, sound = FakeQemu([]), FakeQemu([])
    sound.status = "internal-error"  # it runs
    handle = cast("Any", qemu)
    handle.next_event = next_event
    running = Guest(
        files=GuestFiles(folder=Path("run")),
        qemu=handle,
        qmp=handle,
        link=SilentLink(),
        progress=said.append,
        helpers=cast("Any", {"the vsock device": killed, "the relay": sound}),
    )
    assert running.wait_for_end(60) is EndReason.RESET
    assert said == ["the vsock device ended with -9: the guest goes on without it"]


def test_helpers_that_end_with_their_guest_are_not_told_of() -> None:
    said: list[str] = []
    qemu = cast("Any", FakeQemu([RESUME, shutdown("guest-reset")]))
    running = Guest(
        files=GuestFiles(folder=Path("run")),
        qemu=qemu,
        qmp=qemu,
        link=SilentLink(),
        progress=said.append,
        helpers=cast("Any", {"the vsock device": FakeQemu([])}),
    )
    assert running.wait_for_end(60) is EndReason.RESET
    assert said == []


def without_device(*events: QmpEvent) -> Guest:
    """A guest whose vsock device has ended, and whose QEMU runs."""
    qemu = FakeQemu(events)
    qemu.status = "internal-error"
    handle = cast("Any", qemu)
    return Guest(
        files=GuestFiles(folder=Path("run")),
        qemu=handle,
        qmp=handle,
        link=SilentLink(),
        progress=print,
        helpers=cast("Any", {VSOCK_DEVICE: FakeQemu(())}),
    )


def test_guest_whose_vsock_device_has_ended_is_not_waited_for() -> None:
    with pytest.raises(ChildError) as caught:
        without_device().wait_for_port(1024, 60)
    assert caught.value.reason == "process.ended"
    told = "the vsock device ended with -9, so nobody can reach the guest: last words"
    assert caught.value.detail == told


def test_vsock_device_that_ends_with_its_guest_is_not_the_reason() -> None:
    with pytest.raises(ChildError) as caught:
        without_device(RESUME, shutdown("guest-panic")).wait_for_port(1024, 60)
    assert caught.value.reason == "guest.ended"


RESUME = QmpEvent(name="RESUME", data={})


@pytest.mark.parametrize(
    "events",
    [pytest.param((RESUME,), id="quiet"), pytest.param(itertools.repeat(RESUME), id="flood")],
)
def test_guest_that_goes_on_is_told_as_that(events: Iterable[QmpEvent]) -> None:
    with pytest.raises(DeadlineError, match=r"runs after 0\.1 s") as caught:
        guest_of(events, []).wait_for_end(0.1)
    assert caught.value.reason == "guest.runs"


def test_end_that_qemu_told_is_sound_and_a_crash_is_not() -> None:
    ended, crashed = guest(shutdown("guest-reset")), guest(None)
    ended.wait_for_end()
    ended.require_sound_end()
    crashed.wait_for_end()
    with pytest.raises(ChildError, match="ended with -9: last words") as caught:
        crashed.require_sound_end()
    assert caught.value.reason == "guest.crashed"


def given_up() -> tuple[FakeQemu, Guest]:
    qemu = FakeQemu([RESUME, QmpEvent(name="STOP", data={})])
    qemu.status = "internal-error"
    handle = cast("Any", qemu)
    files = GuestFiles(folder=Path("run"))
    return qemu, Guest(files=files, qemu=handle, qmp=handle, link=SilentLink(), progress=print)


def test_guest_that_kvm_gives_up_has_ended_though_qemu_has_not() -> None:
    qemu, stuck = given_up()
    assert stuck.wait_for_end(1) is EndReason.GIVEN_UP
    assert qemu.has_quit
    with pytest.raises(ChildError, match="cannot run it on: last words") as caught:
        stuck.require_sound_end()
    assert caught.value.reason == "guest.crashed"


def test_guest_that_kvm_gives_up_is_not_waited_for() -> None:
    _qemu, stuck = given_up()
    with pytest.raises(ChildError, match="cannot run it on") as caught:
        stuck.wait_for_port(1024, 5)
    assert caught.value.reason == "guest.crashed"


def test_guest_that_somebody_pauses_goes_on() -> None:
    with pytest.raises(DeadlineError, match="runs after"):
        guest(QmpEvent(name="STOP", data={})).wait_for_end(0.1)


def test_guest_that_ends_before_it_is_heard_is_told_with_its_end() -> None:
    with pytest.raises(ChildError, match="guest-panic") as caught:
        guest(shutdown("guest-panic")).wait_for_port(1024, 5)
    assert caught.value.reason == "guest.ended"
    assert "too little memory" in caught.value.detail


def test_disk_that_fails_is_told_once() -> None:
    failed = QmpEvent(
        name="BLOCK_IO_ERROR", data={"node-name": "disk1", "reason": "No space left on device"}
    )
    said: list[str] = []
    assert guest_of((failed, failed, shutdown("guest-reset")), said).wait_for_end() is (
        EndReason.RESET
    )
    assert said == ["disk1: No space left on device: the guest gets I/O errors"]


@pytest.mark.parametrize(
    ("disk", "told"),
    [
        ("disk1", "disk1"),
        (["disk1"], "['disk1']"),
        ({}, "{}"),
        (None, "None"),
        ("\x1b[2J\ud800", r"'\x1b[2J\ud800'"),
    ],
)
def test_disk_that_fails_is_named_as_text_whatever_qemu_says(disk: object, told: str) -> None:
    failed = QmpEvent(name="BLOCK_IO_ERROR", data={"node-name": disk, "reason": "full"})
    said: list[str] = []
    assert guest_of((failed, failed, shutdown("guest-reset")), said).wait_for_end() is (
        EndReason.RESET
    )
    assert said == [f"{told}: full: the guest gets I/O errors"]
