"""Random bytes from the kernel, once the CPU has seeded its generator.

Nothing that the host offers is credited as entropy (by the command line). A generator that is not
ready is never read, only waited for.
"""

import os

from ccinit.kernel.event_loop import sleep
from ccinit.kernel.libc import kernel_error

POLL_SECONDS = 0.05  # getrandom(2) has no fd to wait on


def is_ready() -> bool:
    """Return whether the generator has its seed.

    Raises:
        KernelError: `kernel.getrandom`.
    """
    try:
        os.getrandom(1, os.GRND_NONBLOCK)
    except BlockingIOError:
        return False
    except OSError as error:
        raise kernel_error(error, "getrandom") from error
    return True


async def wait_for_entropy() -> None:
    """Return when the generator has its seed; put a deadline around this."""
    while not is_ready():
        await sleep(POLL_SECONDS)


def random_bytes(count: int) -> bytes:
    """Return `count` (at most 256) random bytes.

    Raises:
        KernelError: `kernel.getrandom`, EAGAIN before the generator is ready.
    """
    if not 0 < count <= 256:  # up to here the kernel never returns fewer than asked for
        raise RuntimeError(f"{count} random bytes at once")
    try:
        return os.getrandom(count, os.GRND_NONBLOCK)
    except OSError as error:
        raise kernel_error(error, "getrandom") from error
