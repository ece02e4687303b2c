"""How an image's files change owners between the children of a pull.

Each child has a user of its own. Once one has checked a file, PID 1 takes it over: later children
may read it, and none can change it any more.
"""

import os
import stat
from collections.abc import Sequence

from ccinit.errors import VerificationError
from ccinit.kernel.libc import kernel_error, open_path

_PRIVATE_MODE = 0o700
_SHARED_MODE = 0o1730  # sticky: only a file's owner may rename or remove it
_SEALED_MODE, _LENT_MODE = 0o400, 0o440


def seal(directory: str, names: Sequence[str]) -> None:
    """Give a directory and files in it to PID 1, readable by it alone and writable by nobody.

    Raises:
        VerificationError: `pull.file`, one is not a plain file, or has a second name.
        KernelError: the kernel refused.
    """
    _change_directory(directory, os.geteuid(), _PRIVATE_MODE)
    _change_files(directory, names, os.geteuid(), _SEALED_MODE)


def lend(directory: str, names: Sequence[str], uid: int) -> None:
    """Let a user read PID 1's files and add others; raises as `seal`, and see `share_directory`."""
    share_directory(directory, uid)
    _change_files(directory, names, uid, _LENT_MODE)


def share_directory(directory: str, uid: int) -> None:
    """Let a user add files to a directory of PID 1; it can neither list nor replace others.

    Raises:
        KernelError: the kernel refused.
    """
    _change_directory(directory, uid, _SHARED_MODE)


def _change_directory(directory: str, gid: int, mode: int) -> None:
    try:
        os.chown(directory, os.geteuid(), gid)
        os.chmod(directory, mode)
    except OSError as error:
        raise kernel_error(error, "chown", directory) from error


def _change_files(directory: str, names: Sequence[str], gid: int, mode: int) -> None:
    for name in names:
        path = os.path.join(directory, name)
        fd = open_path(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise VerificationError("pull.file", f"{name} is not a plain file")
            os.fchown(fd, os.geteuid(), gid)
            os.fchmod(fd, mode)
        except OSError as error:
            raise kernel_error(error, "fchown", path) from error
        finally:
            os.close(fd)
