from dataclasses import replace
from pathlib import Path

import pytest

import host_runtime.vsock.connections
from host_runtime.vsock.capture import CaptureWriter, Stream
from host_runtime.vsock.connection import Connection, Phase, VsockLimits
from host_runtime.vsock.connections import ConnectionTable
from host_runtime.vsock.packets import Operation, PacketHeader, Shutdown

LIMITS = VsockLimits(connections=2, receive_bytes=100, send_bytes=50, pending_resets=3)


def table() -> ConnectionTable:
    return ConnectionTable(guest_cid=3, limits=LIMITS)


def packet(operation: int, connection: Connection | None = None, **values: int) -> PacketHeader:
    header = PacketHeader(
        source_cid=3,
        destination_cid=2,
        source_port=1024 if connection is None else connection.guest_port,
        destination_port=7 if connection is None else connection.local_port,
        length=0,
        kind=1,
        operation=operation,
        flags=0,
        buffer_bytes=40,
        forwarded_bytes=0,
    )
    return replace(header, **values)


def operations(connections: ConnectionTable) -> list[int]:
    found = []
    while (given := connections.next_packet(1000)) is not None:
        found.append(given[1].operation)
    return found


def opened(connections: ConnectionTable) -> Connection:
    connection = connections.open(1024)
    assert connection is not None
    assert operations(connections) == [Operation.REQUEST]
    connections.receive(packet(Operation.RESPONSE, connection), b"")
    assert connection.phase is Phase.OPEN
    return connection


NEAR_THE_END = 0xFFFF_FFF0
"""Of the counters of bytes, which a connection that carries a log passes every 4 GiB."""


@pytest.mark.parametrize(("sent", "forwarded"), [(0, 40), (NEAR_THE_END, 24)])
def test_data_stops_at_the_guests_credit_and_goes_on_with_more(sent: int, forwarded: int) -> None:
    connections = table()
    connection = opened(connections)
    connection._sent = sent
    connections.receive(packet(Operation.CREDIT_UPDATE, connection, forwarded_bytes=sent), b"")
    connection.local_data(b"x" * 50)
    connections.update(connection)
    given = connections.next_packet(1000)
    assert given is not None
    assert len(given[2]) == 40
    assert connections.next_packet(1000) is None
    update = packet(Operation.CREDIT_UPDATE, connection, forwarded_bytes=forwarded)
    connections.receive(update, b"")
    given = connections.next_packet(1000)
    assert given is not None
    assert len(given[2]) == 10


def test_guest_that_claims_to_have_forwarded_more_than_was_sent_gets_nothing() -> None:
    connections = table()
    connection = opened(connections)
    connections.receive(packet(Operation.CREDIT_UPDATE, connection, forwarded_bytes=5), b"")
    assert connection.guest_credit() == 0


def test_guest_that_takes_back_its_credit_gets_nothing() -> None:
    connections = table()
    connection = opened(connections)
    connection.local_data(b"data")
    connections.update(connection)
    connections.receive(packet(Operation.CREDIT_UPDATE, connection, buffer_bytes=0), b"")
    assert operations(connections) == []
    connections.receive(packet(Operation.CREDIT_UPDATE, connection), b"")
    assert operations(connections) == [Operation.RW]


def test_packet_never_exceeds_the_room_of_the_buffer() -> None:
    connections = table()
    connection = opened(connections)
    connection.local_data(b"x" * 30)
    connections.update(connection)
    given = connections.next_packet(8)
    assert given is not None
    assert given[2] == b"x" * 8


def test_local_end_is_not_read_beyond_the_limit() -> None:
    connections = table()
    connection = opened(connections)
    connection.local_data(b"x" * 45)
    assert connection.wants_local_bytes() == 5


def test_local_end_is_not_read_for_a_guest_that_takes_no_more() -> None:
    connections = table()
    connection = opened(connections)
    assert connection.wants_local_bytes() == 50
    connections.receive(packet(Operation.SHUTDOWN, connection, flags=Shutdown.RECEIVE), b"")
    assert connection.phase is Phase.OPEN
    assert connection.wants_local_bytes() == 0


def test_local_end_is_read_while_it_may_have_more_to_say() -> None:
    """One that has ended is readable for ever."""
    connections = table()
    asked = connections.receive(packet(Operation.REQUEST), b"")
    assert asked is not None
    assert (asked.phase, asked.wants_local_bytes()) == (Phase.OPENING, 0)
    asked.accept()
    assert (asked.phase, asked.wants_local_bytes()) == (Phase.OPEN, 50)
    asked.end()
    assert (asked.phase, asked.wants_local_bytes()) == (Phase.CLOSED, 0)
    asking = connections.open(1024)
    assert asking is not None
    assert (asking.phase, asking.wants_local_bytes()) == (Phase.REQUESTED, 50)
    asking.local_data(b"")
    assert asking.wants_local_bytes() == 0


def test_client_that_speaks_and_ends_at_once_waits_for_the_response() -> None:
    connections = table()
    connection = connections.open(1024)
    assert connection is not None
    connection.local_data(b"bye")
    connection.local_data(b"")
    connections.update(connection)
    request = connections.next_packet(1000)
    assert request is not None
    assert (request[1].operation, request[1].length, request[2]) == (Operation.REQUEST, 0, b"")
    connections.update(connection)
    assert operations(connections) == []
    before = connection.is_answered
    connections.receive(packet(Operation.RESPONSE, connection), b"")
    assert (before, connection.is_answered) == (False, True)
    assert operations(connections) == [Operation.RW, Operation.SHUTDOWN]


def test_data_beyond_our_credit_is_answered_by_reset() -> None:
    connections = table()
    connection = opened(connections)
    connections.receive(packet(Operation.RW, connection), b"x" * 100)
    assert connection.phase is Phase.OPEN
    connections.receive(packet(Operation.RW, connection), b"x")
    assert operations(connections) == [Operation.RST]
    assert connection.phase.value == "draining"


def test_data_in_tiny_packets_is_kept_in_few_pieces() -> None:
    connections = ConnectionTable(guest_cid=3, limits=VsockLimits())
    connection = opened(connections)
    sent = bytes(index % 251 for index in range(20_000))
    for start in range(0, len(sent), 2):
        connections.receive(packet(Operation.RW, connection), sent[start : start + 2])
    assert connection.phase is Phase.OPEN
    assert b"".join(connection.to_local) == sent
    assert len(connection.to_local) <= 5
    connections.receive(packet(Operation.RW, connection), b"x" * 5000)
    assert connection.to_local[-1] == b"x" * 5000


def test_credit_is_announced_once_half_of_it_was_used() -> None:
    connections = table()
    connection = opened(connections)
    connections.receive(packet(Operation.RW, connection), b"x" * 60)
    connection.to_local.clear()
    connection.forwarded(49)
    connections.update(connection)
    assert operations(connections) == []
    connection.forwarded(1)
    connections.update(connection)
    assert operations(connections) == [Operation.CREDIT_UPDATE]


def test_shutdown_follows_the_last_data() -> None:
    connections = table()
    connection = opened(connections)
    connection.local_data(b"bye")
    connection.local_data(b"")
    connections.update(connection)
    assert operations(connections) == [Operation.RW, Operation.SHUTDOWN]


def test_full_shutdown_of_the_guest_is_answered_by_reset_and_drains() -> None:
    connections = table()
    connection = opened(connections)
    connections.receive(packet(Operation.RW, connection), b"data")
    both = Shutdown.SEND | Shutdown.RECEIVE
    connections.receive(packet(Operation.SHUTDOWN, connection, flags=both), b"")
    assert operations(connections) == [Operation.RST]
    assert connection.phase is Phase.DRAINING
    assert len(connections) == 1
    connection.to_local.clear()
    connections.update(connection)
    assert len(connections) == 0


def test_data_behind_the_end_of_it_is_answered_by_reset() -> None:
    connections = table()
    connection = opened(connections)
    connections.receive(packet(Operation.SHUTDOWN, connection, flags=Shutdown.SEND), b"")
    assert operations(connections) == []
    connections.receive(packet(Operation.RW, connection), b"more")
    assert operations(connections) == [Operation.RST]
    assert not connection.to_local


def test_two_half_shutdowns_are_a_full_one() -> None:
    connections = table()
    connection = opened(connections)
    connections.receive(packet(Operation.SHUTDOWN, connection, flags=Shutdown.SEND), b"")
    assert connection.phase is Phase.OPEN
    connections.receive(packet(Operation.SHUTDOWN, connection, flags=Shutdown.RECEIVE), b"")
    assert connection.phase.value == "closed"


@pytest.mark.parametrize("operation", [Operation.REQUEST, Operation.RESPONSE, 0, 8, 65535], ids=str)
def test_packet_out_of_turn_ends_an_open_connection(operation: int) -> None:
    connections = table()
    connection = opened(connections)
    connections.receive(packet(operation, connection), b"")
    assert connection.phase is Phase.CLOSED
    assert operations(connections) == [Operation.RST]


@pytest.mark.parametrize("operation", [Operation.RW, Operation.SHUTDOWN, Operation.REQUEST])
def test_packet_before_the_response_ends_the_connection(operation: int) -> None:
    connections = table()
    connection = connections.open(1024)
    assert connection is not None
    connections.receive(packet(operation, connection), b"")
    assert connection.phase is Phase.CLOSED


def test_guest_connection_is_accepted_after_its_local_end_is_there() -> None:
    connections = table()
    connection = connections.receive(packet(Operation.REQUEST), b"")
    assert connection is not None
    assert connection.phase is Phase.OPENING
    assert operations(connections) == []
    connection.accept()
    connection.local_data(b"x" * 50)
    connections.update(connection)
    assert operations(connections) == [Operation.RESPONSE, Operation.RW]
    assert len(connection.from_local) == 50 - 40  # what the request had no room for


@pytest.mark.parametrize("other", [{"source_cid": 4}, {"destination_cid": 1}, {"kind": 2}], ids=str)
def test_packet_that_is_not_of_this_guests_streams_to_us_is_reset(other: dict[str, int]) -> None:
    connections = table()
    connection = opened(connections)
    assert connections.receive(packet(Operation.REQUEST, None, **other), b"") is None
    assert connections.receive(packet(Operation.RW, connection, **other), b"data") is None
    assert operations(connections) == [Operation.RST] * 2
    assert (len(connections), list(connection.to_local)) == (1, [])
    connections.receive(packet(Operation.RW, connection), b"data")
    assert list(connection.to_local) == [b"data"]


def test_connections_beyond_the_limit_are_refused_both_ways() -> None:
    connections = table()
    for port in (1, 2):
        assert connections.receive(packet(Operation.REQUEST, source_port=port), b"") is not None
    assert connections.open(1024) is None
    assert connections.receive(packet(Operation.REQUEST, source_port=3), b"") is None
    assert operations(connections) == [Operation.RST]


def test_reset_is_never_answered_by_reset() -> None:
    connections = table()
    connections.receive(packet(Operation.RST), b"")
    assert operations(connections) == []


def test_packets_are_not_accepted_while_answers_wait() -> None:
    connections = table()
    for _ in range(LIMITS.pending_resets):
        assert connections.accepts_packets
        connections.receive(packet(Operation.RW), b"")
    assert not connections.accepts_packets
    assert operations(connections) == [Operation.RST] * LIMITS.pending_resets


def test_guest_gets_a_reset_of_what_it_knows_of() -> None:
    connections = table()
    for sent in ([], [Operation.REQUEST]):
        asking = connections.open(1024)
        assert asking is not None
        if sent:
            assert operations(connections) == sent
        connections.reset(asking)
        assert operations(connections) == [Operation.RST] * len(sent)
    asked = connections.receive(packet(Operation.REQUEST), b"")
    assert asked is not None
    connections.reset(asked)
    assert operations(connections) == [Operation.RST]
    assert len(connections) == 0


def test_client_that_leaves_an_open_connection_resets_it() -> None:
    connections = table()
    connection = opened(connections)
    connections.receive(packet(Operation.RW, connection), b"nobody takes this")
    connections.reset(connection)
    assert operations(connections) == [Operation.RST]
    assert len(connections) == 0


def test_connections_take_turns() -> None:
    connections = table()
    first, second = opened(connections), opened(connections)
    for connection in (first, second):
        connection.local_data(b"x" * 20)
        connections.update(connection)
    turns = []
    while (given := connections.next_packet(10)) is not None:
        turns.append(given[0])
    assert turns == [first, second, first, second]


def test_local_ports_are_not_given_twice() -> None:
    """Nor is one that has just ended, nor one that the guest has taken by itself."""
    connections = table()
    ended = connections.open(1024)
    assert ended is not None
    connections.reset(ended)
    connections.receive(packet(Operation.REQUEST, destination_port=ended.local_port + 1), b"")
    connection = connections.open(1024)
    assert connection is not None
    assert connection.local_port == ended.local_port + 2


def test_numbers_begin_again_behind_the_last_that_a_capture_can_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host_runtime.vsock.connections, "_LAST_NUMBER", 2)
    connections = table()
    numbers = []
    for _ in range(3):
        connection = opened(connections)
        numbers.append(connection.number)
        connections.reset(connection)
        assert operations(connections) == [Operation.RST]
    assert numbers == [1, 2, 1]
    with CaptureWriter(tmp_path / "capture") as capture:  # and the last one can be held
        capture.write(0xFFFF_FFFF, Stream.GUEST_PAYLOAD, b"x")


def test_reset_of_the_guest_forgets_everything() -> None:
    connections = table()
    draining = opened(connections)
    connections.receive(packet(Operation.RW, draining), b"data")
    connections.receive(packet(Operation.RST, draining), b"")
    assert draining.phase is Phase.DRAINING
    connection = opened(connections)
    connection.local_data(b"data")
    connections.update(connection)
    connections.receive(packet(Operation.RW), b"")
    connections.clear()
    assert connection.phase is Phase.CLOSED
    assert operations(connections) == []
    assert len(connections) == 0


def test_our_credit_goes_on_when_its_counters_begin_again() -> None:
    connections = table()
    connection = opened(connections)
    connection._received = connection._forwarded = connection._announced = NEAR_THE_END
    connections.receive(packet(Operation.RW, connection, length=60), b"x" * 60)
    assert connection.phase is Phase.OPEN
    connection.forwarded(60)
    connections.update(connection)
    given = connections.next_packet(1000)
    assert given is not None
    _connection, header, _payload = given
    assert (header.operation, header.forwarded_bytes) == (Operation.CREDIT_UPDATE, 44)
    connections.receive(packet(Operation.RW, connection, length=101), b"x" * 101)
    assert connection.phase is not Phase.OPEN  # more than the credit, as before the end


def test_local_ports_begin_again_above_those_of_programs() -> None:
    connections = table()
    connections._next_port = 0x7FFF_FFFF
    first, second = opened(connections), opened(connections)
    assert (first.local_port, second.local_port) == (0x7FFF_FFFF, 0x4000_0000)
