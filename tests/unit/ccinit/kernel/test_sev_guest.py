"""The request to /dev/sev-guest as the kernel reads it, and what comes back."""

import ctypes
import errno
import struct

import pytest

from ccinit.errors import CcinitError
from ccinit.kernel import sev_guest
from ccinit.kernel.sev_guest import get_extended_report

REPORT_DATA = bytes(range(64))
FD = 7


class Device:
    """The driver's end of the ioctl: reads and writes the buffers that the request names."""

    def __init__(self, report: bytes = b"r" * 1184, table: bytes = b"table") -> None:
        self.report, self.table = report, table
        self.status = 0
        self.errors: list[tuple[int, int, int]] = []
        self.asked: list[tuple[bytes, int]] = []

    def ioctl(self, fd: int, number: int, argument: bytearray) -> int:
        # struct snp_guest_request_ioctl: version u8, request u64, response u64, two errors u32.
        assert (fd, number, len(argument)) == (FD, 0xC0205302, 32)
        version, request, response = struct.unpack_from("<B7xQQ", argument)
        assert version == 1
        # struct snp_ext_report_req: user data 64, VMPL u32, 28 reserved, address u64, length u32.
        raw = ctypes.string_at(request, 112)
        user_data, vmpl, reserved, address, length = struct.unpack("<64sI28sQI4x", raw)
        assert (reserved, length) == (bytes(28), 16384)
        self.asked.append((user_data, vmpl))
        if self.errors:
            number, firmware, host = self.errors.pop(0)
            struct.pack_into("<II", argument, 24, firmware, host)
            raise OSError(number, "refused")
        ctypes.memmove(address, self.table, len(self.table))
        head = struct.pack("<II24x", self.status, len(self.report))
        ctypes.memmove(response, head + self.report, len(head) + len(self.report))
        return 0


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    fake = Device()
    monkeypatch.setattr("ccinit.kernel.sev_guest.fcntl.ioctl", fake.ioctl)
    monkeypatch.setattr("ccinit.kernel.tsm.time.sleep", lambda _seconds: None)
    return fake


def reason_of() -> str:
    with pytest.raises(CcinitError) as caught:
        get_extended_report(FD, REPORT_DATA)
    return caught.value.reason


def test_report_and_certificates_come_back(device: Device) -> None:
    report = get_extended_report(FD, REPORT_DATA)
    assert report.outblob == device.report
    assert report.auxblob == b"table".ljust(16384, b"\0")
    assert device.asked == [(REPORT_DATA, 0)]


def test_r17_host_that_is_busy_is_waited_for(device: Device) -> None:
    device.errors = [(errno.EAGAIN, 0, 2)] * 5
    assert get_extended_report(FD, REPORT_DATA).outblob == device.report


def test_r17_host_that_stays_busy_is_given_up(device: Device) -> None:
    device.errors = [(errno.EIO, 0, 2)] * 100
    with pytest.raises(CcinitError, match="host 0x2") as caught:
        get_extended_report(FD, REPORT_DATA)
    assert caught.value.reason == "tee.io"
    assert len(device.errors) == 94


def test_r17_other_error_is_not_repeated(device: Device) -> None:
    device.errors = [(errno.ENOTTY, 0, 0)] * 2
    assert reason_of() == "kernel.sev_guest"
    assert len(device.errors) == 1


@pytest.mark.parametrize(("status", "report"), [(0x16, b"r" * 1184), (0, b"r" * 3960)])
def test_r17_firmwares_refusal_and_a_long_report_are_refused(
    device: Device, status: int, report: bytes
) -> None:
    device.status, device.report = status, report
    if status:
        assert reason_of() == "tee.io"
    device.status = 0
    device.report = b"r" * 3968
    assert get_extended_report(FD, REPORT_DATA).outblob == device.report


def test_size_beyond_the_response_is_refused() -> None:
    with pytest.raises(CcinitError) as caught:
        sev_guest.parse_response(struct.pack("<II24x", 0, 3969) + bytes(3968))
    assert caught.value.reason == "tee.io"
