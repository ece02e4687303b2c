"""Read PE/COFF images as UEFI firmware does, and compute the hash that it measures.

Headers, section table, Authenticode hash. Only what firmware itself would load is accepted, and
every offset is checked against the file before use. `measured_boot.tpm.stub` interprets the
sections of a UKI; nothing here verifies a signature.

Specification: Microsoft, PE Format; Windows Authenticode Portable Executable Signature Format; and
for the places where firmware differs (no padding to 8 bytes), EDK2's `MeasureBootPeCoff.c`.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from ccinit.errors import FormatError, LimitExceededError

MAX_IMAGE_BYTES: Final = 1 << 30
MAX_SECTIONS: Final = 96

_MACHINE_X86_64: Final = 0x8664
_MAGIC_PE32_PLUS: Final = 0x20B
_DOS_HEADER_BYTES: Final = 64
_FILE_HEADER: Final = struct.Struct("<4sHHIIIHH")  # with the "PE\0\0" in front of it
_SECTION: Final = struct.Struct("<8sIIIIIIHHI")
# Offsets in the optional header of a PE32+ image.
_SIZE_OF_HEADERS: Final = 60
_CHECKSUM: Final = 64
_DIRECTORY_COUNT: Final = 108
_DIRECTORIES: Final = 112
_DIRECTORY_BYTES: Final = 8
_MAX_DIRECTORIES: Final = 16
_SECURITY_DIRECTORY: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PeSection:
    """One row of the section table.

    Attributes:
        virtual_size: bytes that the section has in memory.
        raw_offset: where its content begins in the file.
        raw_size: bytes that it takes in the file, which is more (padding) or less (zeros follow).
    """

    name: str
    virtual_size: int
    raw_offset: int
    raw_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeImage:
    """A file whose headers have been checked; made by `parse_pe`.

    Attributes:
        data: the whole file.
        sections: in the order of the section table.
        headers_size: bytes in front of the first section, the checked headers among them.
        checksum_offset: of the 4 bytes that no hash covers.
        security_offset: of the 8-byte certificate entry that no hash covers, if there is one.
        certificates_size: bytes at the end of the file that no hash covers.
    """

    data: bytes
    sections: tuple[PeSection, ...]
    headers_size: int
    checksum_offset: int
    security_offset: int | None
    certificates_size: int

    def has_section(self, name: str) -> bool:
        """Whether the image has a section of this name."""
        return any(section.name == name for section in self.sections)

    def section(self, name: str) -> memoryview:
        """Return a section as it is in memory, without the file's padding.

        Raises:
            FormatError: `pe.section.missing`; `pe.section.short`: a part of it is not in the file.
        """
        for section in self.sections:
            if section.name == name:
                if section.virtual_size > section.raw_size:
                    raise FormatError("pe.section.short", f"{name} is not wholly in the file")
                end = section.raw_offset + section.virtual_size
                return memoryview(self.data)[section.raw_offset : end]
        raise FormatError("pe.section.missing", f"no section {name}")

    def authenticode(self, algorithm: str = "sha256") -> bytes:
        """Return the hash by which firmware measures this image.

        It leaves out checksum, certificate entry and certificates.

        Args:
            algorithm: `sha256`, or `sha384` as under TDX.
        """
        data = memoryview(self.data)
        digest = hashlib.new(algorithm, data[: self.checksum_offset])
        position = self.checksum_offset + 4
        if self.security_offset is not None:
            digest.update(data[position : self.security_offset])
            position = self.security_offset + _DIRECTORY_BYTES
        digest.update(data[position : self.headers_size])
        hashed = self.headers_size
        for section in sorted(self.sections, key=lambda section: section.raw_offset):
            digest.update(data[section.raw_offset : section.raw_offset + section.raw_size])
            hashed += section.raw_size
        # What follows the sections, by count: firmware does not look where the last one ends.
        digest.update(data[hashed : len(data) - self.certificates_size])
        return digest.digest()


def parse_pe(data: bytes) -> PeImage:
    """Check the headers of an x86-64 image.

    Raises:
        FormatError: with a reason below `pe`.
    """
    if len(data) > MAX_IMAGE_BYTES:
        raise LimitExceededError("pe.length", f"more than {MAX_IMAGE_BYTES} bytes")
    if len(data) < _DOS_HEADER_BYTES or not data.startswith(b"MZ"):
        raise FormatError("pe.magic", "not an EFI program: no DOS header")
    (header,) = struct.unpack_from("<I", data, _DOS_HEADER_BYTES - 4)
    _require_inside(data, header, _FILE_HEADER.size, "pe.header")
    signature, machine, count, _, _, _, optional_size, _ = _FILE_HEADER.unpack_from(data, header)
    if signature != b"PE\0\0":
        raise FormatError("pe.magic", "not an EFI program: no PE header")
    if machine != _MACHINE_X86_64:
        raise FormatError("pe.machine", f"machine {machine:#06x} is not x86-64")
    if count > MAX_SECTIONS:
        raise LimitExceededError("pe.section.count", f"more than {MAX_SECTIONS} sections")
    optional = header + _FILE_HEADER.size
    directories = _read_optional_header(data, optional, optional_size)
    table = optional + optional_size
    (headers_size,) = struct.unpack_from("<I", data, optional + _SIZE_OF_HEADERS)
    if table + count * _SECTION.size > headers_size or headers_size > len(data):
        raise FormatError("pe.headers", f"{headers_size} bytes of headers do not fit")
    security_offset, certificates_size = _find_certificates(data, optional, directories)
    image = PeImage(
        data=data,
        sections=_read_sections(data, table, count, headers_size),
        headers_size=headers_size,
        checksum_offset=optional + _CHECKSUM,
        security_offset=security_offset,
        certificates_size=certificates_size,
    )
    hashed = headers_size + sum(section.raw_size for section in image.sections)
    if hashed > len(data) - certificates_size:
        raise FormatError("pe.certificates", "certificates lie over the sections")
    return image


def _read_optional_header(data: bytes, offset: int, size: int) -> int:
    """Return the number of data directories."""
    _require_inside(data, offset, max(size, _DIRECTORIES), "pe.optional")
    (magic,) = struct.unpack_from("<H", data, offset)
    (count,) = struct.unpack_from("<I", data, offset + _DIRECTORY_COUNT)
    if magic != _MAGIC_PE32_PLUS:
        raise FormatError("pe.optional", f"optional header of kind {magic:#x} is not PE32+")
    if count > _MAX_DIRECTORIES or size != _DIRECTORIES + count * _DIRECTORY_BYTES:
        raise FormatError("pe.optional", f"{count} directories in {size} bytes")
    return int(count)


def _find_certificates(data: bytes, optional: int, directories: int) -> tuple[int | None, int]:
    """Return where the certificate entry is, and how many bytes it names."""
    if directories <= _SECURITY_DIRECTORY:
        return None, 0
    entry = optional + _DIRECTORIES + _SECURITY_DIRECTORY * _DIRECTORY_BYTES
    offset, size = struct.unpack_from("<II", data, entry)
    if size and offset + size != len(data):
        raise FormatError("pe.certificates", "certificates are not the end of the file")
    return entry, size


def _read_sections(data: bytes, table: int, count: int, headers_size: int) -> tuple[PeSection, ...]:
    sections = []
    for row in range(count):
        values = _SECTION.unpack_from(data, table + row * _SECTION.size)
        name, virtual_size, _, raw_size, raw_offset = values[:5]
        if raw_size:
            _require_inside(data, raw_offset, raw_size, "pe.section.bounds")
            if raw_offset < headers_size:
                raise FormatError("pe.section.bounds", "a section lies over the headers")
        sections.append(
            PeSection(
                name=_section_name(name),
                virtual_size=virtual_size,
                raw_offset=raw_offset,
                raw_size=raw_size,
            )
        )
    _require_orderly(sections)
    return tuple(sections)


def _section_name(name: bytes) -> str:
    text = name.rstrip(b"\0")
    if not text.isascii() or b"\0" in text:
        raise FormatError("pe.section.name", f"{name.hex()} is not a name")
    return text.decode("ascii")


def _require_orderly(sections: list[PeSection]) -> None:
    """Refuse ambiguous images: two sections with the same name, or overlapping in the file."""
    if len({section.name for section in sections}) != len(sections):
        raise FormatError("pe.section.twice", "two sections have one name")
    end = 0
    for section in sorted(sections, key=lambda section: section.raw_offset):
        if section.raw_size:
            if section.raw_offset < end:
                raise FormatError("pe.section.bounds", f"{section.name} lies over another section")
            end = section.raw_offset + section.raw_size


def _require_inside(data: bytes, offset: int, size: int, reason: str) -> None:
    if offset + size > len(data):
        raise FormatError(reason, f"{size} bytes at {offset} are not inside the file")
