"""MRTD: the measurement of how a trust domain was built from its firmware.

It is one SHA-384 over a record for each page that is added and, for each 256 bytes of a measured
page, a record and these bytes. The host chooses the order; Linux measures each page right after
adding it. Never compared with a quote of real hardware: see `measured_boot.platforms`.

Specification: Intel TDX Module Base Architecture 348549, section 12.2 (measurement of a domain);
ABI 348551, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND; Linux, `arch/x86/kvm/vmx/tdx.c`
(`tdx_gmem_post_populate`, order).
"""

import hashlib
from collections.abc import Iterable
from typing import Final, NewType

from measured_boot.image.ovmf import PAGE_BYTES
from measured_boot.tdx.firmware import TdxSection

BuildMeasurement = NewType("BuildMeasurement", bytes)
"""MRTD: SHA-384, 48 bytes."""

_CHUNK_BYTES: Final = 256
_RECORD_BYTES: Final = 128
_NAME_BYTES: Final = 16


def measure_build(sections: Iterable[TdxSection]) -> BuildMeasurement:
    """Return MRTD of a domain built from these sections, in their order."""
    digest = hashlib.sha384()
    for section in sections:
        if section.is_added_later:
            continue
        for offset in range(0, section.size, PAGE_BYTES):
            digest.update(_record(b"MEM.PAGE.ADD", section.address + offset))
            if section.is_measured:
                page = section.content[offset : offset + PAGE_BYTES].ljust(PAGE_BYTES, b"\0")
                digest.update(_measure_page(section.address + offset, page))
    return BuildMeasurement(digest.digest())


def _measure_page(address: int, page: bytes) -> bytes:
    return b"".join(
        _record(b"MR.EXTEND", address + offset) + page[offset : offset + _CHUNK_BYTES]
        for offset in range(0, PAGE_BYTES, _CHUNK_BYTES)
    )


def _record(name: bytes, address: int) -> bytes:
    return (name.ljust(_NAME_BYTES, b"\0") + address.to_bytes(8, "little")).ljust(
        _RECORD_BYTES, b"\0"
    )
