"""Kernels as far as the builder looks into them: a bzImage around strings."""

import struct

import zstandard

_SETUP_SECTORS = 3
_OFFSET = 76


def bzimage(functions: tuple[str, ...], *, packed: bytes | None = None) -> bytes:
    """Return a kernel that has these functions.

    Args:
        functions: as type information has them.
        packed: what stands in the place of the compressed code.
    """
    code = b"\0" + b"".join(name.encode() + b"\0" for name in functions)
    payload = zstandard.compress(code) if packed is None else packed
    payload += struct.pack("<I", len(code))
    setup = bytearray((_SETUP_SECTORS + 1) * 512)
    setup[0x1F1] = _SETUP_SECTORS
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, _OFFSET, len(payload))
    return bytes(setup) + bytes(_OFFSET) + payload + b"behind it"
