"""The vsock device's process under a guest whose memory and rings are hostile."""

import fcntl
import socket
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from host_runtime.programs.process import (
    OwnedProcess,
    python_command,
    python_environment,
    wait_for_listener,
)
from host_runtime.programs.socket_folder import open_socket_folder
from host_runtime.vsock.packets import Operation
from host_runtime.vsock.vhost_user import (
    HEADER_BYTES,
    Request,
    encode_reply,
    encode_vring_state,
)
from tests.fakes.machine.vhost_front_end import (
    GUEST_BASE,
    MEMORY_BYTES,
    RING_SIZE,
    FrontEnd,
    encode_request,
)
from tests.integration.host.vsock_device.device import GUEST_PORT, START_SECONDS, Device


def _far_address(guest: FrontEnd) -> None:
    guest.from_guest.set_descriptor(0, GUEST_BASE + MEMORY_BYTES - 10, 44, 0, 0)
    guest.from_guest.offer(0)


def _wrapping_length(guest: FrontEnd) -> None:
    guest.from_guest.set_descriptor(0, 0xFFFF_FFFF_FFFF_FFF0, 0xFFFF_FFFF, 0, 0)
    guest.from_guest.offer(0)


def _chain_loop(guest: FrontEnd) -> None:
    guest.from_guest.set_descriptor(0, GUEST_BASE, 4, 1, 1)
    guest.from_guest.set_descriptor(1, GUEST_BASE, 4, 1, 0)
    guest.from_guest.offer(0)


def _index_outside(guest: FrontEnd) -> None:
    guest.from_guest.offer(RING_SIZE)


def _next_outside(guest: FrontEnd) -> None:
    guest.from_guest.set_descriptor(0, GUEST_BASE, 4, 1, 0xFFFF)
    guest.from_guest.offer(0)


def _available_jump(guest: FrontEnd) -> None:
    guest.from_guest.set_available(1 + RING_SIZE + 1)  # one packet has gone before


def _indirect(guest: FrontEnd) -> None:
    guest.from_guest.set_descriptor(0, GUEST_BASE, 64, 4, 0)
    guest.from_guest.offer(0)


def _readable_after_writable(guest: FrontEnd) -> None:
    guest.from_guest.set_descriptor(0, GUEST_BASE, 44, 3, 1)
    guest.from_guest.set_descriptor(1, GUEST_BASE, 44, 0, 0)
    guest.from_guest.offer(0)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_far_address, "ring.address"),
        (_wrapping_length, "ring.address"),
        (_chain_loop, "ring.loop"),
        (_index_outside, "ring.descriptor_index"),
        (_next_outside, "ring.descriptor_index"),
        (_available_jump, "ring.available_index"),
        (_indirect, "ring.indirect"),
        (_readable_after_writable, "ring.order"),
    ],
)
def test_malformed_ring_is_broken_until_the_guest_resets(
    device: Device, spoil: Callable[[FrontEnd], None], reason: str
) -> None:
    stream, _ = device.open()
    with stream:
        spoil(device.guest)
        device.guest.kick(device.guest.from_guest)
        assert stream.recv(10) == b""  # its connections end
    assert reason in device.process.log_tail()
    device.assert_serves()


def test_ring_that_is_broken_again_and_again_does_not_fill_the_log(device: Device) -> None:
    for _ in range(20):
        device.guest.stop()
        device.guest.start(3)
    assert (device.folder / "log").read_text().count("ring 1 is broken") == 8
    device.assert_serves()


@pytest.mark.parametrize("size", [0, 1, 44])
def test_buffer_without_room_breaks_the_ring(device: Device, size: int) -> None:
    device.guest.stop()
    device.guest.start()
    device.guest.give_buffers(1, size)
    with device.dial() as stream:
        assert stream.recv(10) == b""
    assert "ring.buffer" in device.process.log_tail()
    device.assert_serves()


@pytest.mark.parametrize("size", [0, 3, 2048])
def test_ring_of_impossible_size_is_broken_until_reset(device: Device, size: int) -> None:
    device.guest.stop()
    device.guest.start(size)
    device.guest.send(Operation.REQUEST, port=1, host_port=2)
    assert device.guest.is_quiet()
    assert "ring.size" in device.process.log_tail()
    device.assert_serves()


def test_kick_of_a_ring_that_has_just_stopped_is_nobodys(device: Device) -> None:
    ring, control = device.guest.from_guest, device.guest.control
    state = encode_vring_state(ring.index, 0)
    stop = encode_request(Request.GET_VRING_BASE, state)
    control.sendall(stop[:HEADER_BYTES])  # it is read for itself
    while fcntl.ioctl(control, termios.TIOCOUTQ, bytes(4)) != bytes(4):
        time.sleep(0.01)
    with device.held():  # so that it finds both together, the message first
        control.sendall(stop[HEADER_BYTES:])
        device.guest.kick(ring)
    expected = encode_reply(Request.GET_VRING_BASE, state)
    assert control.recv(len(expected), socket.MSG_WAITALL) == expected
    device.assert_serves()


def test_new_memory_table_keeps_the_rings_running(device: Device) -> None:
    stream, port = device.open()
    with stream:
        device.guest.set_memory(MEMORY_BYTES)
        device.guest.send(Operation.RW, port=GUEST_PORT, host_port=port, payload=b"still here")
        assert stream.recv(100) == b"still here"


def test_disabled_ring_is_left_alone_and_goes_on_where_it_was(device: Device) -> None:
    stream, port = device.open()
    with stream:
        device.guest.enable(device.guest.from_guest, is_on=False)
        device.guest.enable(device.guest.to_guest, is_on=False)
        device.guest.send(Operation.RW, port=GUEST_PORT, host_port=port, payload=b"held")
        stream.sendall(b"held, too")
        assert device.guest.is_quiet()
        stream.settimeout(0)
        with pytest.raises(BlockingIOError):
            stream.recv(100)
        stream.settimeout(20)
        device.guest.enable(device.guest.from_guest, is_on=True)
        assert stream.recv(100) == b"held"
        assert device.guest.is_quiet()
        device.guest.enable(device.guest.to_guest, is_on=True)
        assert device.guest.receive()[1] == b"held, too"


def test_reset_of_the_guest_closes_connections_and_leaks_no_descriptor(device: Device) -> None:
    descriptors = Path(f"/proc/{device.process.pid}/fd")
    counts = []
    for _ in range(20):
        stream, _ = device.open()
        with stream:
            device.guest.stop()
            device.guest.start()
            assert stream.recv(10) == b""
        device.guest.give_buffers(RING_SIZE)
        counts.append(len(tuple(descriptors.iterdir())))
    assert counts[-1] == counts[0]


def test_r95_pause_of_the_machine_keeps_connections_and_what_is_under_way(device: Device) -> None:
    stream, port = device.open()
    with stream:
        for turn in range(3):
            stopped_at = device.guest.stop()
            words = b"said while it stood still %d" % turn
            stream.sendall(words)
            device.guest.send(Operation.RW, port=GUEST_PORT, host_port=port, payload=words)
            assert device.guest.is_quiet()
            device.guest.go_on(stopped_at)
            assert device.guest.receive()[1] == words
            assert stream.recv(100) == words
    device.assert_serves()


def test_random_ring_contents_never_end_the_device(device: Device) -> None:
    for seed in range(40):
        noise = bytes((seed * 31 + index * 7) & 0xFF for index in range(0x800))
        device.guest.memory[0x1000:0x1800] = noise
        device.guest.memory[0x0000:0x0800] = noise[::-1]
        device.guest.kick(device.guest.from_guest)
        device.guest.kick(device.guest.to_guest)
        time.sleep(0.002)
        device.guest.stop()
        device.guest.start()
    device.assert_serves()


def test_unknown_request_ends_the_device_with_a_reason() -> None:
    with open_socket_folder() as folder:
        command = (
            *python_command("host_runtime.vsock.device"),
            *("--socket", str(folder / "vhost"), "--path", str(folder / "vsock"), "--cid", "3"),
        )
        with OwnedProcess(command, log=folder / "log", environment=python_environment()) as process:
            wait_for_listener(folder / "vhost", process, START_SECONDS)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
                control.connect(str(folder / "vhost"))
                control.sendall(encode_request(77, b""))
                assert process.wait(20) == 1
            assert "vhost.request" in process.log_tail()
            assert not (folder / "vsock").exists()
