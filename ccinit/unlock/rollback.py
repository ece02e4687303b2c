"""The rollback anchor of a persistent volume: one number in the volume, one with the KBS.

Theory of operation. The KBS holds k, the volume holds v, in a file of the guest's own that the
volume's tags authenticate. Both grow by one when the volume is opened and by one when it is closed;
the volume's first, and what is in it has reached the disk before the KBS is told. So after a crash
between the two, v is k + 1; nothing else that the guest does leaves v and k apart.

    open    v = k or v = k + 1, else refused; v becomes k + 1, then k does
    close   v becomes k + 1; unmounted, flushed; then k becomes v

A volume without the file has v = 0, which only a KBS that has never counted accepts: so a blank
disk in the place of a volume that was used is refused even under the grant to create one.

A volume that its pod has filled up must still take a number, or nobody could open it again to make
room. So a second file holds the place of the next number from the first one on: what is written
over it takes no block and no inode. It is renamed over the file that counts, and another takes its
place while nobody but the guest uses the volume, so that the room which the old one leaves is ours.

PID 1 reads the file itself: at most 32 bytes, which the tags have authenticated under the owner's
key, and which have to be decimal digits.

What is accepted although it is old, as long as the KBS was not told of a newer close: every state
since the last opening that it was told of. And only a *whole* old disk is recognised: the blocks of
the file themselves are protected like all others, and a host that puts back old blocks everywhere
but there is not noticed.
"""

import errno
import os
from contextlib import suppress

from ccinit.errors import VerificationError
from ccinit.kernel.libc import kernel_error

FILE = "rollback-counter"
SPARE = "rollback-counter.new"
MAX_COUNTER = 2**53 - 2
_MAX_FILE_BYTES = 32


def verify_counter(name: str, found: int, anchored: int) -> None:
    """Accept a volume that is not older than the KBS knows.

    Args:
        name: of the volume.
        found: the volume's number.
        anchored: the KBS's.

    Raises:
        VerificationError: `volume.rollback`, an old state of the disk; `volume.counter_ahead`, the
            KBS has forgotten what it was told.
    """
    if found < anchored:
        raise VerificationError(
            "volume.rollback", f"{name} is at {found}, the KBS at {anchored}: an old state"
        )
    if found > anchored + 1:
        raise VerificationError(
            "volume.counter_ahead", f"{name} is at {found}, the KBS only at {anchored}"
        )


def read_counter(directory: str) -> int:
    """Return the number in a volume's own directory, 0 without one.

    Raises:
        VerificationError: `volume.counter`, there is something else.
        KernelError: it cannot be read.
    """
    path = f"{directory}/{FILE}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise kernel_error(error, "open", FILE) from error
    try:
        text = os.read(fd, _MAX_FILE_BYTES + 1)
    except OSError as error:
        raise kernel_error(error, "read", FILE) from error
    finally:
        os.close(fd)
    digits = text.removesuffix(b"\n")
    if not digits.isdigit() or len(text) > _MAX_FILE_BYTES or not 0 < int(digits) <= MAX_COUNTER:
        raise VerificationError("volume.counter", f"{FILE} holds no number")
    return int(digits)


def write_counter(directory: str, counter: int) -> None:
    """Replace the number; on return it is on the disk, whatever happens then.

    Raises:
        KernelError: it is not; the old one may be.
    """
    path, spare, content = f"{directory}/{FILE}", f"{directory}/{SPARE}", b"%d\n" % counter
    try:
        _write_and_sync(spare, content)
        os.replace(spare, path)  # no pathlib in the guest
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise kernel_error(error, "write", FILE) from error
    with suppress(OSError):  # the number is written; the next one would need room, no more
        _write_and_sync(spare, content)


def _write_and_sync(path: str, data: bytes) -> None:
    """Write over what is there, whose blocks are kept: without O_TRUNC none has to be found."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, "cut short")
        os.ftruncate(fd, len(data))
        os.fsync(fd)
    finally:
        os.close(fd)
