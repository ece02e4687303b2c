"""How host programs reach a guest's vsock ports: through our device's Unix socket, or the kernel.

Both give a connected stream socket. What is said on it is left to `host_runtime.plane.rpc_client`.
"""

import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ccinit.errors import DeadlineError, PeerError

VHOST_VSOCK: Final = Path("/dev/vhost-vsock")
_ANSWER_MAX_BYTES: Final = 32  # "OK 4294967295\n" and a little


class VsockLink(Protocol):
    """A way to a guest's vsock ports."""

    def connect(self, port: int, seconds: float) -> socket.socket:
        """Return a stream connected to the guest's `port`.

        Raises:
            PeerError: `vsock.refused`: nothing listens there (yet), or there is no device.
            DeadlineError: `vsock.connect`: the guest did not answer within `seconds`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class UserLink:
    """The Unix socket of `host_runtime.vsock.device`, and of others with that convention."""

    path: Path

    def require_socket(self) -> None:
        """Check that there is something to connect to.

        Raises:
            PeerError: `vsock.refused`.
        """
        if not self.path.exists():
            detail = f"{self.path}: no socket of a guest: is it booted?"
            raise PeerError("vsock.refused", detail)

    def connect(self, port: int, seconds: float) -> socket.socket:
        """See `VsockLink`."""
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _closed_on_error(stream, str(self.path), port, seconds):
            stream.settimeout(seconds)
            stream.connect(str(self.path))
            stream.sendall(f"CONNECT {port}\n".encode())
            _read_answer(stream, port, time.monotonic() + seconds)
            stream.settimeout(None)
        return stream


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLink:
    """AF_VSOCK of the host's kernel (vhost-vsock)."""

    guest_cid: int

    def connect(self, port: int, seconds: float) -> socket.socket:
        """See `VsockLink`."""
        try:
            stream = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        except OSError as error:
            where = f"CID {self.guest_cid}: no vsock of the kernel here ({error.strerror})"
            raise PeerError("vsock.refused", f"{where}: is its module vsock loaded?") from error
        with _closed_on_error(stream, f"CID {self.guest_cid}", port, seconds):
            stream.settimeout(seconds)
            stream.connect((self.guest_cid, port))
            stream.settimeout(None)
        return stream


def is_kernel_vsock_usable() -> bool:
    """Whether this process can open the kernel's vhost-vsock device."""
    try:
        descriptor = os.open(VHOST_VSOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return stat.S_ISCHR(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


@contextmanager
def _closed_on_error(
    stream: socket.socket, where: str, port: int, seconds: float
) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        stream.close()
        detail = f"{where}: no answer on port {port} in {seconds} s: is the guest booted?"
        raise DeadlineError("vsock.connect", detail) from error
    except OSError as error:
        stream.close()
        said = error.strerror or error  # a path too long for a socket has no number
        detail = f"{where}: nobody answers on port {port} ({said}): is the guest booted?"
        raise PeerError("vsock.refused", detail) from error
    except BaseException:
        stream.close()
        raise


def _read_answer(stream: socket.socket, port: int, deadline: float) -> None:
    answer = b""
    while not answer.endswith(b"\n") and len(answer) < _ANSWER_MAX_BYTES:
        stream.settimeout(max(0.001, deadline - time.monotonic()))
        byte = stream.recv(1)  # byte by byte, since what follows the answer belongs to the stream
        if not byte:
            raise PeerError("vsock.refused", f"the guest refused port {port}")
        answer += byte
    if not (answer.startswith(b"OK ") and answer.endswith(b"\n")):
        raise PeerError("vsock.answer", f"expected OK, found {answer!r}")
