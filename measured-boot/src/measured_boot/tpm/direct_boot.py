"""What a direct boot measures: QEMU gives kernel, initrd and command line to OVMF.

From QEMU 10 and OVMF 2025.02 on, firmware gets the kernel's file unchanged. Older pairs measure a
copy whose boot header QEMU has filled in, which depends on the guest's memory; that is not
predicted here. There is no UKI, so PCR 11 stays zero. A UKI in the kernel's place is refused, since
it would measure its own sections, command line and initrd.

Specification: QEMU, `hw/i386/x86-common.c` (named blobs `etc/boot/…`); EDK2,
`OvmfPkg/QemuKernelLoaderFsDxe` and `GenericQemuLoadImageLib`.
"""

from typing import Final

from ccinit.errors import FormatError
from measured_boot.image.pe import PeImage
from measured_boot.tpm.boot_events import (
    BOOT_ATTEMPT,
    SEPARATOR,
    measure_application,
    measure_kernel_inputs,
)
from measured_boot.tpm.direct_line import FIRMWARE_SUFFIX, line_of_kernel
from measured_boot.tpm.pcr import Event

_STUB_SECTIONS: Final = (".linux", ".sdmagic")


def predict_direct_boot(kernel: PeImage, initrd: bytes, command_line: str) -> tuple[Event, ...]:
    """Return the events of PCR 4 and 9.

    Args:
        kernel: a bzImage with EFI entry.
        initrd: what QEMU is given, not empty.
        command_line: what QEMU is given; `FIRMWARE_SUFFIX` must not be part of it.

    Raises:
        FormatError: `direct.kernel`: a UKI or another stub of systemd; `direct.command_line`,
            `direct.initrd`.
    """
    if any(kernel.has_section(name) for name in _STUB_SECTIONS):
        raise FormatError("direct.kernel", "this is a UKI, not a kernel: a disk boots it")
    if not initrd:
        raise FormatError("direct.initrd", "the initrd is empty")
    if not command_line.isascii() or not command_line.isprintable() or not command_line:
        raise FormatError(
            "direct.command_line", "the command line is not printable ASCII on one line"
        )
    if command_line.endswith(FIRMWARE_SUFFIX):
        raise FormatError(
            "direct.command_line", f"the command line: leave{FIRMWARE_SUFFIX} to firmware"
        )
    return (
        measure_application(kernel, "kernel"),  # loaded before firmware tries any boot option
        BOOT_ATTEMPT,
        SEPARATOR,
        *measure_kernel_inputs(line_of_kernel(command_line), (initrd,)),
    )
