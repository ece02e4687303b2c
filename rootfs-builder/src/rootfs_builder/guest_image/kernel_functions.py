"""Whether a kernel has the functions that its command line keeps from starting.

The kernel silently ignores an unknown name in `initcall_blacklist=`, and the driver in question
starts. Since a newer kernel may have renamed a driver's function, the builder checks.

Specification: Linux `Documentation/bpf/btf.rst`: a kernel with type information has the name of
each function among its strings, between two zero bytes.
"""

from typing import Final

from ccinit.errors import ConfigError
from rootfs_builder.guest_image.kernel_modules import (
    INITCALL_BLACKLIST,
    LEFT_OUT_DRIVERS,
    functions_left_out,
    names_of_modules,
)

_ALWAYS_THERE: Final = "do_one_initcall"


def require_functions(code: bytes, modules_builtin: str, command_line: str) -> None:
    """Refuse a command line that leaves out a function which this kernel does not have.

    A known driver that is not built in has no such function, and needs none.

    Args:
        code: the kernel's ELF file.
        modules_builtin: the file of this name.
        command_line: without our own words.

    Raises:
        ConfigError: `kernel.functions`, there is no telling which functions it has;
            `cmdline.initcall`, one of those named is not among them.
    """
    built_in = names_of_modules(modules_builtin)
    absent = {name for module, name in LEFT_OUT_DRIVERS.items() if module not in built_in}
    wanted = sorted(functions_left_out(command_line) - absent)
    if not wanted:
        return
    if not _has(code, _ALWAYS_THERE):
        detail = "this kernel has no type information (CONFIG_DEBUG_INFO_BTF)"
        raise ConfigError("kernel.functions", detail)
    if missing := [name for name in wanted if not _has(code, name)]:
        detail = f"{INITCALL_BLACKLIST} names {', '.join(missing)}, which this kernel does not have"
        raise ConfigError("cmdline.initcall", f"{detail}: what was meant would start")


def _has(code: bytes, function: str) -> bool:
    return b"\0" + function.encode() + b"\0" in code
