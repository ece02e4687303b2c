"""Whether an OVMF file has the code that compares a direct boot with the table of its hashes.

That it reserves a place for the table proves nothing: there are builds of OvmfPkgX64 that do
(Debian's 2026.08, for one), and then boot whatever they are given. The launch of such a build has
the very digest of one that checks, so it has to be told apart here.

The code finds the three entries by their GUIDs, so it holds them. It is in a firmware volume, which
EDK2 compresses with LZMA.

Specification: UEFI Platform Initialization 1.8, volume 3, 2.1.4 and 3.2.5.7 (sections with a GUID);
EDK2, `OvmfPkg/AmdSev/BlobVerifierLibSevHashes`, `MdeModulePkg/Library/LzmaCustomDecompressLib`.
"""

import lzma
from collections.abc import Iterator
from functools import lru_cache
from typing import Final
from uuid import UUID

from measured_boot.sev.kernel_hashes import ENTRIES

_LZMA: Final = UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf").bytes_le
_GUIDED: Final = 2  # the type of a section that begins with a GUID
_SHORT_HEADER: Final = 4  # size (3 bytes) and type, then the GUID
_LONG_HEADER: Final = 8  # as above with a size of all ones, then the real one
_MAX_SECTIONS: Final = 16
_MAX_PLAIN_BYTES: Final = 64 << 20
_MAX_MEMORY_BYTES: Final = 128 << 20


@lru_cache(maxsize=1)  # one file is predicted for many machines
def has_blob_verifier(data: bytes) -> bool:
    """Whether a firmware file, as it lies there or decompressed, holds the GUID of each entry."""
    return any(
        all(entry.bytes_le in content for entry in ENTRIES) for content in _contents_of(data)
    )


def _contents_of(data: bytes) -> Iterator[bytes]:
    yield data
    at = -1
    for _ in range(_MAX_SECTIONS):
        at = data.find(_LZMA, at + 1)
        if at < 0:
            return
        for header in (_SHORT_HEADER, _LONG_HEADER):
            start = at - header
            if start >= 0 and data[start + _SHORT_HEADER - 1] == _GUIDED:
                offset = int.from_bytes(data[at + len(_LZMA) :][:2], "little")
                yield _decompress(data[start + offset :])


def _decompress(data: bytes) -> bytes:
    """Return what a section holds, b"" if it is none that was compressed so."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MAX_MEMORY_BYTES)
    try:
        return decompressor.decompress(data, _MAX_PLAIN_BYTES)
    except (lzma.LZMAError, EOFError):
        return b""
