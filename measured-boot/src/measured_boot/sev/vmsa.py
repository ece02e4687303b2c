"""The save area with which a processor of a guest begins, one page, measured by SEV-ES and SEV-SNP.

QEMU under KVM: the state of a reset, but for the entry point, which firmware names for all
processors other than the first.

Specification: AMD64 Architecture Programmer's Manual 24593, volume 2, table B-4 (offsets) and
section 14.1.3 (state after reset); Linux, `arch/x86/kvm/svm/sev.c` (`sev_es_sync_vmsa`).
"""

import struct
from typing import Final

from measured_boot.ovmf import PAGE_BYTES
from measured_boot.sev.cpu_models import CpuSignature

BOOT_PROCESSOR_ENTRY: Final = 0xFFFFFFF0
SNP_ACTIVE: Final = 0x1
"""Bit of SEV_FEATURES that every guest of SEV-SNP has."""

_SEGMENT: Final = struct.Struct("<HHIQ")  # selector, attributes, limit, base
_SEGMENT_LIMIT: Final = 0xFFFF
_CODE_SELECTOR: Final = 0xF000
_CODE_ATTRIBUTES: Final = 0x9B
_CODE_OFFSET: Final = 0x10
# ES, SS, DS, FS, GS; then GDTR and IDTR, which have none; then LDTR and TR.
_OTHER_SEGMENTS: Final = (
    *((offset, 0x93) for offset in (0x00, 0x20, 0x30, 0x40, 0x50)),
    *((0x60, 0x00), (0x80, 0x00)),
    *((0x70, 0x82), (0x90, 0x8B)),
)
_REGISTERS: Final = (
    (0x0D0, 0x1000),  # EFER: SVME, set by KVM
    (0x148, 0x40),  # CR4: MCE, set by KVM
    (0x158, 0x10),  # CR0
    (0x160, 0x400),  # DR7
    (0x168, 0xFFFF0FF0),  # DR6
    (0x170, 0x2),  # RFLAGS
    (0x268, 0x0007040600070406),  # PAT
    (0x3E8, 0x1),  # XCR0
    (0x408, 0x1F80),  # MXCSR, 4 bytes, and two empty registers of 2 bytes
    (0x410, 0x37F),  # x87 control word, 2 bytes
)
_RIP: Final = 0x178
_RDX: Final = 0x310
_SEV_FEATURES: Final = 0x3B0


def encode_vmsa(entry: int, signature: CpuSignature, sev_features: int) -> bytes:
    """Return the page of one processor.

    Args:
        entry: address of its first instruction, below 4 GiB.
        signature: of its model.
        sev_features: SEV_FEATURES; 0 for SEV-ES.
    """
    page = bytearray(PAGE_BYTES)
    for offset, attributes in _OTHER_SEGMENTS:
        _SEGMENT.pack_into(page, offset, 0, attributes, _SEGMENT_LIMIT, 0)
    code = (_CODE_SELECTOR, _CODE_ATTRIBUTES, _SEGMENT_LIMIT, entry & 0xFFFF0000)
    _SEGMENT.pack_into(page, _CODE_OFFSET, *code)
    entries = ((_RIP, entry & 0xFFFF), (_RDX, signature), (_SEV_FEATURES, sev_features))
    for offset, value in (*_REGISTERS, *entries):
        struct.pack_into("<Q", page, offset, value)
    return bytes(page)
