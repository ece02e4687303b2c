"""ELF files are read as far as a loader would, and hostile ones are refused."""

import struct

import pytest

from ccinit.errors import FormatError
from rootfs_builder.elf import is_elf, parse_elf, strip_unloaded

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


def test_program_gives_loader_and_libraries() -> None:
    parsed = parse_elf(elf())
    assert parsed.interpreter == "/lib64/ld.so"
    assert parsed.needed == ("libone.so.1", "libtwo.so.2")


def test_library_gives_no_loader() -> None:
    assert parse_elf(elf(interpreter=b"")).interpreter == ""


def test_library_that_needs_nothing_gives_nothing() -> None:
    assert parse_elf(elf(needed=False)).needed == ()


def test_stripped_library_ends_with_its_last_segment_and_means_the_same() -> None:
    whole = elf()
    stripped = strip_unloaded(whole)
    assert len(stripped) == len(whole) - 50
    assert parse_elf(stripped) == parse_elf(whole)
    assert struct.unpack_from("<Q", stripped, 40) == (0,)  # no section headers
    assert struct.unpack_from("<HH", stripped, 60) == (0, 0)
    assert strip_unloaded(stripped) == stripped


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "elf.magic"),
        (b"#!/bin/sh\n" * 10, "elf.magic"),
        (elf()[:100], "elf.offset"),
        (elf(tail=b"")[:-1], "elf.offset"),
    ],
)
def test_file_that_is_none_or_is_cut_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_elf(data)
    assert error.value.reason == reason


def test_only_the_first_bytes_make_an_elf() -> None:
    assert is_elf(b"\x7fELF")
    assert not is_elf(b"#!ELF")
