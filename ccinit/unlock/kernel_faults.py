"""What the kernel's log says about a disk that does not keep what it was given.

Two kinds: a block that is not what was written (dm-crypt, dm-verity), and a write that was
acknowledged to nobody and is lost (buffer cache, ext4). Forms of Linux 6.12. Each of these lines is
rate-limited by the kernel, ten in five seconds for all disks together: that there is one proves a
fault, how many there are proves nothing.
"""

from enum import StrEnum

from ccinit.values import frozen


class FaultKind(StrEnum):
    """What happened, as reasons of errors have it."""

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
    # Of its own structures, or by its journal, which has two ways to say so. It takes no change
    # from here on, and says no more: the first of these lines is the last.
    (FaultKind.LOST_WRITE, "EXT4-fs error (device ", "): "),
    (FaultKind.LOST_WRITE, "EXT4-fs error (device ", ") in "),
)
_STRAY = "trusted_key: "  # what dm-crypt inherits from a header of the keys that it can use
_BUFFER = "Buffer I/O error"
_LOST = ", lost "


def parse_disk_fault(text: bytes) -> DiskFault | None:
    """Return the fault that a record of the kernel's log is about; None for any other record."""
    line = text.partition(b"\n")[0].decode("ascii", "replace").removeprefix(_STRAY)
    for kind, before, after in _FORMS:
        if line.startswith(before):
            device, found, rest = line.removeprefix(before).partition(after)
            # A buffer that could not be *read* has its own cause, and its own line.
            is_lost = not line.startswith(_BUFFER) or _LOST in rest
            if found and is_lost and _is_device(device):
                return DiskFault(kind=kind, device=device)
    return None


def _is_device(text: str) -> bool:
    return (
        0 < len(text) <= _MAX_DEVICE_CHARACTERS and text.replace(":", "").replace("-", "").isalnum()
    )
