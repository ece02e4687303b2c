"""Read the header of an image for IBM Secure Execution: what a verifier of its evidence is given.

The digests in it cover encrypted pages, their addresses and their tweaks; the tag authenticates the
header, and evidence names an image by it. The keys are random unless given, so the input is the
header of a finished image, and nothing is predicted. No such machine was at hand, so the result is
unverified, and not used in reference values or policies.

Specification: s390-tools, `genprotimg` (`pv_hdr_def.h`); numbers are big-endian.
"""

import struct
from dataclasses import dataclass
from typing import Final, NewType

from ccinit.errors import FormatError, LimitExceededError

HeaderTag = NewType("HeaderTag", bytes)
"""AES-256-GCM tag of the header, 16 bytes."""

MAX_HEADER_BYTES: Final = 2 * 4096  # of version 1
_FIXED: Final = struct.Struct(">8sII12s4xQQQQ160s64s64s64s")
_MAGIC: Final = b"IBMSecEx"
_VERSION: Final = 0x100
_SLOT: Final = struct.Struct(">32s32s16s")  # hash of a host's key, wrapped key, tag
_TAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureExecutionHeader:
    """The fields of a header that identify its image.

    Attributes:
        host_key_hashes: SHA-256 of each host key that can start it.
        page_digest, address_digest, tweak_digest: SHA-512 (PLD, ALD, TLD).
        tag: of the whole header.
    """

    host_key_hashes: tuple[bytes, ...]
    page_digest: bytes
    address_digest: bytes
    tweak_digest: bytes
    tag: HeaderTag


def parse_se_header(data: bytes) -> SecureExecutionHeader:
    """Return the parts of a header file.

    Raises:
        FormatError: `se_header.magic`, `se_header.version`, `se_header.length`.
    """
    if len(data) > MAX_HEADER_BYTES:
        raise LimitExceededError("se_header.length", f"more than {MAX_HEADER_BYTES} bytes")
    if len(data) < _FIXED.size:
        detail = f"expected {_FIXED.size} bytes or more, found {len(data)}"
        raise FormatError("se_header.length", detail)
    magic, version, size, _, slots, encrypted, _, _, _, *digests = _FIXED.unpack_from(data)
    if magic != _MAGIC:
        raise FormatError("se_header.magic", "not a header for Secure Execution")
    if version != _VERSION:
        raise FormatError(
            "se_header.version", f"expected version {_VERSION:#x}, found {version:#x}"
        )
    if size != len(data) or size != _FIXED.size + slots * _SLOT.size + encrypted + _TAG_BYTES:
        raise FormatError("se_header.length", f"{slots} key slots in {len(data)} bytes")
    rows = _SLOT.iter_unpack(data[_FIXED.size : _FIXED.size + slots * _SLOT.size])
    page_digest, address_digest, tweak_digest = digests
    return SecureExecutionHeader(
        host_key_hashes=tuple(row[0] for row in rows),
        page_digest=page_digest,
        address_digest=address_digest,
        tweak_digest=tweak_digest,
        tag=HeaderTag(data[-_TAG_BYTES:]),
    )
