"""Small OVMF files: tables and lists such as a launch reads, and every field can be made wrong."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

FOOTER = UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
RESET_BLOCK = UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
HASH_AREA = UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
SEV_METADATA = UUID("dc886566-984a-4798-a75e-5585a7bf67cc")
TDX_METADATA = UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
MEMORY, SECRETS, CPUID, CALLING_AREA, KERNEL_HASHES = 1, 2, 3, 4, 0x10
SVSM_INFO = UUID("a789a612-0597-4c4b-a49f-cbb1fe9d1ddd")
# By which code that compares a direct boot with its hashes finds them: line, initrd, kernel.
VERIFIER = tuple(
    UUID(guid).bytes_le
    for guid in (
        "97d02dd8-bd20-4c94-aa78-e7714d36ab2a",
        "44baf731-3a2f-4bd7-9af1-41e29169781d",
        "4de79437-abd2-427f-b835-d5b172d2045b",
    )
)
VERIFIER_DISTANCE = 0x400  # from the end
SEV_LIST_OFFSET = 0x100
TDX_LIST_OFFSET = 0x400

SNP_PAGES = (
    (0x800000, 0x9000, MEMORY),
    (0x80A000, 0x3000, MEMORY),
    (0x80D000, 0x1000, SECRETS),
    (0x80E000, 0x1000, CPUID),
    (0x80F000, 0x1000, CALLING_AREA),
    (0x810000, 0x1000, KERNEL_HASHES),
    (0x811000, 0x2000, MEMORY),
)

SVSM_PAGES = (
    (0x1000, 0x8000, MEMORY),
    (0x9000, 0x1000, SECRETS),
    (0xA000, 0x1000, CPUID),
    (0x10000, 0x20000, MEMORY),
)

# offset, length, address, size, kind, attributes: firmware, its variables, memory for later
TDX_SECTIONS = (
    (0x1000, 0x3000, 0xFFC01000, 0x3000, 0, 1),
    (0x4000, 0x0800, 0xFFC04000, 0x1000, 1, 0),
    (0, 0, 0x809000, 0x2000, 2, 0),
    (0, 0, 0x810000, 0x10000, 3, 0),
    (0, 0, 0x900000, 0x4000, 3, 2),
    (0x4200, 0x0123, 0x1000000000, 0x2000, 4, 1),
)


def entry(guid: UUID, content: bytes, size: int | None = None) -> bytes:
    """Return one entry of the table; `size` in place of its real length."""
    length = len(content) + 18 if size is None else size
    return content + struct.pack("<H16s", length, guid.bytes_le)


def sev_list(
    pages: Sequence[tuple[int, int, int]],
    magic: bytes = b"ASEV",
    version: int = 1,
    size: int | None = None,
    count: int | None = None,
) -> bytes:
    """Return the list of pages that a launch under SEV-SNP adds."""
    length = 16 + 12 * len(pages) if size is None else size
    number = len(pages) if count is None else count
    header = struct.pack("<4sIII", magic, length, version, number)
    return header + b"".join(struct.pack("<III", *row) for row in pages)


def tdx_list(
    sections: Sequence[tuple[int, ...]],
    magic: bytes = b"TDVF",
    version: int = 1,
    size: int | None = None,
    count: int | None = None,
) -> bytes:
    """Return the list of sections from which a host builds a trust domain."""
    length = 16 + 32 * len(sections) if size is None else size
    number = len(sections) if count is None else count
    header = struct.pack("<4sIII", magic, length, version, number)
    return header + b"".join(struct.pack("<IIQQII", *row) for row in sections)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeFirmware:
    """A firmware file; its default takes kernel hashes.

    Attributes:
        lists: content by its offset in the file.
        verifier: code that checks the kernel, or what stands for it.
        footer: GUID of the table itself; None: no table.
    """

    size: int = 0x5000
    reset_address: int | None = 0x80B004
    hash_area: tuple[int, int] | None = (0x810400, 0x400)
    pages: Sequence[tuple[int, int, int]] | None = SNP_PAGES
    lists: dict[int, bytes] = field(default_factory=dict)
    verifier: bytes = b"".join(VERIFIER)
    more: bytes = b""
    footer: UUID = FOOTER
    table_size: int | None = None

    def to_bytes(self) -> bytes:
        data = bytearray(bytes(range(256)) * (self.size // 256))
        table = self.more
        if self.reset_address is not None:
            table += entry(RESET_BLOCK, struct.pack("<I", self.reset_address))
        if self.hash_area is not None:
            table += entry(HASH_AREA, struct.pack("<II", *self.hash_area))
        lists = {self.size - VERIFIER_DISTANCE: self.verifier, **self.lists}
        if self.pages is not None:
            lists.setdefault(SEV_LIST_OFFSET, sev_list(self.pages))
        for offset, guid in ((SEV_LIST_OFFSET, SEV_METADATA), (TDX_LIST_OFFSET, TDX_METADATA)):
            if offset in lists:
                table += entry(guid, struct.pack("<I", self.size - offset))
        for offset, content in lists.items():
            data[offset : offset + len(content)] = content
        table += entry(self.footer, b"", self.table_size or len(table) + 18)
        end = self.size - 32
        data[end - len(table) : end] = table
        return bytes(data)


def fake_svsm(
    size: int = 0x3000,
    entry_offset: int | None = 0x1000,
    pages: Sequence[tuple[int, int, int]] | None = SVSM_PAGES,
    more: bytes = b"",
) -> bytes:
    """Return an SVSM's file: the table of firmware, with an entry that names its start."""
    if entry_offset is not None:
        more += entry(SVSM_INFO, struct.pack("<I", entry_offset))
    return FakeFirmware(
        size=size, reset_address=None, hash_area=None, pages=pages, more=more, verifier=b""
    ).to_bytes()
