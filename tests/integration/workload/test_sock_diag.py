"""The running kernel's word for who made a socket. The id of a cgroup2's root is 1."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.kernel.sock_diag import ask, find_cgroup_id, is_established

OWN = next(
    line.removeprefix("0::")
    for line in Path("/proc/self/cgroup").read_text().splitlines()
    if line.startswith("0::")
)


@pytest.fixture(params=["", "::ffff:"], ids=["ipv4", "mapped"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's socket, and the server's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        with socket.create_connection((request.param + host, port)) as client:
            server, _ = listener.accept()
            with server:
                yield client, server


def address_of(client: socket.socket) -> tuple[str, int]:
    """Return its address as the IPv4 server sees it."""
    host, port, *_ = client.getsockname()
    return host.removeprefix("::ffff:"), port


def test_connected_socket_has_the_cgroup_of_who_made_it(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, server = pair
    found = find_cgroup_id(address_of(client), server.getsockname())
    assert found is not None
    if OWN == "/":
        assert found == 1
    else:
        assert found == Path(f"/sys/fs/cgroup{OWN}").stat().st_ino
    assert is_established(server)


def test_listener_on_the_same_port_is_not_the_client(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The kernel itself would answer with the listener."""
    _, server = pair
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert find_cgroup_id(other.getsockname(), server.getsockname()) is None


def test_client_that_has_closed_is_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    address = address_of(client)
    client.close()
    assert server.recv(1) == b""
    assert find_cgroup_id(address, server.getsockname()) is None
    assert not is_established(server)


def test_answer_of_anybody_but_the_kernel_is_passed_over() -> None:
    """As a container with CAP_NET_ADMIN could send it, to speak in another one's name."""
    forged = b"forged".ljust(72, b"!")
    question = struct.pack("=IHHII", 16, 1, 5, 7, 0)  # NLMSG_NOOP, with NLM_F_REQUEST and _ACK
    with netlink_socket() as ours, netlink_socket() as theirs:
        theirs.sendto(forged, ours.getsockname())
        assert ours.recv(100, socket.MSG_PEEK) == forged
        reply = ask(ours, question)
    _, kind, _, sequence, _ = struct.unpack_from("=IHHII", reply)
    assert (kind, sequence) == (2, 7)  # NLMSG_ERROR, of our question


def netlink_socket() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)  # NETLINK_SOCK_DIAG
    made.bind((0, 0))
    return made
