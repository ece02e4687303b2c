"""What the relay to the KBS is told, and where a guest's connections come in."""

import errno
import socket
import threading
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from host_runtime.kbs_relay import KbsAddress, guest_path, parse_address, serve
from tests.fakes.busy_listener import BusyListener


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("kbs.example:443", "kbs.example", 443),
        ("[::1]:1", "::1", 1),
    ],
)
def test_address_is_host_and_port(text: str, host: str, port: int) -> None:
    assert parse_address(text) == KbsAddress(host=host, port=port)


@pytest.mark.parametrize(
    "text", ["", "host", ":80", "host:", "host:0", "host:65536", "host:-1", "::1:80", "host:²"]
)
def test_other_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_address(text)
    assert refused.value.reason == "kbs.address"


def test_path_is_the_one_that_the_vsock_device_connects_to() -> None:
    assert guest_path(Path("/run/x/vsock")) == Path("/run/x/vsock_1025")


def test_relay_goes_on_after_a_connection_that_could_not_be_taken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    relayed: list[socket.socket] = []
    monkeypatch.setattr("host_runtime.kbs_relay._relay", lambda guest, *_: relayed.append(guest))
    near, far = socket.socketpair()
    with near, far:
        serve(BusyListener([near], errno.EMFILE), KbsAddress(host="127.0.0.1", port=1))
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(5)
    assert relayed == [near]
    assert "Too many open files" in capsys.readouterr().err
