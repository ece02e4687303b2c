"""Carries a guest's connections to the Key Broker Service: vsock on one side, TCP on the other.

For guests without a network card (`kbs.transport = "vsock"`). The relay belongs to the host and
sees what any router sees: TLS that ends in the guest and in the KBS. Each connection of the guest
becomes one TCP connection, copied by a thread of its own. Beyond the cap, and while the KBS does
not answer, the guest's connection is closed at once, and the guest tries again later.
"""

import argparse
import errno
import os
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from ccinit.formats.initdata.guest_config import KBS_VSOCK_PORT
from host_runtime.relay.forward import forward
from host_runtime.relay.listener import accept_all, serve_apart
from measured_boot.command_line.errors import describe_error
from measured_boot.command_line.tcp_address import join_address, split_address
from measured_boot.command_line.usage import as_word

_CONNECTIONS: Final = 16
_CONNECT_SECONDS: Final = 10.0
_VMADDR_CID_ANY: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class KbsAddress:
    """Where the KBS listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return join_address(self.host, self.port)


def parse_kbs_address(text: str) -> KbsAddress:
    """Parse `HOST:PORT`; an IPv6 address is in brackets.

    Raises:
        ConfigError: `kbs.address`.
    """
    address = split_address(text)
    if address is None or not all(address):
        raise ConfigError("kbs.address", f"expected HOST:PORT, found {text!r}")
    return KbsAddress(host=address[0], port=address[1])


def guest_path(vsock_path: Path) -> Path:
    """Return where our vsock device looks for the local end of a guest's connection."""
    return vsock_path.with_name(f"{vsock_path.name}_{KBS_VSOCK_PORT}")


def open_unix_listener(path: Path) -> socket.socket:
    """Listen where our vsock device connects to."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(_CONNECTIONS)
    return listener


def open_kernel_listener() -> socket.socket:
    """Listen on the kernel's AF_VSOCK, where every guest of this host can connect (vsock(7)).

    Raises:
        ConfigError: `kbs.relay`, somebody else listens there.
    """
    listener = socket.socket(socket.AF_VSOCK)
    try:
        listener.bind((_VMADDR_CID_ANY, KBS_VSOCK_PORT))
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise
        told = f"port {KBS_VSOCK_PORT} of the kernel's vsock is in use, perhaps by another relay"
        detail = f"{told}: only one guest of a host can have it; --vsock user gives each its own"
        raise ConfigError("kbs.relay", detail) from error
    listener.listen(_CONNECTIONS)
    return listener


def serve(listener: socket.socket, address: KbsAddress, guest_cid: int | None = None) -> None:
    """Relay connections until the listener is shut down or closed.

    Args:
        listener: where the guest connects to.
        address: where the KBS is.
        guest_cid: only connections of this guest are relayed, others are closed; None on a
            listener that only the guest can reach.
    """
    free = threading.BoundedSemaphore(_CONNECTIONS)
    complaints = _Complaints()
    for guest in accept_all(listener, complaints.say):
        if guest_cid is not None and not _is_from(guest, guest_cid, complaints):
            guest.close()
            continue
        if not free.acquire(blocking=False):
            guest.close()
            continue
        try:
            serve_apart(_relay, guest, address, free, complaints)
        except OSError as error:
            guest.close()
            free.release()
            complaints.say(str(error.strerror))


def _is_from(guest: socket.socket, guest_cid: int, complaints: "_Complaints") -> bool:
    """Whether a connection is the guest's, by its CID, which the kernel tells."""
    try:
        cid, _port = guest.getpeername()
    except OSError:  # gone already
        return False
    if cid == guest_cid:
        return True
    complaints.say(f"refused a connection of CID {cid}, which is not this guest")
    return False


class _Complaints:
    """Reports a fault only if it differs from the last: a guest may cause one over and over."""

    def __init__(self) -> None:
        self._last = ""

    def say(self, text: str) -> None:
        if text != self._last:
            self._last = text
            print(f"kbs relay: {text}", file=sys.stderr, flush=True)

    def forget(self) -> None:
        self._last = ""


def _relay(
    guest: socket.socket, address: KbsAddress, free: threading.Semaphore, complaints: _Complaints
) -> None:
    try:
        with guest, socket.create_connection((address.host, address.port), _CONNECT_SECONDS) as kbs:
            complaints.forget()
            kbs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            forward(guest, kbs)
    except OSError as error:
        complaints.say(f"{address}: {describe_error(error)}")
    finally:
        free.release()


def main(arguments: Sequence[str] | None = None) -> int:
    """Relay until the process is ended."""
    parser = argparse.ArgumentParser(
        prog="python -m host_runtime.relay.kbs", description="vsock relay to a KBS"
    )
    parser.add_argument(
        "address", type=as_word(parse_kbs_address), metavar="HOST:PORT", help="the KBS"
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--path", type=Path, help="Unix socket of our vsock device")
    place.add_argument("--cid", type=int, help="the guest's, on the kernel's AF_VSOCK")
    parser.add_argument("--ready", type=int, metavar="FD", help="written to when listening")
    options = parser.parse_args(arguments)
    path: Path | None = options.path
    try:
        listening = open_kernel_listener() if path is None else open_unix_listener(path)
    except ConfigError as error:
        print(f"kbs relay: {error}", file=sys.stderr)
        return 1
    with listening as listener:
        if options.ready is not None:
            os.write(options.ready, b"\n")
            os.close(options.ready)
        serve(listener, options.address, options.cid)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
