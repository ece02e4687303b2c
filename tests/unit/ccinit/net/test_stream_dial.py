"""How the time to connect is shared among addresses, and that of a request among its writes."""

import socket
from typing import Any

import pytest

from ccinit.errors import PeerError
from ccinit.net import stream
from ccinit.net.stream import Deadline, DeadlineBackend, dial_tcp


class Addresses:
    """Addresses of one name, each of which takes a time and then fails or is a connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *each: tuple[float, object]) -> None:
        self.now = 100.0
        self.given: list[float] = []
        found = [(socket.AF_INET, outcome) for outcome in each]
        monkeypatch.setattr(stream, "_resolve", lambda _host, _port: found)
        monkeypatch.setattr(stream, "_connect", self.connect)
        monkeypatch.setattr(stream, "boottime", lambda: self.now)

    def connect(self, address: tuple[object, tuple[float, object]], seconds: float) -> object:
        takes, outcome = address[1]
        self.given.append(seconds)
        self.now += min(takes, seconds)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_each_address_gets_its_share_of_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = (60.0, TimeoutError())
    connected: Any = object()
    played = Addresses(monkeypatch, silent, (1.0, ConnectionRefusedError()), (0.0, connected))
    assert dial_tcp("h", 1, 9.0) is connected
    assert played.given == [3.0, 3.0, 5.0]


def test_failure_is_that_of_the_first_address(monkeypatch: pytest.MonkeyPatch) -> None:
    Addresses(monkeypatch, (1.0, ConnectionRefusedError()), (1.0, OSError(101, "no route")))
    with pytest.raises(ConnectionRefusedError):
        dial_tcp("h", 1, 9.0)


def test_name_that_took_all_of_the_time_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Addresses(monkeypatch, (1.0, "connected"))
    with pytest.raises(TimeoutError, match="the name took"):
        dial_tcp("h", 1, 0.0)
    assert played.given == []


@pytest.mark.parametrize("failure", [None, ConnectionRefusedError()])
def test_connection_sends_small_writes_at_once_and_a_failed_one_is_closed(
    monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    calls: list[tuple[object, ...]] = []

    class Played:
        def settimeout(self, seconds: float) -> None:
            calls.append(("time", seconds))

        def connect(self, target: object) -> None:
            calls.append(("connect", target))
            if failure is not None:
                raise failure

        def setsockopt(self, *option: int) -> None:
            calls.append(option)

        def close(self) -> None:
            calls.append(("close",))

    monkeypatch.setattr(socket, "socket", lambda *_kind: Played())
    address: Any = (socket.AF_INET, ("192.0.2.1", 443))
    begun = [("time", 3.0), ("connect", ("192.0.2.1", 443))]
    if failure is None:
        assert stream._connect(address, 3.0)
        assert calls == [*begun, (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        return
    with pytest.raises(ConnectionRefusedError):
        stream._connect(address, 3.0)
    assert calls == [*begun, ("close",)]


def test_request_begins_anew_with_what_it_counts() -> None:
    deadline = Deadline()
    deadline.received_bytes, deadline.ended = 5, True
    deadline.start(total_seconds=1, wait_seconds=1)
    assert (deadline.received_bytes, deadline.ended) == (0, False)


def test_long_write_is_checked_against_the_deadline_record_by_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    sizes: list[int] = []
    timeouts: list[float] = []

    class Slow:
        def settimeout(self, seconds: float) -> None:
            timeouts.append(seconds)

        def send(self, data: memoryview) -> int:
            sizes.append(len(data))
            now[0] += 1.0
            return len(data)

    monkeypatch.setattr(stream, "boottime", lambda: now[0])
    deadline, played = Deadline(), Slow()
    deadline.start(total_seconds=3, wait_seconds=10)
    dialled: Any = lambda _host, _port, _timeout: played  # noqa: E731
    connection = DeadlineBackend(deadline, dialled).connect_tcp("h", 1)
    with pytest.raises(PeerError) as refused:
        connection.write(bytes(100_000))
    assert refused.value.reason == "net.deadline"
    assert (sizes, timeouts) == ([16384] * 3, [3.0, 2.0, 1.0])
