"""The only module that loads libc, and the one that turns errno into `KernelError`."""

import ctypes
import os

from ccinit.errors import KernelError

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def check(result: int, operation: str, target: str = "") -> int:
    """Return `result`, or raise `KernelError` with the current errno if it is negative."""
    if result < 0:
        raise KernelError(ctypes.get_errno(), operation, target)
    return result


def syscall(
    number: int, *arguments: int | bytes | bytearray | None, operation: str, target: str = ""
) -> int:
    """Call system call `number` (x86-64 numbering); buffers are passed as pointers.

    The kernel may write to a `bytearray`, but only read `bytes`.

    Raises:
        KernelError: the kernel refused; `operation` and `target` name what was tried.
    """
    converted = tuple(_convert(value) for value in arguments)
    return check(int(libc.syscall(ctypes.c_long(number), *converted)), operation, target)


def _convert(value: int | bytes | bytearray | None) -> object:
    match value:
        case None:
            return ctypes.c_void_p(None)
        case bytes():
            return value
        case bytearray():
            return (ctypes.c_char * len(value)).from_buffer(value)
        case _:
            return ctypes.c_long(value)


def open_path(path: str, flags: int, operation: str = "open") -> int:
    """Open a file, for its owner alone if it is made; the descriptor is closed on exec.

    Raises:
        KernelError: `kernel.<operation>`.
    """
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise kernel_error(error, operation, path) from error


def make_new_directory(path: str, mode: int) -> None:
    """Make a directory that must not exist, with exactly `mode`.

    Raises:
        KernelError: `kernel.mkdir`.
    """
    try:
        os.mkdir(path, 0o700)
        if mode != 0o700:  # our umask takes away what others may do
            os.chmod(path, mode)
    except OSError as error:
        raise kernel_error(error, "mkdir", path) from error


def kernel_error(error: OSError, operation: str, target: str = "") -> KernelError:
    """Wrap an `OSError` of the standard library."""
    return KernelError(error.errno or 0, operation, target or os.fspath(error.filename or ""))
