"""Local ends on real sockets, with a guest's packets by hand: who hears what, and which end."""

import selectors
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from host_runtime.programs.socket_folder import open_socket_folder
from host_runtime.vsock.connection import Connection, VsockLimits
from host_runtime.vsock.connections import ConnectionTable
from host_runtime.vsock.endpoints import Endpoints, LocalEnd
from host_runtime.vsock.packets import Operation, PacketHeader, Shutdown

CID = 3
GUEST_PORT = 1024
SERVICE = 5000
LIMITS = VsockLimits(connections=3, receive_bytes=1 << 20, send_bytes=1000)
BOTH = Shutdown.SEND | Shutdown.RECEIVE


@dataclass
class World:
    """One guest's local ends without a device around them."""

    path: Path
    sockets: ExitStack
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def __post_init__(self) -> None:
        self.table = ConnectionTable(guest_cid=CID, limits=LIMITS)
        self.ends = Endpoints(path=self.path, selector=self.selector, table=self.table)

    def settle(self) -> None:
        """Handle events, as the device does, until there is none: nobody is ready for ever."""
        for _ in range(1000):
            ready = self.selector.select(0)
            if not ready:
                return
            for key, _events in ready:
                if isinstance(key.data, Endpoints):
                    key.data.accept()
                elif key.data.interest:
                    assert isinstance(key.data, LocalEnd)
                    self.ends.handle(key.data)
        raise AssertionError("a socket is ready for ever")

    def dial(self, *greeting: bytes) -> socket.socket:
        stream = self.sockets.enter_context(socket.socket(socket.AF_UNIX))
        stream.settimeout(0)
        stream.connect(str(self.path))
        for piece in greeting or (b"CONNECT 1024\n",):
            stream.sendall(piece)
            self.settle()
        self.settle()
        return stream

    def taken(self) -> list[tuple[int, bytes]]:
        """Return operation and bytes of what the guest gets now."""
        packets = []
        while (given := self.table.next_packet(1 << 16)) is not None:
            connection, header, payload = given
            packets.append((header.operation, payload))
            if connection is not None:
                self.ends.refresh((connection,))
            self.settle()
        return packets

    def send(
        self,
        operation: int,
        host_port: int,
        payload: bytes = b"",
        *,
        flags: int = 0,
        buffer: int = 1 << 16,
    ) -> Connection | None:
        """Be the guest; its port is always the same one."""
        header = PacketHeader(
            source_cid=CID, destination_cid=2, source_port=GUEST_PORT, destination_port=host_port,
            length=len(payload), kind=1, operation=operation, flags=flags, buffer_bytes=buffer,
            forwarded_bytes=0,
        )  # fmt: skip
        connection = self.table.receive(header, payload)
        if connection is not None:
            self.ends.refresh((connection,))
        self.settle()
        return connection

    def open(self, *, buffer: int = 1 << 16) -> tuple[socket.socket, int]:
        """Return an answered client, and the host's port of its connection."""
        stream = self.dial()
        given = self.table.next_packet(0)
        assert given is not None
        port = given[1].source_port
        self.send(Operation.RESPONSE, port, buffer=buffer)
        assert stream.recv(100) == f"OK {port}\n".encode()
        return stream, port

    def listen(self, backlog: int = 8) -> socket.socket:
        listener = self.sockets.enter_context(socket.socket(socket.AF_UNIX))
        listener.settimeout(0)
        listener.bind(f"{self.path}_{SERVICE}")
        listener.listen(backlog)
        return listener

    def accept(self, listener: socket.socket) -> socket.socket:
        stream = self.sockets.enter_context(listener.accept()[0])
        stream.settimeout(0)
        return stream

    def read_all(self, stream: socket.socket) -> bytes:
        """Read until the end, letting the ends go on in between."""
        content = b""
        while piece := stream.recv(1 << 16):
            content += piece
            self.settle()
        return content


@pytest.fixture
def world() -> Iterator[World]:
    with open_socket_folder() as folder, ExitStack() as sockets:
        world = World(folder / "vsock", sockets)
        yield world
        assert world.taken() == []
        world.ends.close()
        assert not world.path.exists()
        assert len(world.selector.get_map()) == 0
        world.selector.close()


def is_waiting(stream: socket.socket) -> bool:
    """Whether a stream is open, and nothing has come."""
    try:
        stream.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    return False


@pytest.mark.parametrize(
    "greeting",
    [
        [b"CONNECT 1024\n"],
        [b"CONNECT 1024\r\n"],
        [b"CON", b"NECT 10", b"24", b"\n"],
        [b"CONNECT 00000000000000000001024\n"],
    ],
)
def test_greeting_may_come_in_pieces(world: World, greeting: Sequence[bytes]) -> None:
    stream = world.dial(*greeting)
    assert world.taken() == [(Operation.REQUEST, b"")]
    assert is_waiting(stream)
    assert [connection.guest_port for connection in world.ends._ends] == [1024]


@pytest.mark.parametrize(
    "greeting",
    [
        b"\n", b"CONNECT\n", b"CONNECT \n", b"CONNECT -1\n", b"CONNECT +1\n", b"CONNECT 1 \n",
        b"CONNECT  1\n", b"CONNECT 1\r\r\n", b"CONNECT \xb2\n", b"CONNECT 4294967296\n",
        b"connect 1024\n", b"XCONNECT 1024\n", b"CONNECT 000000000000000000001024", b"x" * 32,
    ],
)  # fmt: skip
def test_greeting_that_is_none_is_closed(world: World, greeting: bytes) -> None:
    assert world.dial(greeting).recv(100) == b""
    assert len(world.table) == 0


def test_client_that_leaves_before_it_has_greeted_is_forgotten(world: World) -> None:
    for _ in range(3 * LIMITS.connections):
        stream = world.dial(b"CONNECT 1024")
        assert is_waiting(stream)
        stream.close()
        world.settle()


def test_clients_that_say_nothing_are_limited(world: World) -> None:
    silent = [world.dial(b"CONN") for _ in range(LIMITS.connections)]
    assert world.dial(b"").recv(100) == b""
    silent.pop().close()
    world.settle()
    stream, _ = world.open()
    assert is_waiting(stream)
    assert all(is_waiting(client) for client in silent)


def test_clients_beyond_the_limit_of_connections_are_closed(world: World) -> None:
    streams = [world.open() for _ in range(LIMITS.connections)]
    assert world.dial().recv(100) == b""
    stream, port = streams[0]
    world.send(Operation.RST, port)
    assert stream.recv(100) == b""
    assert is_waiting(world.open()[0])


def test_bytes_behind_the_greeting_are_the_streams(world: World) -> None:
    stream = world.dial(b"CONNECT 1024\nearly")
    stream.sendall(b" and late")
    world.settle()
    (request, *_rest) = world.taken()
    assert request == (Operation.REQUEST, b"")
    (connection,) = world.ends._ends
    world.send(Operation.RESPONSE, connection.local_port)
    assert world.taken() == [(Operation.RW, b"early and late")]


def test_client_that_leaves_before_the_guest_was_asked_is_no_matter_of_its(world: World) -> None:
    world.dial().close()
    world.settle()
    assert world.taken() == []
    assert len(world.table) == 0


def test_client_that_leaves_before_the_answer_is_a_reset(world: World) -> None:
    stream = world.dial()
    assert world.taken() == [(Operation.REQUEST, b"")]
    stream.shutdown(socket.SHUT_WR)  # and waits for the answer: that counts as leaving
    world.settle()
    assert world.taken() == [(Operation.RST, b"")]
    assert stream.recv(100) == b""
    assert len(world.table) == 0


def test_client_that_leaves_bytes_unread_is_a_reset(world: World) -> None:
    stream, port = world.open()
    world.send(Operation.RW, port, b"unread")
    stream.close()
    world.settle()
    assert world.taken() == [(Operation.RST, b"")]
    assert len(world.table) == 0


def test_client_that_has_left_is_a_reset_once_it_is_written_to(world: World) -> None:
    stream, port = world.open()
    stream.close()
    world.settle()
    assert world.taken() == [(Operation.SHUTDOWN, b"")]
    assert len(world.table) == 1
    world.send(Operation.RW, port, b"for nobody")
    assert world.taken() == [(Operation.RST, b"")]
    assert len(world.table) == 0


def test_client_that_left_bytes_and_went_before_the_answer_is_a_reset_after_it(
    world: World,
) -> None:
    """It is not heard while its bytes fill the device's space; the answer finds nobody."""
    stream = world.dial()
    (connection,) = world.ends._ends
    stream.sendall(b"x" * LIMITS.send_bytes)
    stream.close()
    world.settle()
    assert world.taken() == [(Operation.REQUEST, b"")]
    world.send(Operation.RESPONSE, connection.local_port)
    assert world.taken() == [(Operation.RST, b"")]
    assert len(world.table) == 0


def test_client_is_read_as_far_as_the_guest_and_the_device_have_room(world: World) -> None:
    stream, port = world.open(buffer=100)
    sent = bytes(index % 251 for index in range(3000))
    stream.sendall(sent)
    world.settle()
    got = [payload for _, payload in world.taken()]
    assert [len(payload) for payload in got] == [100]
    stream.shutdown(socket.SHUT_WR)
    world.send(Operation.CREDIT_UPDATE, port, buffer=1 << 16)
    packets = world.taken()
    got += [payload for operation, payload in packets if operation == Operation.RW]
    assert b"".join(got) == sent
    assert packets[-1] == (Operation.SHUTDOWN, b"")


def test_slow_client_gets_everything_in_order_and_the_guest_its_space_back(world: World) -> None:
    stream, port = world.open()
    sent = bytes(index % 251 for index in range(LIMITS.receive_bytes))
    for start in range(0, len(sent), 1 << 16):
        world.send(Operation.RW, port, sent[start : start + (1 << 16)])
    (connection,) = world.ends._ends
    assert connection.to_local, "the socket took it all: nothing has had to wait"
    world.send(Operation.SHUTDOWN, port, flags=Shutdown.SEND)
    stream.sendall(b"meanwhile")
    assert world.read_all(stream) == sent
    packets = world.taken()
    assert (Operation.CREDIT_UPDATE, b"") in packets
    assert (Operation.RW, b"meanwhile") in packets
    stream.sendall(b"and after")
    world.settle()
    assert world.taken() == [(Operation.RW, b"and after")]


def test_client_that_is_only_written_to_is_not_taken_for_ended(world: World) -> None:
    stream, port = world.open(buffer=0)
    sent, said = bytes(LIMITS.receive_bytes), b"x" * (LIMITS.send_bytes + 1)
    world.send(Operation.RW, port, sent, buffer=0)
    stream.sendall(said)
    world.settle()
    got = b""
    while len(got) < len(sent):
        got += stream.recv(1 << 16)
        world.settle()
    assert {operation for operation, _ in world.taken()} == {Operation.CREDIT_UPDATE}
    world.send(Operation.CREDIT_UPDATE, port)
    packets = world.taken()
    assert {operation for operation, _ in packets} == {Operation.RW}
    assert b"".join(payload for _, payload in packets) == said


@pytest.mark.parametrize(
    ("operation", "flags", "answers"),
    [(Operation.RST, 0, []), (Operation.SHUTDOWN, BOTH, [(Operation.RST, b"")])],
)
def test_guest_that_ends_leaves_its_bytes_and_their_place(
    world: World, operation: int, flags: int, answers: list[tuple[int, bytes]]
) -> None:
    stream, port = world.open()
    sent = bytes(LIMITS.receive_bytes)
    world.send(Operation.RW, port, sent)
    world.send(operation, port, flags=flags)
    assert [packet for packet in world.taken() if packet[0] != Operation.CREDIT_UPDATE] == answers
    assert len(world.table) == 1
    assert world.read_all(stream) == sent
    assert len(world.table) == 0


def test_client_that_leaves_what_a_guest_has_left_frees_its_place(world: World) -> None:
    stream, port = world.open()
    world.send(Operation.RW, port, bytes(LIMITS.receive_bytes))
    world.send(Operation.RST, port)
    assert len(world.table) == 1
    stream.close()
    world.settle()
    assert len(world.table) == 0


def test_guest_that_refuses_closes_the_client(world: World) -> None:
    stream = world.dial()
    assert world.taken() == [(Operation.REQUEST, b"")]
    (connection,) = world.ends._ends
    world.send(Operation.RST, connection.local_port)
    assert stream.recv(100) == b""


def test_guest_reaches_who_listens_at_its_port(world: World) -> None:
    listener = world.listen()
    world.send(Operation.REQUEST, SERVICE)
    assert world.taken() == [(Operation.RESPONSE, b"")]
    stream = world.accept(listener)
    assert is_waiting(stream)
    world.send(Operation.RW, SERVICE, b"hello")
    assert stream.recv(100) == b"hello"
    stream.sendall(b"hi")
    stream.shutdown(socket.SHUT_WR)
    world.settle()
    assert world.taken() == [(Operation.RW, b"hi"), (Operation.SHUTDOWN, b"")]


def test_guest_reaches_nobody_where_nobody_listens_or_keeps_up(world: World) -> None:
    world.send(Operation.REQUEST, SERVICE)
    assert world.taken() == [(Operation.RST, b"")]
    listener = world.listen(backlog=0)
    world.send(Operation.REQUEST, SERVICE)
    assert world.taken() == [(Operation.RESPONSE, b"")]
    world.send(Operation.RST, SERVICE)
    world.send(Operation.REQUEST, SERVICE)  # the first one was not accepted yet
    assert world.taken() == [(Operation.RST, b"")]
    assert world.accept(listener).recv(100) == b""
    assert len(world.table) == 0


def test_guest_that_asks_and_ends_at_once_reaches_nobody(world: World) -> None:
    listener = world.listen()
    header = PacketHeader(
        source_cid=CID, destination_cid=2, source_port=GUEST_PORT, destination_port=SERVICE,
        length=0, kind=1, operation=Operation.REQUEST, flags=0, buffer_bytes=0, forwarded_bytes=0,
    )  # fmt: skip
    connection = world.table.receive(header, b"")
    assert connection is not None
    world.send(Operation.RST, SERVICE)
    world.ends.refresh((connection,))
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_loss_of_the_guest_closes_every_connection_and_keeps_who_waits(world: World) -> None:
    waiting = world.dial(b"CONNECT ")
    opened, _ = world.open()
    draining, port = world.open()
    sent = bytes(LIMITS.receive_bytes)
    world.send(Operation.RW, port, sent)
    world.send(Operation.RST, port)
    world.ends.close_connections()
    world.settle()
    assert len(world.table) == 0
    assert opened.recv(100) == b""
    assert len(world.read_all(draining)) < len(sent)
    waiting.sendall(b"1024\n")
    world.settle()
    assert world.taken() == [(Operation.REQUEST, b"")]
