"""The host of a guest that runs: what it offers, asks and keeps, of honest guests and others."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import pytest

from ccinit.errors import PeerError
from ccinit.formats.planes.host_rpc import Code, Phase, RpcError
from host_runtime.launch.guest import EndReason
from host_runtime.launch.network_offer import offer_user_network
from host_runtime.machine.qemu import UserNetwork
from host_runtime.oci_runtime.guest_host import GuestHost
from host_runtime.oci_runtime.host_requests import HostRequests
from host_runtime.oci_runtime.sealed_logs import SealedLog
from host_runtime.plane.rpc_client import CallRefusedError, GuestState, NetworkOffer, SealedChunk

_PATIENCE_SECONDS = 60.0
HANDLED = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A host that has ended ignores signals; it is a process of its own, this one is not."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@dataclass
class FakeGuest:
    """A guest and the client of its host plane; it ends once `is_over` says so.

    Attributes:
        states: one for each question, the last again and again; None: nobody answers.
        refusals: what the next calls of a method are refused with.
    """

    states: Sequence[GuestState | None]
    is_over: Callable[["FakeGuest"], bool]
    chunks: list[SealedChunk] = field(default_factory=list)
    refusals: dict[str, list[RpcError]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    offers: list[NetworkOffer] = field(default_factory=list)
    asked: int = 0
    pod_exit_code: int | None = None

    def client(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_for_end(self) -> EndReason:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self.is_over(self):
            assert time.monotonic() < deadline, self.calls
            time.sleep(0.01)
        return EndReason.RESET

    def state(self) -> GuestState:
        state = self.states[min(self.asked, len(self.states) - 1)]
        self.asked += 1
        if state is None:
            raise PeerError("vsock.refused", "nobody")
        return state

    def wait(self, _sequence: int, _ms: int) -> GuestState:
        return self.state()

    def collect(self, _cursor: int) -> Iterator[SealedChunk]:
        yield from self.chunks

    def start(self) -> None:
        self._call("start")

    def stop(self, grace_seconds: int) -> None:
        self._call(f"stop {grace_seconds}")

    def offer_network(self, offer: NetworkOffer) -> None:
        self._call("offer_network")
        self.offers.append(offer)

    def exit_code(self) -> int:
        self._call("exit")
        if self.pod_exit_code is None:
            raise CallRefusedError("exit", RpcError.FAILED)
        return self.pod_exit_code

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.refusals.get(name):
            raise CallRefusedError(name, self.refusals[name].pop(0))


def at(phase: Phase, code: Code = Code.OK) -> GuestState:
    return GuestState(phase=phase, code=code, sequence=phase.value, is_debug=False)


def accompany(
    guest: FakeGuest,
    log: Path,
    *,
    requests: HostRequests | None = None,
    offer: NetworkOffer | None = None,
    log_bytes: int = 1000,
    said: list[str] | None = None,
) -> tuple[GuestHost, list[str]]:
    said = [] if said is None else said
    host = GuestHost(
        cast("Any", guest),
        requests or HostRequests(),
        offer=offer,
        grace_seconds=7,
        sealed_log=SealedLog(path=log, max_bytes=log_bytes, all_bytes=1 << 20),
        say=said.append,
    )
    assert host.serve() is EndReason.RESET
    return host, said


def request(*names: str) -> HostRequests:
    requests = HostRequests()
    for name in names:
        getattr(requests, name).set()
    return requests


def test_phases_are_told_once_and_the_last_state_is_kept(tmp_path: Path) -> None:
    states = [None, at(Phase.LISTEN), at(Phase.RUN), at(Phase.RUN), at(Phase.STOP, Code.IMAGE)]
    guest = FakeGuest(states=states, is_over=lambda guest: guest.asked > len(states))
    host, said = accompany(guest, tmp_path / "log")
    assert host.last == at(Phase.STOP, Code.IMAGE)
    assert said == [
        "phase LISTEN, code OK",
        "phase RUN, code OK",
        "phase STOP, code IMAGE",
    ]


def test_guest_is_looked_for_often_enough_to_hear_why_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    wait = threading.Event.wait

    def noted(event: threading.Event, seconds: float | None = None) -> bool:
        if threading.current_thread().name.endswith("(_watch)") and seconds is not None:
            pauses.append(seconds)
        return wait(event, seconds)

    monkeypatch.setattr(threading.Event, "wait", noted)
    end = at(Phase.STOP, Code.CONFIG)
    guest = FakeGuest(states=[None] * 5 + [end], is_over=lambda guest: guest.asked > 5)
    host, _said = accompany(guest, tmp_path / "log")
    assert host.last == end
    assert pauses[:5] == [0.1] * 5  # twenty in the two seconds of an end


def test_guest_that_takes_its_words_back_is_not_believed(tmp_path: Path) -> None:
    others = [at(Phase.RUN), at(Phase.STOP, Code.OK), at(Phase.STOP, Code.IMAGE)]
    states = [at(Phase.STOP, Code.STORAGE), *others * 5]
    guest = FakeGuest(states=states, is_over=lambda guest: guest.asked > len(states))
    host, said = accompany(guest, tmp_path / "log")
    assert said == ["phase STOP, code STORAGE"]
    assert host.last is not None
    assert (host.last.phase, host.last.code) == (Phase.STOP, Code.STORAGE)


@pytest.mark.parametrize(("refusals", "known"), [([], 7), ([RpcError.DENIED], None)])
def test_exit_code_is_asked_for_once_the_guest_ends(
    refusals: list[RpcError], known: int | None, tmp_path: Path
) -> None:
    states = [at(Phase.RUN), at(Phase.STOP, Code.WORKLOAD_EXIT), at(Phase.OFF, Code.WORKLOAD_EXIT)]
    guest = FakeGuest(
        states=states,
        is_over=lambda guest: guest.asked > len(states),
        refusals={"exit": refusals},
        pod_exit_code=7,
    )
    host, said = accompany(guest, tmp_path / "log")
    assert host.pod_exit_code == known
    assert guest.calls == ["exit"]
    assert ("the pod's exit code is 7" in said) == (known is not None)


def test_exit_code_is_asked_for_until_the_guest_has_time_for_it(tmp_path: Path) -> None:
    guest = FakeGuest(
        states=[at(Phase.STOP)],
        is_over=lambda guest: guest.calls.count("exit") > 2,
        refusals={"exit": [RpcError.BUSY, RpcError.NOT_NOW]},
        pod_exit_code=7,
    )
    host, said = accompany(guest, tmp_path / "log")
    assert host.pod_exit_code == 7
    assert guest.calls == ["exit"] * 3
    assert "the pod's exit code is 7" in said


def test_network_is_offered_until_it_is_taken(tmp_path: Path) -> None:
    guest = FakeGuest(
        states=[at(Phase.LISTEN)],
        is_over=lambda guest: bool(guest.offers),
        refusals={"offer_network": [RpcError.NOT_NOW, RpcError.BUSY]},
    )
    accompany(guest, tmp_path / "log", offer=offer_user_network(UserNetwork()))
    assert guest.calls == ["offer_network"] * 3
    (offer,) = guest.offers
    assert offer.mac == bytes.fromhex("525400cc0001")
    assert offer.address == bytes(10) + b"\xff\xff" + bytes((10, 0, 2, 15))
    assert offer.gateway == bytes(10) + b"\xff\xff" + bytes((10, 0, 2, 2))


def test_start_is_asked_for_until_the_guest_can_take_it(tmp_path: Path) -> None:
    guest = FakeGuest(
        states=[at(Phase.CONFIG)],
        is_over=lambda guest: guest.calls == ["start", "start"],
        refusals={"start": [RpcError.NOT_NOW]},
    )
    accompany(guest, tmp_path / "log", requests=request("start"))


def test_start_that_the_document_does_not_wait_for_changes_nothing(tmp_path: Path) -> None:
    asked = list[float]()

    def is_over(guest: FakeGuest) -> bool:
        if guest.calls and not asked:
            asked.append(time.monotonic())
        return bool(asked) and time.monotonic() > asked[0] + 1.2

    guest = FakeGuest(
        states=[at(Phase.NET)],
        is_over=is_over,
        refusals={"start": [RpcError.DENIED] * 9},
    )
    _host, said = accompany(guest, tmp_path / "log", requests=request("start"))
    assert guest.calls == ["start"]
    assert said == ["phase NET, code OK"]


def test_stop_comes_first_and_with_the_operators_grace(tmp_path: Path) -> None:
    guest = FakeGuest(states=[at(Phase.RUN)], is_over=lambda guest: bool(guest.calls))
    accompany(guest, tmp_path / "log", requests=request("start", "stop"))
    assert guest.calls[0] == "stop 7"


def test_host_without_a_thread_says_so_and_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    guest = FakeGuest(states=[at(Phase.RUN)], is_over=lambda _: True)
    with pytest.raises(OSError, match="no thread can be had"):
        accompany(guest, tmp_path / "log")


def test_sealed_log_is_kept_up_to_its_limit(tmp_path: Path) -> None:
    chunks = [
        SealedChunk(next_cursor=cursor, is_last=cursor == 1200, blob=bytes(400))
        for cursor in (400, 800, 1200)
    ]
    for limit, expected in ((1200, 1200), (1199, 800)):
        log = tmp_path / str(limit)
        guest = FakeGuest(
            states=[at(Phase.RUN)],
            chunks=list(chunks),
            is_over=lambda _, log=log, size=expected: (  # type: ignore[misc]
                log.exists() and log.stat().st_size == size
            ),
        )
        _host, said = accompany(guest, log, log_bytes=limit)
        assert log.stat().st_size == expected
        is_cut = "the sealed log has reached its limit: no more is kept" in said
        assert is_cut == (limit < 1200)


@pytest.mark.parametrize(
    ("path", "why"), [("full", "No space left on device"), ("none/log", "No such file")]
)
def test_sealed_log_that_cannot_be_written_is_told_and_the_guest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, why: str
) -> None:
    opened = os.open

    def open_full(name: Path, flags: int, mode: int = 0o777) -> int:
        return (
            opened("/dev/full", os.O_WRONLY) if name.name == "full" else opened(name, flags, mode)
        )

    monkeypatch.setattr(os, "open", open_full)
    guest = FakeGuest(
        states=[at(Phase.RUN)],
        chunks=[SealedChunk(next_cursor=400, is_last=True, blob=bytes(400))],
        is_over=lambda _: any("not kept" in line for line in said),
    )
    said: list[str] = []
    accompany(guest, tmp_path / path, said=said)
    assert any(line.startswith("the sealed log is not kept any more") and why in line
               for line in said)  # fmt: skip
    assert "phase RUN, code OK" in said
