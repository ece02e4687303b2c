"""The launch digest of a guest under SEV-SNP that begins in an SVSM, loaded by QEMU as a file.

The launch measures the firmware, the SVSM, the pages that the SVSM lists, and one save area for
each processor, with the SVSM's entry. The SVSM is loaded below the firmware's variables, which are
not measured, but whose size decides its address. What the firmware boots is not measured either: it
shows in the vTPM that the SVSM gives the guest. So without PCRs the digest says nothing about an
image.

An SVSM in an IGVM file is measured as that file says; this module does not support it.

Specification: as `measured_boot.sev.launch`; COCONUT-SVSM, `stage1/svsm.h` and `stage1.S` (table,
"SVSM Info"), and its QEMU, branch `svsm-v8.0.0`, `target/i386/sev.c` (order, entry).
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ccinit.errors import ConfigError, FormatError
from measured_boot.image.ovmf import PAGE_BYTES, parse_footer_table
from measured_boot.sev.firmware import (
    PageKind,
    SevFirmware,
    SpecialPages,
    read_special_pages,
)
from measured_boot.sev.launch import LaunchDigest, Processors, SnpLaunch
from measured_boot.sev.vmsa import SNP_ACTIVE, encode_svsm_vmsa

_INFO: Final = UUID("a789a612-0597-4c4b-a49f-cbb1fe9d1ddd")
_IGVM_MAGIC: Final = b"IGVM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Svsm:
    """An SVSM's file as a launch sees it; made by `parse_svsm`.

    Attributes:
        data: the whole file.
        entry_offset: of its first instruction from its first byte.
        special_pages: in the order of the file.
    """

    data: bytes
    entry_offset: int
    special_pages: tuple[SpecialPages, ...]


def parse_svsm(data: bytes) -> Svsm:
    """Read what a launch needs from an SVSM's file.

    Raises:
        ConfigError: `svsm.igvm`: an IGVM file; `svsm.table`: no SVSM.
        FormatError: `svsm.entry`: outside the file; `svsm.pages`: none, or such as no SVSM has; or
            with a reason below `firmware`.
    """
    if data.startswith(_IGVM_MAGIC):
        raise ConfigError("svsm.igvm", "an IGVM file is measured by other rules, not known here")
    table = parse_footer_table(data)
    content = table.get(_INFO)
    if content is None:
        raise ConfigError("svsm.table", "this file names no entry of an SVSM")
    entry_offset = int.from_bytes(content[:4], "little")
    if len(content) < 4 or entry_offset >= len(data):
        raise FormatError("svsm.entry", "the entry is not inside the file")
    special_pages = read_special_pages(data, table)
    kinds = {pages.kind for pages in special_pages}
    if not {PageKind.SECRETS, PageKind.CPUID} <= kinds or PageKind.KERNEL_HASHES in kinds:
        raise FormatError("svsm.pages", "expected secrets and CPUID, and no kernel hashes")
    return Svsm(data=data, entry_offset=entry_offset, special_pages=special_pages)


def svsm_launch_digest(
    firmware: SevFirmware, svsm: Svsm, processors: Processors, variables_bytes: int
) -> LaunchDigest:
    """Return the digest that a report of SEV-SNP calls MEASUREMENT.

    Args:
        firmware: the file with its code alone, or whole.
        svsm: is loaded below.
        processors: have no feature but SEV-SNP.
        variables_bytes: size of the file of variables between both; 0 if there is none.

    Raises:
        ConfigError: `launch.firmware`: it cannot call an SVSM; `launch.features`;
            `launch.variables`: no whole pages, or no room is left.
    """
    if not any(pages.kind is PageKind.SVSM_CALLING_AREA for pages in firmware.special_pages):
        raise ConfigError("launch.firmware", "this firmware is not built to run under an SVSM")
    if processors.features != SNP_ACTIVE:
        raise ConfigError("launch.features", "a launch with an SVSM sets SEV_FEATURES to 1")
    address = firmware.address - variables_bytes - len(svsm.data)
    if variables_bytes < 0 or variables_bytes % PAGE_BYTES or address < 0:
        detail = f"{variables_bytes} bytes are not whole pages, or leave no place below them"
        raise ConfigError("launch.variables", detail)
    launch = SnpLaunch()
    launch.add_content(firmware.address, firmware.data)
    launch.add_content(address, svsm.data)
    for pages in svsm.special_pages:
        launch.add_listed(pages, b"")
    page = encode_svsm_vmsa(address + svsm.entry_offset, processors.signature)
    for _ in range(processors.count):
        launch.add_save_area(page)
    return launch.digest
