"""The command line of a direct boot: what QEMU is given, and what the kernel is given.

Separate from the measurements of such a boot (`measured_boot.tpm.direct_boot`), since images depend
on this line but not on those.

Specification: EDK2 2025.02, `OvmfPkg/Library/GenericQemuLoadImageLib`.
"""

from typing import Final

FIRMWARE_SUFFIX: Final = " initrd=initrd"
"""What OVMF adds to the command line when there is an initrd."""


def line_of_kernel(line: str) -> str:
    """Return what /proc/cmdline has if QEMU is given `line` and an initrd."""
    return line + FIRMWARE_SUFFIX
