"""Events that every boot path has: firmware's own, and those of the kernel's EFI entry.

What comes between them belongs to the path: `measured_boot.tpm.stub`,
`measured_boot.tpm.direct_boot`.

Specification: TCG PC Client Platform Firmware Profile 1.06, section 3.3.4.5 (PCR 4); Linux,
`drivers/firmware/efi/libstub/efi-stub-helper.c` and `initrd.c` (PCR 9).
"""

from collections.abc import Iterable
from typing import Final

from measured_boot.image.pe import PeImage
from measured_boot.tpm.pcr import Event, EventDigest, EventKind, WideDigest, measure

APPLICATIONS: Final = 4
"""The register of programs that firmware has started."""

KERNEL_INPUTS: Final = 9
"""The register of what the kernel was given: command line, then initrd."""

BOOT_ATTEMPT: Final = measure(
    APPLICATIONS,
    EventKind.ACTION,
    (b"Calling EFI Application from Boot Option",),
    "firmware tries a boot option",
)

SEPARATOR: Final = measure(
    APPLICATIONS, EventKind.SEPARATOR, (bytes(4),), "end of firmware's own events"
)

_BOOT_CONFIGURATION: Final = 5
EXITS: Final = tuple(
    measure(_BOOT_CONFIGURATION, EventKind.ACTION, (text.encode("ascii"),), text)
    for text in ("Exit Boot Services Invocation", "Exit Boot Services Returned with Success")
)
"""The kernel takes over. It is measured into PCR 5, which a TPM's prediction leaves out, since a
disk's partition table is measured into it, too."""


def measure_application(image: PeImage, subject: str) -> Event:
    """Return the event of firmware that loads a program."""
    return Event(
        register=APPLICATIONS,
        kind=EventKind.BOOT_SERVICES_APPLICATION,
        digest=EventDigest(image.authenticode()),
        wide_digest=WideDigest(image.authenticode("sha384")),
        subject=subject,
    )


def measure_kernel_inputs(
    command_line: str, initrd: Iterable[bytes | memoryview]
) -> tuple[Event, Event]:
    """Return the two events of the kernel's EFI entry.

    Args:
        command_line: as the kernel's entry is given it, ASCII.
        initrd: all bytes of the initrd that it loads, in pieces.
    """
    line = f"{command_line}\0".encode("utf-16-le")
    return (
        measure(KERNEL_INPUTS, EventKind.TAG, (line,), "command line"),
        measure(KERNEL_INPUTS, EventKind.TAG, initrd, "initrd as the kernel gets it"),
    )
