"""Reports of SEV-SNP from `/dev/sev-guest` (Linux include/uapi/linux/sev-guest.h).

For kernels without configfs-tsm: SNP_GET_EXT_REPORT returns the report and the certificates that
the host keeps for it. Addresses in the request are those of buffers made here.
"""

import ctypes
import fcntl
import struct

from ccinit.errors import PeerError
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.tsm import TsmReport, until_ready

SNP_GET_EXT_REPORT = 0xC0205302  # _IOWR('S', 2, 32 bytes)
CERTIFICATES_BYTES = 16 * 1024  # SEV_FW_BLOB_MAX_SIZE
RESPONSE_BYTES = 4000

_REQUEST = struct.Struct("<64sI28sQI4x")  # user data, VMPL, reserved; certificates: address, length
_IOCTL = struct.Struct("<B7xQQII")  # message version, request, response, firmware and VMM error
_RESPONSE = struct.Struct("<II24x")  # status, size of the report that follows
_MESSAGE_VERSION = 1
_VMPL = 0


def get_extended_report(fd: int, report_data: bytes) -> TsmReport:
    """Return the report over `report_data` for VMPL 0, and the certificate table.

    Args:
        fd: of the device.
        report_data: 64 bytes.

    Raises:
        PeerError: `tee.io`, the firmware refused, or the host stayed busy.
        KernelError: `kernel.sev_guest`.
    """
    return until_ready(lambda: _ask(fd, report_data))


def _ask(fd: int, report_data: bytes) -> TsmReport:
    certificates = ctypes.create_string_buffer(CERTIFICATES_BYTES)
    response = ctypes.create_string_buffer(RESPONSE_BYTES)
    where = ctypes.addressof(certificates)
    request = ctypes.create_string_buffer(
        _REQUEST.pack(report_data, _VMPL, b"", where, CERTIFICATES_BYTES)
    )
    argument = bytearray(
        _IOCTL.pack(_MESSAGE_VERSION, ctypes.addressof(request), ctypes.addressof(response), 0, 0)
    )
    try:
        fcntl.ioctl(fd, SNP_GET_EXT_REPORT, argument)
    except OSError as error:
        *_rest, firmware_error, vmm_error = _IOCTL.unpack(argument)
        codes = f"firmware {firmware_error:#x}, host {vmm_error:#x}"
        raise kernel_error(error, "sev_guest", codes) from error
    return TsmReport(outblob=parse_response(response.raw), auxblob=certificates.raw)


def parse_response(data: bytes) -> bytes:
    """Return the report in the firmware's MSG_REPORT_RSP (AMD 56860, table 25).

    Raises:
        PeerError: `tee.io`.
    """
    status, size = _RESPONSE.unpack_from(data)
    if status or size > len(data) - _RESPONSE.size:
        raise PeerError("tee.io", f"the firmware refused a report: status {status}, {size} bytes")
    return data[_RESPONSE.size : _RESPONSE.size + size]
