"""The vsock device's process over its two sockets: what connections carry and how they end."""

import resource
import socket
import struct
import threading
from contextlib import ExitStack

import pytest

from ccinit.errors import FormatError
from ccinit.formats.initdata.guest_config import KBS_VSOCK_PORT
from host_runtime.relay.kbs import KbsAddress, guest_path, open_unix_listener, serve
from host_runtime.vsock.capture import Stream, read_capture
from host_runtime.vsock.packets import Operation, Shutdown
from tests.fakes.machine.vhost_front_end import GUEST_CID, RING_SIZE
from tests.fakes.network.tls_server import TlsServer
from tests.integration.host.vsock_device.device import GUEST_PORT, Device


def test_config_gives_the_guest_its_cid(device: Device) -> None:
    reply = device.guest.request(24, struct.pack("<III", 0, 8, 0) + bytes(8))
    assert reply[12:] == GUEST_CID.to_bytes(8, "little")


def test_bytes_cross_both_ways_and_are_captured(device: Device) -> None:
    stream, port = device.open()
    with stream:
        stream.sendall(b"to the guest")
        header, payload = device.guest.receive()
        assert (header.operation, payload) == (Operation.RW, b"to the guest")
        device.guest.send(Operation.RW, port=GUEST_PORT, host_port=port, payload=b"to the host")
        assert stream.recv(100) == b"to the host"
    device.finish()  # it captures what it has passed on
    streams = read_capture(device.folder / "capture")
    assert streams[1, Stream.GUEST_PAYLOAD] == b"to the host"
    assert streams[1, Stream.HOST_PAYLOAD] == b"to the guest"


def test_bytes_cross_although_the_capture_finds_no_room(device: Device) -> None:
    before = resource.prlimit(
        device.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY)
    )
    stream, port = device.open()
    with stream:
        device.guest.send(Operation.RW, port=GUEST_PORT, host_port=port, payload=b"to the host")
        assert stream.recv(100) == b"to the host"
    device.finish()
    with pytest.raises(FormatError) as caught:
        read_capture(device.folder / "capture")
    assert caught.value.reason == "capture.incomplete"
    resource.prlimit(device.process.pid, resource.RLIMIT_FSIZE, before)
    device.assert_serves()


def test_bytes_sent_with_the_greeting_reach_the_guest(device: Device) -> None:
    with device.dial(b"CONNECT 1024\nearly") as stream:
        header, _ = device.guest.receive()
        device.guest.send(Operation.RESPONSE, port=GUEST_PORT, host_port=header.source_port)
        assert device.guest.receive()[1] == b"early"
        assert stream.recv(3) == b"OK "


@pytest.mark.parametrize(
    "greeting", [b"connect 1\n", b"CONNECT x\n", b"CONNECT 4294967296\n", b"CONNECT " * 4]
)
def test_wrong_greeting_is_closed(device: Device, greeting: bytes) -> None:
    with device.dial(greeting) as stream:
        assert stream.recv(10) == b""
    device.assert_serves()


def test_guest_that_refuses_closes_the_client(device: Device) -> None:
    with device.dial() as stream:
        header, _ = device.guest.receive()
        device.guest.send_rst(GUEST_PORT, header.source_port)
        assert stream.recv(10) == b""


def test_half_close_of_the_client_leaves_the_other_direction_open(device: Device) -> None:
    stream, port = device.open()
    with stream:
        stream.sendall(b"last words")
        stream.shutdown(socket.SHUT_WR)
        assert device.guest.receive()[1] == b"last words"
        header, _ = device.guest.receive()
        assert (header.operation, header.flags) == (Operation.SHUTDOWN, Shutdown.SEND)
        device.guest.send(Operation.RW, port=GUEST_PORT, host_port=port, payload=b"answer")
        assert stream.recv(100) == b"answer"


def test_half_close_of_the_guest_leaves_the_other_direction_open(device: Device) -> None:
    stream, port = device.open()
    with stream:
        device.guest.send(Operation.RW, port=GUEST_PORT, host_port=port, payload=b"last")
        device.guest.send(Operation.SHUTDOWN, port=GUEST_PORT, host_port=port, flags=Shutdown.SEND)
        assert stream.recv(100) == b"last"
        assert stream.recv(100) == b""
        stream.sendall(b"answer")
        assert device.guest.receive()[1] == b"answer"


def test_full_close_of_the_guest_is_answered_by_reset_and_loses_nothing(device: Device) -> None:
    stream, port = device.open()
    with stream:
        device.guest.send(Operation.RW, port=GUEST_PORT, host_port=port, payload=b"x" * 60_000)
        device.guest.send(Operation.SHUTDOWN, port=GUEST_PORT, host_port=port, flags=3)
        header, _ = device.guest.receive()
        assert (header.operation, header.destination_port) == (Operation.RST, GUEST_PORT)
        content = b""
        while piece := stream.recv(65536):
            content += piece
        assert content == b"x" * 60_000


@pytest.mark.parametrize("ending", [Operation.SHUTDOWN, Operation.RST])
def test_guest_that_answers_writes_and_ends_at_once_is_heard(
    device: Device, ending: Operation
) -> None:
    with device.dial() as stream:
        header, _ = device.guest.receive()
        port = header.source_port
        with device.held():  # so that it finds all three together
            device.guest.send(Operation.RESPONSE, port=GUEST_PORT, host_port=port)
            device.guest.send(Operation.RW, port=GUEST_PORT, host_port=port, payload=b"bye")
            device.guest.send(ending, port=GUEST_PORT, host_port=port, flags=3)
        content = b""
        while piece := stream.recv(100):
            content += piece
        assert content == f"OK {port}\nbye".encode()


def test_guest_that_answers_and_resets_at_once_was_there(device: Device) -> None:
    with device.dial() as stream:
        header, _ = device.guest.receive()
        port = header.source_port
        with device.held():
            device.guest.send(Operation.RESPONSE, port=GUEST_PORT, host_port=port)
            device.guest.send(Operation.RST, port=GUEST_PORT, host_port=port)
        assert stream.recv(100) == f"OK {port}\n".encode()
        assert stream.recv(100) == b""


def test_guest_credit_is_never_exceeded(device: Device) -> None:
    stream, port = device.open(buffer=10)
    with stream:
        stream.sendall(b"0123456789abcdef")
        assert device.guest.receive()[1] == b"0123456789"
        assert device.guest.is_quiet()
        device.guest.send(
            Operation.CREDIT_UPDATE, port=GUEST_PORT, host_port=port, buffer=10, forwarded=4
        )
        assert device.guest.receive()[1] == b"abcd"


def test_credit_request_is_answered(device: Device) -> None:
    stream, port = device.open()
    with stream:
        device.guest.send(Operation.RW, port=GUEST_PORT, host_port=port, payload=b"12345")
        assert stream.recv(5) == b"12345"
        device.guest.send(Operation.CREDIT_REQUEST, port=GUEST_PORT, host_port=port)
        header, _ = device.guest.receive()
        assert (header.operation, header.forwarded_bytes) == (Operation.CREDIT_UPDATE, 5)
        assert header.buffer_bytes == 256 * 1024


def test_guest_that_exceeds_our_credit_is_reset(device: Device) -> None:
    stream, port = device.open()
    with stream:  # nobody reads: the kernel's socket buffer fills, then ours
        for _ in range(16):
            device.guest.send(
                Operation.RW, port=GUEST_PORT, host_port=port, payload=bytes(64 * 1024)
            )
            device.guest.wait_until_read()
        operations = {device.guest.receive()[0].operation for _ in range(2)}
        assert operations == {Operation.CREDIT_UPDATE, Operation.RST}  # some bytes were taken
    device.assert_serves()


def test_guest_connection_reaches_a_listening_socket(device: Device) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(device.folder / "vsock_5000"))
        listener.listen()
        listener.settimeout(20)
        device.guest.send(Operation.REQUEST, port=99, host_port=5000)
        assert device.guest.receive()[0].operation == Operation.RESPONSE
        stream, _ = listener.accept()
        with stream:
            device.guest.send(Operation.RW, port=99, host_port=5000, payload=b"hello")
            assert stream.recv(100) == b"hello"
            stream.sendall(b"hi")
            assert device.guest.receive()[1] == b"hi"


def test_guest_connection_is_carried_to_the_kbs(device: Device) -> None:
    def answer(connection: socket.socket) -> None:
        assert connection.recv(100) == b"hello, kbs"
        connection.sendall(b"hello, guest")

    path = guest_path(device.folder / "vsock")
    with TlsServer(None, answer) as kbs, open_unix_listener(path) as listener:
        address = KbsAddress(host="127.0.0.1", port=kbs.port)
        thread = threading.Thread(target=serve, args=(listener, address), daemon=True)
        thread.start()
        device.guest.send(Operation.REQUEST, port=99, host_port=KBS_VSOCK_PORT)
        assert device.guest.receive()[0].operation == Operation.RESPONSE
        device.guest.send(Operation.RW, port=99, host_port=KBS_VSOCK_PORT, payload=b"hello, kbs")
        assert device.guest.receive()[1] == b"hello, guest"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


def test_guest_connection_to_nobody_is_reset(device: Device) -> None:
    device.guest.send(Operation.REQUEST, port=99, host_port=5001)
    header, _ = device.guest.receive()
    assert (header.operation, header.destination_port) == (Operation.RST, 99)


def test_connections_beyond_the_limit_are_refused(device: Device) -> None:
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(device.open()[0])
        with device.dial() as surplus:
            assert surplus.recv(10) == b""
    device.assert_serves()


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"operation": Operation.RW}, id="data without a connection"),
        pytest.param({"operation": 99}, id="unknown operation"),
        pytest.param({"operation": Operation.REQUEST, "kind": 2}, id="not a stream"),
        pytest.param({"operation": Operation.REQUEST, "cid": 8}, id="foreign CID"),
    ],
)
def test_senseless_packet_is_answered_by_reset(device: Device, values: dict[str, int]) -> None:
    operation = values.pop("operation")
    device.guest.send(operation, port=50, host_port=51, **values)  # type: ignore[arg-type]
    assert device.guest.receive()[0].operation == Operation.RST
    device.assert_serves()


def test_packet_that_announces_more_than_it_holds_is_dropped(device: Device) -> None:
    stream, port = device.open()
    with stream:
        device.guest.send(
            Operation.RW, port=GUEST_PORT, host_port=port, payload=b"abc", announced=4
        )
        device.guest.send(Operation.RW, port=GUEST_PORT, host_port=port, payload=b"good")
        assert stream.recv(100) == b"good"


def test_resets_that_nobody_takes_do_not_grow(device: Device) -> None:
    device.guest.stop()
    device.guest.start()  # no buffers for the device
    for _ in range(128):
        device.guest.send(Operation.RW, port=50, host_port=51)
        device.guest.wait_until_read()
    for _ in range(RING_SIZE // 2):  # what the ring has room for: each takes two descriptors
        device.guest.send(Operation.RW, port=50, host_port=51)
    device.guest.is_quiet()
    assert device.guest.count_read() == 128  # no more is read until they are taken
    device.assert_serves()
