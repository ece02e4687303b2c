"""Load kernel modules. Stage 0 has the list of which, and in which order."""

import os

from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import open_path, syscall

MODULE_INIT_COMPRESSED_FILE = 4
NR_FINIT_MODULE = 313


def load_module(path: str, parameters: str = "") -> None:
    """Load the module file at `path`, compressed (any suffix after `.ko`) or not.

    Raises:
        KernelError: no such file, or the kernel refused it (EEXIST: already loaded).
    """
    flags = 0 if path.endswith(".ko") else MODULE_INIT_COMPRESSED_FILE
    with Descriptor(open_path(path, os.O_RDONLY, "finit_module")) as fd:
        # c_char_p ends with a zero byte of its own, which the kernel needs.
        syscall(
            NR_FINIT_MODULE, fd, parameters.encode(), flags, operation="finit_module", target=path
        )
