"""The rollback anchor of a persistent volume: one number in the volume, one with the KBS.

Theory of operation. The KBS holds k; the volume holds v, in a file of the guest's own that the
volume's tags authenticate. Both are advanced by one when the volume is opened, and again when it is
closed: v first, and the volume has reached the disk before the KBS is told. So after a crash
between the two steps, v is k + 1; nothing else that the guest does leaves v and k different.

    open    v = k or v = k + 1, else refused; v becomes k + 1, then k does
    close   v becomes k + 1; unmounted, flushed; then k becomes v

A volume without the file has v = 0, which is accepted only while the KBS's counter has never
advanced. So a blank disk in place of a used volume is refused even under the grant to create one.

A volume that its pod has filled must still accept a number, or nobody could open it again to free
space. So from the first number on, a second file reserves space for the next: overwriting it needs
no new block or inode. It is then renamed over the counter, and a new spare is made while only the
guest uses the volume, so that it gets the space which the old file leaves.

PID 1 reads the file itself: at most 32 bytes, which the tags have authenticated under the owner's
key, and which must be decimal digits.

Limits. Until the KBS is told of a newer close, every state since the last opening that it was told
of is accepted. And only a *whole* old disk is detected: the counter's blocks are protected like all
others, so a host that restores old blocks everywhere else goes unnoticed.
"""

import errno
import os
from contextlib import suppress

from ccinit.errors import VerificationError
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import kernel_error

FILE = "rollback-counter"
SPARE = "rollback-counter.new"
MAX_COUNTER = 2**53 - 2
_MAX_FILE_BYTES = 32


def verify_counter(name: str, found: int, anchored: int) -> None:
    """Accept a volume that is no older than the KBS's counter says.

    Args:
        name: of the volume.
        found: the volume's number.
        anchored: the KBS's.

    Raises:
        VerificationError: `volume.rollback`, an old state of the disk; `volume.counter_ahead`, the
            KBS has lost an advance that it was told of.
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
    """Return the number in the guest's own directory on a volume, 0 if there is none.

    Raises:
        VerificationError: `volume.counter`, something else is there.
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
    """Replace the number; on return it is safely on the disk.

    Raises:
        KernelError: it may not be; the old one may still be there.
    """
    path, spare, content = f"{directory}/{FILE}", f"{directory}/{SPARE}", b"%d\n" % counter
    try:
        _write_and_sync(spare, content)
        os.replace(spare, path)  # no pathlib in the guest
        with Descriptor(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
            os.fsync(fd)
    except OSError as error:
        raise kernel_error(error, "write", FILE) from error
    with suppress(OSError):  # the number is written; at worst the next one needs free space
        _write_and_sync(spare, content)


def _write_and_sync(path: str, data: bytes) -> None:
    """Overwrite in place: without O_TRUNC the file keeps its blocks, and needs no free one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with Descriptor(os.open(path, flags, 0o600)) as fd:
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, "cut short")
        os.ftruncate(fd, len(data))
        os.fsync(fd)
