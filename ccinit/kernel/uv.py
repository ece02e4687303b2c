"""The ultravisor of IBM Z, through `/dev/uv` (Linux arch/s390/include/uapi/asm/uvdevice.h).

One call: Retrieve Attestation Measurement. The driver copies and checks lengths; all other errors
are the ultravisor's own return codes. Addresses in the request are those of buffers made here;
numbers are in the machine's byte order.
"""

import ctypes
import fcntl
import struct

from ccinit.errors import FormatError, PeerError
from ccinit.kernel.libc import kernel_error
from ccinit.values import frozen

UVIO_IOCTL_ATT = 0xC0407501  # _IOWR('u', 1, struct uvio_ioctl_cb), 64 bytes
USER_DATA_MAX_BYTES = 256
CONFIG_UID_BYTES = 16

# struct uvio_ioctl_cb: flags, two return codes, address and length of the argument, reserved
_CONTROL = struct.Struct("=IHHQI44x")
# struct uvio_attest: request, measurement, additional data; user data, configuration id;
# lengths of the first three, length of the user data, reserved
_ATTEST = struct.Struct("=QQQ256s16sIIIH2x")
_CONFIG_UID_OFFSET = 0x118
_EXECUTED = 1  # UVC_RC_EXECUTED


@frozen
class UvMeasurement:
    """What the ultravisor answers.

    Attributes:
        measurement: by the request's algorithm.
        additional: the additional data that the request asks for.
        config_uid: the id of this guest, 16 bytes.
    """

    measurement: bytes
    additional: bytes
    config_uid: bytes


def retrieve_measurement(
    fd: int, request: bytes, user_data: bytes, *, measurement_bytes: int, additional_bytes: int
) -> UvMeasurement:
    """Have the ultravisor measure this guest, with `user_data`, in answer to a request.

    Args:
        fd: of the device.
        request: the attestation request control block, encrypted to the ultravisor.
        user_data: at most 256 bytes.
        measurement_bytes: length of a measurement by the request's algorithm.
        additional_bytes: length of the additional data that the request asks for.

    Raises:
        FormatError: `uv.user_data`.
        PeerError: `tee.io`, the ultravisor refused.
        KernelError: `kernel.uv`.
    """
    if len(user_data) > USER_DATA_MAX_BYTES:
        raise FormatError("uv.user_data", f"expected at most 256 bytes, found {len(user_data)}")
    blob = ctypes.create_string_buffer(request, len(request))
    measurement = ctypes.create_string_buffer(measurement_bytes)
    additional = ctypes.create_string_buffer(max(1, additional_bytes))
    argument = ctypes.create_string_buffer(
        _ATTEST.pack(
            *(ctypes.addressof(buffer) for buffer in (blob, measurement, additional)),
            *(user_data, b""),
            *(len(request), measurement_bytes, additional_bytes, len(user_data)),
        ),
        _ATTEST.size,
    )
    control = bytearray(_CONTROL.pack(0, 0, 0, ctypes.addressof(argument), _ATTEST.size))
    try:
        fcntl.ioctl(fd, UVIO_IOCTL_ATT, control)
    except OSError as error:
        raise kernel_error(error, "uv", "attest") from error
    _flags, code, reason, *_rest = _CONTROL.unpack(control)
    if code != _EXECUTED:
        raise PeerError("tee.io", f"the ultravisor refused: {code:#06x}, {reason:#06x}")
    return UvMeasurement(
        measurement=measurement.raw,
        additional=additional.raw[:additional_bytes],
        config_uid=argument.raw[_CONFIG_UID_OFFSET : _CONFIG_UID_OFFSET + CONFIG_UID_BYTES],
    )
