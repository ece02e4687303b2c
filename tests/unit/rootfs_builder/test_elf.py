"""ELF files are read as far as a loader would, and hostile ones are refused."""

import struct

import pytest

from ccinit.errors import FormatError
from rootfs_builder.elf import is_elf, parse_elf, strip_unloaded
from tests.unit.rootfs_builder.elf_files import elf


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
        (elf()[:54] + bytes(2) + elf()[56:], "elf.segment"),
        (elf()[:32] + b"\xff" * 8 + elf()[40:], "elf.offset"),
    ],
)
def test_file_that_is_none_or_is_cut_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_elf(data)
    assert error.value.reason == reason


def test_only_the_first_bytes_make_an_elf() -> None:
    assert is_elf(b"\x7fELF")
    assert not is_elf(b"#!ELF")
