"""One connection that the host carries: what is passed on, and when it is over."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from host_runtime.relay.forward import forward

_SOON_SECONDS = 10.0  # by which what ends has ended


class Carried:
    """A connection that is carried in a thread, by its two far ends."""

    def __init__(self, stack: ExitStack) -> None:
        self.guest, inside = map(stack.enter_context, socket.socketpair())
        outside, self.service = map(stack.enter_context, socket.socketpair())
        for end in (inside, outside):  # so that there may be room, and less than for a piece
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self._thread = threading.Thread(target=forward, args=(inside, outside), daemon=True)
        self._thread.start()

    def is_over(self) -> bool:
        """Wait for the end of what ends."""
        self._thread.join(_SOON_SECONDS)
        return not self._thread.is_alive()


@pytest.fixture
def carried() -> Iterator[Carried]:
    with ExitStack() as stack:
        yield Carried(stack)


def test_half_close_is_passed_on_and_the_other_half_goes_on(carried: Carried) -> None:
    carried.guest.sendall(b"question")
    carried.guest.shutdown(socket.SHUT_WR)
    assert carried.service.recv(100) == b"question"
    assert carried.service.recv(100) == b""
    carried.service.sendall(b"answer")
    assert carried.guest.recv(100) == b"answer"
    carried.service.close()
    assert carried.guest.recv(100) == b""
    assert carried.is_over()


@pytest.mark.parametrize("is_guest", [True, False])
def test_who_takes_nothing_is_heard_all_the_same(carried: Carried, *, is_guest: bool) -> None:
    ends = carried.guest, carried.service
    silent, other = ends if is_guest else ends[::-1]
    other.settimeout(0.3)
    with pytest.raises(TimeoutError):
        other.sendall(bytes(16 << 20))  # more than anybody holds on the way
    silent.sendall(b"answer")
    other.settimeout(_SOON_SECONDS)
    assert other.recv(100) == b"answer"
    silent.close()
    assert carried.is_over()


def test_service_that_says_nothing_more_does_not_keep_a_guests_place_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one does whose machine has lost its power behind the end of the guest's half."""
    monkeypatch.setattr("host_runtime.relay.forward._SILENT_SECONDS", 0.01)
    with ExitStack() as stack:
        carried = Carried(stack)
        carried.guest.close()
        assert carried.service.recv(100) == b""
        assert carried.is_over()


def test_silence_is_an_end_only_behind_one(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []

    class Selector(selectors.PollSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            waits.append(timeout)
            return super().select(timeout)

    monkeypatch.setattr(selectors, "PollSelector", Selector)
    with ExitStack() as stack:
        carried = Carried(stack)
        carried.guest.sendall(b"question")
        assert carried.service.recv(100) == b"question"
        carried.service.sendall(b"answer")
        assert carried.guest.recv(100) == b"answer"
        assert set(waits) == {None}
        carried.guest.shutdown(socket.SHUT_WR)
        assert carried.service.recv(100) == b""
        carried.service.close()
        assert carried.is_over()
    assert [*dict.fromkeys(waits)] == [None, 600.0]
