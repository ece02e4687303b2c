"""TPM 2.0 commands for non-volatile indexes, as bytes and frozen values.

GetCapability of handles, NV_ReadPublic, NV_Read, NV_Write and NV_DefineSpace (TPM 2.0 Library, part
3, sections 30.2, 31.6, 31.13, 31.7 and 31.3), with the owner's empty authorization: a paravisor's
TPM keeps its report there. `ccinit.formats.tcg.tpm_commands` has the commands as calls.
"""

import struct
from enum import IntFlag

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.tcg.tpm2_frames import (
    EMPTY_AUTHORIZATION,
    TAG_NO_SESSIONS,
    TAG_SESSIONS,
    Reader,
    encode_command,
    open_response,
    open_sessions,
)

MAX_CHUNK_BYTES = 1024
"""Of one read or write; in practice MAX_NV_BUFFER_SIZE is not smaller."""

MAX_INDEX_BYTES = 16 * 1024
MAX_HANDLES = 254  # TPML_HANDLE in a reply of 1024 bytes

_OWNER = 0x40000001  # TPM_RH_OWNER
_CAP_HANDLES = 1
_NV_INDEX_FIRST = 0x01000000
_SHA256 = 0x000B


class NvAttribute(IntFlag):
    """TPMA_NV (part 2, section 13.4), the ones that are used here."""

    OWNER_WRITE = 1 << 1
    OWNER_READ = 1 << 17
    NO_DA = 1 << 25


def encode_list_nv_indexes() -> bytes:
    """Encode TPM2_GetCapability for the first handles of the NV range."""
    return encode_command(
        TAG_NO_SESSIONS, 0x17A, struct.pack(">III", _CAP_HANDLES, _NV_INDEX_FIRST, MAX_HANDLES)
    )


def parse_list_nv_indexes(response: bytes) -> tuple[int, ...]:
    """Read its reply.

    Raises:
        LimitExceededError: `tpm2.handles`, there are more than the reply holds.
        FormatError: `tpm2.…`.
    """
    reader = open_response(response, TAG_NO_SESSIONS)
    more = reader.take(1)[0]
    if reader.u32() != _CAP_HANDLES:
        raise FormatError("tpm2.capability", "the reply is about another capability")
    count = reader.u32()
    if more or count > MAX_HANDLES:
        raise LimitExceededError("tpm2.handles", f"more than {MAX_HANDLES} NV indexes")
    handles = tuple(reader.u32() for _ in range(count))
    reader.end()
    return handles


def encode_nv_read_public(index: int) -> bytes:
    """Encode TPM2_NV_ReadPublic."""
    return encode_command(TAG_NO_SESSIONS, 0x169, struct.pack(">I", index))


def parse_nv_size(response: bytes) -> int:
    """Read its reply; return the index's size in bytes, at most `MAX_INDEX_BYTES`."""
    outer = open_response(response, TAG_NO_SESSIONS)
    public = Reader(outer.sized())
    outer.sized()  # the name: there is nothing to compare it with
    outer.end()
    public.take(4 + 2 + 4)  # the index, its name's hash, its attributes
    public.sized()  # authPolicy
    size_bytes = public.u16()
    public.end()
    if size_bytes > MAX_INDEX_BYTES:
        raise LimitExceededError(
            "tpm2.nv_size", f"expected at most {MAX_INDEX_BYTES} bytes, found {size_bytes}"
        )
    return size_bytes


def encode_nv_read(index: int, size_bytes: int, offset: int) -> bytes:
    """Encode TPM2_NV_Read of at most `MAX_CHUNK_BYTES`."""
    return encode_command(
        TAG_SESSIONS,
        0x14E,
        struct.pack(">II", _OWNER, index)
        + EMPTY_AUTHORIZATION
        + struct.pack(">HH", size_bytes, offset),
    )


def parse_nv_read(response: bytes, size_bytes: int) -> bytes:
    """Read its reply, which must have exactly `size_bytes` of data."""
    parameters = open_sessions(response)
    data = parameters.sized()
    parameters.end()
    if len(data) != size_bytes:
        raise FormatError("tpm2.nv_data", f"{len(data)} bytes, asked for {size_bytes}")
    return data


def encode_nv_write(index: int, data: bytes) -> bytes:
    """Encode TPM2_NV_Write of at most `MAX_CHUNK_BYTES`, from the beginning of the index."""
    return encode_command(
        TAG_SESSIONS,
        0x137,
        struct.pack(">II", _OWNER, index)
        + EMPTY_AUTHORIZATION
        + struct.pack(">H", len(data))
        + data
        + struct.pack(">H", 0),
    )


def encode_nv_define(index: int, size_bytes: int) -> bytes:
    """Encode TPM2_NV_DefineSpace: an ordinary index that the owner reads and writes."""
    attributes = NvAttribute.OWNER_WRITE | NvAttribute.OWNER_READ | NvAttribute.NO_DA
    public = struct.pack(">IHIHH", index, _SHA256, attributes, 0, size_bytes)
    return encode_command(
        TAG_SESSIONS,
        0x12A,
        struct.pack(">I", _OWNER)
        + EMPTY_AUTHORIZATION
        + struct.pack(">HH", 0, len(public))
        + public,
    )


def parse_nv_done(response: bytes) -> None:
    """Check the reply of NV_Write or NV_DefineSpace, which has no parameters."""
    open_sessions(response).end()
