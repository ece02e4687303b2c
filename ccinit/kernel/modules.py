"""Load kernel modules. Stage 0 has the list of which, and in which order."""

import os

from ccinit.kernel.libc import kernel_error, syscall

MODULE_INIT_COMPRESSED_FILE = 4
NR_FINIT_MODULE = 313


def load_module(path: str, parameters: str = "") -> None:
    """Load the module file at `path`, compressed (any suffix after `.ko`) or not.

    Raises:
        KernelError: no such file, or the kernel refused it (EEXIST: already loaded).
    """
    flags = 0 if path.endswith(".ko") else MODULE_INIT_COMPRESSED_FILE
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise kernel_error(error, "finit_module", path) from error
    try:
        # c_char_p ends with a zero byte of its own, which the kernel needs.
        syscall(
            NR_FINIT_MODULE, fd, parameters.encode(), flags, operation="finit_module", target=path
        )
    finally:
        os.close(fd)
