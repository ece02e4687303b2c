"""The vsock device's process between its two sockets: a host's clients, and a guest's driver."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from host_runtime.programs.process import OwnedProcess
from host_runtime.vsock.packets import Operation
from host_runtime.vsock.vhost_user import Request
from tests.fakes.machine.vhost_front_end import RING_SIZE, FrontEnd

GUEST_PORT = 1024
START_SECONDS = 60.0


@dataclass
class Device:
    folder: Path
    process: OwnedProcess
    guest: FrontEnd

    def dial(self, greeting: bytes = b"CONNECT 1024\n") -> socket.socket:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.settimeout(60)
        stream.connect(str(self.folder / "vsock"))
        stream.sendall(greeting)
        return stream

    def open(self, *, buffer: int = 65536) -> tuple[socket.socket, int]:
        """Return an accepted connection to the guest, and its host port."""
        stream = self.dial()
        header, _ = self.guest.receive()
        assert header.operation == Operation.REQUEST
        self.guest.send(
            Operation.RESPONSE, port=GUEST_PORT, host_port=header.source_port, buffer=buffer
        )
        assert stream.recv(32) == f"OK {header.source_port}\n".encode()
        return stream, header.source_port

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the device find everything that is done meanwhile at once."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def finish(self) -> None:
        """Wait until it has done all that it had begun: it does one thing after another."""
        self.guest.request(Request.GET_FEATURES)

    def assert_serves(self) -> None:
        """A byte goes to the guest and one comes back, after a reset of the device."""
        self.guest.stop()
        self.guest.start()
        self.guest.give_buffers(RING_SIZE)
        stream, port = self.open()
        with stream:
            stream.sendall(b"?")
            assert self.guest.receive()[1] == b"?"
            self.guest.send(Operation.RW, port=GUEST_PORT, host_port=port, payload=b"!")
            assert stream.recv(1) == b"!"
