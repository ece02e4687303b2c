"""Kernels as far as the builder looks into them: an ELF file, and a bzImage around one.

Its names are the functions of its type information, and the words that it knows in two arrays.
"""

import struct
from collections.abc import Sequence

import zstandard

_SETUP_SECTORS = 3
_OFFSET = 76
_BASE = 0xFFFF_FFFF_8100_0000
_DATA = 0xFFFF_FFFF_8200_0000
_ELF_BYTES = 64 + 3 * 56
_ALIGNMENT = 8
SETUPS = ("console=", "quiet", "initcall_blacklist=")
PARAMETERS = ("initcall_debug", "panic")
CODE = _BASE + 16
"""An address of a function."""

Beside = tuple[str, int, int]
BESIDE = ("", 7, 7)


def bzimage(code: bytes, packed: bytes | None = None) -> bytes:
    """Return a kernel as it is booted; `packed` stands in the place of the compressed code."""
    payload = zstandard.compress(code) if packed is None else packed
    payload += struct.pack("<I", len(code))
    setup = bytearray((_SETUP_SECTORS + 1) * 512)
    setup[0x1F1] = _SETUP_SECTORS
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, _OFFSET, len(payload))
    return bytes(setup) + bytes(_OFFSET) + payload + b"behind it"


def kernel_elf(
    functions: Sequence[str] = (),
    *,
    setups: Sequence[str] = SETUPS,
    parameters: Sequence[str] = PARAMETERS,
    beside: Beside = BESIDE,
) -> bytes:
    """Return a kernel's code: all names and, in another segment, two arrays of words.

    Args:
        functions: as type information has them.
        setups: words that functions of the kernel handle, those with a value ending in `=`.
        parameters: words that set a variable.
        beside: what is no element of an array, but lies around each: one of the names, two numbers.
    """
    text, places = b"\0", {}
    for name in (*functions, *setups, *parameters):
        places[name] = _BASE + len(text)
        text += name.encode() + b"\0"
    text = text.ljust(-(-len(text) // _ALIGNMENT) * _ALIGNMENT, b"\0")
    neither = struct.pack("<QQQ", places.get(beside[0], _BASE), *beside[1:])
    handled = b"".join(
        struct.pack("<QQQ", places[name], _BASE + index, index % 2)
        for index, name in enumerate(setups)
    )
    set_ = b"".join(
        struct.pack("<QQQQQ", places[name], 0, _BASE + 1, 0, _BASE + 2) for name in parameters
    )
    arrays = neither + handled + neither + set_ + neither + neither
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, _BASE, 64, 0, 0, 64, 56, 3, 0, 0, 0
    )
    segments = (
        _segment(4, _ELF_BYTES, _BASE - 1, len(text)),  # a note, which is not loaded
        _segment(1, _ELF_BYTES, _BASE, len(text)),
        _segment(1, _ELF_BYTES + len(text), _DATA, len(arrays)),
    )
    return header + b"".join(segments) + text + arrays


def _segment(kind: int, offset: int, address: int, size: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, 5, offset, address, 0, size, size, 4096)
