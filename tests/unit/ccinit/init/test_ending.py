"""The one ending: its steps, their order, and that nothing keeps the next from being taken."""

import socket
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.host_service import HostService
from ccinit.agent.state import BootState
from ccinit.agent.teardown import Teardown, undoing
from ccinit.errors import KernelError, VerificationError
from ccinit.formats.planes.host_rpc import HOST_CID, METHODS, Code, Phase
from ccinit.formats.planes.msgpack_rpc import ReplyReader, encode_request
from ccinit.init import ending
from ccinit.init.sequence import PhaseError
from ccinit.kernel import power
from ccinit.kernel.event_loop import Event, EventLoop, sleep
from ccinit.rpc.server import RpcLimits, serve
from ccinit.seal.ring import SealedRing

FAILED = PhaseError(
    Phase.UNLOCK, Code.STORAGE, VerificationError("volume.rollback", "an old state")
)


class ResetError(BaseException):
    """Where the real machine is gone."""


class Bench:
    """A guest with two things to undo, and notes of what is done to it in which order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.report = b""
        self.told = (Phase.ENTRY, Code.OK)
        self.refusals = 0
        self.state = BootState()
        self.state.enter(Phase.RUN)
        self.teardown = Teardown()
        self.teardown.push("keys", undoing(lambda: self.steps.append("keys")))
        self.teardown.push("pod", undoing(lambda: self.steps.append("pod")))
        monkeypatch.setattr(ending, "sleep", self.sleep)
        monkeypatch.setattr(power, "sync", lambda: self.steps.append("sync"))
        monkeypatch.setattr(power, "reboot", self.reboot)
        monkeypatch.setattr(power, "libc", None)  # nothing resets the machine that runs the tests

    async def sleep(self, seconds: float) -> None:
        self.steps.append(f"{seconds:g} s of {self.state.phase.name}")

    def reboot(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise KernelError(1, "reboot", "machine")
        raise ResetError

    def close_log(self, report: bytes) -> None:
        self.report = report
        self.steps.append("log")

    def tell(self, phase: Phase, code: Code) -> bool:
        self.told = (phase, code)
        self.steps.append("code")
        return True

    def end(self, cause: PhaseError | None) -> None:
        log = SimpleNamespace(close=self.close_log, public_event=self.tell)
        guest: Any = SimpleNamespace(state=self.state, teardown=self.teardown, log=log)
        with pytest.raises(ResetError):
            EventLoop().run(ending.end(guest, cause))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


STEPS = ["pod", "keys", "code", "log", "2 s of STOP", "0.1 s of OFF", "sync"]


@pytest.mark.parametrize("cause", [None, FAILED])
def test_every_cause_takes_the_same_way_for_the_same_time(
    bench: Bench, cause: PhaseError | None
) -> None:
    bench.end(cause)
    assert bench.steps == STEPS


@pytest.mark.parametrize(
    ("cause", "code", "report"),
    [
        (None, Code.OK, b"orderly stop"),
        (FAILED, Code.STORAGE, b"UNLOCK failed: volume.rollback: an old state"),
    ],
)
def test_host_gets_the_code_and_the_owner_the_reason(
    bench: Bench, cause: PhaseError | None, code: Code, report: bytes
) -> None:
    bench.end(cause)
    assert bench.state.report()[:2] == (Phase.OFF, code)
    assert bench.told == (Phase.STOP, code)
    assert bench.report == report


def test_pod_that_has_ended_by_itself_was_not_stopped(bench: Bench) -> None:
    bench.state.fail(Code.WORKLOAD_EXIT)
    bench.end(None)
    assert bench.told == (Phase.STOP, Code.WORKLOAD_EXIT)
    assert bench.report == b"every main container has ended"


def test_step_that_fails_is_told_and_keeps_nothing_from_being_undone(bench: Bench) -> None:
    def fail() -> None:
        raise KernelError(16, "umount2", "scratch")

    bench.teardown.push("scratch", undoing(fail))
    bench.end(None)
    assert bench.steps == STEPS
    assert bench.state.report()[:2] == (Phase.OFF, Code.STOP_FORCED)
    assert bench.report.splitlines() == [
        b"orderly stop",
        b"teardown of scratch failed: kernel.umount2: scratch: errno 16 (EBUSY)",
    ]


def test_first_code_stays_when_the_end_fails_too(bench: Bench) -> None:
    def fail() -> None:
        raise KernelError(16, "umount2", "scratch")

    bench.teardown.push("scratch", undoing(fail))
    bench.end(FAILED)
    assert bench.state.report()[1] == Code.STORAGE
    assert len(bench.report.splitlines()) == 2


def test_end_that_has_begun_goes_on_from_its_phase(bench: Bench) -> None:
    bench.state.enter(Phase.STOP)
    bench.end(None)
    assert bench.steps == STEPS


def test_reset_is_asked_for_until_it_happens(bench: Bench) -> None:
    bench.refusals = 2
    bench.end(None)
    assert bench.steps == [*STEPS, "1 s of OFF", "1 s of OFF"]


def test_host_that_waits_hears_of_the_last_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_OFFER_SECONDS", 0.001)
    monkeypatch.setattr(power, "sync", lambda: None)
    monkeypatch.setattr(power, "libc", None)

    host, theirs = socket.socketpair()
    host.settimeout(0)
    theirs.settimeout(0)
    arrived = bytearray()

    def reset() -> None:
        with suppress(BlockingIOError):
            arrived.extend(host.recv(64))
        raise ResetError

    monkeypatch.setattr(power, "reboot", reset)
    state = BootState()
    state.enter(Phase.STOP)
    log = SimpleNamespace(close=lambda _report: None, public_event=lambda *_: None)
    guest: Any = SimpleNamespace(state=state, teardown=Teardown(), log=log)
    service = HostService(state, bytes(16), SealedRing(1 << 20))
    connections = [(theirs, HOST_CID)]

    async def accept() -> tuple[socket.socket, int]:
        if not connections:
            await Event().wait()
        return connections.pop()

    async def live() -> None:
        server = loop.start(serve(accept, service, RpcLimits()), "host plane")
        for _turn in range(20):  # until the guest has begun to answer
            await sleep(0)
        with pytest.raises(ResetError):
            await ending.end(guest, None)
        await server.stop()

    loop = EventLoop()
    with host, theirs:
        _phase, _code, sequence, _flags = state.report()
        host.sendall(encode_request(7, "wait", (sequence, 60_000)))
        loop.run(live())
    reply = ReplyReader(METHODS["wait"]).feed(bytes(arrived))
    assert reply is not None
    assert reply.result[:2] == (Phase.OFF, Code.OK)
