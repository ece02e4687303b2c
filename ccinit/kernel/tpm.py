"""TPM 2.0 commands over an open file: the kernel's /dev/tpmrm0, or the data socket of an emulator.

One write is one command, and the reply follows. A warning that asks for the same command again (TPM
2.0 Library, part 2, section 6.6.3) is obeyed a bounded number of times.
`ccinit.formats.tcg.tpm_commands` makes and reads the bytes. The device node has no timeout, so the
caller's deadline has to end a command that hangs.
"""

import os
import struct
import time
from typing import Self

from ccinit.errors import PeerError
from ccinit.kernel.libc import kernel_error

_HEADER = struct.Struct(">HII")  # tag, size of all, response code
_MAX_RESPONSE_BYTES = 4096  # TPM_PT_MAX_RESPONSE_SIZE in practice

_RC_SUCCESS = 0x000
_RC_LOCKOUT = 0x921
# TPM_RC_YIELDED, _CANCELED, _TESTING, _NV_RATE and _RETRY: the same command may yet succeed.
_TRANSIENT = frozenset((0x908, 0x909, 0x90A, 0x920, 0x922))
# The longest wait is for a self-test, which takes chips up to two seconds.
_MAX_ATTEMPTS = 12
_FIRST_DELAY_SECONDS, _MAX_DELAY_SECONDS = 0.01, 0.5


class TpmDevice:
    """A TPM behind a file descriptor; only `close` closes it, so several can be over one."""

    def __init__(self, fd: int) -> None:
        """Args: fd: open for reading and writing."""
        self._fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def transmit(self, command: bytes) -> bytes:
        """Send one command and return its successful reply.

        Raises:
            KernelError: the file could not be written or read.
            PeerError: `tpm.busy`, `tpm.lockout`, `tpm.refused` (with the response code),
                `tpm.closed` or `tpm.reply` (not a reply).
        """
        delay = _FIRST_DELAY_SECONDS
        for attempt in range(_MAX_ATTEMPTS):
            reply = self._exchange(command)
            code = self._response_code(reply)
            if code == _RC_SUCCESS:
                return reply
            if code == _RC_LOCKOUT:
                raise PeerError("tpm.lockout", "in dictionary attack lockout")
            if code not in _TRANSIENT:
                raise PeerError("tpm.refused", f"response code {code:#x}")
            if attempt + 1 < _MAX_ATTEMPTS:
                time.sleep(delay)
                delay = min(2 * delay, _MAX_DELAY_SECONDS)
        raise PeerError("tpm.busy", f"not ready after {_MAX_ATTEMPTS} attempts")

    def _exchange(self, command: bytes) -> bytes:
        try:
            written = os.write(self._fd, command)
        except OSError as error:
            raise kernel_error(error, "tpm_write", "tpm") from error
        if written != len(command):
            raise PeerError("tpm.closed", f"took {written} of {len(command)} bytes")
        reply = self._read()
        # The device returns a reply whole; a socket may return it in pieces.
        while len(reply) < _expected_bytes(reply):
            reply += self._read()
        return reply

    def _response_code(self, reply: bytes) -> int:
        _tag, size, code = _HEADER.unpack_from(reply)
        if size != len(reply):
            raise PeerError("tpm.reply", f"{len(reply)} bytes, its header says {size}")
        return int(code)

    def _read(self) -> bytes:
        try:
            data = os.read(self._fd, _MAX_RESPONSE_BYTES)
        except OSError as error:
            raise kernel_error(error, "tpm_read", "tpm") from error
        if not data:
            raise PeerError("tpm.closed", "ended within a reply")
        return data


def _expected_bytes(reply: bytes) -> int:
    """Return the length that the reply's header states, at most `_MAX_RESPONSE_BYTES`."""
    if len(reply) < _HEADER.size:
        return _HEADER.size
    return min(int.from_bytes(reply[2:6], "big"), _MAX_RESPONSE_BYTES)
