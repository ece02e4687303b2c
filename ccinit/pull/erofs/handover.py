"""How an image's files change hands between the children of a pull.

Each child has a user of its own. Once a child has ended, PID 1 gives its files to the next one, so
that nobody can change what another has checked.
"""

import os
import stat
from collections.abc import Sequence

from ccinit.errors import VerificationError
from ccinit.kernel.libc import kernel_error

_SEALED_MODE = 0o400
_SHARED_MODE = 0o1730  # sticky: only a file's owner may rename or remove it


def give_directory(directory: str, uid: int) -> None:
    """Give the directory to a user who alone may enter it.

    Raises:
        KernelError: the kernel refused.
    """
    try:
        os.chown(directory, uid, uid)
        os.chmod(directory, 0o700)
    except OSError as error:
        raise kernel_error(error, "chown", directory) from error


def share_directory(directory: str, uid: int) -> None:
    """Let a user add files to a directory of PID 1's; it can neither list nor replace others.

    Raises:
        KernelError: the kernel refused.
    """
    try:
        os.chown(directory, os.geteuid(), uid)
        os.chmod(directory, _SHARED_MODE)
    except OSError as error:
        raise kernel_error(error, "chown", directory) from error


def hand_over(directory: str, names: Sequence[str], uid: int) -> None:
    """Give the directory and files in it to another user; to PID 1's, they are sealed, too.

    Raises:
        VerificationError: `pull.file`, one is no plain file, or has a second name.
        KernelError: the kernel refused.
    """
    mode = _SEALED_MODE if uid == os.geteuid() else 0o600
    give_directory(directory, uid)
    for name in names:
        path = os.path.join(directory, name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise kernel_error(error, "open", path) from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise VerificationError("pull.file", f"{name} is no plain file")
            os.fchown(fd, uid, uid)
            os.fchmod(fd, mode)
        except OSError as error:
            raise kernel_error(error, "fchown", path) from error
        finally:
            os.close(fd)
