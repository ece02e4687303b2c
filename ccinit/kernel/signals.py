"""Signals as something to wait for: blocked, and read from a signalfd.

A blocked signal never runs a handler or ends the process, so nobody inside the guest can stop PID 1
by a signal (the kernel itself keeps SIGKILL and SIGSTOP from PID 1). Children are spawned with
nothing blocked.
"""

import ctypes
import os
import signal
from collections.abc import Iterable

from ccinit.kernel.event_loop import readable
from ccinit.kernel.libc import check, kernel_error, libc

RECORD_BYTES = 128  # struct signalfd_siginfo; the first u32 is the number
SFD_CLOEXEC = 0o2000000
SFD_NONBLOCK = 0o4000
SIGSET_BYTES = 128  # glibc's sigset_t
RECORDS_AT_ONCE = 32

ALL_SIGNALS = frozenset(signal.valid_signals())


def block_signals() -> None:
    """Block every signal; a fault of the process itself still ends it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)


class SignalSource:
    """A signalfd. The signals it shows must be blocked."""

    def __init__(self, signals: Iterable[int]) -> None:
        mask = bytearray(SIGSET_BYTES)
        for number in signals:
            mask[(number - 1) // 8] |= 1 << (number - 1) % 8
        buffer = (ctypes.c_char * SIGSET_BYTES).from_buffer(mask)
        self._fd = check(libc.signalfd(-1, buffer, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd")

    def close(self) -> None:
        """Close the fd; the signals stay blocked."""
        os.close(self._fd)

    def read(self) -> tuple[int, ...]:
        """Return the numbers that have arrived; several of one kind may have become one."""
        try:
            data = os.read(self._fd, RECORDS_AT_ONCE * RECORD_BYTES)
        except BlockingIOError:
            return ()
        except OSError as error:
            raise kernel_error(error, "read", "signalfd") from error
        return tuple(
            int.from_bytes(data[start : start + 4], "little")
            for start in range(0, len(data), RECORD_BYTES)
        )

    async def next(self) -> tuple[int, ...]:
        """Wait for signals; return their numbers.

        Other tasks run first even if signals have arrived: somebody who repeatedly stops and
        continues a child of ours causes one each time, and must not keep PID 1 from everything
        else.
        """
        while True:
            await readable(self._fd)
            if numbers := self.read():
                return numbers
