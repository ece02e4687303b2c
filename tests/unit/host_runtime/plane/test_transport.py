"""The way to a guest's vsock ports through the kernel; `integration/host` has the other one."""

import errno
import socket
from pathlib import Path
from typing import ClassVar

import pytest

from ccinit.errors import CcinitError, DeadlineError, PeerError
from host_runtime.plane import transport
from host_runtime.plane.transport import KernelLink, is_kernel_vsock_usable


class KernelSocket(socket.socket):
    """A socket of a kernel in which `outcome` becomes of each connect."""

    outcome: OSError | None = None
    made: ClassVar[list["KernelSocket"]] = []

    def __init__(self, family: int, kind: int) -> None:
        assert (family, kind) == (socket.AF_VSOCK, socket.SOCK_STREAM)
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self.asked: tuple[object, float | None] | None = None
        self.made.append(self)

    def connect(self, address: object) -> None:
        self.asked = address, self.gettimeout()
        if self.outcome is not None:
            raise self.outcome


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> type[KernelSocket]:
    monkeypatch.setattr(KernelSocket, "made", [])
    monkeypatch.setattr("host_runtime.plane.transport.socket.socket", KernelSocket)
    return KernelSocket


def test_kernel_is_asked_for_the_guests_port_and_the_stream_then_waits(
    kernel: type[KernelSocket],
) -> None:
    with KernelLink(guest_cid=5).connect(1024, 3.0) as stream:
        assert isinstance(stream, kernel)
        assert stream.asked == ((5, 1024), 3.0)
        assert stream.gettimeout() is None


@pytest.mark.parametrize(
    ("outcome", "family", "reason"),
    [
        (TimeoutError("timed out"), DeadlineError, "vsock.connect"),
        (OSError(errno.ECONNRESET, "Connection reset by peer"), PeerError, "vsock.refused"),
        (OSError(errno.ENODEV, "No such device"), PeerError, "vsock.refused"),
    ],
    ids=str,
)
def test_connection_that_fails_is_closed_and_says_why(
    kernel: type[KernelSocket],
    monkeypatch: pytest.MonkeyPatch,
    outcome: OSError,
    family: type[CcinitError],
    reason: str,
) -> None:
    monkeypatch.setattr(kernel, "outcome", outcome)
    with pytest.raises(family, match="CID 5: ") as error:
        KernelLink(guest_cid=5).connect(1024, 3.0)
    assert error.value.reason == reason
    assert [stream.fileno() for stream in kernel.made] == [-1]


@pytest.mark.parametrize(
    "cause",
    [
        OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol"),
        PermissionError(errno.EPERM, "Operation not permitted"),
    ],
    ids=str,
)
def test_host_without_vsock_says_so(monkeypatch: pytest.MonkeyPatch, cause: OSError) -> None:
    def refuse(_family: int, _kind: int) -> socket.socket:
        raise cause

    monkeypatch.setattr("host_runtime.plane.transport.socket.socket", refuse)
    with pytest.raises(PeerError) as error:
        KernelLink(guest_cid=5).connect(1024, 3.0)
    assert error.value.reason == "vsock.refused"
    said = f"CID 5: no vsock of the kernel here ({cause.strerror}): is its module vsock loaded?"
    assert error.value.detail == said


@pytest.mark.parametrize(
    ("place", "is_usable"), [("none", False), ("file", False), ("/dev/null", True)]
)
def test_kernels_device_is_usable_if_it_is_one_and_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, *, is_usable: bool
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(transport, "VHOST_VSOCK", tmp_path / place)
    assert is_kernel_vsock_usable() is is_usable
