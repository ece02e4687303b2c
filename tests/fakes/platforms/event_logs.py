"""Event logs in the TCG's crypto agile form, laid out by hand from its section 10."""

import struct
from collections.abc import Mapping

SHA1, SHA256, SHA384 = 0x4, 0xB, 0xC


def log_header(
    algorithms: tuple[tuple[int, int], ...] = ((SHA1, 20), (SHA256, 32)),
    signature: bytes = b"Spec ID Event03\0",
    register: int = 0,
    kind: int = 3,
    major: int = 2,
) -> bytes:
    content = struct.pack("<16sIBBBBI", signature, 0, 0, major, 0, 2, len(algorithms))
    content += b"".join(struct.pack("<HH", *row) for row in algorithms) + b"\0"
    return struct.pack("<II20sI", register, kind, bytes(20), len(content)) + content


def log_event(
    register: int, digests: Mapping[int, bytes], kind: int = 0xD, data: bytes = b"text"
) -> bytes:
    encoded = b"".join(struct.pack("<H", number) + digest for number, digest in digests.items())
    head = struct.pack("<III", register, kind, len(digests))
    return head + encoded + struct.pack("<I", len(data)) + data
