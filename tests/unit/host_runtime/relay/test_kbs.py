"""What the relay to the KBS is told, and where a guest's connections come in."""

import errno
import socket
import threading
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from host_runtime.relay.kbs import KbsAddress, guest_path, main, parse_kbs_address, serve
from tests.fakes.network.busy_listener import BusyListener


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("kbs.example:443", "kbs.example", 443),
        ("[::1]:1", "::1", 1),
    ],
)
def test_address_is_host_and_port(text: str, host: str, port: int) -> None:
    assert parse_kbs_address(text) == KbsAddress(host=host, port=port)


@pytest.mark.parametrize(
    "text",
    [
        *("", "host", ":80", "host:", "host:0", "host:65536", "host:-1", "::1:80", "host:²"),
        *("a..b:80", "bad\udcffname:80"),
    ],
)
def test_other_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_kbs_address(text)
    assert refused.value.reason == "kbs.address"


def test_path_is_the_one_that_the_vsock_device_connects_to() -> None:
    assert guest_path(Path("/run/x/vsock")) == Path("/run/x/vsock_1025")


def test_relay_goes_on_after_a_connection_that_could_not_be_taken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    relayed: list[socket.socket] = []
    monkeypatch.setattr("host_runtime.relay.kbs._relay", lambda guest, *_: relayed.append(guest))
    near, far = socket.socketpair()
    before = set(threading.enumerate())
    with near, far:
        serve(BusyListener([near], errno.EMFILE), KbsAddress(host="127.0.0.1", port=1))
        for thread in set(threading.enumerate()) - before:
            thread.join(60)
    assert relayed == [near]
    assert "Too many open files" in capsys.readouterr().err


def test_relay_goes_on_without_a_thread_for_a_connection(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of more connections than may be open at a time: none of them counts as open."""
    most = 16
    pairs = [socket.socketpair() for _ in range(most + 1)]
    last = pairs[-1][0]
    served = threading.Event()
    monkeypatch.setattr("host_runtime.relay.kbs._relay", lambda *_: served.set())
    failures = iter([RuntimeError("can't start new thread")] * most)

    class ScarceThread(threading.Thread):
        def start(self) -> None:
            for failure in failures:
                raise failure
            super().start()

    monkeypatch.setattr("host_runtime.relay.listener.threading.Thread", ScarceThread)
    serve(BusyListener([near for near, _ in pairs]), KbsAddress(host="127.0.0.1", port=1))
    assert served.wait(60)
    assert [near.fileno() for near, _ in pairs[:-1]] == [-1] * most
    assert capsys.readouterr().err == "kbs relay: no thread can be had\n"
    for stream in (last, *(far for _, far in pairs)):
        stream.close()


def test_connection_more_than_may_be_open_is_closed_and_waited_for_by_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = 16
    pairs = [socket.socketpair() for _ in range(most + 1)]
    served, end = threading.Semaphore(0), threading.Event()

    def relay(guest: socket.socket, *_: object) -> None:
        with guest:
            served.release()
            end.wait(60)

    monkeypatch.setattr("host_runtime.relay.kbs._relay", relay)
    serving = threading.Thread(
        target=serve,
        args=(BusyListener([near for near, _ in pairs]), KbsAddress(host="127.0.0.1", port=1)),
    )
    serving.start()
    serving.join(60)
    try:
        assert not serving.is_alive()
        assert all(served.acquire(timeout=60) for _ in range(most))
        assert [near.fileno() == -1 for near, _ in pairs] == [*[False] * most, True]
    finally:
        end.set()
        for _, far in pairs:
            far.close()


class Caller(socket.socket):
    """A connection over vsock, as far as it says whose it is."""

    cid = 3

    def getpeername(self) -> tuple[int, int]:
        if not self.cid:
            raise OSError(errno.ENOTCONN, "gone already")
        return self.cid, 4321


def test_relay_over_the_kernels_vsock_is_for_one_guest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    relayed = threading.Semaphore(0)
    monkeypatch.setattr("host_runtime.relay.kbs._relay", lambda *_: relayed.release())
    pairs = [socket.socketpair() for _ in range(3)]
    callers = [Caller(fileno=near.detach()) for near, _ in pairs]
    for caller, cid in zip(callers, (4, 0, 3), strict=True):
        caller.cid = cid
    serve(BusyListener(callers), KbsAddress(host="127.0.0.1", port=1), guest_cid=3)
    assert relayed.acquire(timeout=60)
    assert not relayed.acquire(blocking=False)
    assert [caller.fileno() == -1 for caller in callers] == [True, True, False]
    callers[2].close()
    for _, far in pairs:
        far.close()
    assert capsys.readouterr().err == (
        "kbs relay: refused a connection of CID 4, which is not this guest\n"
    )


def test_port_that_another_guests_relay_has_is_told_in_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Taken(socket.socket):
        def __init__(self, _family: int) -> None:
            super().__init__(socket.AF_UNIX)

        def bind(self, _address: object) -> None:
            raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr("host_runtime.relay.kbs.socket.socket", Taken)
    assert main(["--cid", "3", "127.0.0.1:1"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("kbs relay: kbs.relay: port 1025 of the kernel's vsock is in use")
