"""The module's report and register through the kernel's files; the ioctl's buffer is looked at."""

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import KernelError, PeerError
from ccinit.kernel.tdx_guest import Rtmr, read_event_log, read_td_report
from tests.fakes.platforms.tdx_device import td_report
from tests.fakes.platforms.tdx_quote import FakeTdx

REPORT_DATA = b"challenge".ljust(64, b"\0")


@pytest.fixture
def register(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "rtmr3:sha384"
    path.write_bytes(bytes(48))
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def test_td_report_is_asked_for_with_the_report_data(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ioctl(fd: int, number: int, buffer: bytearray) -> int:
        asked.append((fd, number, bytes(buffer)))
        buffer[64:] = td_report(FakeTdx(), bytes(buffer[:64]))
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert read_td_report(7, b"challenge") == td_report(FakeTdx(), REPORT_DATA)
    # _IOWR('T', 1, 1088 bytes): direction 3, size, type, number
    number = 3 << 30 | (64 + 1024) << 16 | ord("T") << 8 | 1
    assert asked == [(7, number, REPORT_DATA + bytes(1024))]


def test_refused_td_report_carries_the_errno(monkeypatch: pytest.MonkeyPatch) -> None:
    def ioctl(*_: object) -> int:
        raise OSError(errno.ENOTTY, "no such command")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with pytest.raises(KernelError) as caught:
        read_td_report(7, REPORT_DATA)
    assert (caught.value.reason, caught.value.errno) == ("kernel.tdx_report", errno.ENOTTY)


@pytest.mark.parametrize("length", [0, 1000, 1 << 20])
def test_event_log_is_read_to_its_end(tmp_path: Path, length: int) -> None:
    path = tmp_path / "CCEL"
    path.write_bytes(b"x" * length)
    fd = os.open(path, os.O_RDONLY)
    try:
        assert read_event_log(fd) == b"x" * length
    finally:
        os.close(fd)


def test_event_log_without_an_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "CCEL"
    path.write_bytes(bytes((1 << 20) + 1))
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(PeerError) as caught:
            read_event_log(fd)
    finally:
        os.close(fd)
    assert caught.value.reason == "tee.io"
    with pytest.raises(KernelError) as refused:
        read_event_log(fd)
    assert refused.value.reason == "kernel.ccel_read"


def test_register_is_written_whole_and_read_from_its_beginning(register: int) -> None:
    rtmr = Rtmr(register)
    assert rtmr.read() == bytes(48)
    rtmr.extend(b"\1" * 48)
    rtmr.extend(b"\2" * 48)
    # a plain file does not hash: what is left is the last digest, at the beginning
    assert os.fstat(register).st_size == 48
    assert rtmr.read() == b"\2" * 48


@pytest.mark.parametrize("length", [0, 32, 47, 64])
def test_register_of_another_length_is_none(register: int, length: int) -> None:
    os.ftruncate(register, length)
    with pytest.raises(PeerError) as caught:
        Rtmr(register).read()
    assert caught.value.reason == "tee.io"


def test_digest_that_is_taken_in_part_is_not_extended(
    register: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", lambda _fd, digest, _offset: len(digest) - 1)
    with pytest.raises(KernelError) as refused:
        Rtmr(register).extend(bytes(48))
    assert (refused.value.reason, refused.value.errno) == ("kernel.rtmr_write", errno.EIO)


def test_register_that_refuses_carries_the_errno(tmp_path: Path) -> None:
    path = tmp_path / "read-only"
    path.write_bytes(bytes(48))
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(KernelError) as caught:
            Rtmr(fd).extend(bytes(48))
    finally:
        os.close(fd)
    assert (caught.value.reason, caught.value.errno) == ("kernel.rtmr_write", errno.EBADF)
    with pytest.raises(KernelError) as caught:
        Rtmr(fd).read()
    assert caught.value.reason == "kernel.rtmr_read"
