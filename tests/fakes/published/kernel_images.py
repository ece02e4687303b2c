"""Kernels as far as the builder looks into them: a bzImage around an ELF file.

Its names are the functions of its type information, and the words that it knows in two arrays.
"""

import struct
from collections.abc import Sequence

import zstandard

_SETUP_SECTORS = 3
_OFFSET = 76
_BASE = 0xFFFF_FFFF_8100_0000
_ELF_BYTES = 64 + 56
_ALIGNMENT = 8
SETUPS = ("console=", "quiet", "initcall_blacklist=")
PARAMETERS = ("initcall_debug", "panic")
CODE = _BASE + 16
"""An address of a function."""

Beside = tuple[str, int, int]
BESIDE = ("", 7, 7)


def bzimage(
    functions: tuple[str, ...],
    *,
    setups: Sequence[str] = SETUPS,
    parameters: Sequence[str] = PARAMETERS,
    beside: Beside = BESIDE,
    packed: bytes | None = None,
) -> bytes:
    """Return a kernel that has these functions.

    Args:
        functions: as type information has them.
        setups: words that functions of the kernel handle, those with a value ending in `=`.
        parameters: words that set a variable.
        beside: what is no element of an array, but lies around each: one of the names, two numbers.
        packed: what stands in the place of the compressed code.
    """
    code = kernel_elf(functions, setups, parameters, beside)
    payload = zstandard.compress(code) if packed is None else packed
    payload += struct.pack("<I", len(code))
    setup = bytearray((_SETUP_SECTORS + 1) * 512)
    setup[0x1F1] = _SETUP_SECTORS
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, _OFFSET, len(payload))
    return bytes(setup) + bytes(_OFFSET) + payload + b"behind it"


def kernel_elf(
    functions: Sequence[str],
    setups: Sequence[str],
    parameters: Sequence[str],
    beside: Beside = BESIDE,
) -> bytes:
    """Return one segment: all names, then the arrays, with what is no element around each."""
    names = (*functions, *setups, *parameters)
    text, places = b"\0", {}
    for name in names:
        places[name] = _BASE + _ELF_BYTES + len(text)
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
    content = text + neither + handled + neither + set_ + neither + neither
    size = _ELF_BYTES + len(content)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, _BASE, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, 0, size, size, 4096)
    return header + segment + content
