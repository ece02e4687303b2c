"""Events that every boot path has: firmware's own, and those of the kernel's EFI entry.

What comes between them belongs to the path: `measured_boot.stub`, `measured_boot.direct_boot`.

Specification: TCG PC Client Platform Firmware Profile 1.06, section 3.3.4.5 (PCR 4); Linux,
`drivers/firmware/efi/libstub/efi-stub-helper.c` and `initrd.c` (PCR 9).
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from measured_boot.pcr import Event, EventDigest, EventKind, digest_of
from measured_boot.pe import PeImage

APPLICATIONS: Final = 4
"""The register of programs that firmware has started."""

KERNEL_INPUTS: Final = 9
"""The register of what the kernel was given: command line, then initrd."""

BOOT_ATTEMPT: Final = Event(
    register=APPLICATIONS,
    kind=EventKind.ACTION,
    digest=digest_of(b"Calling EFI Application from Boot Option"),
    subject="firmware tries a boot option",
)

SEPARATOR: Final = Event(
    register=APPLICATIONS,
    kind=EventKind.SEPARATOR,
    digest=digest_of(bytes(4)),
    subject="end of firmware's own events",
)


def measure_application(image: PeImage, subject: str) -> Event:
    """Return the event of firmware that loads a program."""
    return Event(
        register=APPLICATIONS,
        kind=EventKind.BOOT_SERVICES_APPLICATION,
        digest=EventDigest(image.authenticode()),
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
    digest = hashlib.sha256()
    for piece in initrd:
        digest.update(piece)
    return (
        Event(
            register=KERNEL_INPUTS,
            kind=EventKind.TAG,
            digest=digest_of(f"{command_line}\0".encode("utf-16-le")),
            subject="command line",
        ),
        Event(
            register=KERNEL_INPUTS,
            kind=EventKind.TAG,
            digest=EventDigest(digest.digest()),
            subject="initrd as the kernel gets it",
        ),
    )
