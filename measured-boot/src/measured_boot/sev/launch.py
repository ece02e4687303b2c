"""The launch digest of a guest of QEMU under SEV, SEV-ES or SEV-SNP.

SEV-SNP chains one record for each page in the order in which QEMU adds them: firmware, the special
pages that firmware lists, one save area for each processor. SEV and SEV-ES hash what is encrypted:
firmware, the table of kernel hashes, and for SEV-ES the save areas. The digest therefore depends on
firmware, features, and number and model of processors, so a table of values is published, never a
single one.

Without kernel hashes only a guest's firmware is measured, whatever it then boots. So `hashes` is
not optional here.

Specification: AMD SEV-SNP Firmware ABI 56860, section 8.17.2 (SNP_LAUNCH_UPDATE, PAGE_INFO);
SEV API 55766, section 6.3 (LAUNCH_UPDATE_DATA) and 6.4 (LAUNCH_UPDATE_VMSA); QEMU 10,
`target/i386/sev.c` (order).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NewType, assert_never

from ccinit.errors import ConfigError
from measured_boot.image.ovmf import PAGE_BYTES
from measured_boot.sev.blob_verifier import has_blob_verifier
from measured_boot.sev.cpu_models import CpuSignature
from measured_boot.sev.firmware import PageKind, SevFirmware, SpecialPages
from measured_boot.sev.kernel_hashes import TABLE_BYTES, KernelHashes
from measured_boot.sev.vmsa import BOOT_PROCESSOR_ENTRY, SNP_ACTIVE, encode_vmsa

LaunchDigest = NewType("LaunchDigest", bytes)
"""SHA-384, 48 bytes, for SEV-SNP; SHA-256, 32 bytes, for SEV and SEV-ES."""

MAX_PROCESSORS: Final = 512
MAX_FEATURES: Final = (1 << 64) - 1
_DIGEST_BYTES: Final = 48
_NOTHING: Final = bytes(_DIGEST_BYTES)
_PAGE_INFO_BYTES: Final = 0x70
_NORMAL, _SAVE_AREA, _ZERO, _SECRETS, _CPUID = 1, 2, 3, 5, 6
# All bits that the processor's reverse map table can hold of the address -1.
_SAVE_AREA_ADDRESS: Final = 0xFFFFFFFFF000


@dataclass(frozen=True, slots=True, kw_only=True)
class Processors:
    """The guest's processors.

    Attributes:
        count: at least 1.
        signature: of their model.
        features: SEV_FEATURES of SEV-SNP, for which bit 0 is set; SEV-ES has none.
    """

    count: int
    signature: CpuSignature
    features: int = SNP_ACTIVE

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_PROCESSORS:
            raise ConfigError("launch.vcpus", f"expected 1 to {MAX_PROCESSORS} processors")
        if not 0 <= self.features <= MAX_FEATURES or not self.features & SNP_ACTIVE:
            raise ConfigError("launch.features", "SEV_FEATURES has 64 bits, and bit 0 is set")


class SnpLaunch:
    """The digest of an SEV-SNP launch while pages are added to it."""

    def __init__(self) -> None:
        self.digest = LaunchDigest(_NOTHING)

    def add_content(self, address: int, data: bytes) -> None:
        """Measure whole pages with their content."""
        view = memoryview(data)
        for offset in range(0, len(data), PAGE_BYTES):
            content = hashlib.sha384(view[offset : offset + PAGE_BYTES]).digest()
            self._extend(_NORMAL, address + offset, content)

    def add_save_area(self, page: bytes) -> None:
        """Measure the save area of one processor."""
        self._extend(_SAVE_AREA, _SAVE_AREA_ADDRESS, hashlib.sha384(page).digest())

    def add_special(self, kind: int, address: int, size: int) -> None:
        """Measure that pages are of a kind whose content the security processor decides."""
        for offset in range(0, size, PAGE_BYTES):
            self._extend(kind, address + offset, _NOTHING)

    def add_listed(self, pages: SpecialPages, hash_page: bytes) -> None:
        """Measure pages that firmware lists; `hash_page` is what those for kernel hashes hold."""
        match pages.kind:
            case PageKind.MEMORY | PageKind.SVSM_CALLING_AREA:
                self.add_special(_ZERO, pages.address, pages.size)
            case PageKind.SECRETS:
                self.add_special(_SECRETS, pages.address, pages.size)
            case PageKind.CPUID:
                self.add_special(_CPUID, pages.address, pages.size)
            case PageKind.KERNEL_HASHES:
                self.add_content(pages.address, hash_page)
            case _:
                assert_never(pages.kind)

    def _extend(self, kind: int, address: int, content: bytes) -> None:
        # PAGE_INFO: after the two digests its length, the kind, no migration image, and no rights
        # for the three lower privilege levels.
        fields = _PAGE_INFO_BYTES.to_bytes(2, "little") + bytes((kind, 0, 0, 0, 0, 0))
        page_info = self.digest + content + fields + address.to_bytes(8, "little")
        self.digest = LaunchDigest(hashlib.sha384(page_info).digest())


def snp_launch_digest(
    firmware: SevFirmware, processors: Processors, hashes: KernelHashes
) -> LaunchDigest:
    """Return the digest that a report of SEV-SNP calls MEASUREMENT.

    Raises:
        ConfigError: `launch.firmware`: not built for SEV-SNP; `launch.kernel_hashes`: it takes no
            hashes, or does not look at them, so it would boot whatever it is given;
            `launch.reset_address`.
    """
    hash_area = require_snp(firmware)
    launch = SnpLaunch()
    launch.add_content(firmware.address, firmware.data)
    for pages in firmware.special_pages:
        launch.add_listed(pages, _hash_page(pages, hash_area, hashes))
    for page in _save_areas(firmware, processors, processors.features):
        launch.add_save_area(page)
    return launch.digest


def require_snp(firmware: SevFirmware) -> int:
    """Return the address of the hash area of firmware that can boot a measured kernel.

    Raises:
        ConfigError: `launch.firmware`, `launch.kernel_hashes`, as `snp_launch_digest`.
    """
    if not firmware.special_pages:
        raise ConfigError("launch.firmware", "this firmware is not built for SEV-SNP")
    if not firmware.has_hash_page:
        raise _no_hashes()
    return _require_hashes(firmware)


def _require_hashes(firmware: SevFirmware) -> int:
    if firmware.hash_area is None or not has_blob_verifier(firmware.data):
        raise _no_hashes()
    return firmware.hash_area


def sev_es_launch_digest(
    firmware: SevFirmware, processors: Processors, hashes: KernelHashes
) -> LaunchDigest:
    """Return what the launch measurement of SEV-ES is a keyed hash of.

    Raises:
        ConfigError: `launch.kernel_hashes`, `launch.reset_address`.
    """
    return _hash_encrypted(firmware, hashes, *_save_areas(firmware, processors, 0))


def sev_launch_digest(firmware: SevFirmware, hashes: KernelHashes) -> LaunchDigest:
    """Return what the launch measurement of SEV is a keyed hash of.

    Raises:
        ConfigError: `launch.kernel_hashes`.
    """
    return _hash_encrypted(firmware, hashes)


def _hash_encrypted(firmware: SevFirmware, hashes: KernelHashes, *pages: bytes) -> LaunchDigest:
    _require_hashes(firmware)
    digest = hashlib.sha256(firmware.data)
    for content in (hashes.to_bytes(), *pages):
        digest.update(content)
    return LaunchDigest(digest.digest())


def _hash_page(pages: SpecialPages, hash_area: int, hashes: KernelHashes) -> bytes:
    """Return the page with the table where firmware looks for it; empty for other kinds."""
    if pages.kind is not PageKind.KERNEL_HASHES:
        return b""
    offset = hash_area - pages.address
    if pages.size != PAGE_BYTES or not 0 <= offset <= PAGE_BYTES - TABLE_BYTES:
        raise ConfigError("launch.kernel_hashes", "the hash area is not inside its page")
    return (bytes(offset) + hashes.to_bytes()).ljust(PAGE_BYTES, b"\0")


def _save_areas(firmware: SevFirmware, processors: Processors, features: int) -> Iterator[bytes]:
    yield encode_vmsa(BOOT_PROCESSOR_ENTRY, processors.signature, features)
    if processors.count == 1:
        return
    if firmware.reset_address is None:
        raise ConfigError("launch.reset_address", "firmware names no entry for more processors")
    page = encode_vmsa(firmware.reset_address, processors.signature, features)
    for _ in range(processors.count - 1):
        yield page


def _no_hashes() -> ConfigError:
    return ConfigError(
        "launch.kernel_hashes",
        "this firmware checks no kernel, initrd or command line (Debian's OVMF does not): give one"
        " that is built from EDK2's OvmfPkg/AmdSev",
    )
