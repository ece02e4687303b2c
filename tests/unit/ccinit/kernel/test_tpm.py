"""One write, one reply: what the device does with what comes back."""

import os
import struct

import pytest

from ccinit.errors import KernelError, PeerError
from ccinit.kernel.tpm import TpmDevice
from tests.fakes.platforms.tpm_device import scripted_device

COMMAND = struct.pack(">HIII", 0x8001, 14, 0x173, 0x81010002)
SUCCESS = struct.pack(">HII", 0x8002, 19, 0) + bytes(4) + b"\x00\x00\x01\x00\x00"


def failure(code: int) -> bytes:
    return struct.pack(">HII", 0x8001, 10, code)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


def test_command_is_one_write_and_its_reply_is_returned() -> None:
    device, peer = scripted_device(SUCCESS)
    with device, peer:
        assert device.transmit(COMMAND) == SUCCESS
        assert peer.recv(4096) == COMMAND


def test_reply_in_pieces_is_put_together() -> None:
    device, peer = scripted_device(SUCCESS[:3], SUCCESS[3:12], SUCCESS[12:])
    with device, peer:
        assert device.transmit(COMMAND) == SUCCESS


@pytest.mark.parametrize("code", [0x922, 0x90A, 0x908, 0x909, 0x920])
def test_r98_warning_to_try_again_is_obeyed(naps: list[float], code: int) -> None:
    device, peer = scripted_device(failure(code), failure(code), SUCCESS)
    with device, peer:
        assert device.transmit(COMMAND) == SUCCESS
    assert naps == [0.01, 0.02]


def test_r98_warning_without_end_is_given_up(naps: list[float]) -> None:
    device, peer = scripted_device(*(failure(0x922) for _ in range(12)))
    with device, peer, pytest.raises(PeerError) as refused:
        device.transmit(COMMAND)
    assert refused.value.reason == "tpm.busy"
    assert len(naps) == 11
    assert 2 < sum(naps) < 5


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param(0x921, "tpm.lockout", id="lockout"),
        pytest.param(0x18B, "tpm.refused", id="no such handle"),
        pytest.param(0x101, "tpm.refused", id="failure mode"),
        pytest.param(0x902, "tpm.refused", id="no object slots"),
    ],
)
def test_r98_refusal_is_final(naps: list[float], code: int, reason: str) -> None:
    device, peer = scripted_device(failure(code), SUCCESS)
    with device, peer, pytest.raises(PeerError) as refused:
        device.transmit(COMMAND)
    assert refused.value.reason == reason
    assert not naps


def test_r17_reply_that_lies_about_its_length_is_refused() -> None:
    device, peer = scripted_device(SUCCESS + b"\0")
    with device, peer, pytest.raises(PeerError) as refused:
        device.transmit(COMMAND)
    assert refused.value.reason == "tpm.reply"


@pytest.mark.parametrize("replies", [(), (SUCCESS[:12],)], ids=["no reply", "half a reply"])
def test_r98_file_that_ends_is_a_closed_tpm(replies: tuple[bytes, ...]) -> None:
    device, peer = scripted_device(*replies)
    peer.shutdown(1)
    with device, peer, pytest.raises(PeerError) as refused:
        device.transmit(COMMAND)
    assert refused.value.reason == "tpm.closed"


def test_r98_command_that_is_taken_in_part_has_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    device, peer = scripted_device(SUCCESS)
    monkeypatch.setattr(os, "write", lambda _fd, command: len(command) - 1)
    with device, peer, pytest.raises(PeerError) as refused:
        device.transmit(COMMAND)
    assert refused.value.reason == "tpm.closed"


def test_r17_failing_calls_are_kernel_errors() -> None:
    read_only = TpmDevice(os.open("/dev/null", os.O_RDONLY))
    with read_only, pytest.raises(KernelError) as refused:
        read_only.transmit(COMMAND)
    assert refused.value.reason == "kernel.tpm_write"
    write_only = TpmDevice(os.open("/dev/null", os.O_WRONLY))
    with write_only, pytest.raises(KernelError) as refused:
        write_only.transmit(COMMAND)
    assert refused.value.reason == "kernel.tpm_read"


def test_close_twice_closes_once() -> None:
    device = TpmDevice(os.open("/dev/null", os.O_RDWR))
    device.close()
    device.close()
