"""ELF files of a few bytes, as a loader reads them."""

import struct

HEADER_BYTES, SEGMENT_BYTES = 64, 56
STRINGS = b"\0libone.so.1\0libtwo.so.2\0"
BASE = 0x400000


def elf(
    *,
    interpreter: bytes = b"/lib64/ld.so\0",
    needed: bool = True,
    tail: bytes = b"debug" * 10,
) -> bytes:
    """One loaded segment with everything in it, followed by bytes that are never loaded."""
    kinds = [1, 2, 3] if interpreter else [1, 2]
    texts_at = HEADER_BYTES + len(kinds) * SEGMENT_BYTES
    dynamic_at = texts_at + len(STRINGS) + len(interpreter)
    libraries = [(1, 1), (1, 13), (5, BASE + texts_at)] if needed else []
    entries = [*libraries, (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", tag, value) for tag, value in entries)
    end = dynamic_at + len(dynamic)
    ranges = {
        1: (0, end),
        2: (dynamic_at, len(dynamic)),
        3: (texts_at + len(STRINGS), len(interpreter)),
    }
    segments = b"".join(
        struct.pack("<IIQQQQQQ", kind, 5, start, BASE + start, 0, size, size, 8)
        for kind, (start, size) in ranges.items()
        if kind in kinds
    )
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack(
        *("<16sHHIQQQIHHHHHH", ident, 3, 62, 1, BASE, HEADER_BYTES, end + 7, 0),
        *(HEADER_BYTES, SEGMENT_BYTES, len(kinds), 64, 3, 2),
    )
    return header + segments + STRINGS + interpreter + dynamic + tail
