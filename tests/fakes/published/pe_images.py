"""Small PE images: correct by default, and every field that a parser checks can be made wrong."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

HEADER = 64
OPTIONAL = HEADER + 24
OPTIONAL_BYTES = 112 + 16 * 8
TABLE = OPTIONAL + OPTIONAL_BYTES
SECURITY_ENTRY = OPTIONAL + 112 + 4 * 8
ALIGNMENT = 512
STUB_VERSION = "257.13-1~deb13u1"
STUB_MARK = f"#### LoaderInfo: systemd-stub {STUB_VERSION} ####".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class FakePe:
    """A PE32+ image of x86-64 whose sections stand in the file in the mapping's order."""

    sections: Mapping[str, bytes] = field(default_factory=lambda: {".text": b"code"})
    certificates: bytes = b""
    checksum: int = 0

    def to_bytes(self) -> bytes:
        headers_size = _aligned(TABLE + 40 * len(self.sections))
        rows, contents = b"", b""
        for name, content in self.sections.items():
            offset = headers_size + len(contents)
            padded = content + bytes(-len(content) % ALIGNMENT)
            rows += struct.pack(
                "<8sIIIIIIHHI",
                name.encode(),
                *(len(content), offset, len(padded), offset),
                *(0, 0, 0, 0, 0x40000040),
            )
            contents += padded
        optional = bytearray(OPTIONAL_BYTES)
        struct.pack_into("<H", optional, 0, 0x20B)
        struct.pack_into("<I", optional, 56, headers_size + len(contents))
        struct.pack_into("<II", optional, 60, headers_size, self.checksum)
        struct.pack_into("<I", optional, 108, 16)
        if self.certificates:
            where = headers_size + len(contents)
            struct.pack_into("<II", optional, 112 + 32, where, len(self.certificates))
        dos = b"MZ" + bytes(58) + struct.pack("<I", HEADER)
        file = struct.pack(
            "<4sHHIIIHH", b"PE\0\0", 0x8664, len(self.sections), 0, 0, 0, OPTIONAL_BYTES, 0x2
        )
        headers = dos + file + bytes(optional) + rows
        return headers.ljust(headers_size, b"\0") + contents + self.certificates


def kernel_image() -> bytes:
    """Return something that firmware would load as a kernel."""
    return FakePe(sections={".setup": b"setup", ".text": b"kernel"}).to_bytes()


def uki_sections() -> dict[str, bytes]:
    """Return the sections of a UKI such as the project's, in ukify's order."""
    return {
        ".text": b"stub",
        ".sbat": b"sbat,1\n\0",
        ".sdmagic": STUB_MARK + b"\0",
        ".osrel": b"ID=ccinit\n",
        ".cmdline": b"quiet oops=panic",
        ".uname": b"6.12",
        ".linux": kernel_image(),
        ".initrd": b"archive",
    }


def uki_image(changes: Mapping[str, bytes | None] | None = None) -> bytes:
    """Return a UKI; `changes` replaces, adds, or with None removes sections."""
    sections: dict[str, bytes | None] = {**uki_sections(), **(changes or {})}
    kept = {name: content for name, content in sections.items() if content is not None}
    return FakePe(sections=kept).to_bytes()


def with_field(data: bytes, offset: int, form: str, *values: int) -> bytes:
    """Return a copy with other values at one place."""
    changed = bytearray(data)
    struct.pack_into(form, changed, offset, *values)
    return bytes(changed)


def _aligned(size: int) -> int:
    return size + -size % ALIGNMENT
