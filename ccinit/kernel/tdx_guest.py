"""What a TDX guest gets from its module and firmware: its report, a register, an event log.

The report comes by TDCALL and never leaves the guest: unlike a quote, it does not pass through the
host. Linux, Documentation/virt/coco/tdx-guest.rst and include/uapi/linux/tdx-guest.h; registers:
Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest (from 6.16 on).
"""

import errno
import fcntl
import os

from ccinit.errors import KernelError, PeerError
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.small_files import read_to_end

TDX_CMD_GET_REPORT0 = 0xC4405401  # _IOWR('T', 1, struct tdx_report_req), 64 + 1024 bytes
_REPORT_DATA_BYTES, _TDREPORT_BYTES = 64, 1024
_RTMR_BYTES = 48
_MAX_EVENT_LOG_BYTES = 1 << 20  # firmware reserves 64 KiB


def read_td_report(fd: int, report_data: bytes) -> bytes:
    """Return the TDREPORT_STRUCT over 64 bytes of report data, 1024 bytes.

    Raises:
        KernelError: `kernel.tdx_report`.
    """
    request = bytearray(report_data.ljust(_REPORT_DATA_BYTES, b"\0")) + bytes(_TDREPORT_BYTES)
    try:
        fcntl.ioctl(fd, TDX_CMD_GET_REPORT0, request)
    except OSError as error:
        raise kernel_error(error, "tdx_report", "tdx_guest") from error
    return bytes(request[_REPORT_DATA_BYTES:])


def read_event_log(fd: int) -> bytes:
    """Return the memory in which firmware left its event log (ACPI table CCEL), to its end.

    Raises:
        KernelError: `kernel.ccel_read`.
        PeerError: `tee.io`, it has more than 1 MiB.
    """
    data = read_to_end(fd, _MAX_EVENT_LOG_BYTES, "ccel_read", "CCEL")
    if len(data) > _MAX_EVENT_LOG_BYTES:
        raise PeerError("tee.io", f"more than {_MAX_EVENT_LOG_BYTES} bytes of event log")
    return data


class Rtmr:
    """A run-time measurement register (SHA-384) behind the descriptor of its sysfs file.

    Writing a digest extends the register, reading returns its value.
    """

    def __init__(self, fd: int) -> None:
        """Args: fd: open for reading and writing, not owned."""
        self._fd = fd

    def extend(self, digest: bytes) -> None:
        """Extend with a SHA-384 digest.

        Raises:
            KernelError: `kernel.rtmr_write`.
        """
        try:
            written = os.pwrite(self._fd, digest, 0)
        except OSError as error:
            raise kernel_error(error, "rtmr_write", "rtmr") from error
        if written != len(digest):
            raise KernelError(errno.EIO, "rtmr_write", "rtmr")

    def read(self) -> bytes:
        """Return the current value, 48 bytes.

        Raises:
            KernelError: `kernel.rtmr_read`.
            PeerError: `tee.io`, the register has another length.
        """
        try:
            value = os.pread(self._fd, _RTMR_BYTES + 1, 0)
        except OSError as error:
            raise kernel_error(error, "rtmr_read", "rtmr") from error
        if len(value) != _RTMR_BYTES:
            raise PeerError("tee.io", f"expected a register of 48 bytes, found {len(value)}")
        return value
