"""Whether somebody accepts connections on a port, asked of the running kernel."""

import socket

import pytest

from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.loopback import accepts_connections
from tests.integration.free_ports import free_port


def is_accepted(port: int, own: str = "127.0.0.2") -> bool:
    async def ask() -> bool:
        return await accepts_connections(port, own, 5)

    return EventLoop().run(ask())


def test_listener_accepts_and_a_free_port_does_not() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert is_accepted(port)
    assert not is_accepted(port)


def test_listener_of_ipv6_alone_accepts() -> None:
    port = free_port()
    with socket.create_server(("::1", port), family=socket.AF_INET6):  # which takes IPv6 only
        assert is_accepted(port)
    assert not is_accepted(port)


@pytest.mark.parametrize("own", ["127.77.0.1", "::ffff:127.77.0.1"])
def test_listener_where_the_pods_name_leads_accepts(own: str) -> None:
    port = free_port()
    with socket.create_server(("127.77.0.1", port)):
        assert is_accepted(port, own)
        assert not is_accepted(port)
    assert not is_accepted(port, own)


def test_connection_with_itself_is_nobody_that_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it comes about once in some ten thousand times, if the port is an ephemeral one."""

    class FromThePortItself(socket.socket):
        def connect_ex(self, address: tuple[str, int]) -> int:  # type: ignore[override]
            self.bind(address)
            return super().connect_ex(address)

    port = free_port()
    monkeypatch.setattr(socket, "socket", FromThePortItself)
    assert not is_accepted(port)
