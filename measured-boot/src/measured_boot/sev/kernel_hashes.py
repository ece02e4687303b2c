"""The table by which firmware under SEV checks kernel, initrd and command line of a direct boot.

QEMU writes it (`kernel-hashes=on`) into a page that the launch measures; firmware with a blob
verifier compares what it is then given. So the launch digest covers all three.

Specification: QEMU, `target/i386/sev.c` (`PaddedSevHashTable`); EDK2,
`OvmfPkg/AmdSev/BlobVerifierLibSevHashes`.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, NewType
from uuid import UUID

from ccinit.errors import FormatError

FileDigest = NewType("FileDigest", bytes)
"""SHA-256 of one boot file as QEMU is given it, 32 bytes."""

TABLE_BYTES: Final = 176
_TABLE: Final = UUID("9438d606-4f22-4cc9-b479-a793d411fd21")
_COMMAND_LINE: Final = UUID("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
_INITRD: Final = UUID("44baf731-3a2f-4bd7-9af1-41e29169781d")
_KERNEL: Final = UUID("4de79437-abd2-427f-b835-d5b172d2045b")
ENTRIES: Final = (_COMMAND_LINE, _INITRD, _KERNEL)
_GUID_BYTES: Final = 16
_LENGTH_BYTES: Final = 2
_ALIGNMENT: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelHashes:
    """Digests of what QEMU hands over; made by `hash_kernel_files`."""

    kernel: FileDigest
    initrd: FileDigest
    command_line: FileDigest

    def to_bytes(self) -> bytes:
        """Return the table, padded to 16 bytes."""
        entries = (
            _encode(_COMMAND_LINE, self.command_line)
            + _encode(_INITRD, self.initrd)
            + _encode(_KERNEL, self.kernel)
        )
        table = _encode(_TABLE, entries)
        return table + bytes(-len(table) % _ALIGNMENT)


def hash_kernel_files(kernel: bytes, initrd: bytes, command_line: str) -> KernelHashes:
    """Return the digests of three boot files.

    Args:
        kernel: the file, signature included.
        initrd: the file; empty if there is none.
        command_line: as QEMU is given it; firmware's additions are not hashed.

    Raises:
        FormatError: `sev.command_line`: not printable ASCII.
    """
    if not command_line.isascii() or (command_line and not command_line.isprintable()):
        raise FormatError("sev.command_line", "expected printable ASCII on one line")
    return KernelHashes(
        kernel=_hash(kernel),
        initrd=_hash(initrd),
        command_line=_hash(command_line.encode("ascii") + b"\0"),
    )


def _hash(data: bytes) -> FileDigest:
    return FileDigest(hashlib.sha256(data).digest())


def _encode(guid: UUID, content: bytes) -> bytes:
    length = _GUID_BYTES + _LENGTH_BYTES + len(content)
    return guid.bytes_le + length.to_bytes(_LENGTH_BYTES, "little") + content
