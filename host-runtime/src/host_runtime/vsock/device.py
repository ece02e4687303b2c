"""The vsock device's process: one QEMU, one guest, one selectors loop, no threads.

It is a process of its own, not a part of the launcher's loop, for three reasons: it reads memory
that a hostile guest writes, so its failure must cost no more than that guest's vsock; it goes on
while the launcher waits for something else; and it can be given fewer rights. The state machines
it drives are in `backend` (vhost-user), `datapath` (rings), `connections` and `endpoints`.

Run as `python -m host_runtime.vsock.device --socket QEMU.sock --path VSOCK.sock --cid N`.
"""

import argparse
import logging
import os
import selectors
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final, assert_never

from ccinit.errors import FormatError
from host_runtime.vsock.backend import FROM_GUEST, TO_GUEST, Ring, VhostUserBackend
from host_runtime.vsock.capture import CaptureWriter
from host_runtime.vsock.connection import Connection, VsockLimits
from host_runtime.vsock.connections import ConnectionTable
from host_runtime.vsock.datapath import Datapath
from host_runtime.vsock.endpoints import Endpoints, LocalEnd
from host_runtime.vsock.vhost_user import MAX_DESCRIPTORS, MessageReader

_FIRST_GUEST_CID: Final = 3

_log = logging.getLogger(__name__)


class VsockDevice:
    """Serves one vhost-user connection until it ends; observes the rings of its own backend."""

    def __init__(
        self, *, control: socket.socket, path: Path, guest_cid: int, capture: CaptureWriter
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._control = control
        self._reader = MessageReader()
        self._table = ConnectionTable(guest_cid=guest_cid, limits=VsockLimits())
        self._backend = VhostUserBackend(guest_cid=guest_cid, observer=self)
        self._endpoints = Endpoints(path=path, selector=self._selector, table=self._table)
        self._capture = capture
        self._datapath = Datapath(table=self._table, capture=capture)
        self._is_stopping = False
        self._selector.register(control, selectors.EVENT_READ, self)

    def run(self, wakeup: socket.socket) -> None:
        """Serve until QEMU closes its socket or `wakeup` becomes readable.

        Raises:
            FormatError: QEMU broke the vhost-user protocol.
        """
        self._selector.register(wakeup, selectors.EVENT_READ, None)
        has_more = False
        while not self._is_stopping:
            wait = 0 if has_more else self._endpoints.pause_seconds()
            for key, _events in self._selector.select(wait):
                self._handle(key.data)
            self._endpoints.resume()
            has_more = self._pump()

    def close(self) -> None:
        """Close everything that this device opened."""
        self._endpoints.close()
        self._backend.close()
        self._selector.close()

    def add_kick(self, descriptor: int, ring: Ring) -> None:
        """Watch a ring's kick descriptor."""
        self._selector.register(descriptor, selectors.EVENT_READ, ring)

    def remove_kick(self, descriptor: int) -> None:
        """Stop watching a ring's kick descriptor."""
        self._selector.unregister(descriptor)

    def lose_ring(self) -> None:
        """End all connections: with either ring lost, none can go on."""
        self._endpoints.close_connections()

    def _handle(self, data: "VsockDevice | Endpoints | LocalEnd | Ring | None") -> None:
        match data:
            case None:
                self._is_stopping = True
            case VsockDevice():
                self._read_message()
            case Endpoints():
                data.accept()
            case LocalEnd():
                if data.interest:  # dropped by an earlier event of this turn otherwise
                    self._endpoints.handle(data)
            case Ring():
                self._read_kick(data)
            case _:
                assert_never(data)

    def _read_message(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._control, self._reader.wanted_bytes, MAX_DESCRIPTORS
            )
            message = self._reader.feed(data, tuple(descriptors)) if data else None
            reply = None if message is None else self._backend.handle(message)
            if reply is not None:
                self._control.sendall(reply)
        except ConnectionError:  # a killed QEMU may leave a reset behind
            data = b""
        if not data:
            self._is_stopping = True

    def _read_kick(self, ring: Ring) -> None:
        if ring.kick is None:
            return
        try:
            os.eventfd_read(ring.kick)
        except BlockingIOError:
            return

    def _pump(self) -> bool:
        """Move what can be moved; return whether there is more to do at once."""
        moved = False
        for index in (FROM_GUEST, TO_GUEST):
            touched: set[Connection] = set()
            moved |= self._step(self._backend.rings[index], touched)
            self._capture.flush()  # recorded before a local program can act on it
            self._endpoints.refresh(touched)
        return moved

    def _step(self, ring: Ring, touched: set[Connection]) -> bool:
        if ring.queue is None:
            return False
        step = self._datapath.send if ring.index == TO_GUEST else self._datapath.receive
        try:
            moved = step(ring.queue, touched)
            if moved:
                ring.interrupt()
        except FormatError as error:
            self._backend.break_ring(ring, error)  # which ends every connection
            return False
        return moved


def open_listener(path: Path) -> socket.socket:
    """Return a Unix socket that listens at `path` for QEMU."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    return listener


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one QEMU, then end: 0 when it closed its side, 1 when it broke the protocol."""
    options = _parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    wakeup, signalled = socket.socketpair()
    signalled.settimeout(0)
    signal.set_wakeup_fd(signalled.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    with open_listener(options.socket) as listener, CaptureWriter(options.capture) as capture:
        if options.ready is not None:
            os.write(options.ready, b"\n")
            os.close(options.ready)
        control = _accept(listener, wakeup)
        if control is None:
            return 0
        device = VsockDevice(
            control=control, path=options.path, guest_cid=options.cid, capture=capture
        )
        try:
            device.run(wakeup)
        except FormatError:
            _log.exception("QEMU broke the vhost-user protocol")
            return 1
        finally:
            device.close()
            control.close()
            options.socket.unlink(missing_ok=True)
    return 0


def _accept(listener: socket.socket, wakeup: socket.socket) -> socket.socket | None:
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        ready = [key.fileobj for key, _ in selector.select()]
    return None if wakeup in ready else listener.accept()[0]


def _ignore(number: int, frame: object) -> None:
    """Let the wake-up descriptor end the loop."""


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m host_runtime.vsock.device", description="vhost-user-vsock device"
    )
    parser.add_argument(
        "--socket", type=Path, required=True, help="Unix socket that QEMU connects to"
    )
    parser.add_argument("--path", type=Path, required=True, help="Unix socket for local clients")
    parser.add_argument("--cid", type=int, required=True, help="the guest's CID, 3 or above")
    parser.add_argument("--capture", type=Path, help="file to record all bytes in")
    parser.add_argument(
        "--ready", type=int, metavar="FD", help="descriptor to write a line to when listening"
    )
    options = parser.parse_args(arguments)
    if options.cid < _FIRST_GUEST_CID:
        parser.error("--cid: 0 to 2 are not for guests")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
