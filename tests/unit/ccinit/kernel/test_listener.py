"""A listener that the kernel refuses half-way leaves no socket behind."""

import errno
import socket

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.listener import listen_tcp
from tests.fakes.machine.scarcity import count_descriptors


class Socket(socket.socket):
    """Takes no option that is named in `refused`, and no address of this machine."""

    refused = 0

    def bind(self, _address: object) -> None:
        """Stay unbound."""

    def listen(self, _backlog: int = 0) -> None:
        """Stay closed to others."""

    def setsockopt(self, level: int, option: int, value: int) -> None:  # type: ignore[override]
        if option == self.refused:
            raise OSError(errno.ENOPROTOOPT, "refused")
        super().setsockopt(level, option, value)


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.IPV6_V6ONLY])
def test_r79_socket_whose_option_is_refused_is_closed(
    monkeypatch: pytest.MonkeyPatch, option: int
) -> None:
    monkeypatch.setattr(socket, "socket", Socket)
    listen_tcp(0).close()  # the same, refused nothing
    monkeypatch.setattr(Socket, "refused", option)
    before = count_descriptors()
    with pytest.raises(KernelError) as error:
        listen_tcp(0)
    assert (error.value.reason, error.value.errno) == ("kernel.setsockopt", errno.ENOPROTOOPT)
    assert count_descriptors() == before
