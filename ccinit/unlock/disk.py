"""Whether a disk can hold a volume at all, whatever is on it: asked before any read or write."""

from ccinit.errors import ConfigError, VerificationError
from ccinit.formats.disk.integrity import BLOCK_BYTES
from ccinit.kernel.block import BlockDevice, read_size_bytes


def check_disk(name: str, disk: BlockDevice) -> None:
    """Accept a disk that can be written, has whole blocks, and is as large as when it was listed.

    Args:
        name: of its volume, as the errors have it.
        disk: whose content does not matter.

    Raises:
        ConfigError: `disk.read_only`, `disk.size`.
        VerificationError: `disk.changed`.
        KernelError: it cannot be opened.
    """
    if disk.read_only:
        raise ConfigError("disk.read_only", f"{name} cannot be written")
    if disk.size_bytes <= 0 or disk.size_bytes % BLOCK_BYTES:
        raise ConfigError("disk.size", f"{name} has {disk.size_bytes} bytes: not whole blocks")
    if read_size_bytes(disk.node) != disk.size_bytes:
        raise VerificationError("disk.changed", f"{name} has another size than it had")
