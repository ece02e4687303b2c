"""The save area with which a processor of a guest begins, one page, measured by SEV-ES and SEV-SNP.

With QEMU under KVM it is the state after a reset, except for the entry point, which firmware names
for all processors but the first. Under an SVSM all processors begin in the SVSM, in protected mode
with flat segments.

Specification: AMD64 Architecture Programmer's Manual 24593, volume 2, table B-4 (offsets) and
section 14.1.3 (state after reset); Linux, `arch/x86/kvm/svm/sev.c` (`sev_es_sync_vmsa`). For an
SVSM: COCONUT-SVSM's QEMU, branch `svsm-v8.0.0`, as `sev-snp-measure` 0.0.13 reproduces it.
"""

import struct
from collections.abc import Mapping
from typing import Final

from measured_boot.image.ovmf import PAGE_BYTES
from measured_boot.sev.cpu_models import CpuSignature

BOOT_PROCESSOR_ENTRY: Final = 0xFFFFFFF0
SNP_ACTIVE: Final = 0x1
"""Bit of SEV_FEATURES that every guest of SEV-SNP has."""

_SEGMENT: Final = struct.Struct("<HHIQ")  # selector, attributes, limit, base
_SEGMENT_LIMIT: Final = 0xFFFF
_FLAT_LIMIT: Final = 0xFFFFFFFF
_ES, _CS, _SS, _DS, _FS, _GS = 0x00, 0x10, 0x20, 0x30, 0x40, 0x50
# GDTR and IDTR, which have no attributes; then LDTR and TR.
_SYSTEM_SEGMENTS: Final = ((0x60, 0x00), (0x80, 0x00), (0x70, 0x82), (0x90, 0x8B))
_REGISTERS: Final = (
    (0x0D0, 0x1000),  # EFER: SVME, set by KVM
    (0x148, 0x40),  # CR4: MCE, set by KVM
    (0x160, 0x400),  # DR7
    (0x168, 0xFFFF0FF0),  # DR6
    (0x170, 0x2),  # RFLAGS
    (0x268, 0x0007040600070406),  # PAT
    (0x3E8, 0x1),  # XCR0
    (0x408, 0x1F80),  # MXCSR, 4 bytes, and two empty registers of 2 bytes
)
_CR0: Final = 0x158
_RIP: Final = 0x178
_RDX: Final = 0x310
_SEV_FEATURES: Final = 0x3B0
_X87_CONTROL: Final = 0x410  # 2 bytes


def encode_vmsa(entry: int, signature: CpuSignature, sev_features: int) -> bytes:
    """Return the page of one processor.

    Args:
        entry: address of its first instruction, below 4 GiB.
        signature: of its model.
        sev_features: SEV_FEATURES; 0 for SEV-ES.
    """
    data = (0, 0x93, _SEGMENT_LIMIT, 0)
    segments = dict.fromkeys((_ES, _SS, _DS, _FS, _GS), data)
    segments[_CS] = (0xF000, 0x9B, _SEGMENT_LIMIT, entry & 0xFFFF0000)
    registers = {
        _CR0: 0x10,
        _RIP: entry & 0xFFFF,
        _RDX: signature,
        _SEV_FEATURES: sev_features,
        _X87_CONTROL: 0x37F,
    }
    return _encode_page(segments, registers)


def encode_svsm_vmsa(entry: int, signature: CpuSignature) -> bytes:
    """Return the page of any processor that begins in an SVSM.

    The x87 control word stays zero: that kernel left it out, and so do the digests that were read
    from hardware.

    Args:
        entry: address of the SVSM's first instruction, below 4 GiB.
        signature: of the processor's model.
    """
    data = (0x10, 0xC93, _FLAT_LIMIT, 0)
    segments = dict.fromkeys((_ES, _SS, _DS, _FS), data)
    segments[_CS] = (0x08, 0xC9B, _FLAT_LIMIT, 0)
    segments[_GS] = (0, 0x93, _SEGMENT_LIMIT, 0)
    registers = {_CR0: 0x11, _RIP: entry, _RDX: signature, _SEV_FEATURES: SNP_ACTIVE}
    return _encode_page(segments, registers)


def _encode_page(
    segments: Mapping[int, tuple[int, int, int, int]], registers: Mapping[int, int]
) -> bytes:
    page = bytearray(PAGE_BYTES)
    for offset, attributes in _SYSTEM_SEGMENTS:
        _SEGMENT.pack_into(page, offset, 0, attributes, _SEGMENT_LIMIT, 0)
    for offset, segment in segments.items():
        _SEGMENT.pack_into(page, offset, *segment)
    for offset, value in (*_REGISTERS, *registers.items()):
        struct.pack_into("<Q", page, offset, value)
    return bytes(page)
