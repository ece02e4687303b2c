"""Where the code that checks a kernel is found in a firmware file, and where nothing is."""

import lzma
import struct
from uuid import UUID

import pytest

from measured_boot.sev.blob_verifier import has_blob_verifier
from tests.fakes.platforms.firmware import VERIFIER

LZMA = UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf").bytes_le
CODE = bytes(5000) + b"".join(VERIFIER) + bytes(range(256)) * 40


def section(content: bytes, *, is_long: bool = False) -> bytes:
    """Return a section as EDK2 compresses a firmware volume into it."""
    packed = lzma.compress(content, lzma.FORMAT_ALONE)
    size = len(packed) + 24
    head = size.to_bytes(3, "little") + b"\2"
    if is_long:
        head = b"\xff\xff\xff\2" + struct.pack("<I", size + 4)
    return head + LZMA + struct.pack("<HH", len(head) + 20, 1) + packed


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(CODE, id="plain"),
        pytest.param(b"volume" + section(CODE) + bytes(100), id="compressed"),
        pytest.param(section(CODE, is_long=True), id="compressed, with a long header"),
        pytest.param(section(b"another volume") + section(CODE), id="in the second section"),
        pytest.param(LZMA + bytes(50) + section(CODE), id="behind a GUID that begins nothing"),
    ],
)
def test_code_that_knows_the_tables_entries_is_found(data: bytes) -> None:
    assert has_blob_verifier(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(section(bytes(5000)), id="other code"),
        *(
            pytest.param(section(CODE.replace(guid, bytes(16))), id=f"all but entry {number}")
            for number, guid in enumerate(VERIFIER)
        ),
        pytest.param(section(CODE)[:60], id="cut off"),
        pytest.param(section(CODE).replace(LZMA, bytes(16)), id="packed in another way"),
        pytest.param(b"\2" + LZMA, id="a header without an end"),
        pytest.param(VERIFIER[0] + section(VERIFIER[1] + VERIFIER[2]), id="in different places"),
    ],
)
def test_file_without_that_code_is_told(data: bytes) -> None:
    assert not has_blob_verifier(data)


def test_section_that_grows_without_end_is_not_followed() -> None:
    """What is behind 64 MiB is not looked at."""
    assert has_blob_verifier(section(bytes(1 << 20) + CODE))
    assert not has_blob_verifier(section(bytes(64 << 20) + CODE))
