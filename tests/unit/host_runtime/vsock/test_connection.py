"""The space that one connection gives the guest, packet by packet."""

from host_runtime.vsock.connection import Connection, Phase, VsockLimits
from host_runtime.vsock.packets import Operation, PacketHeader

LIMITS = VsockLimits(connections=1, receive_bytes=100, send_bytes=50, pending_resets=1)


def opened() -> Connection:
    return Connection(
        guest_cid=3, local_port=7, guest_port=1024, number=1, phase=Phase.OPEN, limits=LIMITS
    )


def is_taken(connection: Connection, size: int) -> bool:
    """Whether the connection goes on with so many bytes more from the guest."""
    header = PacketHeader(
        source_cid=3,
        destination_cid=2,
        source_port=1024,
        destination_port=7,
        length=size,
        kind=1,
        operation=Operation.RW,
        flags=0,
        buffer_bytes=0,
        forwarded_bytes=0,
    )
    return connection.receive(header, bytes(size))


def test_space_is_what_was_not_forwarded() -> None:
    connection = opened()
    assert is_taken(connection, 100)
    connection.forwarded(60)
    assert is_taken(connection, 60)
    assert not is_taken(connection, 1)


def test_space_is_announced_anew_whenever_half_of_it_was_used() -> None:
    connection = opened()
    for forwarded in (50, 100):
        assert is_taken(connection, 50)
        connection.forwarded(49)
        assert not connection.has_output()
        connection.forwarded(1)
        assert connection.has_output()
        header, payload = connection.next_packet(1000)
        assert (header.operation, header.forwarded_bytes) == (Operation.CREDIT_UPDATE, forwarded)
        assert (header.length, payload) == (0, b"")
