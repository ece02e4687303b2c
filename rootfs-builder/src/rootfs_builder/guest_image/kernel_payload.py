"""Find the kernel proper, a compressed ELF file, in the file that is booted.

Specification: Linux `Documentation/arch/x86/boot.rst` (`payload_offset`, `payload_length`).
"""

import struct
from typing import Final

from ccinit.errors import ConfigError

_SETUP_SECTORS: Final = 0x1F1
_MAGIC: Final = slice(0x202, 0x206)
_PAYLOAD: Final = 0x248
_SECTOR: Final = 512
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SIZE_BYTES: Final = 4  # behind what is compressed, its length before


def find_payload(kernel: bytes) -> bytes:
    """Return what a bzImage unpacks and jumps into: one zstd frame.

    Raises:
        ConfigError: `kernel.functions`, it is no bzImage, or not compressed with zstd.
    """
    if kernel[_MAGIC] != b"HdrS" or len(kernel) < _PAYLOAD + 8:
        raise ConfigError("kernel.functions", "this kernel is not a bzImage")
    offset, length = struct.unpack_from("<II", kernel, _PAYLOAD)
    start = (kernel[_SETUP_SECTORS] + 1) * _SECTOR + offset
    payload = kernel[start : start + length]
    if not payload.startswith(_ZSTD):
        detail = "this kernel is not compressed with zstd (CONFIG_KERNEL_ZSTD)"
        raise ConfigError("kernel.functions", detail)
    return payload[:-_SIZE_BYTES]
