"""The kernel's log messages about a disk that does not keep what was written to it.

There are two kinds: a block that differs from what was written (dm-crypt, dm-verity), and a write
that was lost before it was acknowledged (buffer cache, ext4). The formats are those of Linux 6.12.
The kernel limits each of these messages to ten in five seconds for all disks together: one message
proves a fault, but their number means nothing.
"""

from enum import StrEnum

from ccinit.values import frozen


class FaultKind(StrEnum):
    """What happened, as an error's reason."""

    INTEGRITY = "integrity"
    LOST_WRITE = "lost_write"


@frozen
class DiskFault:
    """One line.

    Attributes:
        device: as the kernel names it: `dm-3`, or `253:3`.
    """

    kind: FaultKind
    device: str


_MAX_DEVICE_CHARACTERS = 32
_FORMS = (
    (FaultKind.INTEGRITY, "device-mapper: crypt: ", ": INTEGRITY AEAD ERROR, sector "),
    (FaultKind.INTEGRITY, "device-mapper: verity: ", ": data block "),
    (FaultKind.INTEGRITY, "device-mapper: verity: ", ": metadata block "),
    (FaultKind.LOST_WRITE, "Buffer I/O error on dev ", ", logical block "),
    (FaultKind.LOST_WRITE, "EXT4-fs warning (device ", "): ext4_end_bio:"),
    (FaultKind.LOST_WRITE, "EXT4-fs (", "): failed to convert unwritten extents to "),
    (FaultKind.LOST_WRITE, "EXT4-fs (", "): Delayed block allocation failed for inode "),
    # About ext4's own structures, or from its journal, which has two forms of the message. From
    # then on the file system accepts no changes and logs nothing more: the first of these lines is
    # the last.
    (FaultKind.LOST_WRITE, "EXT4-fs error (device ", "): "),
    (FaultKind.LOST_WRITE, "EXT4-fs error (device ", ") in "),
)
_STRAY = "trusted_key: "  # a prefix that dm-crypt inherits from a header about trusted keys
_BUFFER = "Buffer I/O error"
_LOST = ", lost "


def parse_disk_fault(text: bytes) -> DiskFault | None:
    """Return the fault that a record of the kernel's log is about; None for any other record."""
    line = text.partition(b"\n")[0].decode("ascii", "replace").removeprefix(_STRAY)
    for kind, before, after in _FORMS:
        if line.startswith(before):
            device, found, rest = line.removeprefix(before).partition(after)
            # A buffer that could not be *read* has another cause, and a line of its own.
            is_lost = not line.startswith(_BUFFER) or _LOST in rest
            if found and is_lost and _is_device(device):
                return DiskFault(kind=kind, device=device)
    return None


def _is_device(text: str) -> bool:
    return (
        0 < len(text) <= _MAX_DEVICE_CHARACTERS and text.replace(":", "").replace("-", "").isalnum()
    )
